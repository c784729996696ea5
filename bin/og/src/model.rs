//! `og model`: from an ONNX file to a model of integers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use og_zkml::certificate::{Certificate, Comparison, Dataset, Oracle, saturations};
use og_zkml::compile::{Calibration, Precision, compile, dequantise, quantise};
use og_zkml::execute::execute_traced;
use og_zkml::hyrax::Hyrax;
use og_zkml::model::{Commitments, Model};
use og_zkml::onnx::{self, Data, Graph, Kind};
use og_zkml::qir::TensorType;
use og_zkml::reference::{Value, outputs};
use og_zkml::scheme::Scheme as _;
use serde::Deserialize;
use serde_json::json;

use crate::arguments::{ModelAction, ModelOptions, OnnxOptions};
use crate::ui::Ui;

/// The range of inputs where neither rows nor a range are given: wide enough for standardised features.
const INPUT_RANGE: (f32, f32) = (-8.0, 8.0);

/// Most bytes that are read of a file.
const FILE_BYTES_MAX: u64 = 1 << 30;

pub(crate) fn run(options: &ModelOptions, ui: &Ui) -> Result<ExitCode> {
    match &options.action {
        ModelAction::Compile { onnx, reading, out } => {
            let begun = Instant::now();
            let model = compile_file(onnx, reading, ui)?;
            let compile_ms = begun.elapsed().as_millis();
            std::fs::write(out, model.encode()).with_context(|| out.display().to_string())?;
            // Empty, so not that of any weights: `commit` fills it.
            std::fs::write(beside(out), b"").with_context(|| beside(out).display().to_string())?;
            show(&model, out, Some(compile_ms), ui)
        }
        ModelAction::Certify { model, onnx, dim, data, expected, oracle, out } => {
            let model = load(model, None, ui)?;
            let given = expected.as_deref().zip(oracle.as_deref());
            let graph = read_graph(onnx, dim)?;
            let certificate = certify(&model, &graph, data, given)?;
            std::fs::write(out, certificate.encode()).with_context(|| out.display().to_string())?;
            show_certificate(&certificate, ui);
            Ok(ExitCode::SUCCESS)
        }
        ModelAction::Show { model: path } => show(&load(path, None, ui)?, path, None, ui),
    }
}

/// The commitments of a model that was read from `path`. Beside a compiled model lies the part that takes longest to make;
/// where that is lost it is made, and where it is not what it should be it is also written anew.
pub(crate) fn commit(model: &Model, path: &Path) -> Result<Commitments> {
    let path = beside(path);
    let kept = read(&path).ok();
    let commitments = Commitments::of_kept(model, kept.as_deref())?;
    let encoded = Hyrax::encode(&commitments.hyrax);
    if kept.is_some_and(|kept| kept != encoded) {
        // Whoever cannot write there does the work again next time.
        std::fs::write(&path, encoded).ok();
    }
    Ok(commitments)
}

/// Where a part of the commitments of a model is kept.
fn beside(path: &Path) -> PathBuf {
    path.with_added_extension("commitment")
}

