//! A devnet with a mock upstream, in a temporary directory.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use og_testkit::devnet::Devnet;
use og_testkit::process::{OgDev, OgDevOptions};
use og_testkit::rpc::Rpc;
use og_testkit::upstream::{MODEL, MockUpstream};
use tempfile::TempDir;

use crate::reports::Report;

/// The local model's name.
pub const LOCAL_MODEL: &str = "smollm2-135m-instruct";

/// How long evidence may take to be final on chain.
const ANCHORED_WITHIN: Duration = Duration::from_secs(60);

/// How long Ctrl-C may take.
pub const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A running devnet. Everything stops and disappears when it is dropped.
#[derive(Debug)]
pub struct Network {
    // Fields drop in order: the process before what it uses.
    og: OgDev,
    /// How it was started, to start it again.
    pub options: OgDevOptions,
    /// The upstream.
    pub mock: MockUpstream,
    directory: TempDir,
}

impl Network {
    /// Starts a devnet with the mock's models, and the local model if `local`.
    ///
    /// # Errors
    /// When anything does not start.
    pub async fn start(local: bool) -> anyhow::Result<Self> {
        let mock = MockUpstream::start().await?;
        let directory = tempfile::tempdir().context("making a directory")?;
        let models = MockUpstream::models();
        let models: Vec<&str> = models.iter().map(String::as_str).collect();
        let mut options =
            OgDevOptions::new(directory.path().join("og"))?.upstream(mock.url(), &models);
        if !local {
            options = options.argument("--no-local-model");
        }
        let og = start(&options)?;
        Ok(Self { og, options, mock, directory })
    }

    /// Stops (as Ctrl-C does, or by SIGKILL) and starts again on the same directory.
    ///
    /// # Errors
    /// When it does not stop or start.
    pub fn restart(self, kill: bool) -> anyhow::Result<Self> {
        let Self { og, options, mock, directory } = self;
        let og = tokio::task::block_in_place(|| {
            if kill {
                og.kill();
            } else {
                og.stop(STOP_WITHIN)?;
            }
            options.start()
        })?;
        Ok(Self { og, options, mock, directory })
    }

    /// Stops as Ctrl-C does, and checks that it ends well.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(self) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| self.og.stop(STOP_WITHIN))
    }

    /// The process.
    #[must_use]
    pub const fn og(&self) -> &OgDev {
        &self.og
    }

    /// The path of `devnet.json`.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.og.ready_file()
    }

    /// A directory for the test's own files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a client script on this network and waits for it.
    ///
    /// # Errors
    /// When the script fails.
    pub fn run(
        &self,
        mut script: std::process::Command,
        arguments: &[&str],
    ) -> anyhow::Result<Vec<Report>> {
        tokio::task::block_in_place(|| crate::reports::run(script.arg(self.file()).args(arguments)))
    }

    /// Digests of all receipts settled on the OpenGradient chain, oldest first.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub async fn settled_receipts(&self) -> anyhow::Result<Vec<String>> {
        settled_receipts(&self.og.devnet).await
    }

    /// Waits until `count` receipts are settled on the OpenGradient chain, and checks that none is there twice.
    ///
    /// # Errors
    /// When there are fewer in time, more, or duplicates.
    pub async fn anchored(&self, count: usize) -> anyhow::Result<()> {
        anchored(&self.og.devnet, count).await
    }
}

impl Deref for Network {
    type Target = Devnet;

    fn deref(&self) -> &Devnet {
        &self.og.devnet
    }
}

/// The model that answers as it should.
#[must_use]
pub const fn mock_model() -> &'static str {
    MODEL
}

fn start(options: &OgDevOptions) -> anyhow::Result<OgDev> {
    tokio::task::block_in_place(|| options.start())
}

/// Digests of all receipts settled on the OpenGradient chain, oldest first.
///
/// # Errors
/// When the chain cannot be read.
pub async fn settled_receipts(devnet: &Devnet) -> anyhow::Result<Vec<String>> {
    use alloy_sol_types::SolEvent as _;
    use og_contracts::IInferenceSettlementRelay::ReceiptSettled;

    let topic = ReceiptSettled::SIGNATURE_HASH.to_string();
    let relay = &devnet.contracts.settlement_relay;
    let rpc = Rpc::new(&devnet.network.rpc_url);
    let logs = rpc.logs(relay, serde_json::json!([topic])).await?;
    logs.iter()
        .map(|log| log["topics"][1].as_str().map(str::to_owned).context("a log without a digest"))
        .collect()
}

/// Waits until `count` receipts are settled on the OpenGradient chain, and checks that none is there twice.
///
/// # Errors
/// When there are fewer in time, more, or duplicates.
pub async fn anchored(devnet: &Devnet, count: usize) -> anyhow::Result<()> {
    let start = tokio::time::Instant::now();
    loop {
        let mut digests = settled_receipts(devnet).await?;
        let found = digests.len();
        digests.sort();
        digests.dedup();
        anyhow::ensure!(
            digests.len() == found,
            "{} receipts were settled twice",
            found - digests.len()
        );
        if found >= count {
            anyhow::ensure!(found == count, "{found} receipts settled, {count} expected");
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < ANCHORED_WITHIN, "{found} of {count} receipts settled");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
