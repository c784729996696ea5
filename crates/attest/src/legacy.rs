//! What the precompile at `0x…0900` answers, as the deployed contracts and the official clients expect it.
//!
//! Both functions are total: any failure is `false`. New code appraises evidence with [`crate::verify`].

use alloy_primitives::B256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::nitro::{self, DOCUMENT_BYTES_MAX};
use crate::roots::{AWS_NITRO_G1, Root};
use crate::{Policy, rsa_pss};

/// Most bytes of a TLS certificate and of the root argument.
pub const CERTIFICATE_BYTES_MAX: usize = 8_192;
/// Most bytes of a public key.
pub const KEY_BYTES_MAX: usize = 8_192;
/// Most bytes of an RSA signature.
pub const SIGNATURE_BYTES_MAX: usize = 1_024;

/// Gas of `verifyAttestation` before any work is looked at. It pays for [`SIGNATURES_INCLUDED`] signatures.
pub const VERIFY_ATTESTATION_GAS: u64 = 500_000;
/// Gas of `verifyRSAPSS` before the key is looked at. It pays for 2048 bits.
pub const VERIFY_RSA_PSS_GAS: u64 = 20_000;
/// P-384 signatures that the base gas pays for: those of a document as AWS issues it.
pub const SIGNATURES_INCLUDED: u64 = 5;
/// Gas of each P-384 signature beyond these.
pub const SIGNATURE_GAS: u64 = 100_000;

/// Longest measurement for which the reference computes a hash.
const PCR_BYTES_MAX: usize = 64;

/// `verifyAttestation`: whether `document` is a fresh Nitro attestation that binds `tls_certificate` and
/// `signing_key` (both as DER), and the hash of its measurements.
///
/// `root_pem` is the PEM text that the registry stores. It only narrows: a root is trusted when it stands there
/// *and* in `trusted_roots`, the list in genesis. Empty text stands for the AWS root and for any simulated root
/// that the list holds.
///
/// The measurement hash is zero when the answer is `false`, and also, as in the reference, when a measurement is
/// longer than 64 bytes.
pub fn verify_attestation(
    document: &[u8],
    signing_key: &[u8],
    tls_certificate: &[u8],
    root_pem: &[u8],
    trusted_roots: &[Root],
    block_time_secs: u64,
) -> (bool, B256) {
    const FALSE: (bool, B256) = (false, B256::ZERO);
    let sizes = [
        (document.len(), DOCUMENT_BYTES_MAX),
        (signing_key.len(), KEY_BYTES_MAX),
        (tls_certificate.len(), CERTIFICATE_BYTES_MAX),
    ];
    if sizes.iter().any(|(len, max)| *len == 0 || len > max)
        || root_pem.len() > CERTIFICATE_BYTES_MAX
    {
        return FALSE;
    }
    let policy = Policy::legacy(usable_roots(root_pem, trusted_roots))
        .with_keys(tls_certificate, signing_key);
    match nitro::verify(document, &policy, block_time_secs) {
        Err(_) => FALSE,
        Ok(attestation) => {
            let too_long = (0..3)
                .filter_map(|index| attestation.pcrs.get(&index))
                .any(|pcr| pcr.len() > PCR_BYTES_MAX);
            (true, if too_long { B256::ZERO } else { attestation.pcr_hash })
        }
    }
}

/// `verifyRSAPSS`: whether `signature` is RSASSA-PSS (SHA-256, MGF1-SHA-256, salt of exactly 32 bytes) over the
/// message `message_hash` under the DER SubjectPublicKeyInfo `key_der`, RSA of 2048 to 4096 bits with e = 65537.
pub fn verify_rsa_pss(key_der: &[u8], message_hash: B256, signature: &[u8]) -> bool {
    key_der.len() <= KEY_BYTES_MAX
        && signature.len() <= SIGNATURE_BYTES_MAX
        && rsa_pss::verify(key_der, message_hash, signature)
}

