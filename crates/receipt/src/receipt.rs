//! The signed receipt: COSE_Sign1 (RFC 9052) over deterministic CBOR, Ed25519, under the project's domain.

use alloy_primitives::keccak256;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use og_attest::cose::{EDDSA_PROTECTED, Sign1};
use og_primitives::cbor::{Rules, Value};
use og_primitives::{ReceiptDigest, domain};

use crate::{Claims, Error};

/// Most bytes of a receipt.
pub const RECEIPT_BYTES_MAX: usize = 8_192;

/// A receipt as it travels: its claims and its bytes. Decoding proves nothing; [`Receipt::verify`] checks the
/// signature, and whose key it must be is for the caller to know (from evidence, or from the registry).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    claims: Claims,
    message: Sign1,
    bytes: Vec<u8>,
}

impl Receipt {
    /// Signs `claims` with the receipt key.
    ///
    /// # Errors
    /// When the claims break the format's limits, such as an overlong model name, or the leaf is another enclave's.
    pub fn sign(claims: Claims, key: &SigningKey) -> Result<Self, Error> {
        let mut message = Sign1 {
            protected: EDDSA_PROTECTED.to_vec(),
            unprotected: Value::Map(vec![]),
            payload: claims.to_cbor().encode(),
            signature: vec![],
        };
        message.signature = key.sign(&message.to_be_signed(domain::RECEIPT)).to_bytes().to_vec();
        // Reading it back holds the signer to the limits that every verifier applies.
        let receipt = Self::decode(&message.encode())?;
        if receipt.claims != claims {
            // The leaf's enclave is not written a second time.
            return Err(Error::field("leaf.tee_id", "is not the receipt's tee_id"));
        }
        Ok(Self { claims, ..receipt })
    }

    /// Reads a receipt in its one accepted form.
    ///
    /// # Errors
    /// When the bytes are no receipt of the current version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let message = Sign1::decode(bytes, RECEIPT_BYTES_MAX).map_err(Error::Envelope)?;
        message.require_headers(EDDSA_PROTECTED).map_err(Error::Envelope)?;
        if message.encode() != bytes {
            return Err(Error::EnvelopeForm);
        }
        let rules = Rules {
            input_bytes_max: RECEIPT_BYTES_MAX,
            depth_max: 3,
            items_max: 128,
            ..Rules::DETERMINISTIC
        };
        let value = Value::decode(&message.payload, rules)
            .map_err(|source| Error::Cbor { what: "claims", source })?;
        let claims = Claims::from_cbor(value)?;
        Ok(Self { claims, message, bytes: bytes.to_vec() })
    }

    /// The bytes that travel.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Its identity: Keccak-256 of the signed payload, never of the envelope.
    pub fn digest(&self) -> ReceiptDigest {
        ReceiptDigest(keccak256(&self.message.payload))
    }

    /// Checks the signature under `receipt_key`, an Ed25519 public key, by the strict rules (canonical encodings,
    /// no key of small order), so that a receipt has one valid signature.
    ///
    /// # Errors
    /// [`Error::Key`] or [`Error::Signature`].
    pub fn verify(&self, receipt_key: &[u8; 32]) -> Result<(), Error> {
        let key = VerifyingKey::from_bytes(receipt_key).map_err(|_| Error::Key)?;
        let signature =
            Signature::from_slice(&self.message.signature).map_err(|_| Error::Signature)?;
        key.verify_strict(&self.message.to_be_signed(domain::RECEIPT), &signature)
            .map_err(|_| Error::Signature)
    }
}