fn show(model: &Model, path: &Path, compile_ms: Option<u128>, ui: &Ui) -> Result<ExitCode> {
    let begun = Instant::now();
    let commitments = commit(model, path)?;
    let commit_ms = begun.elapsed().as_millis();
    let (program, digests) = (model.program(), commitments.digests());
    let weights: usize =
        program.linears().map(|(_, linear)| linear.weight_len() + linear.bias_len()).sum();
    if ui.is_json() {
        let port = |name: &str, ty: &TensorType| json!({"name": name, "shape": ty.shape, "range": [ty.lo, ty.hi], "exponent": ty.exponent});
        let inputs: Vec<_> =
            program.inputs().iter().map(|input| port(&input.name, &input.ty)).collect();
        ui.json(&json!({
            "model_id": digests.model_id().to_string(),
            "name": program.name(),
            "inputs": inputs,
            "outputs": program.outputs().iter().map(|output| &output.name).collect::<Vec<_>>(),
            "nodes": program.nodes().len(),
            "weights": weights,
            "work": program.work(),
            "compile_ms": compile_ms,
            "commit_ms": commit_ms,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        vec!["model id".to_owned(), digests.model_id().to_string()],
        vec!["name".to_owned(), program.name().to_owned()],
    ];
    for input in program.inputs() {
        let (lo, hi) = og_zkml::compile::dequantise(&input.ty, &[input.ty.lo, input.ty.hi])
            .first_chunk::<2>()
            .map_or((0.0, 0.0), |&[lo, hi]| (lo, hi));
        rows.push(vec![
            format!("input {}", input.name),
            format!("{:?}, from {lo} to {hi}", input.ty.shape),
        ]);
    }
    rows.push(vec!["nodes".to_owned(), program.nodes().len().to_string()]);
    rows.push(vec!["weights".to_owned(), weights.to_string()]);
    ui.table(&["", ""], &rows);
    Ok(ExitCode::SUCCESS)
}

/// Executes every row, in integers and by the oracle, and compares.
fn certify(
    model: &Model,
    graph: &Graph,
    data: &Path,
    given: Option<(&Path, &str)>,
) -> Result<Certificate> {
    let program = model.program();
    let answers = match given {
        Some((path, _)) => Some(output_rows(path)?),
        None => None,
    };
    let name = data.file_stem().unwrap_or_default().to_string_lossy();
    let (mut comparison, mut dataset) = (Comparison::default(), Dataset::default());
    for (at, row) in rows(graph, data)?.iter().enumerate() {
        let reals: Vec<f64> = match &answers {
            Some(answers) => {
                let numbers = program.outputs().iter().zip(answers).map(|(output, numbers)| {
                    let size = program.tensors().get(output.tensor).map_or(0, |ty| ty.len());
                    numbers.get(at * size..(at + 1) * size)
                });
                let numbers: Option<Vec<&[f64]>> = numbers.collect();
                numbers.with_context(|| format!("the oracle has no row {at}"))?.concat()
            }
            None => outputs(graph, row)?.iter().flat_map(floats).collect(),
        };
        let ports = program.inputs().iter().zip(row);
        let integers = ports.map(|(port, value)| quantise(port, &floats(value)));
        let integers: Vec<_> =
            integers.collect::<Result<_, _>>().with_context(|| format!("row {at}"))?;
        let outcome = execute_traced(program, &integers, &mut model.weights())?;
        let ours: Vec<f64> = program
            .outputs()
            .iter()
            .zip(&outcome.outputs)
            .filter_map(|(output, tensor)| Some((program.tensors().get(output.tensor)?, tensor)))
            .flat_map(|(ty, tensor)| dequantise(ty, &tensor.values))
            .collect();
        comparison.add(&reals, &ours, saturations(program, &outcome.tensors))?;
        dataset.add(row, &reals);
    }
    let oracle = given.map_or(Oracle::Reference, |(_, name)| Oracle::Given(name.to_owned()));
    let id = Commitments::of(model)?.digests().model_id();
    Ok(Certificate::new(id, oracle, &name, dataset.digest(), comparison)?)
}

fn show_certificate(certificate: &Certificate, ui: &Ui) {
    let comparison = &certificate.comparison;
    if ui.is_json() {
        ui.json(&json!({
            "model_id": certificate.model.to_string(),
            "rows": comparison.rows(),
            "max_error": comparison.max_error(),
            "mean_error": comparison.mean_error(),
            "same_argmax": comparison.same_argmax(),
            "saturated": comparison.saturated(),
            "digest": alloy_primitives::B256::from(certificate.digest()),
        }));
        return;
    }
    ui.table(
        &["", ""],
        &[
            vec!["model id".to_owned(), certificate.model.to_string()],
            vec!["rows".to_owned(), comparison.rows().to_string()],
            vec!["largest error".to_owned(), format!("{:.3e}", comparison.max_error())],
            vec!["mean error".to_owned(), format!("{:.3e}", comparison.mean_error())],
            vec!["same decision".to_owned(), format!("{} rows", comparison.same_argmax())],
            vec!["saturated".to_owned(), format!("{} integers", comparison.saturated())],
        ],
    );
}

/// Numbers of a JSON file, one list per output.
#[derive(Deserialize)]
struct OutputFile {
    output_data: Vec<Vec<f64>>,
}

fn output_rows(path: &Path) -> Result<Vec<Vec<f64>>> {
    let file: OutputFile = serde_json::from_slice(&read(path)?)
        .with_context(|| format!("{} is not {{\"output_data\": [[…]]}}", path.display()))?;
    Ok(file.output_data)
}

#[expect(clippy::cast_precision_loss, reason = "an integer of a model's input is far below 2^53")]
fn floats(value: &Value) -> Vec<f64> {
    match &value.data {
        Data::Float(numbers) => numbers.iter().map(|&number| number.into()).collect(),
        Data::Int(numbers) => numbers.iter().map(|&number| number as f64).collect(),
    }
}

/// A compiled model; an ONNX file is compiled first when `reading` says how.
pub(crate) fn load(path: &Path, reading: Option<&OnnxOptions>, ui: &Ui) -> Result<Model> {
    match reading {
        Some(reading) if path.extension().is_some_and(|extension| extension == "onnx") => {
            compile_file(path, reading, ui)
        }
        _ => Model::decode(&read(path)?).with_context(|| path.display().to_string()),
    }
}

fn compile_file(path: &Path, reading: &OnnxOptions, ui: &Ui) -> Result<Model> {
    let graph = read_graph(path, &reading.dim)?;
    let precision = if reading.bits == "8" { Precision::W8A8 } else { Precision::W16A16 };
    let compiled = match (&reading.calib, reading.input_range) {
        (Some(calib), _) => {
            let rows = rows(&graph, calib)?;
            compile(&graph, precision, Calibration::Inputs(&rows))
        }
        (None, range) => {
            let (lo, hi) = range.unwrap_or(INPUT_RANGE);
            ui.say(&format!(
                "calibrated for inputs from {lo} to {hi}, on pseudo-random ones of a fixed seed"
            ));
            compile(&graph, precision, Calibration::Range { lo, hi })
        }
    };
    compiled.with_context(|| path.display().to_string())
}

fn read_graph(path: &Path, dims: &[(String, usize)]) -> Result<Graph> {
    let options =
        onnx::Options { dims: dims.iter().cloned().collect(), ..onnx::Options::default() };
    onnx::read(&read(path)?, &options).with_context(|| path.display().to_string())
}

/// Numbers of a JSON file, one list per input.
#[derive(Deserialize)]
struct InputFile {
    input_data: Vec<Vec<f64>>,
}

/// The numbers of each input; rows lie one after another.
pub(crate) fn numbers(path: &Path) -> Result<Vec<Vec<f64>>> {
    let file: InputFile = serde_json::from_slice(&read(path)?)
        .with_context(|| format!("{} is not {{\"input_data\": [[…]]}}", path.display()))?;
    Ok(file.input_data)
}

/// The rows of a calibration file as inputs of a graph.
fn rows(graph: &Graph, path: &Path) -> Result<Vec<Vec<Value>>> {
    let data = numbers(path)?;
    let ports: Vec<_> = graph.inputs.iter().filter_map(|&id| graph.tensor(id)).collect();
    ensure!(
        data.len() == ports.len(),
        "{}: {} lists for {} inputs",
        path.display(),
        data.len(),
        ports.len()
    );
    let mut rows = Vec::new();
    for (values, port) in data.iter().zip(&ports) {
        let size = port.len().max(1);
        if values.is_empty() || values.len() % size != 0 {
            bail!("{}: {} numbers are no whole rows of {size}", path.display(), values.len());
        }
        for (at, row) in values.chunks(size).enumerate() {
            if rows.len() <= at {
                rows.push(Vec::new());
            }
            if let Some(inputs) = rows.get_mut(at) {
                inputs.push(value(port.kind, &port.shape, row));
            }
        }
    }
    ensure!(
        rows.iter().all(|inputs| inputs.len() == ports.len()),
        "{}: the inputs have different numbers of rows",
        path.display()
    );
    Ok(rows)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the model computes in f32; whole numbers are read as such"
)]
fn value(kind: Kind, shape: &[usize], row: &[f64]) -> Value {
    let data = match kind {
        Kind::Float => Data::Float(row.iter().map(|&number| number as f32).collect()),
        _ => Data::Int(row.iter().map(|&number| number as i64).collect()),
    };
    Value { kind, shape: shape.to_vec(), data }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    ensure!(
        length <= FILE_BYTES_MAX,
        "{}: {length} bytes exceed the limit of {FILE_BYTES_MAX}",
        path.display()
    );
    std::fs::read(path).with_context(|| path.display().to_string())
}
