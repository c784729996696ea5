//! What the precompile at `0x…0901` answers: the default policy over any evidence that the chain knows.

use alloy_primitives::B256;

use crate::keys::BoundKeys;
use crate::nitro::Attestation;
use crate::roots::Root;
use crate::{Error, Policy, legacy, nitro, x509};

/// The facts that a contract needs of verified evidence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Appraisal {
    /// Whether the enclave is only simulated.
    pub simulated: bool,
    /// Keccak-256 of PCR0 ‖ PCR1 ‖ PCR2.
    pub pcr_hash: B256,
    /// Keccak-256 of the signed payload: the statement's identity against replay.
    pub payload_hash: B256,
    /// When the document was made, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The `nonce` field; empty when absent.
    pub nonce: Vec<u8>,
    /// The keys in the `public_key` field; `None` when it is absent or of another format.
    pub bound_keys: Option<BoundKeys>,
}

/// Appraises `document`, which must bind `signing_key` (DER SubjectPublicKeyInfo, RSA of 2048 to 4096 bits with
/// e = 65537) and `tls_certificate` (DER X.509), at the time of the block.
///
/// # Errors
/// The first check that fails.
pub fn appraise(
    document: &[u8],
    signing_key: &[u8],
    tls_certificate: &[u8],
    trusted_roots: &[Root],
    block_time_secs: u64,
) -> Result<Appraisal, Error> {
    if legacy::rsa_bits(signing_key).is_none() {
        return Err(Error::field(
            "signing_key",
            "is not an RSA key of 2048 to 4096 bits with e = 65537",
        ));
    }
    let (len, max) = (tls_certificate.len(), legacy::CERTIFICATE_BYTES_MAX);
    if len > max {
        return Err(Error::TooLarge { what: "tls_certificate", len, max });
    }
    if !x509::is_certificate(tls_certificate) {
        return Err(Error::field("tls_certificate", "is not an X.509 certificate"));
    }
    let policy = Policy::new(trusted_roots).with_keys(tls_certificate, signing_key);
    nitro::verify(document, &policy, block_time_secs).map(Appraisal::from)
}

impl From<Attestation> for Appraisal {
    fn from(attestation: Attestation) -> Self {
        Self {
            simulated: attestation.root.simulated,
            pcr_hash: attestation.pcr_hash,
            payload_hash: attestation.payload_hash,
            timestamp_ms: attestation.timestamp_ms,
            bound_keys: attestation.bound_keys().ok(),
            nonce: attestation.nonce.unwrap_or_default(),
        }
    }
}
