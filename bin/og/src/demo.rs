//! `og demo`: the whole story once, in a temporary directory, then a table of what was verified.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use og_client::{Answer, Client, NetworkFile, Question};
use og_devnet::{Devnet, Options, Ports, Progress};
use og_receipt::{Report, SettlementMode, Verdict};
use serde_json::json;

use crate::arguments::DemoOptions;
use crate::ui::Ui;
use crate::{chat, dev, verify};

/// Milliseconds since the start at which things happened.
#[derive(Debug, Default)]
struct Times {
    chains_up: u64,
    network_up: u64,
    answered: u64,
    settled: u64,
}

pub(crate) async fn run(options: DemoOptions, ui: &Ui) -> Result<ExitCode> {
    let folder = tempfile::tempdir().context("creating a temporary directory")?;
    let begun = Instant::now();
    let chains_up = Arc::new(Mutex::new(0_u64));
    let spinner = ui.spinner("starting a network of four validators");
    let (bar, seen) = (spinner.clone(), Arc::clone(&chains_up));
    let watcher = move |progress: Progress| {
        if let (Progress::ChainsUp { after_ms }, Ok(mut seen)) = (&progress, seen.lock()) {
            *seen = *after_ms;
        }
        bar.set_message(dev::words(&progress));
    };
    let devnet = Devnet::start(&Options {
        validators: 4,
        data_dir: folder.path().join("network"),
        cache_dir: dev::cache_dir()?,
        ports: Ports::Auto,
        upstream: None,
        local_model: true,
        watcher: Arc::new(watcher),
    })
    .await?;
    let mut times = Times {
        chains_up: chains_up.lock().map(|seen| *seen).unwrap_or_default(),
        network_up: millis(begun),
        ..Times::default()
    };
    let network = devnet.file().clone();

    let account = network.account(None)?.clone();
    let client = Client::connect(network.clone(), &account)?;
    spinner.set_message("asking the model, and paying for it");
    let question = Question {
        model: network.models.first().context("the network offers no model")?.clone(),
        prompt: options.prompt.clone(),
        max_tokens: 60,
        temperature: 0.0,
        mode: SettlementMode::Batch,
    };
    let answer = client.chat(&question).await?;
    times.answered = millis(begun);
    spinner.set_message("waiting until payment and evidence are final");
    let path = options.receipt.clone().unwrap_or_else(|| folder.path().join("demo.ogp"));
    let bundle = chat::keep(&client, &answer, &path).await?;
    times.settled = millis(begun);
    spinner.finish_and_clear();
    devnet.stop().await?;

    // The network is gone: what follows needs nothing but the file and the anchors.
    let report = og_receipt::verify(&bundle, Some(&verify::anchors_of(&network)?));
    show(&network, &options.prompt, &answer, &times, &report, bundle.len(), ui)?;
    if report.verdict() != Verdict::Verified || !report.anchored {
        bail!("not everything was verified");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(
    network: &NetworkFile,
    prompt: &str,
    answer: &Answer,
    times: &Times,
    report: &Report,
    bundle_bytes: usize,
    ui: &Ui,
) -> Result<()> {
    let claims = answer.receipt.claims();
    if ui.is_json() {
        ui.json(&json!({
            "prompt": prompt,
            "text": answer.text,
            "verdict": report.verdict(),
            "simulated": report.simulated,
            "truth_level": claims.truth.as_str(),
            "charged": chat::price(network, answer),
            "bundle_bytes": bundle_bytes,
            "chains_up_ms": times.chains_up,
            "network_up_ms": times.network_up,
            "answered_ms": times.answered,
            "settled_ms": times.settled,
            "checks": serde_json::to_value(&report.checks)?,
        }));
        return Ok(());
    }
    ui.result(&format!("> {prompt}\n{}\n", answer.text.trim()));
    ui.say(&format!(
        "chains up after {} ms · network ready after {} ms · answered and verified after {} ms · settled and final after {} ms",
        times.chains_up, times.network_up, times.answered, times.settled
    ));
    ui.say(&format!(
        "{} charged {} · {} bytes of proof, checked after the network was stopped",
        claims.model_served,
        chat::price(network, answer),
        bundle_bytes
    ));
    verify::show(report, ui)
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
