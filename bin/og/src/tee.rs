//! `og tee`: enclaves of the registry.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use og_client::registry::{self, Gateway};
use og_client::{Chain, NetworkFile};
use serde_json::{Value, json};

use crate::arguments::{TeeAction, TeeOptions};
use crate::ui::Ui;

pub(crate) async fn run(options: TeeOptions, ui: &Ui) -> Result<ExitCode> {
    let network = NetworkFile::read(&options.devnet)?;
    let chain = Chain::connect("OpenGradient", &network.network.rpc_url)?;
    let address = network.contracts.tee_registry;
    match options.action {
        TeeAction::List => {
            let gateways = registry::active_gateways(&chain, address).await?;
            list(&gateways, ui);
        }
        TeeAction::Show { tee_id } => {
            let gateways = registry::active_gateways(&chain, address).await?;
            let gateway = gateways.iter().find(|gateway| gateway.tee_id == tee_id);
            let gateway = gateway.with_context(|| format!("no active enclave {tee_id}"))?;
            show(gateway, ui);
        }
        TeeAction::Register { url, account } => {
            let owner = network.account(Some(&account))?.clone();
            let (tee_id, pay_to) = og_client::register::register(&network, &owner, &url).await?;
            if ui.is_json() {
                ui.json(&json!({"tee_id": tee_id, "pay_to": pay_to}));
            } else {
                ui.result(&format!("{tee_id}  (its answers are paid to {pay_to})"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(gateways: &[Gateway], ui: &Ui) {
    if ui.is_json() {
        ui.json(&gateways.iter().map(document).collect());
        return;
    }
    let rows: Vec<Vec<String>> = gateways
        .iter()
        .map(|gateway| {
            vec![gateway.tee_id.to_string(), gateway.endpoint.clone(), hardware(gateway).to_owned()]
        })
        .collect();
    ui.table(&["enclave", "endpoint", "evidence"], &rows);
}

fn show(gateway: &Gateway, ui: &Ui) {
    let document = document(gateway);
    if ui.is_json() {
        ui.json(&document);
        return;
    }
    let fields = document.as_object().into_iter().flatten();
    let rows: Vec<Vec<String>> = fields
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            vec![name.clone(), text]
        })
        .collect();
    ui.table(&["field", "value"], &rows);
}

fn document(gateway: &Gateway) -> Value {
    json!({
        "tee_id": gateway.tee_id,
        "owner": gateway.owner,
        "endpoint": gateway.endpoint,
        "payment_address": gateway.payment_address,
        "pcr_hash": gateway.pcr_hash,
        "receipt_key": og_primitives::B256::from(gateway.receipt_key),
        "registered_at": gateway.registered_at,
        "last_heartbeat_at": gateway.last_heartbeat_at,
        "evidence": hardware(gateway),
    })
}

/// What stands behind the enclave's evidence. The registry knows; a network file that lists it says it too.
fn hardware(gateway: &Gateway) -> &'static str {
    if gateway.simulated { "simulated (proves nothing about hardware)" } else { "AWS Nitro" }
}
