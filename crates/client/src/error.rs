//! What can go wrong between asking and having a verified answer.

use std::path::PathBuf;

use alloy_primitives::{Address, U256};
use thiserror::Error;

/// Why there is no verified answer. Each variant says whether money moved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The network file cannot be used.
    #[error("network file {}: {reason}", path.display())]
    NetworkFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The network file has no such account.
    #[error("no account called {name}; the network file knows {}", known.join(", "))]
    UnknownAccount {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A chain does not answer, or refuses.
    #[error("{chain} chain: {operation}: {reason}")]
    Chain {
        /// Which chain.
        chain: &'static str,
        /// What was asked of it.
        operation: &'static str,
        /// What it said.
        reason: String,
    },
    /// The registry lists no active gateway that can be used.
    #[error("the registry lists no active gateway ({listed} listed, none usable)")]
    NoGateway {
        /// How many it lists.
        listed: usize,
    },
    /// The registry's certificate is not one that a gateway may use.
    #[error("certificate of the gateway: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The gateway cannot be reached; nothing was paid.
    #[error("gateway {url}: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The gateway refused; nothing was charged.
    #[error("the gateway refused: HTTP {status}, {code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Machine-readable reason.
        code: String,
        /// Reason for people.
        message: String,
        /// Whether the same request may succeed later.
        retryable: bool,
    },
    /// What the gateway asks for cannot be paid within the limits; nothing was signed.
    #[error("payment: {0}")]
    Payment(#[from] og_x402::client::PayError),
    /// The gateway asks for its money to go elsewhere than the registry says; nothing was signed.
    #[error("the gateway asks to pay {asked}, but the registry says {registered}")]
    WrongPayee {
        /// What the gateway asks.
        asked: Address,
        /// What the registry says.
        registered: Address,
    },
    /// The account has not enough of the token; nothing was signed.
    #[error("{account} holds {balance} base units of {token}, and {needed} may be charged")]
    Funds {
        /// The payer.
        account: Address,
        /// The token.
        token: Address,
        /// What it has.
        balance: U256,
        /// The most that may be charged.
        needed: U256,
    },
    /// The answer is not what its receipt says. It is not shown. The payment may settle up to the signed amount.
    #[error("the answer failed its check `{check}`: {reason}")]
    Unverified {
        /// Stable name of the check.
        check: &'static str,
        /// What was found.
        reason: String,
    },
    /// The answer broke off; the gateway does not charge for it.
    #[error("the answer broke off: {reason}")]
    BrokenOff {
        /// What happened.
        reason: String,
    },
    /// The evidence was not settled in time; the answer stands, and the receipt can be anchored later.
    #[error("not settled within {waited_secs} s: {waiting_for}")]
    NotSettled {
        /// How long was waited.
        waited_secs: u64,
        /// What was waited for.
        waiting_for: &'static str,
    },
    /// The operating system gives no random bytes; nothing was signed.
    #[error("no random bytes: {0}")]
    Random(String),
    /// A bundle cannot be put together.
    #[error("bundle: {0}")]
    Bundle(String),
}
