//! `og chat`: find, pay, verify, then print.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use og_client::{Answer, Client, NetworkFile, Question, tokens};
use og_receipt::SettlementMode;
use serde_json::{Value, json};

use crate::arguments::ChatOptions;
use crate::ui::Ui;

/// How long evidence and payment may take to be final.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn run(options: ChatOptions, ui: &Ui) -> Result<ExitCode> {
    let network = NetworkFile::read(&options.devnet)?;
    let account = network.account(options.account.as_deref())?.clone();
    let model = match options.model {
        Some(model) => model,
        None => network.models.first().context("the network offers no model")?.clone(),
    };
    let client = Client::connect(network, &account)?;
    let question = Question {
        model,
        prompt: options.prompt,
        max_tokens: options.max_tokens,
        temperature: options.temperature,
        mode: if options.private { SettlementMode::Private } else { SettlementMode::Batch },
    };
    let spinner = ui.spinner("asking; the answer is shown once it is verified");
    let answer = client.chat(&question).await?;
    let bundle = match &options.receipt {
        Some(path) => {
            spinner.set_message("waiting until the evidence is final on chain");
            Some(keep(&client, &answer, path).await?)
        }
        None => None,
    };
    spinner.finish_and_clear();
    print(&client, &answer, bundle.as_ref().and(options.receipt.as_deref()), ui);
    Ok(ExitCode::SUCCESS)
}

/// Collects the proofs, checks them once against the network's anchors, and writes the bundle.
pub(crate) async fn keep(client: &Client, answer: &Answer, path: &Path) -> Result<Vec<u8>> {
    let bundle = client.bundle(answer, SETTLE_TIMEOUT).await?.encode();
    let anchors = crate::verify::anchors_of(client.network())?;
    let report = og_receipt::verify(&bundle, Some(&anchors));
    if let Some(failed) = report.failed() {
        anyhow::bail!("the bundle fails its check `{}`: {}", failed.name, failed.detail);
    }
    std::fs::write(path, &bundle).with_context(|| format!("writing {}", path.display()))?;
    Ok(bundle)
}

fn print(client: &Client, answer: &Answer, bundle: Option<&Path>, ui: &Ui) {
    let claims = answer.receipt.claims();
    if ui.is_json() {
        ui.json(&document(answer, bundle));
        return;
    }
    ui.result(answer.text.trim());
    let simulated = if claims.simulated { ", simulated TEE" } else { "" };
    ui.say(&format!(
        "{} verified: {} answered, {} + {} tokens, {} ({}{simulated})",
        ui.mark(true),
        claims.model_served,
        claims.usage.prompt_tokens,
        claims.usage.completion_tokens,
        price(client.network(), answer),
        claims.truth.as_str(),
    ));
    if let Some(path) = bundle {
        ui.say(&format!("proof: {}   check it with: og verify {}", path.display(), path.display()));
    }
}

/// What was charged, with the token's name.
pub(crate) fn price(network: &NetworkFile, answer: &Answer) -> String {
    let claims = answer.receipt.claims();
    let (decimals, symbol) = if claims.asset == network.contracts.opg {
        (tokens::OPG_DECIMALS, "OPG".to_owned())
    } else if claims.asset == network.contracts.usdc {
        (tokens::USDC_DECIMALS, "USDC".to_owned())
    } else {
        (0, claims.asset.to_string())
    };
    format!("{} {symbol}", tokens::decimal(claims.total, decimals))
}

fn document(answer: &Answer, bundle: Option<&Path>) -> Value {
    let claims = answer.receipt.claims();
    json!({
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "verified": true,
        "receipt_digest": answer.receipt.digest(),
        "tee_id": claims.tee_id,
        "simulated": claims.simulated,
        "truth_level": claims.truth.as_str(),
        "model": claims.model_served,
        "usage": {
            "prompt_tokens": claims.usage.prompt_tokens,
            "completion_tokens": claims.usage.completion_tokens,
        },
        "total": claims.total.to_string(),
        "asset": claims.asset,
        "bundle": bundle,
    })
}
