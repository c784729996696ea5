//! The compiler against onnxruntime's outputs on the benchmark models, and against the float executor on hand-made graphs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::needless_pass_by_value,
    clippy::neg_cmp_op_on_partial_ord,
    reason = "a test that fails should say where"
)]

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use og_zkml::compile::{Calibration, CompileError, Precision, compile, dequantise, quantise};
use og_zkml::execute::execute;
use og_zkml::model::{Digests, Model};
use og_zkml::onnx::{self, Graph};
use og_zkml::reference::Value;

#[path = "compile/operators.rs"]
mod operators;

fn models() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    folder.is_dir().then_some(folder)
}

/// The `f32` and `f64` arrays of an `.npz`: name, shape, values.
fn npz(path: &Path) -> Vec<(String, Vec<usize>, Vec<f64>)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(std::fs::read(path).unwrap())).unwrap();
    let mut arrays = Vec::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(&bytes[..6], b"\x93NUMPY");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8(bytes[10..10 + length].to_vec()).unwrap();
        let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
        let shape: Vec<usize> = shape.split(',').filter_map(|d| d.trim().parse().ok()).collect();
        let data = &bytes[10 + length..];
        let values = if header.contains("<f4") {
            data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b).into()).collect()
        } else if header.contains("<f8") {
            data.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b)).collect()
        } else {
            continue;
        };
        arrays.push((file.name().unwrap().trim_end_matches(".npy").to_owned(), shape, values));
    }
    arrays
}

fn array(path: &Path, name: &str) -> (Vec<usize>, Vec<f64>) {
    let found = npz(path).into_iter().find(|a| a.0 == name).unwrap();
    (found.1, found.2)
}

fn graph(path: &Path) -> Graph {
    onnx::read(&std::fs::read(path).unwrap(), &onnx::Options::default()).unwrap()
}

fn floats(graph: &Graph, row: &[f64]) -> Vec<Value> {
    let shape = &graph.tensor(graph.inputs[0]).unwrap().shape;
    vec![Value::floats(shape, row.iter().map(|&v| v as f32).collect::<Vec<_>>())]
}

fn infer(model: &Model, row: &[f64]) -> Vec<f64> {
    let program = model.program();
    let x = quantise(&program.inputs()[0], row).unwrap();
    let outcome = execute(program, &[x], &mut model.weights()).unwrap();
    let output = &program.outputs()[0];
    dequantise(&program.tensors()[output.tensor], &outcome.outputs[0].values)
}

fn argmax(v: &[f64]) -> usize {
    (0..v.len()).max_by(|&a, &b| v[a].total_cmp(&v[b])).unwrap()
}

/// Largest error and share of equal argmax over rows of inputs and expected outputs.
fn compare(model: &Model, inputs: &[f64], expected: &[f64], rows: usize) -> (f64, f64) {
    let (width, outputs) = (inputs.len() / rows, expected.len() / rows);
    let (mut worst, mut agree) = (0f64, 0);
    for (x, y) in inputs.chunks(width).zip(expected.chunks(outputs)) {
        let got = infer(model, x);
        worst = got.iter().zip(y).fold(worst, |w, (a, b)| w.max((a - b).abs()));
        agree += usize::from(argmax(&got) == argmax(y));
    }
    (worst, agree as f64 / rows as f64)
}

fn calibration_rows(folder: &Path) -> Vec<f64> {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("mlp784.calib.json")).unwrap()).unwrap();
    json["input_data"][0].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn benchmark(name: &str, precision: Precision, stated: bool) -> Option<(f64, f64)> {
    let Some(folder) = models() else {
        println!("SKIPPED {name}: no shared models");
        return None;
    };
    let graph = graph(&folder.join(format!("{name}.onnx")));
    let rows: Vec<Vec<Value>> =
        calibration_rows(&folder).chunks(784).map(|row| floats(&graph, row)).collect();
    let calibration =
        if stated { Calibration::Range { lo: 0.0, hi: 1.0 } } else { Calibration::Inputs(&rows) };
    let model = compile(&graph, precision, calibration).unwrap();
    let (_, inputs) = array(&folder.join("mlp784.test.npz"), "X");
    let (shape, expected) = array(&folder.join(format!("{name}.ort.npz")), "out");
    let (worst, agree) = compare(&model, &inputs, &expected, shape[0]);
    println!(
        "{name} {precision:?} stated={stated}: max error {worst:.2e}, argmax agreement {agree}, {} rows",
        shape[0]
    );
    assert_eq!(Model::decode(&model.encode()).unwrap(), model);
    Some((worst, agree))
}

