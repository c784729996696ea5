//! How long mode T takes on the shapes of the benchmark models; run it optimised, with `--ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod trace_support;

use og_prove::hyrax::Hyrax;
use og_prove::opener::{FieldOf, Opener};
use og_prove::trace::{Prepared, functionals, materialise, prove, run, sumcheck};
use og_prove::whir::WhirOpener;
use og_zkml::model::Commitments;
use og_zkml::proof_file::verify_file;
use og_zkml::qir::{Axis, Builder, Linear, Op, Program, Requant};
use og_zkml::scheme::{Backend, Scheme};
use og_zkml::trace::{Combination, StatementBytes};
use std::time::Instant;
use trace_support::inputs;

fn bounded(mut linear: Linear) -> Op {
    linear.bound = 1 << 38;
    Op::Linear(linear)
}

fn mlp() -> Program {
    let mut b = Builder::new("mlp");
    let x = b.input("x", &[1, 784], -32767, 32767, 12).unwrap();
    let h = b.push(bounded(Linear::dense(1, 784, 128).with_bias(32)), &[x], 24).unwrap();
    let h = b.push(Op::Requant(Requant::shift(12, 0, 32767)), &[h], 12).unwrap();
    let y = b.push(bounded(Linear::dense(1, 128, 10).with_bias(32)), &[h], 24).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

fn linear10() -> Program {
    let mut b = Builder::new("linear");
    let x = b.input("x", &[1, 10], -32767, 32767, 12).unwrap();
    let y = b.push(bounded(Linear::dense(1, 10, 1).with_bias(32)), &[x], 24).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

fn convolutions() -> Program {
    let mut b = Builder::new("conv");
    let x = b.input("x", &[1, 1, 28, 28], -32767, 32767, 12).unwrap();
    let axes = |input, pad| {
        vec![Axis { input, kernel: 5, stride: 1, dilation: 1, before: pad, after: pad }; 2]
    };
    let h = b.push(bounded(Linear::conv(1, 1, 6, 1, axes(28, 2)).with_bias(32)), &[x], 24).unwrap();
    let windows =
        vec![og_zkml::qir::Window { kernel: 2, stride: 2, dilation: 1, before: 0, after: 0 }; 2];
    let kind = og_zkml::qir::PoolKind::Max;
    let h = b.push(Op::Pool { kind, windows: windows.clone() }, &[h], 24).unwrap();
    let h = b.push(Op::Requant(Requant::shift(12, 0, 32767)), &[h], 12).unwrap();
    let h =
        b.push(bounded(Linear::conv(1, 6, 16, 1, axes(14, 0)).with_bias(32)), &[h], 24).unwrap();
    let h = b.push(Op::Pool { kind, windows }, &[h], 24).unwrap();
    let mut h = b.push(Op::Requant(Requant::shift(12, 0, 32767)), &[h], 12).unwrap();
    h = b.push(Op::Move(og_zkml::qir::Move::Reshape(vec![1, 400])), &[h], 12).unwrap();
    for (inner, outer) in [(400, 120), (120, 84)] {
        h = b.push(bounded(Linear::dense(1, inner, outer).with_bias(32)), &[h], 24).unwrap();
        h = b.push(Op::Requant(Requant::shift(12, 0, 32767)), &[h], 12).unwrap();
    }
    let y = b.push(bounded(Linear::dense(1, 84, 10).with_bias(32)), &[h], 24).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

fn time<O: Opener>(name: &str, program: Program) {
    // Small weights, so that the bound of a trained model holds for random ones too.
    let mut random = trace_support::generator::Random(1);
    let nodes = program.linears().map(|(_, linear)| og_zkml::qir::NodeWeights {
        matrix: (0..linear.weight_len()).map(|_| random.between(-300, 300) as i16).collect(),
        bias: (0..linear.bias_len()).map(|_| random.between(-1000, 1000)).collect(),
    });
    let weights = og_zkml::qir::Weights::new(&program, nodes.collect()).unwrap();
    let model = std::sync::Arc::new(og_zkml::model::Model::new(program, weights).unwrap());
    let digests = *Commitments::of(&model).unwrap().digests();
    let other = if O::S::BACKEND == Backend::Hyrax { digests.whir } else { digests.hyrax };
    let start = Instant::now();
    let prepared = Prepared::<O>::new(model, other).unwrap();
    let commit = start.elapsed();
    let mut proofs = Vec::new();
    let mut verifications = Vec::new();
    let mut size = 0;
    let mut bits = 0;
    for run in 0..9 {
        let inputs = inputs(prepared.model().program(), 1, run);
        let start = Instant::now();
        let proof = prove(&prepared, &inputs).unwrap();
        proofs.push(start.elapsed());
        let bytes = prepared.file(inputs, proof).encode().unwrap();
        let start = Instant::now();
        let report = verify_file(&bytes, Some(digests.model_id())).unwrap();
        verifications.push(start.elapsed());
        (size, bits) = (bytes.len(), report.security.bits);
    }
    let phases = phases(&prepared);
    proofs.sort();
    verifications.sort();
    println!(
        "{name} {}: commit {commit:.1?}, prove {:.2?} (least {:.2?}), verify {:.2?} (least {:.2?}), file {size} bytes, {bits} bits; {phases}",
        O::S::BACKEND,
        proofs[4],
        proofs[0],
        verifications[4],
        verifications[0],
    );
}

/// The least time of each phase but the opening.
fn phases<O: Opener>(prepared: &Prepared<O>) -> String {
    let program = prepared.model().program();
    let batch = inputs(program, 1, 5);
    let (outputs, steps) = run(program, prepared.model().weights(), &batch).unwrap();
    let bytes = StatementBytes::new(program, &batch, &outputs).unwrap();
    let statement = bytes.statement(O::S::BACKEND, prepared.digests(), prepared.layout());
    let mut transcript = og_zkml::transcript::Prover::new(&statement);
    let combination = Combination::<FieldOf<O>>::draw(program, 1, &mut transcript);
    let least = |f: &mut dyn FnMut()| {
        let times = (0..9).map(|_| {
            let start = Instant::now();
            f();
            start.elapsed()
        });
        times.min().unwrap()
    };
    let execute = least(&mut || drop(run(program, prepared.model().weights(), &batch).unwrap()));
    let mut table = Vec::new();
    let factors = least(&mut || {
        table = materialise(prepared.layout(), &functionals(program, &combination, &steps));
    });
    let sumcheck =
        least(&mut || drop(sumcheck::prove(prepared.vector(), table.clone(), &mut transcript)));
    format!("execute {execute:.2?}, factors {factors:.2?}, sumcheck {sumcheck:.2?}")
}

#[test]
#[ignore = "a measurement, not a check"]
fn shapes_of_the_benchmark_models() {
    time::<Hyrax>("linear-10", linear10());
    time::<WhirOpener>("linear-10", linear10());
    time::<Hyrax>("mlp 784-128-10", mlp());
    time::<WhirOpener>("mlp 784-128-10", mlp());
    time::<Hyrax>("lenet-5", convolutions());
    time::<WhirOpener>("lenet-5", convolutions());
}
