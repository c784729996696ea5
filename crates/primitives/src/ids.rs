//! Newtypes for the hashes that must never be mixed up.

use core::fmt;
use core::str::FromStr;

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub B256);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = <B256 as FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<B256> for $name {
            fn from(hash: B256) -> Self {
                Self(hash)
            }
        }
    };
}

hash_id! {
    /// Identity of a registered enclave: Keccak-256 of the DER SubjectPublicKeyInfo of its legacy RSA key.
    TeeId
}

hash_id! {
    /// Identity of a receipt: Keccak-256 of its COSE_Sign1 payload bytes (never of the signed envelope,
    /// whose signature may have more than one valid form).
    ReceiptDigest
}

impl TeeId {
    /// Computes the id from the DER SubjectPublicKeyInfo of the enclave's RSA key.
    pub fn from_signing_key_der(spki_der: &[u8]) -> Self {
        Self(keccak256(spki_der))
    }
}
