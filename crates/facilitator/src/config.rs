//! What a facilitator is told.

use std::path::PathBuf;

use alloy_primitives::Address;
use og_x402::Wallet;
use serde::{Deserialize, Serialize};

/// Configuration without secrets.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The outbox, an SQLite file.
    pub database: PathBuf,
    /// The chain on which users pay.
    pub payment: PaymentChain,
    /// The chain on which evidence is settled.
    pub network: NetworkChain,
    /// When evidence is settled.
    #[serde(default)]
    pub flush: FlushPolicy,
    /// How transactions are sent.
    #[serde(default)]
    pub sending: Sending,
    /// Who may ask for settlements over HTTP.
    #[serde(default)]
    pub http_settle: HttpSettle,
    /// How long finished work is remembered, in days. Permits and statements are forgotten with it; what is handed
    /// over again later is recognised by what the chains remember.
    #[serde(default = "thirty")]
    pub retention_days: u64,
}

/// The chain on which users pay.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentChain {
    /// JSON-RPC over HTTP.
    pub rpc_url: String,
    /// EIP-155 chain id; the endpoint must agree.
    pub chain_id: u64,
    /// Blocks that must hold a settlement, its own included, before it counts.
    #[serde(default = "one")]
    pub confirmations: u64,
    /// Tokens that are settled; empty means all. An open list makes us pay gas for anybody's token.
    #[serde(default)]
    pub assets: Vec<Address>,
    /// Payees that are settled for; empty means all.
    #[serde(default)]
    pub payees: Vec<Address>,
}

/// The chain on which evidence is settled.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkChain {
    /// JSON-RPC over HTTP.
    pub rpc_url: String,
    /// EIP-155 chain id; the endpoint must agree.
    pub chain_id: u64,
    /// The registry of attested enclaves.
    pub registry: Address,
    /// The settlement relay.
    pub relay: Address,
}

/// When evidence is settled: as soon as one of these holds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlushPolicy {
    /// So many items wait; also the size of the largest batch. The relay takes at most 256.
    pub items_max: usize,
    /// No item came for so long. In milliseconds.
    pub idle_ms: u64,
    /// The oldest item has waited for so long. In milliseconds.
    pub age_ms: u64,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self { items_max: 64, idle_ms: 30_000, age_ms: 120_000 }
    }
}

impl FlushPolicy {
    /// Settles within half a second, for a network on one machine.
    pub const fn devnet() -> Self {
        Self { items_max: 64, idle_ms: 50, age_ms: 200 }
    }
}

/// How transactions are sent. In milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sending {
    /// Transactions of one key that may be under way at a time.
    pub in_flight_max: usize,
    /// Pause between looks at what is under way.
    pub poll_ms: u64,
    /// A transaction that is not in a block after this long is sent again.
    pub rebroadcast_ms: u64,
    /// A transaction that is not in a block after this long is replaced with a higher fee.
    pub bump_ms: u64,
    /// A nonce that another transaction took is given up after this long without a receipt of ours.
    pub lost_ms: u64,
    /// Longest wait for an answer of a chain.
    pub rpc_timeout_ms: u64,
    /// Longest pause between attempts at a settlement that failed for a reason that may pass.
    pub retry_ms_max: u64,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            in_flight_max: 32,
            poll_ms: 50,
            rebroadcast_ms: 3_000,
            bump_ms: 20_000,
            lost_ms: 30_000,
            rpc_timeout_ms: 10_000,
            retry_ms_max: 5_000,
        }
    }
}

/// Who may ask for settlements over HTTP. Whoever may can settle a permit for less than it was meant for, so an
/// open door is for machines whose every user is trusted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpSettle {
    /// Nobody: settlements are asked for through the library.
    #[default]
    Closed,
    /// Whoever sends `Authorization: Bearer <token>`.
    Token(String),
    /// Everybody.
    Open,
}

/// The keys that send transactions. Roles may share one.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Settles payments; the `facilitator` of `upto` witnesses.
    pub payment: Wallet,
    /// Settles evidence; has the relay role.
    pub evidence: Wallet,
    /// Relays heartbeats.
    pub heartbeat: Wallet,
}

fn one() -> u64 {
    1
}

fn thirty() -> u64 {
    30
}
