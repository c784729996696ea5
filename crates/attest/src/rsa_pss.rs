//! RSASSA-PSS (RFC 8017 §8.1) as the legacy result signatures use it: SHA-256, MGF1-SHA-256, salt of 32 bytes.

use alloy_primitives::B256;
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use rsa::{BoxedUint, PublicKey};
use sha2::Sha256;

use crate::der::{self, DerError, Reader};

/// `AlgorithmIdentifier` of rsaEncryption (1.2.840.113549.1.1.1, NULL parameters; RFC 3279 §2.3.1).
const RSA_ENCRYPTION: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The only exponent accepted: 65537.
const EXPONENT: &[u8] = &[1, 0, 1];

/// Bits of a modulus.
pub(crate) const BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

const SALT_BYTES: usize = 32;

/// The modulus of a strict DER SubjectPublicKeyInfo, big-endian without leading zeros; `None` unless it has 2048
/// to 4096 bits, is odd, and the exponent is 65537.
pub(crate) fn modulus(spki_der: &[u8]) -> Option<&[u8]> {
    let modulus = parse(spki_der).ok()?;
    let is_odd = modulus.last().is_some_and(|byte| byte & 1 == 1);
    (is_odd && BITS.contains(&bits(modulus))).then_some(modulus)
}

/// Bits of a big-endian number without leading zeros.
pub(crate) fn bits(modulus: &[u8]) -> usize {
    modulus.first().map_or(0, |first| modulus.len() * 8 - zeros(*first))
}

/// Verifies `signature` over the message `message_hash`. The scheme hashes these 32 bytes once more.
pub(crate) fn verify(spki_der: &[u8], message_hash: B256, signature: &[u8]) -> bool {
    let Some(modulus) = modulus(spki_der) else { return false };
    if signature.len() != modulus.len() {
        return false;
    }
    let number = BoxedUint::from_be_slice_vartime;
    let Ok(key) = PublicKey::new(number(modulus), number(EXPONENT)) else { return false };
    let Ok(signature) = Signature::try_from(signature) else { return false };
    VerifyingKey::<Sha256>::new_with_salt_len(key, SALT_BYTES)
        .verify(message_hash.as_slice(), &signature)
        .is_ok()
}

fn parse(spki_der: &[u8]) -> Result<&[u8], DerError> {
    let mut spki = Reader::only(spki_der, der::SEQUENCE)?;
    if spki.expect(der::SEQUENCE)?.whole != RSA_ENCRYPTION {
        return Err(DerError::Value("algorithm is not rsaEncryption"));
    }
    let mut key = Reader::only(spki.bit_string_bytes()?, der::SEQUENCE)?;
    spki.finish()?;
    let modulus = key.unsigned()?;
    let exponent = key.unsigned()?;
    key.finish()?;
    if exponent != EXPONENT {
        return Err(DerError::Value("public exponent is not 65537"));
    }
    Ok(modulus)
}

fn zeros(byte: u8) -> usize {
    (0..8).take_while(|bit| byte << bit & 0x80 == 0).count()
}