#[test]
fn mlp_784_is_within_a_thousandth() {
    if let Some((worst, agree)) = benchmark("mlp784", Precision::W16A16, false) {
        assert!(worst <= 1e-3 && agree == 1.0);
    }
}

#[test]
fn lenet_5_is_within_three_thousandths() {
    if let Some((worst, agree)) = benchmark("lenet5", Precision::W16A16, false) {
        assert!(worst <= 3e-3 && agree == 1.0);
    }
}

#[test]
fn a_stated_range_is_nearly_as_good() {
    for (name, limit) in [("mlp784", 2e-3), ("lenet5", 6e-3)] {
        if let Some((worst, agree)) = benchmark(name, Precision::W16A16, true) {
            assert!(worst <= limit && agree == 1.0);
        }
    }
}

#[test]
fn eight_bits_keep_the_classes() {
    for (name, limit) in [("mlp784", 0.4), ("lenet5", 0.8)] {
        if let Some((worst, agree)) = benchmark(name, Precision::W8A8, false) {
            assert!(worst <= limit && agree >= 0.99);
        }
    }
}

#[test]
fn the_model_id_depends_on_model_and_range_alone() {
    let Some(folder) = models() else { return };
    let graph = graph(&folder.join("mlp784.onnx"));
    let id = |hi| {
        let model = compile(&graph, Precision::W16A16, Calibration::Range { lo: 0.0, hi }).unwrap();
        let (_, inputs) = array(&folder.join("mlp784.test.npz"), "X");
        let outputs: Vec<Vec<f64>> =
            inputs.chunks(784).take(2).map(|row| infer(&model, row)).collect();
        assert_ne!(outputs[0], outputs[1]);
        let digests = model.digests([1; 32], [2; 32], [3; 32]);
        assert_eq!(Digests::decode(&digests.encode()), digests);
        digests.model_id()
    };
    assert_eq!(id(1.0), id(1.0));
    assert_ne!(id(1.0), id(3.0));
    assert!(id(1.0).to_string().starts_with("0x"));
}

#[test]
fn damaged_model_files_are_refused() {
    let Some(folder) = models() else { return };
    let graph = graph(&folder.join("linear10.onnx"));
    let model =
        compile(&graph, Precision::W16A16, Calibration::Range { lo: -4.0, hi: 4.0 }).unwrap();
    let bytes = model.encode();
    assert_eq!(Model::decode(&bytes).unwrap(), model);
    for end in 0..bytes.len() {
        assert!(Model::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            if let Ok(other) = Model::decode(&bytes) {
                assert_ne!(other, model);
                assert_eq!(other.encode(), bytes, "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn errors_name_the_reason() {
    let Some(folder) = models() else { return };
    let graph = graph(&folder.join("mlp784.onnx"));
    let range = |lo, hi| compile(&graph, Precision::W16A16, Calibration::Range { lo, hi });
    assert!(matches!(range(1.0, 0.0), Err(CompileError::Calibration(_))));
    assert!(matches!(range(f32::NAN, 1.0), Err(CompileError::Calibration(_))));
    assert!(matches!(
        compile(&graph, Precision::W16A16, Calibration::Inputs(&[])),
        Err(CompileError::Calibration(_))
    ));
    let model = range(0.0, 1.0).unwrap();
    let port = &model.program().inputs()[0];
    assert!(quantise(port, &[0.0; 3]).is_err());
    for bad in [f64::NAN, f64::INFINITY, 1e9] {
        let mut x = [0.5; 784];
        x[7] = bad;
        let error = quantise(port, &x).unwrap_err().to_string();
        assert!(error.contains("element 7"), "{error}");
    }
}
