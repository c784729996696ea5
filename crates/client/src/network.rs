//! Read the description of a network: where it answers, what is deployed, whom to trust.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Most bytes a network file may have.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `devnet.json`: everything a client of a network needs to know. A stable format that scripts read; fields are
/// only ever added.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NetworkFile {
    /// The OpenGradient chain.
    pub network: ChainEndpoint,
    /// The chain on which users pay.
    pub payment: PaymentEndpoint,
    /// Addresses on both chains.
    pub contracts: Contracts,
    /// The gateways that were live when the file was written; the registry is the authority.
    pub gateways: Vec<GatewayEntry>,
    /// The facilitator's HTTP service.
    pub facilitator: ServiceEndpoint,
    /// The blob store's HTTP service.
    pub store: ServiceEndpoint,
    /// The trust anchors of the network. Whoever reads this file trusts whoever wrote it.
    pub trust: Trust,
    /// Models that the gateways offer.
    pub models: Vec<String>,
    /// Funded accounts. Only a devnet publishes keys.
    #[serde(default)]
    pub accounts: Vec<Account>,
}

/// Where the OpenGradient chain answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ChainEndpoint {
    /// JSON-RPC over HTTP.
    pub rpc_url: String,
    /// JSON-RPC over WebSocket.
    pub ws_url: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
}

/// Where the payment chain answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PaymentEndpoint {
    /// JSON-RPC over HTTP.
    pub rpc_url: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
}

/// Contract addresses: registry, verifier and relay on the OpenGradient chain, the others on the payment chain.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Contracts {
    /// Directory of attested enclaves.
    pub tee_registry: Address,
    /// Signature checks against the registry.
    pub inference_verifier: Address,
    /// Where evidence is settled.
    pub settlement_relay: Address,
    /// The OPG token.
    pub opg: Address,
    /// The USDC token.
    pub usdc: Address,
    /// Uniswap's Permit2.
    pub permit2: Address,
    /// The x402 `exact` proxy.
    pub x402_exact_proxy: Address,
    /// The x402 `upto` proxy.
    pub x402_upto_proxy: Address,
}

/// One gateway.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GatewayEntry {
    /// Keccak-256 of its legacy RSA key.
    pub tee_id: B256,
    /// Where it serves.
    pub url: String,
    /// Who is paid for its answers.
    pub payment_address: Address,
    /// Whether its enclave is simulated, and so proves nothing about hardware.
    pub simulated: bool,
}

/// A plain HTTP service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServiceEndpoint {
    /// Base URL.
    pub url: String,
}

/// Trust anchors: the one thing that cannot come from the network itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Trust {
    /// Hash of the OpenGradient chain's first header.
    pub genesis_hash: B256,
    /// The validators, each as the hex form of `og_light::Validator`.
    pub validators: Vec<String>,
    /// The roots under which evidence is accepted.
    pub tee_roots: Vec<TeeRoot>,
}

/// A root certificate by its fingerprint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TeeRoot {
    /// SHA-256 of the DER certificate.
    pub sha256: B256,
    /// Whether it signs simulated enclaves.
    pub simulated: bool,
}

/// A funded account of a devnet.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Account {
    /// What people call it.
    pub name: String,
    /// Its address.
    pub address: Address,
    /// Its private key, published on purpose: it holds play money.
    pub private_key: B256,
}

impl NetworkFile {
    /// Reads a network file.
    ///
    /// # Errors
    /// [`Error::NetworkFile`] when it cannot be read, is too large or is not one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::NetworkFile { path: path.to_owned(), reason };
        let length = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(fail(format!("{length} bytes exceed the limit of {FILE_BYTES_MAX}")));
        }
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))
    }

    /// Writes the file so that a reader sees all of it or none of it, readable by its owner alone: it holds keys.
    ///
    /// # Errors
    /// [`Error::NetworkFile`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let fail = |reason: String| Error::NetworkFile { path: path.to_owned(), reason };
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| fail(error.to_string()))?;
        bytes.push(b'\n');
        write_private(path, &bytes).map_err(|error| fail(error.to_string()))
    }

    /// The account called `name`, or the first one.
    ///
    /// # Errors
    /// [`Error::UnknownAccount`] when there is none.
    pub fn account(&self, name: Option<&str>) -> Result<&Account, Error> {
        let mut accounts = self.accounts.iter();
        let found = match name {
            Some(name) => accounts.find(|account| account.name == name),
            None => accounts.next(),
        };
        found.ok_or_else(|| Error::UnknownAccount {
            name: name.unwrap_or("the first one").to_owned(),
            known: self.accounts.iter().map(|account| account.name.clone()).collect(),
        })
    }
}

/// Writes a file that only its owner may read, mode 0600: beside the target, synced, then renamed over it.
///
/// # Errors
/// When the folder is missing or the disk refuses; the target is then as it was.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut beside = PathBuf::from(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    beside.set_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn sample() -> NetworkFile {
        serde_json::from_value(serde_json::json!({
            "network": {"rpc_url": "http://127.0.0.1:1", "ws_url": "ws://127.0.0.1:1", "chain_id": 10740},
            "payment": {"rpc_url": "http://127.0.0.1:2", "chain_id": 8453},
            "contracts": {
                "tee_registry": Address::repeat_byte(1), "inference_verifier": Address::repeat_byte(2),
                "settlement_relay": Address::repeat_byte(3), "opg": Address::repeat_byte(4),
                "usdc": Address::repeat_byte(5), "permit2": Address::repeat_byte(6),
                "x402_exact_proxy": Address::repeat_byte(7), "x402_upto_proxy": Address::repeat_byte(8)
            },
            "gateways": [{"tee_id": B256::repeat_byte(9), "url": "https://127.0.0.1:3",
                          "payment_address": Address::repeat_byte(10), "simulated": true}],
            "facilitator": {"url": "http://127.0.0.1:4"}, "store": {"url": "http://127.0.0.1:5"},
            "trust": {"genesis_hash": B256::repeat_byte(11), "validators": ["0x00"],
                      "tee_roots": [{"sha256": B256::repeat_byte(12), "simulated": true}]},
            "models": ["smollm2-135m-instruct"],
            "accounts": [{"name": "alice", "address": Address::repeat_byte(13), "private_key": B256::repeat_byte(14)}]
        }))
        .unwrap()
    }

    #[test]
    fn a_file_reads_back_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devnet.json");
        sample().write(&path).unwrap();
        assert_eq!(NetworkFile::read(&path).unwrap(), sample());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn accounts_are_found_by_name() {
        let file = sample();
        assert_eq!(file.account(None).unwrap().name, "alice");
        assert_eq!(file.account(Some("alice")).unwrap().name, "alice");
        let error = file.account(Some("bob")).unwrap_err().to_string();
        assert!(error.contains("bob") && error.contains("alice"), "{error}");
    }

    #[test]
    fn what_is_no_network_file_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        std::fs::write(&path, b"{}").unwrap();
        assert!(NetworkFile::read(&path).unwrap_err().to_string().contains("x.json"));
    }
}
