//! Measure how long proofs take, and compare with the committed baseline.
//!
//! Machines differ and are noisy, so no time is compared with a time of another day: every processor time is divided by
//! that of a fixed piece of arithmetic measured in the same run, and only these ratios are compared.
//!
//! ezkl may be measured beside it, on the same files, for who wants to compare. It is never a part of the build or of CI.

mod ezkl;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{root, run, say};

/// Models of the bench, and the range of their inputs.
const MODELS: [(&str, &str); 4] =
    [("linear10", "-8..8"), ("logreg10", "-8..8"), ("mlp784", "0..1"), ("lenet5", "0..1")];

/// Backend and mode of each proof.
const PROOFS: [(&str, &str); 4] = [("H", "T"), ("H", "S"), ("W", "T"), ("W", "S")];

/// Runs of each case; the median counts.
const RUNS: usize = 5;

/// Columns of the table: what `og prove --json` calls them.
const COLUMNS: [&str; 6] =
    ["commit_ms", "prove_ms", "prove_cpu_ms", "verify_ms", "proof_bytes", "peak_rss_bytes"];

/// A case whose processor time, against the reference, grew by more than this is a regression.
const GROWTH_MAX: f64 = 1.25;

/// Processor times below this are noise, milliseconds.
const NOISE_MS: f64 = 5.0;

/// What to measure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// The result becomes the baseline.
    save: bool,
    /// ezkl is measured too.
    with_ezkl: bool,
    /// Names of models; all, if empty.
    models: Vec<String>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        for &word in words {
            match word {
                "--save" => options.save = true,
                "--with-ezkl" => options.with_ezkl = true,
                _ if MODELS.iter().any(|(model, _)| *model == word) => {
                    options.models.push(word.to_owned());
                }
                _ => bail!(
                    "bench zkml takes --save, --with-ezkl and {:?}, not {word}",
                    MODELS.map(|(model, _)| model)
                ),
            }
        }
        ensure!(!options.save || options.models.is_empty(), "a baseline is of all models");
        Ok(options)
    }

    fn measures(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|chosen| chosen == model)
    }
}

/// Measures models on both backends in both modes, as `words` say, and compares with the baseline.
pub(crate) fn zkml(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    run("cargo", &["build", "--locked", "--release", "--package", "og"])?;
    let models = root()?.join("../shared/models");
    ensure!(models.is_dir(), "the models lie in no {}", models.display());
    let folder = tempfile::tempdir()?;
    let reference_ms = reference();
    say(&format!("reference: {reference_ms:.1} ms; medians of {RUNS}, milliseconds and bytes"));
    let head: String = COLUMNS.iter().map(|name| format!("{name:>16}")).collect();
    say(&format!("{:<14}{head}", "model"));
    let mut cases = BTreeMap::new();
    for (model, range) in MODELS.into_iter().filter(|(model, _)| options.measures(model)) {
        for proof in PROOFS {
            let figures = measure(&models, model, range, proof, folder.path())?;
            let case = format!("{model} {} {}", proof.0, proof.1);
            say(&row(&case, &figures));
            cases.insert(case, COLUMNS.into_iter().zip(figures).collect::<BTreeMap<_, _>>());
        }
        if options.with_ezkl {
            let (figures, stages) = ezkl::measure(&models, model, folder.path())?;
            say(&row(&format!("{model} ezkl"), &figures));
            say(&format!("{:<14}{stages}", ""));
        }
    }
    let measured = json!({"reference_ms": reference_ms, "cases": cases});
    let path = baseline()?;
    if options.save {
        std::fs::write(&path, format!("{measured:#}\n")).context("writing the baseline")?;
        say(&format!("saved as {}", path.display()));
        return Ok(());
    }
    let baseline = std::fs::read(&path).context("reading the baseline; make one with --save")?;
    compare(&serde_json::from_slice(&baseline)?, &measured)
}

/// A row of the table, figures in the order of [`COLUMNS`].
fn row(case: &str, figures: &[f64]) -> String {
    let figures: String = figures.iter().map(|figure| format!("{figure:>16.2}")).collect();
    format!("{case:<14}{figures}")
}

fn baseline() -> Result<PathBuf> {
    Ok(root()?.join("tests/vectors/zkml/bench-baseline.json"))
}