/// Gas of `verifyAttestation` for this document, base included. Costs one parse of at most 16 KiB, no signature
/// check; charge [`VERIFY_ATTESTATION_GAS`] before calling it.
pub fn attestation_gas(document: &[u8]) -> u64 {
    // One signature for every certificate below the root, and the document's own.
    let signatures =
        certificate_count(document).and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    VERIFY_ATTESTATION_GAS + signatures.saturating_sub(SIGNATURES_INCLUDED) * SIGNATURE_GAS
}

/// Gas of `verifyRSAPSS` for this key, base included: it grows with the square of the modulus. A key that will be
/// refused costs the base.
pub fn rsa_pss_gas(key_der: &[u8]) -> u64 {
    let bits = rsa_bits(key_der).and_then(|bits| u64::try_from(bits).ok()).unwrap_or(0);
    VERIFY_RSA_PSS_GAS.max((VERIFY_RSA_PSS_GAS * bits * bits).div_ceil(2_048 * 2_048))
}

/// Certificates in a document, leaf included; `None` when it is not well-formed.
pub fn certificate_count(document: &[u8]) -> Option<usize> {
    nitro::certificate_count(document)
}

/// Bits of an acceptable RSA key's modulus; `None` when the key will be refused.
pub fn rsa_bits(key_der: &[u8]) -> Option<usize> {
    if key_der.len() > KEY_BYTES_MAX {
        return None;
    }
    rsa_pss::modulus(key_der).map(rsa_pss::bits)
}

fn usable_roots(root_pem: &[u8], trusted_roots: &[Root]) -> Vec<Root> {
    let listed: Vec<B256> = pem_certificates(root_pem)
        .iter()
        .map(|der| B256::from_slice(&Sha256::digest(der)))
        .collect();
    trusted_roots
        .iter()
        .copied()
        .filter(|root| {
            if root_pem.is_empty() {
                *root == AWS_NITRO_G1 || root.simulated
            } else {
                listed.contains(&root.sha256)
            }
        })
        .collect()
}

/// The certificates of a PEM text (RFC 7468); blocks that are malformed or of another kind are skipped.
fn pem_certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let Ok(mut text) = core::str::from_utf8(pem) else { return Vec::new() };
    let mut certificates = Vec::new();
    while let Some((_, after)) = text.split_once(BEGIN) {
        let Some((body, rest)) = after.split_once(END) else { break };
        let body: String = body.split_ascii_whitespace().collect();
        certificates.extend(STANDARD.decode(body));
        text = rest;
    }
    certificates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roots::{AWS_NITRO_G1_DER, DEVELOPMENT};
    use crate::simulated::Authority;

    fn pem(der: &[u8]) -> String {
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(der)
        )
    }

    #[test]
    fn the_root_argument_only_narrows_what_genesis_trusts() {
        let aws = pem(AWS_NITRO_G1_DER);
        let development = Authority::development().root_pem();
        let stranger = Authority::from_seed(b"somebody else").root_pem();
        let both = [AWS_NITRO_G1, DEVELOPMENT];
        assert_eq!(usable_roots(b"", &both), both);
        assert_eq!(usable_roots(b"", &[AWS_NITRO_G1]), [AWS_NITRO_G1]);
        assert_eq!(usable_roots(aws.as_bytes(), &both), [AWS_NITRO_G1]);
        assert_eq!(usable_roots(development.as_bytes(), &both), [DEVELOPMENT]);
        assert_eq!(usable_roots((stranger.clone() + &aws).as_bytes(), &both), [AWS_NITRO_G1]);
        assert_eq!(usable_roots(development.as_bytes(), &[AWS_NITRO_G1]), []);
        assert_eq!(usable_roots(stranger.as_bytes(), &both), []);
        assert_eq!(usable_roots(AWS_NITRO_G1_DER, &both), []);
        assert_eq!(usable_roots(b"-----BEGIN CERTIFICATE-----", &both), []);
    }

    #[test]
    fn gas_grows_with_the_work() {
        assert_eq!(attestation_gas(b"nonsense"), VERIFY_ATTESTATION_GAS);
        assert_eq!(rsa_pss_gas(b"nonsense"), VERIFY_RSA_PSS_GAS);
    }
}
