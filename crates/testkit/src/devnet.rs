//! `devnet.json`, as third parties read it.
//!
//! These types are written from the published contract, not imported from the crate that writes the file: a test that
//! shares types with what it tests cannot see a field being renamed.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// The whole file. Unknown keys are allowed: the contract says keys may be added.
#[derive(Clone, Debug, Deserialize)]
pub struct Devnet {
    /// The chain with the registry and settlements.
    pub network: Network,
    /// The chain that moves money.
    pub payment: Payment,
    /// Addresses, the same on both chains where they exist on both.
    pub contracts: Contracts,
    /// Gateways that serve now.
    pub gateways: Vec<Gateway>,
    /// The facilitator.
    pub facilitator: Endpoint,
    /// The blob store.
    pub store: Endpoint,
    /// What a verifier trusts.
    pub trust: Trust,
    /// Model names.
    pub models: Vec<String>,
    /// Funded accounts.
    pub accounts: Vec<Account>,
}

/// The verification chain's endpoints.
#[derive(Clone, Debug, Deserialize)]
pub struct Network {
    /// JSON-RPC over HTTP.
    pub rpc_url: String,
    /// JSON-RPC over WebSocket.
    pub ws_url: String,
    /// Its id.
    pub chain_id: u64,
}

/// The payment chain's endpoint.
#[derive(Clone, Debug, Deserialize)]
pub struct Payment {
    /// JSON-RPC over HTTP.
    pub rpc_url: String,
    /// Its id.
    pub chain_id: u64,
}

/// Addresses, as `0x…` text.
#[derive(Clone, Debug, Deserialize)]
pub struct Contracts {
    /// TEE registry.
    pub tee_registry: String,
    /// Inference verifier.
    pub inference_verifier: String,
    /// Settlement relay.
    pub settlement_relay: String,
    /// OPG token.
    pub opg: String,
    /// USDC token.
    pub usdc: String,
    /// Permit2.
    pub permit2: String,
    /// x402 `exact` proxy.
    pub x402_exact_proxy: String,
    /// x402 `upto` proxy.
    pub x402_upto_proxy: String,
}

/// One gateway.
#[derive(Clone, Debug, Deserialize)]
pub struct Gateway {
    /// Registry id.
    pub tee_id: String,
    /// Base URL.
    pub url: String,
    /// Who is paid.
    pub payment_address: String,
    /// Whether its enclave is simulated.
    pub simulated: bool,
}

/// A service's base URL.
#[derive(Clone, Debug, Deserialize)]
pub struct Endpoint {
    /// The URL.
    pub url: String,
}

/// Trust anchors.
#[derive(Clone, Debug, Deserialize)]
pub struct Trust {
    /// Hash of block 0.
    pub genesis_hash: String,
    /// Validators' public keys.
    pub validators: Vec<String>,
    /// Roots of TEE evidence.
    pub tee_roots: Vec<TeeRoot>,
}

/// A root certificate of TEE evidence.
#[derive(Clone, Debug, Deserialize)]
pub struct TeeRoot {
    /// Its fingerprint.
    pub sha256: String,
    /// Whether it is the development root.
    pub simulated: bool,
}

/// A funded account of the devnet, worthless elsewhere.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its key.
    pub private_key: String,
}

impl Devnet {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or breaks the contract.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} breaks the devnet.json contract", path.display()))
    }

    /// The account called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn account(&self, name: &str) -> anyhow::Result<&Account> {
        self.accounts
            .iter()
            .find(|account| account.name == name)
            .with_context(|| format!("devnet.json has no account `{name}`"))
    }

    /// The first gateway.
    ///
    /// # Errors
    /// When there is none.
    pub fn gateway(&self) -> anyhow::Result<&Gateway> {
        self.gateways.first().context("devnet.json has no gateway")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"network":{"rpc_url":"http://127.0.0.1:1","ws_url":"ws://127.0.0.1:1","chain_id":10740},
      "payment":{"rpc_url":"http://127.0.0.1:2","chain_id":8453},
      "contracts":{"tee_registry":"0x1","inference_verifier":"0x2","settlement_relay":"0x3","opg":"0x4","usdc":"0x5","permit2":"0x6","x402_exact_proxy":"0x7","x402_upto_proxy":"0x8","later":"0x9"},
      "gateways":[{"tee_id":"0xa","url":"https://127.0.0.1:3","payment_address":"0xb","simulated":true}],
      "facilitator":{"url":"http://127.0.0.1:4"},"store":{"url":"http://127.0.0.1:5"},
      "trust":{"genesis_hash":"0xc","validators":["0xd"],"tee_roots":[{"sha256":"0xe","simulated":true}]},
      "models":["smollm2-135m-instruct"],
      "accounts":[{"name":"alice","address":"0xf","private_key":"0x10"}]}"#;

    #[test]
    fn the_published_example_is_read_and_a_renamed_key_is_noticed() {
        let devnet: Devnet = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(devnet.account("alice").unwrap().address, "0xf");
        assert!(devnet.account("mallory").is_err());
        assert_eq!(devnet.gateway().unwrap().url, "https://127.0.0.1:3");
        let renamed = EXAMPLE.replace("payment_address", "pay_to");
        assert!(serde_json::from_str::<Devnet>(&renamed).is_err());
    }
}
