//! `og wallet`: keys and balances.

use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use og_client::{Chain, NetworkFile, tokens};
use serde_json::json;

use crate::arguments::{WalletAction, WalletOptions};
use crate::ui::Ui;

pub(crate) async fn run(options: WalletOptions, ui: &Ui) -> Result<ExitCode> {
    match options.action {
        WalletAction::New { out } => new(&out, ui),
        WalletAction::Balance { devnet, account } => {
            balance(&NetworkFile::read(&devnet)?, account.as_deref(), ui).await
        }
    }
}

/// Makes a key; the file must not exist, so that no key is ever overwritten.
fn new(out: &std::path::Path, ui: &Ui) -> Result<ExitCode> {
    use std::io::Write as _;

    let (address, key) = og_client::new_key()?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .with_context(|| format!("writing the key to {}", out.display()))?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    if ui.is_json() {
        ui.json(&json!({"address": address, "key_file": out}));
    } else {
        ui.result(&format!("{address}  (key in {})", out.display()));
    }
    Ok(ExitCode::SUCCESS)
}

async fn balance(network: &NetworkFile, only: Option<&str>, ui: &Ui) -> Result<ExitCode> {
    let opengradient = Chain::connect("OpenGradient", &network.network.rpc_url)?;
    let payment = Chain::connect("payment", &network.payment.rpc_url)?;
    let accounts = match only {
        Some(name) => vec![network.account(Some(name))?.clone()],
        None => network.accounts.clone(),
    };
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    for account in accounts {
        let holdings = tokens::holdings(network, &opengradient, &payment, account.address).await?;
        documents.push(json!({
            "name": account.name, "address": account.address,
            "opg": holdings.opg.to_string(), "usdc": holdings.usdc.to_string(),
            "native_opengradient": holdings.native_opengradient.to_string(),
            "native_payment": holdings.native_payment.to_string(),
        }));
        rows.push(vec![
            account.name,
            account.address.to_string(),
            tokens::decimal(holdings.opg, tokens::OPG_DECIMALS),
            tokens::decimal(holdings.usdc, tokens::USDC_DECIMALS),
            tokens::decimal(holdings.native_opengradient, tokens::NATIVE_DECIMALS),
            tokens::decimal(holdings.native_payment, tokens::NATIVE_DECIMALS),
        ]);
    }
    if ui.is_json() {
        ui.json(&json!(documents));
    } else {
        let head = ["account", "address", "OPG", "USDC", "gas (10740)", "gas (8453)"];
        ui.table(&head, &rows);
    }
    Ok(ExitCode::SUCCESS)
}
