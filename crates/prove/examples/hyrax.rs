//! Times commitments and openings of backend H: `cargo run --release -p og-prove --example hyrax [weights…]`.
#![allow(clippy::print_stdout, reason = "an example reports to whoever runs it")]

use og_prove::hyrax::Hyrax;
use og_prove::opener::Opener;
use og_zkml::field::Field;
use og_zkml::hyrax::curve::generator;
use og_zkml::hyrax::msm::{Basis, generators};
use og_zkml::hyrax::{Scalar, column_bits};
use og_zkml::model::Digests;
use og_zkml::scheme::{Backend, Mode, Scheme, variables};
use og_zkml::transcript::{Label, Prover, Statement, Verifier};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

const POINT: Label = Label::new("example.point");
const VALUE: Label = Label::new("example.value");

fn main() -> Result<(), Box<dyn Error>> {
    let counts: Vec<usize> =
        std::env::args().skip(1).map(|count| count.parse()).collect::<Result<_, _>>()?;
    let counts = if counts.is_empty() { vec![11, 1_000, 61_706, 101_770, 1 << 17] } else { counts };
    for count in counts {
        time(count)?;
    }
    Ok(())
}

fn time(count: usize) -> Result<(), Box<dyn Error>> {
    let n = variables(count)?;
    let bits = column_bits(n);
    let values: Arc<[i64]> =
        (0..i64::try_from(count)?).map(|i| (i * 40_503) % 65_536 - 32_768).collect();
    let one = median(1, || drop((0..1_u64 << bits).map(generator).collect::<Vec<_>>()));
    let first = median(1, || {
        let _ = generators(bits);
    });
    let table = median(1, || {
        let _ = Basis::of(bits);
    });
    println!("{count} weights, n = {n}, {} columns", 1_u64 << bits);
    println!("  once per process: generators {first}, afresh {one}, their multiples {table}");

    let commit = median(9, || drop(Hyrax::commit(&values)));
    let prepare = median(9, || drop(Hyrax::prepare(values.clone())));
    let (commitment, cached) = Hyrax::prepare(values.clone())?;
    let encoded = Hyrax::encode(&commitment);
    let decode = median(9, || drop(Hyrax::decode(&encoded, n)));

    let digests = Digests {
        program: [0; 32],
        weights: [0; 32],
        hyrax: Hyrax::digest(&commitment),
        whir: [0; 32],
        parameters: [0; 32],
    };
    let statement = Statement {
        backend: Backend::Hyrax,
        mode: Mode::Trace,
        digests: &digests,
        weight_count: count as u64,
        batch: 1,
        inputs: &[],
        outputs: &[],
    };
    let point: Vec<Scalar> = Prover::new(&statement).challenges(POINT, n as usize);
    let weights = og_zkml::hyrax::equalities(&point);
    let value = Scalar::dot_i64(&weights, &values);
    let open = || -> Result<Vec<u8>, Box<dyn Error>> {
        let mut transcript = Prover::new(&statement);
        transcript.challenges::<Scalar>(POINT, n as usize);
        transcript.send(VALUE, &[value]);
        Hyrax::open(&cached, &point, value, &mut transcript)?;
        Ok(transcript.finish().0)
    };
    let prove = median(25, || drop(open()));
    let proof = open()?;
    let check = || -> Result<(), Box<dyn Error>> {
        let mut transcript = Verifier::new(&statement, &proof);
        let point: Vec<Scalar> = transcript.challenges(POINT, n as usize);
        let value = transcript.receive_one(VALUE)?;
        Hyrax::verify(&commitment, &point, value, &mut transcript)?;
        Ok(transcript.finish()?)
    };
    check()?;
    let verify = median(25, || drop(check()));
    println!("  commit {commit}, on all cores {prepare}, decode {decode}, {} bytes", encoded.len());
    println!("  open {prove}, verify {verify}, {} bytes", proof.len() - Scalar::BYTES);
    Ok(())
}

/// Time of a number of runs, in milliseconds.
struct Times {
    median: f64,
    least: f64,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms (least {:.2})", self.median, self.least)
    }
}

fn median(runs: usize, mut run: impl FnMut()) -> Times {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    Times { median: at(runs / 2), least: at(0) }
}
