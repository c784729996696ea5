//! `og prove`, and `og verify` for proofs of inference.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use og_prove::opener::Opener;
use og_prove::trace::Prepared;
use og_prove::whir::WhirOpener;
use og_zkml::compile::quantise;
use og_zkml::hyrax::Hyrax;
use og_zkml::model::Model;
use og_zkml::proof_file::{FileError, Named, ProofFile, verify_file};
use og_zkml::qir::Tensor;
use og_zkml::scheme::{Backend, Mode, Scheme};
use og_zkml::succinct::{Plan, stated_messages};
use og_zkml::whir::Whir;
use serde_json::{Value, json};

use crate::arguments::{ProveOptions, VerifyOptions};
use crate::model;
use crate::ui::Ui;
use crate::verify::{REJECTED, UNREADABLE};

/// How much of a long tensor people are shown.
const SHOWN: usize = 12;

pub(crate) fn prove(options: &ProveOptions, ui: &Ui) -> Result<ExitCode> {
    let backend = match options.backend.as_str() {
        "W" => Backend::Whir,
        _ => Backend::Hyrax,
    };
    let begun = Instant::now();
    let model = Arc::new(model::load(&options.model, Some(&options.onnx), ui)?);
    let compile_ms = ms(begun);
    let inputs = read_inputs(&model, options)?;
    let mode = match options.mode.as_str() {
        "S" => Mode::Succinct,
        _ => Mode::Trace,
    };
    announce(&model, mode, ui)?;

    let bar = ui.spinner("committing to the weights");
    let begun = Instant::now();
    let made = match backend {
        Backend::Hyrax => make::<Hyrax, Whir>(&model, mode, inputs, &bar),
        Backend::Whir => make::<WhirOpener, Hyrax>(&model, mode, inputs, &bar),
    };
    let made = made.with_context(|| options.model.display().to_string())?;
    bar.finish_and_clear();
    let commit_ms = ms(begun) - made.prove_ms;
    let bytes = made.file.encode()?;

    // A proof that we would not accept ourselves is never handed out.
    let begun = Instant::now();
    let id = made.file.digests.model_id();
    let report = verify_file(&bytes, Some(id)).context("the proof just made does not verify")?;
    let verify_ms = ms(begun);
    std::fs::write(&options.out, &bytes).with_context(|| options.out.display().to_string())?;

    if ui.is_json() {
        ui.json(&json!({
            "model_id": id.to_string(),
            "mode": report.mode.to_string(),
            "backend": report.backend.to_string(),
            "outputs": named(report.outputs.first().map_or(&[][..], Vec::as_slice)),
            "compile_ms": compile_ms,
            "commit_ms": commit_ms,
            "prove_ms": made.prove_ms,
            "prove_cpu_ms": made.prove_cpu_ms,
            "verify_ms": verify_ms,
            "proof_bytes": bytes.len(),
            "peak_rss_bytes": peak_rss_bytes(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![vec!["model id".to_owned(), id.to_string()]];
    rows.extend(shown("output", report.outputs.first().map_or(&[][..], Vec::as_slice)));
    rows.push(vec!["commit".to_owned(), format!("{commit_ms:.1} ms, once per model")]);
    rows.push(vec!["prove".to_owned(), format!("{:.1} ms", made.prove_ms)]);
    rows.push(vec!["verify".to_owned(), format!("{verify_ms:.1} ms")]);
    rows.push(vec!["file".to_owned(), format!("{} bytes", bytes.len())]);
    ui.table(&["", ""], &rows);
    ui.say(&format!("written to {}; {}", options.out.display(), report.reveals()));
    Ok(ExitCode::SUCCESS)
}

/// What is ahead, before it is paid for.
fn announce(model: &Model, mode: Mode, ui: &Ui) -> Result<()> {
    let program = model.program();
    let weights: usize =
        program.linears().map(|(_, linear)| linear.weight_len() + linear.bias_len()).sum();
    let trace = match mode {
        Mode::Trace => {
            let stated: usize = program.linears().map(|(_, linear)| linear.accumulator_len()).sum();
            format!("{stated} accumulators to state")
        }
        Mode::Succinct => {
            let plan = Plan::new(program, 1)?;
            let stated: usize = stated_messages(&plan, program).map(|(_, count)| count).sum();
            format!("{stated} results to state, {} limbs to commit to", 4 * plan.groups())
        }
    };
    ui.say(&format!("{weights} weights, {} multiplications, {trace}", program.linear_work()));
    Ok(())
}

struct Made {
    file: ProofFile,
    prove_ms: f64,
    prove_cpu_ms: f64,
}

/// Commits with both backends, as the model id takes, and proves with one.
fn make<O: Opener, Other: Scheme>(
    model: &Arc<Model>,
    mode: Mode,
    inputs: Vec<Tensor>,
    bar: &indicatif::ProgressBar,
) -> Result<Made> {
    let prepared = Prepared::<O>::with_other::<Other>(Arc::clone(model))?;
    bar.set_message("proving");
    let (begun, cpu) = (Instant::now(), cpu_ms());
    let inputs = vec![inputs];
    let proof = match mode {
        Mode::Trace => og_prove::trace::prove(&prepared, &inputs)?,
        Mode::Succinct => og_prove::succinct::prove(&prepared, &inputs)?,
    };
    let (prove_ms, prove_cpu_ms) = (ms(begun), cpu_ms() - cpu);
    Ok(Made { file: prepared.file(inputs, proof), prove_ms, prove_cpu_ms })
}

fn read_inputs(model: &Model, options: &ProveOptions) -> Result<Vec<Tensor>> {
    let numbers = model::numbers(&options.input)?;
    let ports = model.program().inputs();
    ensure!(
        numbers.len() == ports.len(),
        "{}: {} lists, the model takes {} inputs",
        options.input.display(),
        numbers.len(),
        ports.len()
    );
    let tensors = ports.iter().zip(&numbers).map(|(port, numbers)| quantise(port, numbers));
    tensors.collect::<Result<_, _>>().with_context(|| options.input.display().to_string())
}

pub(crate) fn verify(bytes: &[u8], options: &VerifyOptions, ui: &Ui) -> Result<ExitCode> {
    let expected = match &options.model {
        Some(path) => {
            let model = model::load(path, None, ui)?;
            Some(model::commit(&model, path)?.digests().model_id())
        }
        None => options.model_id,
    };
    let begun = Instant::now();
    let outcome = verify_file(bytes, expected);
    let verify_ms = ms(begun);
    match outcome {
        Ok(report) => {
            if ui.is_json() {
                let batch: Vec<_> = report
                    .inputs
                    .iter()
                    .zip(&report.outputs)
                    .map(|(inputs, outputs)| json!({"inputs": named(inputs), "outputs": named(outputs)}))
                    .collect();
                ui.json(&json!({
                    "verdict": "verified",
                    "says": report.verdict(),
                    "model_id": report.model_id.to_string(),
                    "model_expected": report.expected,
                    "name": report.name,
                    "truth_level": "proved",
                    "mode": report.mode.to_string(),
                    "backend": report.backend.to_string(),
                    "reveals": report.reveals(),
                    "soundness_bits": report.security.bits,
                    "assumption": report.security.assumption,
                    "inferences": batch,
                    "proof_bytes": report.bytes,
                    "verify_ms": verify_ms,
                    "peak_rss_bytes": peak_rss_bytes(),
                }));
            } else {
                let mut rows = vec![
                    vec!["model id".to_owned(), report.model_id.to_string()],
                    vec!["mode".to_owned(), format!("{}, backend {}", report.mode, report.backend)],
                    vec![
                        "soundness".to_owned(),
                        format!("{} bits; {}", report.security.bits, report.security.assumption),
                    ],
                    vec!["reveals".to_owned(), report.reveals().to_owned()],
                ];
                for (inputs, outputs) in report.inputs.iter().zip(&report.outputs) {
                    rows.extend(shown("input", inputs));
                    rows.extend(shown("output", outputs));
                }
                ui.table(&["", ""], &rows);
                ui.say(&report.verdict());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let (verdict, code) = match &error {
                FileError::Model { .. } | FileError::Trace(_) => ("rejected", REJECTED),
                _ => ("unreadable", UNREADABLE),
            };
            if ui.is_json() {
                ui.json(&json!({"verdict": verdict, "failed": error.to_string()}));
            } else {
                ui.say(&format!("{verdict}: {error}"));
            }
            Ok(ExitCode::from(code))
        }
    }
}

fn named(tensors: &[Named]) -> Vec<Value> {
    let shape = |named: &Named| {
        json!({
            "name": named.name,
            "shape": named.tensor.shape,
            "integers": named.tensor.values,
            "exponent": named.exponent,
            "reals": named.reals(),
        })
    };
    tensors.iter().map(shape).collect()
}

fn shown(what: &str, tensors: &[Named]) -> Vec<Vec<String>> {
    let row = |named: &Named| {
        let reals = named.reals();
        let mut text: Vec<&str> =
            reals.iter().take(SHOWN).map(|real| real.get(..10).unwrap_or(real)).collect();
        let more = reals.len().saturating_sub(SHOWN);
        let rest = format!("and {more} more");
        if more > 0 {
            text.push(&rest);
        }
        vec![format!("{what} {}", named.name), text.join("  ")]
    };
    tensors.iter().map(row).collect()
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Processor time of all threads so far; 0 where the system does not say.
fn cpu_ms() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let spent = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let nanoseconds: u64 = threads.flatten().filter_map(|thread| spent(thread.path())).sum();
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}

/// The most memory that this process ever held; none where the system does not say.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
