//! `og dev`: a network on this machine, until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use og_devnet::{Devnet, Options, Progress, Upstream};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::DevOptions;
use crate::ui::Ui;

pub(crate) async fn run(options: DevOptions, ui: &Ui) -> Result<ExitCode> {
    // Installed first, so that a signal during the start stops the start.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let temporary = match &options.data_dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("creating a temporary directory")?),
    };
    let data_dir = match (&options.data_dir, &temporary) {
        (Some(path), _) => path.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => anyhow::bail!("there is no data directory"),
    };
    let spinner = ui.spinner("starting");
    let bar = spinner.clone();
    let upstream = options
        .upstream
        .clone()
        .map(|base_url| Upstream { base_url, models: options.models.clone() });
    let start = Options {
        validators: options.validators,
        data_dir,
        cache_dir: cache_dir()?,
        ports: options.ports,
        upstream,
        local_model: !options.no_local_model,
        watcher: Arc::new(move |progress| bar.set_message(words(&progress))),
    };
    let mut devnet = tokio::select! {
        started = Devnet::start(&start) => started?,
        _ = interrupted.recv() => return Ok(ExitCode::FAILURE),
        _ = terminated.recv() => return Ok(ExitCode::FAILURE),
    };
    spinner.finish_and_clear();
    if let Some(path) = &options.ready_file {
        devnet.file().write(path)?;
    }
    show(&devnet, &options, ui)?;

    let outcome = tokio::select! {
        failed = devnet.failed() => failed,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    };
    if let Some(path) = &options.ready_file {
        // Gone already is as good.
        if let Err(error) = std::fs::remove_file(path) {
            tracing::debug!(%error, "the ready file was not removed");
        }
    }
    ui.say("stopping");
    let stopped = devnet.stop().await;
    outcome.and(stopped)?;
    Ok(ExitCode::SUCCESS)
}

fn show(devnet: &Devnet, options: &DevOptions, ui: &Ui) -> Result<()> {
    let file = devnet.file();
    if ui.is_json() {
        ui.json(&serde_json::to_value(file)?);
        return Ok(());
    }
    let mut rows = vec![
        vec!["OpenGradient chain".to_owned(), file.network.rpc_url.clone()],
        vec!["payment chain".to_owned(), file.payment.rpc_url.clone()],
        vec!["facilitator".to_owned(), file.facilitator.url.clone()],
        vec!["store".to_owned(), file.store.url.clone()],
        vec!["models".to_owned(), file.models.join(", ")],
    ];
    for gateway in &file.gateways {
        let evidence = if gateway.simulated { " (simulated TEE)" } else { "" };
        rows.insert(2, vec![format!("gateway{evidence}"), gateway.url.clone()]);
    }
    ui.table(&["service", "address"], &rows);
    let hint = match &options.ready_file {
        Some(path) => {
            let path = path.display();
            format!("ready; ask with: og chat --devnet {path} \"Hello\"   (Ctrl-C stops)")
        }
        None => "ready; Ctrl-C stops. With --ready-file, other commands can use it.".to_owned(),
    };
    ui.say(&hint);
    Ok(())
}

/// What is happening, in words.
pub(crate) fn words(progress: &Progress) -> String {
    match progress {
        Progress::Model(text) => text.clone(),
        Progress::ChainsUp { after_ms } => format!("both chains answer after {after_ms} ms"),
        Progress::EnclaveUp => "the simulated enclave has its keys".to_owned(),
        Progress::SettlingEarlier { open } => {
            format!("settling {open} answers of earlier enclaves")
        }
        Progress::Registered => "the registry accepted the enclave's evidence".to_owned(),
        Progress::Ready { after_ms } => format!("ready after {after_ms} ms"),
        _ => "working".to_owned(),
    }
}

/// Where model files are kept between runs: `$XDG_CACHE_HOME/og`, or `~/.cache/og`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("og"))
        .context("neither XDG_CACHE_HOME nor HOME names a directory")
}
