//! What an operator decides: addresses, prices, models, limits.
//!
//! Everything that changes what a client pays or which model answers also appears in the receipt, so nothing here
//! can make the evidence lie.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use alloy_primitives::{Address, B256, U256};
use og_meter::UnitPrice;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// All settings of a gateway.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Port 0 lets the system choose.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Absolute URL under which clients reach the gateway, without a trailing slash; default `https://<listen>`.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Folder of the journal. It outlives the enclave: unsettled payments in it are settled after a restart.
    pub data_dir: PathBuf,
    /// Where the enclave is registered and its receipts are anchored.
    pub verification: VerificationChain,
    /// The account that registers the enclave: `GET /enclave/registration` answers with evidence bound to it and
    /// to nobody else. Without one, the route answers 404.
    #[serde(default)]
    pub owner: Option<Address>,
    /// How clients pay.
    pub payment: Payment,
    /// OpenAI-compatible services, by a name of the operator's choosing.
    #[serde(default)]
    pub upstreams: BTreeMap<String, OpenAiUpstream>,
    /// The models served. A name is served only by the model it names.
    pub models: Vec<Model>,
    /// Limits on work and time.
    #[serde(default)]
    pub limits: Limits,
    /// Seconds between heartbeats; 0 sends none.
    #[serde(default = "default_heartbeat_secs")]
    pub heartbeat_secs: u64,
}

/// The chain that verifies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VerificationChain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of its genesis block.
    pub genesis_hash: B256,
    /// Its TEE registry.
    pub registry: Address,
}

/// How clients pay.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Payment {
    /// EIP-155 id of the payment chain.
    pub chain_id: u64,
    /// Who is paid.
    pub pay_to: Address,
    /// The facilitator that alone may settle.
    pub facilitator: Address,
    /// Tokens accepted, in order of preference.
    pub assets: Vec<Asset>,
    /// How long an authorisation should live, in seconds.
    #[serde(default = "default_permit_secs")]
    pub max_timeout_secs: u64,
}

/// A token that is accepted.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// Address of the token.
    pub address: Address,
    /// Symbol for people.
    pub symbol: String,
    /// EIP-712 domain name of the token.
    pub name: String,
    /// EIP-712 domain version of the token.
    pub version: String,
    /// The most a request may cost, which is what clients authorise, in base units.
    pub cap: U256,
}

/// An OpenAI-compatible service.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiUpstream {
    /// Base URL ending in `/v1`.
    pub base_url: String,
    /// Bearer token, if the service wants one.
    #[serde(default, skip_serializing)]
    pub api_key: Option<String>,
    /// Seconds until a connection must stand.
    #[serde(default = "default_connect_secs")]
    pub connect_secs: u64,
    /// Seconds without a byte after which an answer counts as broken off.
    #[serde(default = "default_read_secs")]
    pub read_secs: u64,
    /// How the service wants the answer's limit to be called.
    #[serde(default)]
    pub max_tokens_field: MaxTokensField,
}

/// The name of the field that limits an answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// `max_tokens`, which most services know.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's newer models insist on.
    MaxCompletionTokens,
}

impl MaxTokensField {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

impl OpenAiUpstream {
    /// A service at `base_url` (ending in `/v1`) with default settings and no key.
    pub fn at(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            connect_secs: default_connect_secs(),
            read_secs: default_read_secs(),
            max_tokens_field: MaxTokensField::default(),
        }
    }
}

impl core::fmt::Debug for OpenAiUpstream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OpenAiUpstream").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// A model of the table.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name in requests.
    pub name: String,
    /// Who answers: the name of an upstream, or `local` for the engine inside the enclave.
    pub upstream: String,
    /// The model's name at the upstream; default [`Self::name`].
    #[serde(default)]
    pub upstream_name: Option<String>,
    /// Who made it, for `GET /v1/models`.
    #[serde(default = "default_owner")]
    pub owned_by: String,
    /// Most tokens of an answer, also what is assumed when a request names no limit.
    pub max_output_tokens: u32,
    /// Token prices by asset. A model without a price in an asset cannot be paid for in it.
    pub prices: BTreeMap<Address, UnitPrice>,
}

/// Limits on work and time.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Seconds for a body to arrive.
    pub body_secs: u64,
    /// Most open connections.
    pub connections: usize,
    /// Seconds for the TLS handshake, and for each request's head.
    pub handshake_secs: u64,
    /// Most requests being answered at once.
    pub requests: usize,
    /// Most payments of one payer in one token that are being answered or not settled yet.
    pub payments_per_payer: u32,
    /// Largest answer, in bytes.
    pub answer_bytes: usize,
    /// Seconds for an answer, from admission to its end.
    pub answer_secs: u64,
    /// Milliseconds of silence after which a client is shown that the answer is still coming.
    pub keepalive_ms: u64,
    /// Bytes of answers kept in memory for clients that ask again.
    pub stored_answer_bytes: usize,
    /// Seconds that a paid answer can be fetched again.
    pub stored_answer_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            body_secs: 30,
            connections: 1024,
            handshake_secs: 10,
            requests: 256,
            payments_per_payer: 64,
            answer_bytes: 8 << 20,
            answer_secs: 600,
            keepalive_ms: 5_000,
            stored_answer_bytes: 64 << 20,
            stored_answer_secs: 900,
        }
    }
}

/// Why a configuration cannot be served.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// The setting at fault.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fault =
            |field: String, reason: &str| Err(ConfigError { field, reason: reason.to_owned() });
        if self.payment.assets.is_empty() {
            return fault("payment.assets".into(), "must name at least one token");
        }
        if self.payment.max_timeout_secs < 60 {
            return fault("payment.max_timeout_secs".into(), "must be at least 60");
        }
        for (name, upstream) in &self.upstreams {
            let url = reqwest::Url::parse(&upstream.base_url);
            if !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
                || !upstream.base_url.trim_end_matches('/').ends_with("/v1")
            {
                return fault(
                    format!("upstreams.{name}.base_url"),
                    "must be an http(s) URL ending in /v1",
                );
            }
            if name == LOCAL {
                return fault(
                    "upstreams.local".into(),
                    "is the name of the engine inside the enclave",
                );
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for (i, model) in self.models.iter().enumerate() {
            if model.name.is_empty() || !names.insert(normalized(&model.name)) {
                return fault(
                    format!("models[{i}].name"),
                    "must be unique, whatever its case and punctuation",
                );
            }
            if model.upstream != LOCAL && !self.upstreams.contains_key(&model.upstream) {
                return fault(
                    format!("models[{i}].upstream"),
                    "is neither local nor one of upstreams",
                );
            }
            if model.max_output_tokens == 0 {
                return fault(format!("models[{i}].max_output_tokens"), "must not be 0");
            }
            if !self.payment.assets.iter().any(|asset| model.prices.contains_key(&asset.address)) {
                return fault(format!("models[{i}].prices"), "names none of the accepted tokens");
            }
        }
        Ok(())
    }
}

/// The name of the engine inside the enclave, among upstreams.
pub const LOCAL: &str = "local";

/// A model name without case and punctuation: how `TEE_LLM.GPT_5_2` finds `gpt-5.2`.
pub(crate) fn normalized(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn default_heartbeat_secs() -> u64 {
    600
}

fn default_permit_secs() -> u64 {
    300
}

fn default_connect_secs() -> u64 {
    10
}

fn default_read_secs() -> u64 {
    180
}

fn default_owner() -> String {
    "unknown".into()
}
