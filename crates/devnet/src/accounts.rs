//! The accounts of a devnet: play money behind keys that each network draws anew.
//!
//! Devnet signatures name chain id 8453 and the real token addresses, so a key that stood in this source would make
//! them valid, and worth stealing, on the real chain. Keys derive from the network's random seed instead.

use alloy_primitives::{Address, B256, keccak256};
use alloy_signer_local::PrivateKeySigner;
use anyhow::{Context as _, Result};

/// Published accounts: funded, and listed in the network file.
pub const USERS: [&str; 4] = ["alice", "bob", "carol", OPERATOR];

/// The published account that may register enclaves of its own.
pub const OPERATOR: &str = "operator";

/// One account.
#[derive(Clone, Debug)]
pub struct DevAccount {
    /// What people call it.
    pub name: &'static str,
    /// Signs its transactions.
    pub signer: PrivateKeySigner,
}

impl DevAccount {
    /// Derives the account from the network's seed and its name.
    ///
    /// # Errors
    /// Never in practice: a hash that is no secp256k1 key has not been found.
    pub fn derive(seed: B256, name: &'static str) -> Result<Self> {
        let key =
            keccak256([b"OpenGradient devnet account", seed.as_slice(), name.as_bytes()].concat());
        let signer = PrivateKeySigner::from_bytes(&key).context("deriving a devnet account")?;
        Ok(Self { name, signer })
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Its private key. Users' keys stand in the network file on purpose.
    pub fn private_key(&self) -> B256 {
        self.signer.to_bytes()
    }
}

/// Who runs a devnet. Each key has one duty, so that no two services race for one account's nonces.
#[derive(Clone, Debug)]
pub struct ServiceAccounts {
    /// Administers the registry and the relay.
    pub admin: DevAccount,
    /// Owns and registers the network's own gateway (role `TEE_OPERATOR`).
    pub operator: DevAccount,
    /// Settles payments on the payment chain; the `facilitator` that permits name.
    pub facilitator: DevAccount,
    /// Anchors evidence on the OpenGradient chain (role `SETTLEMENT_RELAY_ROLE`).
    pub anchor: DevAccount,
    /// Relays heartbeats on the OpenGradient chain.
    pub heartbeat: DevAccount,
    /// Is paid for the gateway's answers; never sends.
    pub payee: DevAccount,
}

impl ServiceAccounts {
    /// Derives all of them.
    ///
    /// # Errors
    /// As [`DevAccount::derive`].
    pub fn derive(seed: B256) -> Result<Self> {
        Ok(Self {
            admin: DevAccount::derive(seed, "admin")?,
            operator: DevAccount::derive(seed, "gateway-owner")?,
            facilitator: DevAccount::derive(seed, "facilitator")?,
            anchor: DevAccount::derive(seed, "anchor")?,
            heartbeat: DevAccount::derive(seed, "heartbeat")?,
            payee: DevAccount::derive(seed, "payee")?,
        })
    }
}

/// Derives the users' accounts.
///
/// # Errors
/// As [`DevAccount::derive`].
pub fn users(seed: B256) -> Result<Vec<DevAccount>> {
    USERS.iter().map(|name| DevAccount::derive(seed, name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn accounts_are_distinct_and_follow_the_seed() {
        let seed = B256::repeat_byte(7);
        let services = ServiceAccounts::derive(seed).unwrap();
        let users = users(seed).unwrap();
        let mut addresses: BTreeSet<Address> = users.iter().map(DevAccount::address).collect();
        for account in [
            &services.admin,
            &services.operator,
            &services.facilitator,
            &services.anchor,
            &services.heartbeat,
            &services.payee,
        ] {
            addresses.insert(account.address());
        }
        assert_eq!(addresses.len(), USERS.len() + 6);
        let key = |seed| DevAccount::derive(seed, "alice").unwrap().private_key();
        assert_eq!(key(seed), key(seed));
        assert_ne!(key(seed), key(B256::repeat_byte(8)));
    }
}
