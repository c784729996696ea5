//! Real models, end to end: read, executed in floats and in integers, compared with what onnxruntime said.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod support;

use std::time::Instant;

use og_zkml::certificate::{Certificate, Comparison, Dataset, Oracle};
use og_zkml::model::{Model, ModelId};
use support::models::{RealModel, benchmark, packaged, tabular};
use support::{compare, distance, run_integers};

#[test]
fn the_float_executor_equals_onnxruntime_on_the_benchmark_models() {
    let models = benchmark();
    for real in &models {
        floats_equal(real, &real.all_floats());
    }
    if !models.is_empty() {
        println!("VECTORS models {}", models.len());
    }
}

#[test]
fn integers_stay_close_to_onnxruntime_on_the_benchmark_models() {
    for real in benchmark() {
        let comparison = integers_stay_close(&real, real.recorded.as_ref().unwrap());
        assert_eq!(comparison.saturated(), 0, "{}", real.name);
    }
}

#[test]
fn packaged_models_run_in_integers() {
    for mut real in packaged() {
        let started = Instant::now();
        let floats = real.all_floats();
        println!("{}: {:.0?} for {} rows in floats", real.name, started.elapsed(), floats.len());
        real.ask_onnxruntime();
        floats_equal(&real, &floats);
        integers_stay_close(&real, real.recorded.as_ref().unwrap_or(&floats));
    }
}

#[test]
fn tabular_models_run_in_integers() {
    for real in tabular() {
        floats_equal(&real, &real.all_floats());
        integers_stay_close(&real, real.recorded.as_ref().unwrap());
    }
}

/// Compares the float executor's outputs with onnxruntime's, where those are known.
fn floats_equal(real: &RealModel, floats: &[Vec<f64>]) {
    let Some(recorded) = &real.recorded else { return };
    assert_eq!(floats.len(), recorded.len());
    let worst = floats.iter().zip(recorded).map(|(a, b)| distance(a, b)).fold(0.0, f64::max);
    println!("{}: floats differ from onnxruntime by {worst:.1e}", real.name);
    assert!(worst < 1e-4, "{}: {worst}", real.name);
}

/// Compiles, compares every row with the oracle, and certifies what came out.
fn integers_stay_close(real: &RealModel, oracle: &[Vec<f64>]) -> Comparison {
    let name = real.name;
    let started = Instant::now();
    let model = real.compile();
    let compiled = started.elapsed();
    let started = Instant::now();
    let comparison = compare(&model, &real.rows, oracle);
    let executed = started.elapsed();
    println!(
        "{name}: {} nodes, {} weights, {compiled:.0?} to compile, {executed:.0?} for {} rows: max {:.1e} mean {:.1e}, argmax {}/{}, saturated {}",
        real.graph.nodes.len(),
        real.graph.weights(),
        comparison.rows(),
        comparison.max_error(),
        comparison.mean_error(),
        comparison.same_argmax(),
        comparison.rows(),
        comparison.saturated()
    );
    assert!(comparison.max_error() <= real.bound, "{name}: {}", comparison.max_error());
    assert_eq!(comparison.same_argmax(), comparison.rows(), "{name}");
    if real.threshold.is_some() {
        // The greatest of one number says nothing: the decision is on which side of the threshold it lies.
        for (row, expected) in real.rows.iter().zip(oracle) {
            let (outputs, _) = run_integers(&model, row).unwrap();
            assert_eq!(real.class(&outputs[0]), real.class(expected), "{name}");
        }
    }
    let certificate = certify(&model, real, oracle, &comparison);
    assert_eq!(Certificate::decode(&certificate.encode()).unwrap(), certificate);
    comparison
}

/// A certificate of what was compared. The id here covers program and weights alone: commitments are not this test's matter.
fn certify(
    model: &Model,
    real: &RealModel,
    oracle: &[Vec<f64>],
    comparison: &Comparison,
) -> Certificate {
    let mut dataset = Dataset::default();
    real.rows.iter().zip(oracle).for_each(|(row, out)| dataset.add(row, out));
    let id: ModelId = model.digests([0; 32], [0; 32], [0; 32]).model_id();
    let oracle = match real.recorded {
        Some(_) => Oracle::Given("onnxruntime 1.32.0".into()),
        None => Oracle::Reference,
    };
    Certificate::new(id, oracle, "test rows", dataset.digest(), comparison.clone()).unwrap()
}
