//! What an enclave binds into its evidence.
//!
//! * `user_data` binds the TLS certificate and the legacy RSA key ([`KeyBinding`], the layout of the official
//!   gateways);
//! * `public_key` carries the keys that the official clients know nothing of ([`BoundKeys`]);
//! * `nonce` ties the document to one registration, so that nobody can register the enclave of somebody else
//!   under their own name and address. What is hashed into it is the registry contract's business.

use alloy_primitives::{B256, keccak256};
use og_primitives::cbor::{Rules, Value};
use sha2::{Digest, Sha256};

use crate::Error;

/// The two hashes in `user_data`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyBinding {
    /// SHA-256 of the whole DER TLS certificate.
    pub tls_certificate: B256,
    /// SHA-256 of the DER SubjectPublicKeyInfo of the legacy RSA signing key.
    pub signing_key: B256,
}

impl KeyBinding {
    /// Bytes of `user_data`.
    pub const USER_DATA_BYTES: usize = 68;

    /// The multihash prefix of a SHA-256 digest of 32 bytes.
    const PREFIX: [u8; 2] = [0x12, 0x20];

    /// Hashes what is to be bound.
    pub fn of(tls_certificate_der: &[u8], signing_key_der: &[u8]) -> Self {
        Self {
            tls_certificate: B256::from_slice(&Sha256::digest(tls_certificate_der)),
            signing_key: B256::from_slice(&Sha256::digest(signing_key_der)),
        }
    }

    /// `12 20 ‖ SHA-256(TLS certificate) ‖ 12 20 ‖ SHA-256(signing key)`.
    pub fn to_user_data(&self) -> [u8; Self::USER_DATA_BYTES] {
        let mut user_data = [0; Self::USER_DATA_BYTES];
        let hashes = [self.tls_certificate, self.signing_key];
        for (half, hash) in user_data.chunks_exact_mut(34).zip(hashes) {
            half[..2].copy_from_slice(&Self::PREFIX);
            half[2..].copy_from_slice(hash.as_slice());
        }
        user_data
    }

    /// Reads `user_data`, prefixes included.
    ///
    /// # Errors
    /// When its length or one of its prefixes is another.
    pub fn from_user_data(user_data: &[u8]) -> Result<Self, Error> {
        let binding = Self::from_unprefixed(user_data)?;
        if binding.to_user_data() != user_data {
            return Err(Error::field("user_data", "a hash lacks its multihash prefix 12 20"));
        }
        Ok(binding)
    }

    /// Reads `user_data` whatever the prefixes say, as the legacy precompile does.
    pub(crate) fn from_unprefixed(user_data: &[u8]) -> Result<Self, Error> {
        if user_data.len() != Self::USER_DATA_BYTES {
            return Err(Error::field("user_data", "is not 68 bytes"));
        }
        Ok(Self {
            tls_certificate: B256::from_slice(&user_data[2..34]),
            signing_key: B256::from_slice(&user_data[36..68]),
        })
    }

    /// Compares with the binding that a verifier expects; the TLS certificate first.
    pub(crate) fn require(&self, expected: &Self) -> Result<(), Error> {
        if self.tls_certificate != expected.tls_certificate {
            return Err(Error::TlsCertificateNotBound);
        }
        if self.signing_key != expected.signing_key {
            return Err(Error::SigningKeyNotBound);
        }
        Ok(())
    }
}

/// The keys in a document's `public_key` field, as deterministic CBOR:
///
/// ```cddl
/// bound-keys = {
///   1 => 1,               ; version
///   2 => bstr .size 32,   ; Ed25519 key that signs receipts
///   3 => bstr .size 32,   ; X25519 key for HPKE (RFC 9180, DHKEM(X25519, HKDF-SHA256))
/// }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BoundKeys {
    /// Version of the format.
    pub version: u64,
    /// The Ed25519 public key that signs receipts.
    pub receipt_key: [u8; 32],
    /// The X25519 public key to which requests may be encrypted.
    pub hpke_key: [u8; 32],
}

impl BoundKeys {
    /// The version that this crate writes and reads.
    pub const VERSION: u64 = 1;

    /// Bound keys of the current version.
    pub fn new(receipt_key: [u8; 32], hpke_key: [u8; 32]) -> Self {
        Self { version: Self::VERSION, receipt_key, hpke_key }
    }

    /// The bytes for the document's `public_key` field.
    pub fn encode(&self) -> Vec<u8> {
        Value::Map(vec![
            (Value::Uint(1), Value::Uint(self.version)),
            (Value::Uint(2), Value::bytes(self.receipt_key)),
            (Value::Uint(3), Value::bytes(self.hpke_key)),
        ])
        .encode()
    }

    /// Reads a document's `public_key` field.
    ///
    /// # Errors
    /// When the bytes are not deterministic CBOR of exactly these entries, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        const FIELD: &str = "public_key";
        let rules =
            Rules { input_bytes_max: 256, depth_max: 1, items_max: 7, ..Rules::DETERMINISTIC };
        let value =
            Value::decode(bytes, rules).map_err(|source| Error::Cbor { what: FIELD, source })?;
        let Some(
            [
                (Value::Uint(1), Value::Uint(version)),
                (Value::Uint(2), Value::Bytes(receipt_key)),
                (Value::Uint(3), Value::Bytes(hpke_key)),
            ],
        ) = value.as_map()
        else {
            return Err(Error::field(FIELD, "is not a map of version, receipt key and HPKE key"));
        };
        if *version != Self::VERSION {
            return Err(Error::field(FIELD, "has an unknown version"));
        }
        let key = |bytes: &[u8]| {
            bytes.try_into().map_err(|_| Error::field(FIELD, "holds a key that is not 32 bytes"))
        };
        Ok(Self { version: *version, receipt_key: key(receipt_key)?, hpke_key: key(hpke_key)? })
    }

    /// Keccak-256 of the encoding: what a registry stores.
    pub fn hash(&self) -> B256 {
        keccak256(self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_is_read_only_with_its_prefixes() {
        let binding = KeyBinding::of(b"certificate", b"key");
        let user_data = binding.to_user_data();
        assert_eq!(KeyBinding::from_user_data(&user_data), Ok(binding));
        for at in [0, 1, 34, 35] {
            let mut wrong = user_data;
            wrong[at] ^= 1;
            assert!(KeyBinding::from_user_data(&wrong).is_err());
            assert_eq!(KeyBinding::from_unprefixed(&wrong), Ok(binding));
        }
        assert!(KeyBinding::from_unprefixed(&user_data[1..]).is_err());
    }

    #[test]
    fn bound_keys_have_one_encoding() {
        let keys = BoundKeys::new([1; 32], [2; 32]);
        let bytes = keys.encode();
        assert_eq!(BoundKeys::decode(&bytes), Ok(keys));
        assert_eq!(bytes.len(), 73);
        for at in 0..bytes.len() {
            let mut mutant = bytes.clone();
            mutant[at] ^= 0x80;
            assert_ne!(BoundKeys::decode(&mutant), Ok(keys), "byte {at}");
        }
        let future = BoundKeys { version: 2, ..keys };
        assert!(BoundKeys::decode(&future.encode()).is_err());
        assert!(BoundKeys::decode(b"dummy").is_err());
        assert!(BoundKeys::decode(&[bytes, vec![0]].concat()).is_err());
    }
}
