//! Discover, pay, call and verify.
//!
//! ```text
//! network file ─▶ registry::active_gateways ─▶ tls::pinned_http_client
//!                                                   │
//! Question ─▶ exchange: ask ─▶ 402 ─▶ pay within limits ─▶ ask again ─▶ open stream
//!                                                                          │
//!             answer::read: hash every event, check the receipt ◀──────────┘
//!                   │
//!                   ▼
//!             Answer ─▶ settlement::wait ─▶ bundle (.ogp), checkable offline by anyone
//! ```
//!
//! An answer is returned only after it was checked; there is no way to ask for an unchecked one. Money is limited
//! three times: by token and amount ([`SpendLimits`]), by payee (the registry's), and by the Permit2 allowance.
//!
//! | Module | Holds |
//! |---|---|
//! | [`network`] | the network file, `devnet.json` |
//! | [`register`] | registering an enclave by its evidence |
//! | [`registry`] | active gateways and their attested keys |
//! | [`tls`] | the pinned connection |
//! | [`tokens`] | balances, and amounts as people write them |
//! | [`exchange`] | the x402 exchange |
//! | [`answer`] | the checks of a streamed answer |
//! | [`settlement`] | waiting for an answer's evidence to be final |
//! | [`bundle`] | collecting the proofs |
//! | [`chain`] | JSON-RPC |

pub mod answer;
pub mod bundle;
pub mod chain;
mod error;
pub mod exchange;
pub mod network;
pub mod register;
pub mod registry;
pub mod settlement;
pub mod tls;
pub mod tokens;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, U256};
use alloy_signer_local::PrivateKeySigner;
use og_receipt::SettlementMode;
use og_x402::{Fresh, SpendLimits, Wallet};
use serde_json::json;

pub use answer::Answer;
pub use chain::Chain;
pub use error::Error;
pub use exchange::Payment;
pub use network::{Account, NetworkFile};
pub use registry::Gateway;

/// What to ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which model.
    pub model: String,
    /// What to ask it.
    pub prompt: String,
    /// Most tokens to answer with.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Whether the answer's evidence is settled on chain.
    pub mode: SettlementMode,
}

/// A payer on a network.
#[derive(Debug)]
pub struct Client {
    network: NetworkFile,
    opengradient: Chain,
    payment: Chain,
    wallet: Wallet,
    limits: SpendLimits,
}

impl Client {
    /// Connects an account to a network. Reads nothing yet.
    ///
    /// # Errors
    /// [`Error::Chain`] when a URL is not one; [`Error::UnknownAccount`] when the account's key is not one.
    pub fn connect(network: NetworkFile, account: &Account) -> Result<Self, Error> {
        let unusable = || Error::UnknownAccount { name: account.name.clone(), known: Vec::new() };
        let wallet = Wallet::from_key(&account.private_key.0).ok_or_else(unusable)?;
        let signer = PrivateKeySigner::from_bytes(&account.private_key).map_err(|_| unusable())?;
        let opengradient = Chain::connect("OpenGradient", &network.network.rpc_url)?;
        let payment = Chain::connect_with_wallet("payment", &network.payment.rpc_url, signer)?;
        let limits = default_limits(&network);
        Ok(Self { network, opengradient, payment, wallet, limits })
    }

    /// The network.
    pub fn network(&self) -> &NetworkFile {
        &self.network
    }

    /// The OpenGradient chain.
    pub fn opengradient(&self) -> &Chain {
        &self.opengradient
    }

    /// The payment chain.
    pub fn payment_chain(&self) -> &Chain {
        &self.payment
    }

    /// The payer's address.
    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// Asks, pays, and returns the answer once its receipt was checked.
    ///
    /// # Errors
    /// [`Error`]; each variant says whether money moved.
    pub async fn chat(&self, question: &Question) -> Result<Answer, Error> {
        let registry = self.network.contracts.tee_registry;
        let gateways = registry::active_gateways(&self.opengradient, registry).await?;
        let gateway = pick(&gateways)?;
        let http = tls::pinned_http_client(&gateway.tls_certificate)?;
        let body = json!({
            "model": question.model,
            "messages": [{"role": "user", "content": question.prompt}],
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
            "stream": true,
        });
        let body = body.to_string().into_bytes();
        let ask = exchange::Ask {
            url: format!("{}/v1/chat/completions", gateway.endpoint),
            body: &body,
            settlement: question.mode.as_str(),
        };
        let payer = exchange::Payer {
            wallet: &self.wallet,
            limits: &self.limits,
            chain: &self.payment,
            may_approve: self.is_devnet(),
        };
        let fresh = Fresh { nonce: random_u256()?, now_secs: now_secs() };
        let (response, payment) = exchange::exchange(&http, gateway, &ask, &payer, fresh).await?;
        let expected = answer::Expected {
            network: &self.network,
            gateway,
            payment: &payment,
            payer: self.wallet.address(),
            body: &body,
            model: &question.model,
            mode: question.mode,
        };
        answer::read(response, &expected).await
    }

    /// A devnet is a network whose file publishes keys of funded accounts.
    fn is_devnet(&self) -> bool {
        !self.network.accounts.is_empty()
    }
}

/// One OPG, or one USDC, an answer.
fn default_limits(network: &NetworkFile) -> SpendLimits {
    let chain_id = network.payment.chain_id;
    SpendLimits {
        per_payment_max: BTreeMap::from([
            ((chain_id, network.contracts.opg), U256::from(10_u64.pow(18))),
            ((chain_id, network.contracts.usdc), U256::from(10_u64.pow(6))),
        ]),
    }
}

/// Picks a gateway at random, so that load spreads without anyone's say.
fn pick(gateways: &[Gateway]) -> Result<&Gateway, Error> {
    let draw = random_u256()?;
    let count = U256::from(gateways.len().max(1));
    let index: usize = (draw % count).saturating_to();
    gateways.get(index).ok_or(Error::NoGateway { listed: gateways.len() })
}

/// Makes a key: its address and its private key.
///
/// # Errors
/// [`Error::Random`] when the operating system gives no random bytes.
pub fn new_key() -> Result<(Address, B256), Error> {
    loop {
        let key = B256::from(random_u256()?);
        // All but one in 2^128 draws are keys.
        if let Some(wallet) = Wallet::from_key(&key.0) {
            return Ok((wallet.address(), key));
        }
    }
}

fn random_u256() -> Result<U256, Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
    Ok(U256::from_be_bytes(bytes))
}

/// The rim reads the clock; everything below takes time as an argument.
pub(crate) fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
