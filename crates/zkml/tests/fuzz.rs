//! No bytes make a decoder or the verifier panic, take long or take much memory.
//!
//! `OG_FUZZ=ci` and `OG_FUZZ=long` fuzz for longer: see [`og_testkit::fuzz`]. The corpora are `tests/corpus/{onnx,qir,verifier}`.
//! That of the verifier is made by `crates/prove/tests/soundness.rs`, that of the reader of ONNX by
//! `tests/clients/onnx/make_corpus.py` and `crates/zkml/tests/onnx_nodes.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "a test that fails should say where; numbers here are small"
)]

#[expect(dead_code, reason = "the executor's test uses the rest")]
#[path = "execute/generator.rs"]
mod generator;
#[path = "fuzz/protobuf.rs"]
mod protobuf;

use std::collections::BTreeSet;
use std::time::Duration;

use og_testkit::fuzz::{self, Random, Target, corpus, mutate};
use og_zkml::execute::execute_traced;
use og_zkml::hyrax::Hyrax;
use og_zkml::layout::Layout;
use og_zkml::model::Model;
use og_zkml::onnx::{self, Kind, OnnxError, Options};
use og_zkml::proof_file::{ProofFile, verify_file_within};
use og_zkml::qir::{Program, Tensor, TensorType, Weights};
use og_zkml::reference::{self, Value};
use og_zkml::scheme::{Backend, Mode, Scheme};
use og_zkml::trace::accumulator_bytes;
use og_zkml::whir::Whir;

/// Most memory that fuzzing all targets in one process may take, in bytes.
const MEMORY: u64 = 1 << 30;

/// Operations that the verifier may spend on an input: the time it takes is asserted, so this bounds it.
const WORK: u64 = 1 << 20;

#[test]
fn verifier() {
    let originals: BTreeSet<Vec<u8>> = corpus("verifier").unwrap().into_iter().collect();
    let target = Target {
        name: "verifier",
        time_max: Duration::from_millis(50),
        memory_max: MEMORY,
        shape: Some(&seal),
    };
    let report = target.run(|bytes| {
        let verdict = verify_file_within(bytes, None, WORK);
        assert!(verdict.is_err() || originals.contains(bytes), "a changed file holds");
        verdict.map(drop).map_err(|error| said(&error.to_string()))
    });
    let report = report.unwrap();
    println!("verifier: {report}");
    assert!(report.answers > 20, "{report}");
}

/// A proof file with one part changed that names the program and the commitment it now has: a stranger can do so too.
fn seal(original: &[u8], all: &[Vec<u8>], random: &mut Random) -> Option<Vec<u8>> {
    let mut file = ProofFile::decode(original).ok()?;
    match random.below(4) {
        0 => {
            let mut bytes = file.program.encode();
            mutate(&mut bytes, all, random);
            file.program = Program::decode(&bytes).ok()?;
            state_least(&mut file);
        }
        1 => mutate(&mut file.commitment, all, random),
        2 if random.below(8) == 0 => {
            file.mode = if file.mode == Mode::Trace { Mode::Succinct } else { Mode::Trace };
        }
        _ => mutate(&mut file.proof, all, random),
    }
    file.digests.program = file.program.digest();
    let n = Layout::new(&file.program).ok()?.variables();
    match file.backend {
        Backend::Hyrax => {
            file.digests.hyrax = Hyrax::digest(&Hyrax::decode(&file.commitment, n).ok()?);
        }
        Backend::Whir => file.digests.whir = Whir::digest(&Whir::decode(&file.commitment, n).ok()?),
    }
    file.encode().ok()
}

/// States the least of every input, output and accumulator: the program is executed with them, whatever it is.
fn state_least(file: &mut ProofFile) {
    let least = |ty: &TensorType| (ty.len() < 1 << 14).then(|| vec![ty.lo; ty.len()]);
    let tensors = |types: Vec<&TensorType>| -> Vec<Tensor> {
        let values = types.iter().map(|ty| least(ty).unwrap_or_default());
        types
            .iter()
            .zip(values)
            .map(|(ty, values)| Tensor { shape: ty.shape.clone(), values })
            .collect()
    };
    let program = &file.program;
    let outputs = program.outputs().iter().map(|output| &program.tensors()[output.tensor]);
    file.outputs = vec![tensors(outputs.collect())];
    file.inputs = vec![tensors(program.inputs().iter().map(|port| &port.ty).collect())];
    let accumulators =
        program.linears().map(|(_, linear)| accumulator_bytes(linear)).sum::<usize>();
    file.proof = [vec![0; accumulators.min(1 << 15)], std::mem::take(&mut file.proof)].concat();
}

