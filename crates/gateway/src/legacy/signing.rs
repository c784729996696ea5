//! The legacy signatures: RSA-PSS with SHA-256 over Keccak-256 of what is signed.

use alloy_primitives::{B256, U256, keccak256};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use og_primitives::TeeId;
use thiserror::Error;

/// Key generation or signing failed inside the cryptographic library.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the RSA operation failed")]
pub struct SigningError;

/// The enclave's RSA-2048 key, born in memory and never written anywhere.
#[derive(Debug)]
pub struct LegacyKey {
    pair: RsaKeyPair,
    spki_der: Vec<u8>,
    tee_id: TeeId,
}

impl LegacyKey {
    /// Generates a key with public exponent 65537 from the library's own random source.
    ///
    /// # Errors
    /// When the library cannot generate or export a key.
    pub fn generate() -> Result<Self, SigningError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| SigningError)?;
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| SigningError)?;
        let spki_der = der.as_ref().to_vec();
        let tee_id = TeeId::from_signing_key_der(&spki_der);
        Ok(Self { pair, spki_der, tee_id })
    }

    /// DER SubjectPublicKeyInfo, as the registry stores it.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The enclave's identity: Keccak-256 of [`Self::spki_der`].
    pub fn tee_id(&self) -> TeeId {
        self.tee_id
    }

    /// Signs a 32-byte message hash: RSASSA-PSS, SHA-256, MGF1-SHA-256, salt of 32 bytes. PSS hashes the hash
    /// once more, as the chain's verifier does.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(&self, message_hash: B256) -> Result<Vec<u8>, SigningError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        self.pair
            .sign(&RSA_PSS_SHA256, &random, message_hash.as_slice(), &mut signature)
            .map_err(|_| SigningError)?;
        Ok(signature)
    }
}

/// `keccak(teeId ‖ u256(timestamp))`, timestamp in Unix seconds.
pub fn heartbeat_hash(tee_id: TeeId, timestamp: u64) -> B256 {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(tee_id.0.as_slice());
    bytes[32..].copy_from_slice(&U256::from(timestamp).to_be_bytes::<32>());
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn the_heartbeat_hash_matches_the_published_vector() {
        assert_eq!(
            hex::encode(heartbeat_hash(TeeId(B256::repeat_byte(0x11)), 1_750_000_000)),
            "3ef541af8c83757782739d58be4ab9ef6dfae813bb147b1f9bdc3386f8738272"
        );
    }

    #[test]
    fn signatures_verify_under_the_exported_key_and_no_other_message() {
        let key = LegacyKey::generate().unwrap();
        assert_eq!(key.tee_id(), TeeId(keccak256(key.spki_der())));
        let hash = keccak256("message");
        let signature = key.sign(hash).unwrap();
        assert_eq!(signature.len(), 256);
        let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.spki_der());
        public.verify(hash.as_slice(), &signature).unwrap();
        public.verify(keccak256("another").as_slice(), &signature).unwrap_err();
    }
}
