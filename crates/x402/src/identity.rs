//! What makes a payment one payment.
//!
//! An authorisation can be settled once because its nonce is consumed once, in one contract: Permit2 keeps
//! nonces by owner (whatever the token), an EIP-3009 token keeps its own. That contract, the owner and the nonce
//! on one chain are therefore the payment's identity. Neither header bytes (re-encoding JSON changes them) nor
//! the signature nor the token take part: two permits that share a nonce are one payment.

use core::fmt;
use core::str::FromStr;

use alloy_primitives::{Address, B256, U256, keccak256};
use og_primitives::domain;
use serde::{Deserialize, Serialize};

/// What is consumed when a payment is settled.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct PaymentIdentity {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The contract that keeps the nonce: Permit2, or the token for EIP-3009.
    pub nonce_keeper: Address,
    /// The payer.
    pub owner: Address,
    /// The nonce; the 32 bytes of an EIP-3009 nonce read as a number.
    pub nonce: U256,
}

/// Hash of a [`PaymentIdentity`]: one id per payment, the key of every idempotent step.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct PaymentId(pub B256);

impl PaymentIdentity {
    /// `keccak256(domain ‖ u64 chain id ‖ nonce keeper ‖ owner ‖ u256 nonce)`, numbers big-endian.
    pub fn id(&self) -> PaymentId {
        let mut bytes = domain::PAYMENT_ID.to_vec();
        bytes.extend_from_slice(&self.chain_id.to_be_bytes());
        bytes.extend_from_slice(self.nonce_keeper.as_slice());
        bytes.extend_from_slice(self.owner.as_slice());
        bytes.extend_from_slice(&self.nonce.to_be_bytes::<32>());
        PaymentId(keccak256(bytes))
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for PaymentId {
    type Err = <B256 as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