#[test]
fn qir() {
    let target = Target {
        name: "qir",
        time_max: Duration::from_millis(100),
        memory_max: MEMORY,
        shape: None,
    };
    let report = target.run(|bytes| {
        let model = Model::decode(bytes).map_err(|error| said(&error.to_string()));
        if let Ok(model) = &model {
            assert_eq!(model.encode(), bytes, "another encoding of the same model");
            check_execution(model.program(), model.weights());
        }
        let program = Program::decode(bytes).map_err(|error| said(&error.to_string()));
        if let Ok(program) = &program {
            assert_eq!(program.encode(), bytes, "another encoding of the same program");
            if program.linear_work() < 100_000 {
                let drawn = generator::draw(&mut generator::Random(bytes.len() as u64), program);
                if let Ok(weights) = Weights::new(program, drawn) {
                    check_execution(program, &weights);
                }
            }
        }
        if bytes.starts_with(b"OGM") { model.map(drop) } else { program.map(drop) }
    });
    let report = report.unwrap();
    println!("qir: {report}");
    assert!(report.accepted > report.inputs / 100 && report.answers > 20, "{report}");
}

/// What an error says after names, which may hold quotes of their own.
fn said(text: &str) -> String {
    text.rsplit('`').next().unwrap_or_default().to_owned()
}

/// Whatever is decoded can be executed, if it is small, and stays in its ranges.
fn check_execution(program: &Program, weights: &Weights) {
    let elements = program.tensors().iter().map(TensorType::len).sum::<usize>();
    if program.work() > 100_000 || elements > 100_000 {
        return;
    }
    let extreme = |high: bool| -> Vec<Tensor> {
        let ports = program.inputs().iter().map(|port| &port.ty);
        ports
            .map(|ty| Tensor {
                shape: ty.shape.clone(),
                values: vec![if high { ty.hi } else { ty.lo }; ty.len()],
            })
            .collect()
    };
    for inputs in [extreme(false), extreme(true)] {
        let outcome = execute_traced(program, &inputs, &mut &*weights).unwrap();
        for (tensor, ty) in outcome.tensors.iter().zip(program.tensors()) {
            assert!(tensor.values.iter().all(|v| (ty.lo..=ty.hi).contains(v)), "out of range");
        }
    }
}

#[test]
fn onnx() {
    for bytes in corpus("onnx").unwrap() {
        if let Some(message) = protobuf::parse(&bytes) {
            assert_eq!(protobuf::write(&message), bytes, "taken apart and put together again");
        }
    }
    let target = Target {
        name: "onnx",
        time_max: Duration::from_secs(5),
        memory_max: MEMORY,
        shape: Some(&protobuf::mutated),
    };
    let report = target.run(|bytes| {
        let graph = read(bytes).map_err(|error| match error.to_string() {
            // The operators that do not exist are many, and one to us.
            reason if reason.ends_with("operator is not supported") => "operator".to_owned(),
            reason => reason,
        })?;
        execute(&graph);
        Ok::<(), String>(())
    });
    let report = report.unwrap();
    println!("onnx: {report}");
    assert!(report.accepted > report.inputs / 100 && report.answers > 100, "{report}");
}

/// A file with its open dimensions bound; bindings that fit nothing are left out.
fn read(bytes: &[u8]) -> Result<onnx::Graph, OnnxError> {
    let mut options = Options::default();
    options.dims.extend([("n".to_owned(), 2), ("b".to_owned(), 1)]);
    loop {
        match onnx::read(bytes, &options) {
            Err(OnnxError::Binding(name)) if options.dims.remove(&name).is_some() => {}
            result => return result,
        }
    }
}

/// Executes a graph that is small enough, on inputs of ones.
fn execute(graph: &onnx::Graph) {
    let total = graph.tensors.iter().try_fold(0usize, |sum, tensor| sum.checked_add(tensor.len()));
    if total.is_none_or(|total| total > 1 << 16) || graph.weights() > 1 << 16 {
        return;
    }
    let inputs: Vec<Value> = graph
        .inputs
        .iter()
        .map(|&id| {
            let tensor = &graph.tensors[id];
            match tensor.kind {
                Kind::Float => Value::floats(&tensor.shape, vec![1.0; tensor.len()]),
                kind => Value { kind, ..Value::ints(&tensor.shape, vec![1; tensor.len()]) },
            }
        })
        .collect();
    // An error is an answer too; a panic is not.
    if let Ok(outputs) = reference::outputs(graph, &inputs) {
        assert_eq!(outputs.len(), graph.outputs.len());
    }
}

#[test]
fn the_corpus_of_qir_is_what_its_generator_makes() {
    let mut files = Vec::new();
    let mut operators = BTreeSet::new();
    for seed in 0..400 {
        let case = generator::case(seed, 10);
        let known = operators.len();
        operators.extend(case.program.nodes().iter().map(|node| node.op.name()));
        if seed < 24 || operators.len() > known {
            files.push((format!("program-{seed}.bin"), case.program.encode()));
        }
        if seed % 60 == 0 {
            let model = Model::new(case.program, case.weights).unwrap();
            files.push((format!("model-{seed}.bin"), model.encode()));
        }
    }
    assert_eq!(operators.len(), 17, "{operators:?}");
    fuzz::generated("qir", &files).unwrap();
}
