//! `og verify`: check a bundle offline, against anchors of one's own; proofs of inference go to [`crate::proof`].

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use og_client::NetworkFile;
use og_client::network::{Contracts, Trust};
use og_light::{Validator, ValidatorSet};
use og_receipt::verify::name;
use og_receipt::{Outcome, Receipt, Report, TrustAnchors, Verdict, bundle};
use serde::Deserialize;
use serde_json::json;

use crate::arguments::VerifyOptions;
use crate::ui::Ui;

/// Most bytes that are read of a file; a bundle may have fewer, and its own reader says so.
const FILE_BYTES_MAX: u64 = og_zkml::proof_file::MAX_FILE_BYTES as u64;

pub(crate) const REJECTED: u8 = 1;
pub(crate) const UNREADABLE: u8 = 2;
const NO_TRUST_ANCHOR: u8 = 3;

/// The part of a network file that a verifier needs.
#[derive(Debug, Deserialize)]
struct AnchorFile {
    network: ChainId,
    contracts: Contracts,
    trust: Trust,
}

#[derive(Debug, Deserialize)]
struct ChainId {
    chain_id: u64,
}

pub(crate) fn run(options: &VerifyOptions, ui: &Ui) -> Result<ExitCode> {
    let bytes = match read(&options.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            ui.error(&error);
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    if og_zkml::proof_file::is_proof(&bytes) {
        return crate::proof::verify(&bytes, options, ui);
    }
    let anchors = match options.trust.as_deref().or(options.devnet.as_deref()) {
        Some(path) => Some(read_anchors(path)?),
        None => None,
    };
    if !bundle::is_bundle(&bytes) && Receipt::decode(&bytes).is_ok() {
        let text = "this is a bare receipt: without the enclave's record it proves nothing offline; \
                    ask for a bundle with `og chat --receipt FILE.ogp`";
        if ui.is_json() {
            ui.json(&json!({"verdict": Verdict::NoTrustAnchor, "reason": text}));
        } else {
            ui.say(text);
        }
        return Ok(ExitCode::from(NO_TRUST_ANCHOR));
    }
    let report = og_receipt::verify(&bytes, anchors.as_ref());
    show(&report, ui)?;
    Ok(match report.verdict() {
        Verdict::Verified => ExitCode::SUCCESS,
        Verdict::Rejected => ExitCode::from(REJECTED),
        Verdict::Unreadable => ExitCode::from(UNREADABLE),
        Verdict::NoTrustAnchor => ExitCode::from(NO_TRUST_ANCHOR),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    anyhow::ensure!(
        length <= FILE_BYTES_MAX,
        "{}: {length} bytes exceed the limit of {FILE_BYTES_MAX}",
        path.display()
    );
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn read_anchors(path: &Path) -> Result<TrustAnchors> {
    let bytes = read(path).context("reading the trust anchors")?;
    let file: AnchorFile = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} holds no trust anchors", path.display()))?;
    anchors(file.network.chain_id, &file.contracts, &file.trust)
}

/// The trust anchors that a network file states.
pub(crate) fn anchors_of(network: &NetworkFile) -> Result<TrustAnchors> {
    anchors(network.network.chain_id, &network.contracts, &network.trust)
}

fn anchors(chain_id: u64, contracts: &Contracts, trust: &Trust) -> Result<TrustAnchors> {
    let validators = trust.validators.iter().map(|text| text.parse::<Validator>());
    let validators = validators.collect::<Result<Vec<_>, _>>().context("reading the validators")?;
    Ok(TrustAnchors {
        chain_id,
        genesis_hash: trust.genesis_hash,
        validators: ValidatorSet::new(validators).context("reading the validators")?,
        tee_roots: trust
            .tee_roots
            .iter()
            .map(|root| og_attest::Root { sha256: root.sha256, simulated: root.simulated })
            .collect(),
        registry: contracts.tee_registry,
        relay: contracts.settlement_relay,
    })
}

/// Prints every check and the verdict.
pub(crate) fn show(report: &Report, ui: &Ui) -> Result<()> {
    if ui.is_json() {
        ui.json(&json!({
            "verdict": report.verdict(),
            "failed": report.failed().map(|check| check.name),
            "simulated": report.simulated,
            "anchored": report.anchored,
            "checks": serde_json::to_value(&report.checks)?,
        }));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|check| {
            let mark = match check.outcome {
                Outcome::Passed => ui.mark(true),
                Outcome::Failed => ui.mark(false),
                Outcome::NotProven => "·".to_owned(),
            };
            let found = match check.detail.as_str() {
                "" => name::meaning(check.name),
                detail => detail,
            };
            vec![mark, check.name.to_owned(), found.to_owned()]
        })
        .collect();
    ui.table(&["", "check", "found"], &rows);
    ui.say(&verdict(report));
    Ok(())
}

/// The verdict in a sentence that claims no more than was proven.
fn verdict(report: &Report) -> String {
    let simulated = if report.simulated { ", by a simulated enclave" } else { "" };
    match report.verdict() {
        Verdict::Verified if report.anchored => format!("verified and settled on chain{simulated}"),
        Verdict::Verified => format!("verified, private: not anchored on chain{simulated}"),
        Verdict::Rejected => {
            format!("rejected: {}", report.failed().map_or("", |check| check.name))
        }
        Verdict::Unreadable => "unreadable: this is no bundle".to_owned(),
        Verdict::NoTrustAnchor => {
            "no trust anchor: pass --devnet or --trust; a bundle brings none of its own".to_owned()
        }
    }
}
