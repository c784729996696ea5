//! What proofs of the real models cost, and a formula for it: `cargo run --release -p og-prove --example costs [PLOT.svg]`.
//!
//! Prints a table for each backend and writes a plot of what was measured against what the formula says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a benchmark prints and stops at the first error"
)]

mod fit;
mod plot;
#[path = "../../../zkml/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fit::Fit;
use og_prove::hyrax::Hyrax;
use og_prove::opener::Opener;
use og_prove::trace::{Prepared, prove};
use og_prove::whir::WhirOpener;
use og_zkml::hyrax::{column_bits, rounds};
use og_zkml::model::Model;
use og_zkml::qir::Tensor;
use og_zkml::scheme::{Backend, Scheme};
use og_zkml::whir::parameters::DIRECT_VARIABLES;
use support::integers;
use support::models::{benchmark, packaged, tabular};

/// Samples of each case; the median counts.
const SAMPLES: usize = 5;

/// A sample takes at least this long, as many proofs as it takes: processor time is counted in steps of milliseconds.
const SAMPLE_TIME: Duration = Duration::from_millis(300);

/// Terms of the formula, and their units.
const TERMS: [(&str, f64, &str); 4] = [
    ("weight", 1e6, "ns"),
    ("accumulator", 1e6, "ns"),
    ("proof", 1e3, "µs"),
    ("column", 1e3, "µs"),
];

/// What one model costs with one backend.
pub(crate) struct Case {
    name: &'static str,
    weights: usize,
    accumulators: usize,
    products: u64,
    /// Columns of the square that the committed vector is about, as far as its opening takes rounds.
    columns: usize,
    /// Milliseconds on the clock.
    wall: f64,
    /// Milliseconds of processor time.
    cpu: f64,
}

impl Case {
    fn terms(&self) -> [f64; TERMS.len()] {
        [self.weights as f64, self.accumulators as f64, 1.0, self.columns as f64]
    }
}

fn main() {
    let mut benches = Vec::new();
    for real in [benchmark(), tabular(), packaged()].into_iter().flatten() {
        let model = Arc::new(real.compile());
        let row = |row: &Vec<_>| vec![integers(model.program(), row).unwrap()];
        let inputs: Vec<_> = real.rows.iter().take(64).map(row).collect();
        benches.push(Bench::new::<WhirOpener>(real.name, &model, inputs.clone()));
        benches.push(Bench::new::<Hyrax>(real.name, &model, inputs));
    }
    // The first proofs are slower. Then all in turn: what else the machine does for a moment falls on one sample of a case.
    for round in 0..=SAMPLES {
        for bench in &mut benches {
            let sample = (bench.sample)();
            if round > 0 {
                bench.samples.push(sample);
            }
        }
    }
    let panels = [Backend::Whir, Backend::Hyrax].map(|backend| {
        let cases = benches.iter().filter(|bench| bench.backend == backend);
        let cases: Vec<Case> = cases.map(Bench::case).collect();
        let fit = report(backend, &cases);
        (format!("backend {backend}"), plot::points(&cases, &fit))
    });
    if let Some(path) = std::env::args_os().nth(1) {
        std::fs::write(path, plot::svg(&panels)).unwrap();
    }
}

/// A model and a backend, to be measured.
struct Bench {
    name: &'static str,
    backend: Backend,
    model: Arc<Model>,
    columns: usize,
    /// Proves one inference after the other, the commitment being at hand; milliseconds of a proof, on the clock and of
    /// processor time.
    sample: Box<dyn FnMut() -> [f64; 2]>,
    samples: Vec<[f64; 2]>,
}

