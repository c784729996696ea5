//! Times of backend W: `cargo run --release -p og-prove --example whir_times -- 17 20`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and stops at the first error"
)]

#[path = "../tests/whir_support/mod.rs"]
mod whir_support;

use og_prove::opener::Opener;
use og_prove::whir::WhirOpener;
use og_zkml::scheme::Scheme;
use og_zkml::whir::Whir;
use std::time::Instant;
use whir_support::Case;

fn main() {
    for n in std::env::args().skip(1).filter_map(|n| n.parse().ok()) {
        let case = Case::new(n, 1);
        let median = |runs: usize, f: &mut dyn FnMut()| {
            let mut times: Vec<_> = (0..runs)
                .map(|_| {
                    let start = Instant::now();
                    f();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[runs / 2]
        };
        let commit = median(5, &mut || {
            WhirOpener::prepare(case.values.clone().into()).unwrap();
        });
        let (proof, _) = case.open();
        let serial =
            median(3, &mut || assert!(Whir::commit(&case.values).unwrap() == case.commitment));
        // The work differs from proof to proof: take many statements.
        let mut batch = 0;
        let open = median(21, &mut || {
            batch += 1;
            Case { batch, ..case.clone() }.open();
        });
        let verify = median(51, &mut || case.verify(&proof).unwrap());
        println!(
            "2^{n}: commit {commit:.1} ms ({serial:.1} ms on one thread), open {open:.2} ms, verify {verify:.3} ms, {} bytes",
            proof.len()
        );
    }
}