/// The medians of one case, column by column.
fn measure(
    models: &Path,
    model: &str,
    range: &str,
    (backend, mode): (&str, &str),
    folder: &Path,
) -> Result<Vec<f64>> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let output = Command::new(root()?.join("target/release/og"))
            .args(["--json", "prove", "--backend", backend, "--mode", mode])
            .args(["--input-range", range, "--model"])
            .arg(models.join(format!("{model}.onnx")))
            .arg("--input")
            .arg(models.join(format!("{model}.input.json")))
            .arg("--out")
            .arg(folder.join("proof.ogz"))
            .output()
            .context("starting og")?;
        if !output.status.success() {
            bail!("{model} {backend} {mode}: {}", String::from_utf8_lossy(&output.stderr));
        }
        runs.push(serde_json::from_slice::<Value>(&output.stdout)?);
    }
    let median = |column: &&str| {
        let mut figures: Vec<f64> =
            runs.iter().filter_map(|run| run.get(column).and_then(Value::as_f64)).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(RUNS / 2).copied().with_context(|| format!("og reports no {column}"))
    };
    COLUMNS.iter().map(median).collect()
}

/// A fixed piece of 64-bit multiplications: the yardstick of this machine at this moment, milliseconds.
fn reference() -> f64 {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let mut x = black_box(0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..50_000_000_u32 {
            x = x.wrapping_mul(x | 1) ^ (x >> 29);
        }
        black_box(x);
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times.get(RUNS / 2).copied().unwrap_or(f64::NAN)
}

/// Fails when a case got slower or its proof larger.
fn compare(before: &Value, now: &Value) -> Result<()> {
    let figure = |of: &Value, case: &str, column: &str| {
        of.get("cases").and_then(|cases| cases.get(case)?.get(column)?.as_f64())
    };
    let reference = |of: &Value| of.get("reference_ms").and_then(Value::as_f64);
    let (Some(reference_before), Some(reference_now)) = (reference(before), reference(now)) else {
        bail!("a measurement without its reference");
    };
    let mut worse = Vec::new();
    for case in MODELS.iter().flat_map(|(m, _)| PROOFS.map(|(b, mode)| format!("{m} {b} {mode}"))) {
        let pair = |column| Some((figure(before, &case, column)?, figure(now, &case, column)?));
        if let Some((old, new)) = pair("prove_cpu_ms")
            && old.max(new) > NOISE_MS
        {
            let growth = (new / reference_now) / (old / reference_before);
            if growth > GROWTH_MAX {
                worse.push(format!("{case}: proving takes {growth:.2} times the processor time"));
            }
        }
        if let Some((old, new)) = pair("proof_bytes")
            && new > old
        {
            worse.push(format!("{case}: the proof grew from {old} to {new} bytes"));
        }
    }
    if worse.is_empty() {
        say("no case is worse than the baseline");
        return Ok(());
    }
    bail!("worse than the baseline:\n  {}", worse.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(reference: f64, cpu: f64, bytes: f64) -> Value {
        let case = json!({"prove_cpu_ms": cpu, "proof_bytes": bytes});
        json!({"reference_ms": reference, "cases": {"mlp784 H T": case}})
    }

    #[test]
    fn models_are_chosen_by_name_and_a_baseline_is_of_all() {
        let options = Options::parse(&["--with-ezkl", "linear10"]).expect("valid");
        assert!(options.with_ezkl && options.measures("linear10") && !options.measures("lenet5"));
        assert!(Options::parse(&[]).expect("valid").measures("lenet5"));
        assert!(Options::parse(&["linear11"]).is_err());
        assert!(Options::parse(&["--save", "linear10"]).is_err());
    }

    #[test]
    fn a_slower_machine_is_no_regression_and_a_slower_prover_is() {
        let before = measured(50.0, 40.0, 10_000.0);
        assert!(compare(&before, &measured(50.0, 45.0, 10_000.0)).is_ok());
        assert!(compare(&before, &measured(100.0, 85.0, 9_000.0)).is_ok());
        assert!(compare(&before, &measured(50.0, 60.0, 10_000.0)).is_err());
        assert!(compare(&before, &measured(50.0, 40.0, 10_001.0)).is_err());
    }
}