impl Bench {
    fn new<O: Opener>(
        name: &'static str,
        model: &Arc<Model>,
        inputs: Vec<Vec<Vec<Tensor>>>,
    ) -> Self {
        let prepared = Prepared::<O>::new(Arc::clone(model), [0; 32]).unwrap();
        let (backend, model) = (O::S::BACKEND, Arc::clone(model));
        let columns = columns(backend, prepared.layout().variables());
        let mut next = 0;
        let sample = move || {
            let (begun, cpu) = (Instant::now(), cpu_ms());
            let mut count = 0.0;
            while begun.elapsed() < SAMPLE_TIME {
                prove(&prepared, &inputs[next % inputs.len()]).unwrap();
                next += 1;
                count += 1.0;
            }
            [begun.elapsed().as_secs_f64() * 1e3 / count, (cpu_ms() - cpu) / count]
        };
        Self { name, backend, model, columns, sample: Box::new(sample), samples: Vec::new() }
    }

    fn case(&self) -> Case {
        let median = |which: usize| {
            let mut times: Vec<f64> = self.samples.iter().map(|sample| sample[which]).collect();
            times.sort_by(f64::total_cmp);
            times[SAMPLES / 2]
        };
        let nodes = || self.model.program().linears().map(|(_, node)| node);
        Case {
            name: self.name,
            weights: nodes().map(|node| node.weight_len() + node.bias_len()).sum(),
            accumulators: nodes().map(|node| node.accumulator_len()).sum(),
            products: nodes().map(|node| node.macs()).sum(),
            columns: self.columns,
            wall: median(0),
            cpu: median(1),
        }
    }
}

/// What an opening grows with: the columns of the matrix that H commits to. Queries and work of W grow about as fast. None
/// where the opening is the vector (W) or a row of it (H).
fn columns(backend: Backend, variables: u32) -> usize {
    let takes_rounds = match backend {
        Backend::Hyrax => rounds(variables) > 0,
        Backend::Whir => variables > DIRECT_VARIABLES,
    };
    if takes_rounds { 1 << column_bits(variables) } else { 0 }
}

/// Processor time of all threads so far, in milliseconds.
fn cpu_ms() -> f64 {
    let spent = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.flatten().map(spent).sum::<u64>() as f64 / 1e6
}

/// Prints the cases beside the formula that fits them; returns it.
fn report(backend: Backend, cases: &[Case]) -> Fit {
    let all: Vec<_> = cases.iter().map(|case| (case.terms().to_vec(), case.wall)).collect();
    let fit = Fit::of(&all);
    println!("\nBackend {backend}\n");
    println!(
        "| {:<24} | {:>9} | {:>12} | {:>11} | {:>10} | {:>14} | {:>12} | {:>5} |",
        "Model",
        "Weights",
        "Accumulators",
        "Products",
        "Prove (ms)",
        "Processor (ms)",
        "Formula (ms)",
        "Ratio"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for case in cases {
        let formula = fit.at(&case.terms());
        println!(
            "| {:<24} | {:>9} | {:>12} | {:>11} | {:>10.3} | {:>14.3} | {formula:>12.3} | {:>5.2} |",
            case.name,
            case.weights,
            case.accumulators,
            case.products,
            case.wall,
            case.cpu,
            formula / case.wall
        );
    }
    println!();
    let describe = |name: &str, cases: &[(Vec<f64>, f64)]| {
        let fit = Fit::of(cases);
        let terms = fit.coefficients().iter().zip(TERMS);
        let terms =
            terms.map(|(x, (term, unit, symbol))| format!("{:.4} {symbol} per {term}", x * unit));
        println!(
            "{name}: {}; at worst {:.2} times off",
            terms.collect::<Vec<_>>().join(", "),
            fit.worst(cases)
        );
    };
    describe("the formula", &all);
    let cpu: Vec<_> = cases.iter().map(|case| (case.terms().to_vec(), case.cpu)).collect();
    describe("of processor time", &cpu);
    let plain: Vec<_> = cases.iter().map(|case| (case.terms()[..3].to_vec(), case.wall)).collect();
    describe("without columns", &plain);
    let large = cases.iter().zip(plain).filter(|(case, _)| case.weights > 1 << DIRECT_VARIABLES);
    let large: Vec<_> = large.map(|(_, row)| row).collect();
    describe("without columns, more than 1,024 weights", &large);
    fit
}
