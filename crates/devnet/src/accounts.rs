//! The accounts of a devnet: play money behind published keys.

use alloy_primitives::{Address, B256, keccak256};
use alloy_signer_local::PrivateKeySigner;
use anyhow::{Context as _, Result};

/// Users: funded, and listed in the network file.
pub const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// One account.
#[derive(Clone, Debug)]
pub struct DevAccount {
    /// What people call it.
    pub name: &'static str,
    /// Signs its transactions.
    pub signer: PrivateKeySigner,
}

impl DevAccount {
    /// Derives the account from its name alone, so that scripts can rely on it.
    ///
    /// # Errors
    /// Never in practice: a hash that is no secp256k1 key has not been found.
    pub fn named(name: &'static str) -> Result<Self> {
        let key = keccak256(format!("OpenGradient devnet account: {name}"));
        let signer = PrivateKeySigner::from_bytes(&key).context("deriving a devnet account")?;
        Ok(Self { name, signer })
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Its private key, published on purpose.
    pub fn private_key(&self) -> B256 {
        self.signer.to_bytes()
    }
}

/// Who runs a devnet. Each key has one duty, so that no two services race for one account's nonces.
#[derive(Clone, Debug)]
pub struct ServiceAccounts {
    /// Administers the registry and the relay.
    pub admin: DevAccount,
    /// Owns and registers the gateways (role `TEE_OPERATOR`).
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
    /// As [`DevAccount::named`].
    pub fn derive() -> Result<Self> {
        Ok(Self {
            admin: DevAccount::named("admin")?,
            operator: DevAccount::named("operator")?,
            facilitator: DevAccount::named("facilitator")?,
            anchor: DevAccount::named("anchor")?,
            heartbeat: DevAccount::named("heartbeat")?,
            payee: DevAccount::named("payee")?,
        })
    }
}

/// Derives the users' accounts.
///
/// # Errors
/// As [`DevAccount::named`].
pub fn users() -> Result<Vec<DevAccount>> {
    USERS.iter().map(|name| DevAccount::named(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn accounts_are_distinct_and_stable() {
        let services = ServiceAccounts::derive().unwrap();
        let mut addresses: BTreeSet<Address> =
            users().unwrap().iter().map(DevAccount::address).collect();
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
        assert_eq!(
            DevAccount::named("alice").unwrap().private_key(),
            keccak256("OpenGradient devnet account: alice")
        );
    }
}
