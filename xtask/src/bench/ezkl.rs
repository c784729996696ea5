//! The same models through ezkl, pinned in `tests/clients/ezkl`. One run: it takes seconds to minutes, and memory to match.

use std::path::Path;

use anyhow::{Context, Result};
use og_testkit::clients::{PythonClient, run};
use serde_json::Value;

/// What is done once for a model.
const ONCE: [&str; 5] = ["settings", "calibrate", "compile", "srs", "setup"];

/// The figures of a model in the order of [`super::COLUMNS`], and a line on what they are made of.
///
/// *Commit* is everything that is done once for a model. *Prove* is computing the witness and proving, the *proof* what
/// has to be sent, so with the public inputs and outputs, and *peak memory* that of proving.
pub(super) fn measure(models: &Path, model: &str, folder: &Path) -> Result<(Vec<f64>, String)> {
    let client = PythonClient::ensure("ezkl")?;
    let output = run(client
        .script("bench.py")
        .arg(models.join(format!("{model}.onnx")))
        .arg(models.join(format!("{model}.input.json")))
        .arg(folder))?;
    // Its own reports come first.
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .context("bench.py printed no figures")?;
    let figure = |name: &str| {
        figures.get(name).and_then(Value::as_f64).with_context(|| format!("no figure {name}"))
    };
    let of = |stage: &str, what: &str| {
        let found = figures.get(stage).and_then(|stage| stage.get(what)?.as_f64());
        found.with_context(|| format!("no figure {what} of {stage}"))
    };
    let once = ONCE.iter().map(|stage| of(stage, "ms")).sum::<Result<f64>>()?;
    let row = vec![
        once,
        of("witness", "ms")? + of("prove", "ms")?,
        of("witness", "cpu_ms")? + of("prove", "cpu_ms")?,
        of("verify", "ms")?,
        figure("proof_bytes")? + figure("instance_bytes")?,
        of("prove", "rss_bytes")?,
    ];
    let stages = ONCE.map(|stage| Ok(format!("{stage} {:.0} ms", of(stage, "ms")?)));
    let stages = stages.into_iter().collect::<Result<Vec<_>>>()?.join(", ");
    let line = format!(
        "ezkl: {stages} ({:.0} MB); proof {} B; keys {:.1} MB to prove, {:.2} MB to verify",
        of("setup", "rss_bytes")? / 1e6,
        figure("proof_bytes")?,
        figure("pk_bytes")? / 1e6,
        figure("vk_bytes")? / 1e6,
    );
    Ok((row, line))
}
