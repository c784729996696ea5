//! Real models, end to end: compiled, executed, proved with both backends, verified from the file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

#[path = "../../zkml/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use og_prove::hyrax::Hyrax;
use og_prove::opener::Opener;
use og_prove::trace::{Prepared, prove};
use og_prove::whir::WhirOpener;
use og_zkml::compile::dequantise;
use og_zkml::execute::execute;
use og_zkml::model::{Commitments, Digests, Model};
use og_zkml::proof_file::verify_file;
use og_zkml::qir::{Program, Tensor};
use og_zkml::scheme::Scheme;
use og_zkml::trace::Packing;
use support::models::{RealModel, benchmark, packaged, tabular};
use support::{distance, integers};

#[test]
fn benchmark_models_are_proved() {
    benchmark().iter().for_each(proved);
}

#[test]
fn tabular_models_are_proved() {
    tabular().iter().for_each(proved);
}

#[test]
fn packaged_models_are_proved() {
    packaged().iter().for_each(proved);
}

/// Proves the last row, which no range was taken from, with both backends.
fn proved(real: &RealModel) {
    let row = real.rows.len() - 1;
    let expected = real.recorded.as_ref().map_or_else(|| real.float(row), |all| all[row].clone());
    let model = Arc::new(real.compile());
    let begun = Instant::now();
    let digests = *Commitments::of(&model).unwrap().digests();
    println!("{}: {} is committed to in {:.0?}", real.name, digests.model_id(), begun.elapsed());
    let inference = Inference::new(&model, integers(model.program(), &real.rows[row]).unwrap());
    let reals = inference.reals(model.program());
    assert!(distance(&reals, &expected) <= real.bound, "{}", real.name);
    assert_eq!(real.class(&reals), real.class(&expected), "{}", real.name);
    proved_with::<WhirOpener>(real.name, &model, &digests, digests.hyrax, &inference);
    proved_with::<Hyrax>(real.name, &model, &digests, digests.whir, &inference);
}

/// What the executor makes of inputs.
struct Inference {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Inference {
    fn new(model: &Model, inputs: Vec<Tensor>) -> Self {
        let outcome = execute(model.program(), &inputs, &mut model.weights()).unwrap();
        Self { inputs, outputs: outcome.outputs }
    }

    /// The numbers that the first output stands for.
    fn reals(&self, program: &Program) -> Vec<f64> {
        let ty = &program.tensors()[program.outputs()[0].tensor];
        dequantise(ty, &self.outputs[0].values)
    }
}

fn proved_with<O: Opener>(
    name: &str,
    model: &Arc<Model>,
    digests: &Digests,
    other: [u8; 32],
    inference: &Inference,
) {
    let prepared = Prepared::<O>::new(Arc::clone(model), other).unwrap();
    assert_eq!(prepared.digests(), digests, "one id, whatever proves");
    let inputs = vec![inference.inputs.clone()];
    let begun = Instant::now();
    let proof = prove(&prepared, &inputs).unwrap();
    let prove_time = begun.elapsed();
    assert_eq!(proof.outputs[0], inference.outputs, "the proof is of what was executed");
    let proof_len = proof.bytes.len();
    let mut file = prepared.file(inputs, proof).encode().unwrap();

    let begun = Instant::now();
    let report = verify_file(&file, Some(digests.model_id())).unwrap();
    let verify_time = begun.elapsed();
    let outputs: Vec<_> = report.outputs[0].iter().map(|named| named.tensor.clone()).collect();
    assert_eq!(outputs, inference.outputs);
    assert!(report.security.bits >= 100);
    println!(
        "{name} {}: proved in {prove_time:.0?}, verified in {verify_time:.0?}, {} bytes, {} bits",
        O::S::BACKEND,
        file.len(),
        report.security.bits
    );

    // The accumulators come first in a proof, and the proof comes last in the file. The lowest bit of one is rounded away
    // in most places: then the argument alone can tell.
    let start = file.len() - proof_len;
    let len = accumulators_len(model.program());
    for at in [0, len / 2, len - 1] {
        file[start + at] ^= 1;
        assert!(verify_file(&file, None).is_err(), "byte {at} of the accumulators is free");
        file[start + at] ^= 1;
    }
}

/// Bytes of the accumulators of one inference.
fn accumulators_len(program: &Program) -> usize {
    let nodes = program.linears();
    nodes.map(|(_, node)| node.accumulator_len() * Packing::accumulators(node.bound).width()).sum()
}
