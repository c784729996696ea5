//! BLS12-381 signatures, "minimal signature size": signatures in G1 (48 bytes), public keys in G2 (96 bytes),
//! proof-of-possession ciphersuite of draft-irtf-cfrg-bls-signature-05 §4.2.

use ark_bls12_381::{Bls12_381, Fq, G1Affine, G1Projective, G2Affine, G2Projective, g1};
use ark_ec::hashing::curve_maps::wb::WBMap;
use ark_ec::hashing::map_to_curve_hasher::MapToCurve;
use ark_ec::pairing::Pairing;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{PrimeField, Zero};
use ark_serialize::CanonicalDeserialize;
use sha2::{Digest, Sha256};

/// Ciphersuite of ordinary messages.
pub(crate) const MESSAGE: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

/// Ciphersuite of proofs of possession.
pub(crate) const POSSESSION: &[u8] = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

/// Length of a compressed public key.
pub(crate) const PUBLIC_KEY_LEN: usize = 96;

/// Length of a compressed signature.
pub(crate) const SIGNATURE_LEN: usize = 48;

/// Reads a compressed public key: on the curve, in the subgroup, not the identity.
pub(crate) fn public_key(bytes: &[u8; PUBLIC_KEY_LEN]) -> Option<G2Affine> {
    G2Affine::deserialize_compressed(bytes.as_slice()).ok().filter(|point| !point.is_zero())
}

/// Reads a compressed signature: on the curve, in the subgroup, not the identity.
pub(crate) fn signature(bytes: &[u8; SIGNATURE_LEN]) -> Option<G1Affine> {
    G1Affine::deserialize_compressed(bytes.as_slice()).ok().filter(|point| !point.is_zero())
}

/// Adds public keys up. Sound for signature checks only if each key's possession was proven before.
pub(crate) fn aggregate<'a>(keys: impl Iterator<Item = &'a G2Affine>) -> G2Affine {
    keys.fold(G2Projective::zero(), |sum, key| sum + key).into_affine()
}

/// Checks `e(H(namespace, message), key) == e(signature, G2)`. Both points have passed the checks above.
pub(crate) fn verify(
    key: &G2Affine,
    suite: &[u8],
    namespace: &[u8],
    message: &[u8],
    signature: &G1Affine,
) -> bool {
    if key.is_zero() {
        return false;
    }
    let mut framed = Vec::with_capacity(10 + namespace.len() + message.len());
    write_varint(u64::try_from(namespace.len()).unwrap_or(u64::MAX), &mut framed);
    framed.extend_from_slice(namespace);
    framed.extend_from_slice(message);
    let Some(hash) = hash_to_g1(suite, &framed) else {
        return false;
    };
    Bls12_381::multi_pairing([hash, -*signature], [*key, G2Affine::generator()]).is_zero()
}

/// Writes a varint (LEB128, shortest form).
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// RFC 9380 `hash_to_curve` for the suite BLS12381G1_XMD:SHA-256_SSWU_RO_.
fn hash_to_g1(suite: &[u8], message: &[u8]) -> Option<G1Affine> {
    let uniform = expand_message(message, suite);
    let (first, second) = uniform.split_at(FIELD_LEN);
    let map =
        |bytes: &[u8]| WBMap::<g1::Config>::map_to_curve(Fq::from_be_bytes_mod_order(bytes)).ok();
    let sum: G1Projective = map(first)?.into_group() + map(second)?;
    Some(sum.into_affine().clear_cofactor())
}

/// Bytes taken per field element: (381 + 128) bits, rounded up.
const FIELD_LEN: usize = 64;

/// SHA-256 blocks for two field elements.
const BLOCKS: u8 = 4;

/// RFC 9380 §5.3.1 `expand_message_xmd` with SHA-256 for 128 bytes.
fn expand_message(message: &[u8], suite: &[u8]) -> [u8; 2 * FIELD_LEN] {
    // Our two suites are 43 bytes long; the standard allows 255.
    let suite_len = u8::try_from(suite.len()).unwrap_or(u8::MAX);
    let first = Sha256::new()
        .chain_update([0_u8; 64])
        .chain_update(message)
        .chain_update([0, 128, 0])
        .chain_update(suite)
        .chain_update([suite_len])
        .finalize();
    let mut uniform = [0_u8; 2 * FIELD_LEN];
    let mut previous = [0_u8; 32];
    for (number, out) in (1..=BLOCKS).zip(uniform.chunks_exact_mut(32)) {
        let mixed: [u8; 32] = core::array::from_fn(|i| previous[i] ^ first[i]);
        let block = Sha256::new()
            .chain_update(mixed)
            .chain_update([number])
            .chain_update(suite)
            .chain_update([suite_len])
            .finalize();
        out.copy_from_slice(&block);
        previous.copy_from_slice(&block);
    }
    uniform
}

#[cfg(test)]
mod tests {
    use ark_serialize::CanonicalSerialize;

    use super::*;

    /// RFC 9380 appendix J.9.1 (BLS12381G1_XMD:SHA-256_SSWU_RO_).
    #[test]
    fn hashing_to_the_curve_follows_the_standard() {
        let suite = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";
        for (message, x) in [
            (
                "",
                "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
            ),
            (
                "abc",
                "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
            ),
        ] {
            let point = hash_to_g1(suite, message.as_bytes()).unwrap();
            let mut bytes = Vec::new();
            point.serialize_compressed(&mut bytes).unwrap();
            bytes[0] &= 0x1f;
            assert_eq!(hex::encode(bytes), x, "{message:?}");
        }
    }

    #[test]
    fn varints_are_shortest() {
        for (value, bytes) in [
            (0_u64, "00"),
            (127, "7f"),
            (128, "8001"),
            (300, "ac02"),
            (u64::MAX, "ffffffffffffffffff01"),
        ] {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            assert_eq!(hex::encode(out), bytes);
        }
    }

    #[test]
    fn identity_points_are_refused() {
        let mut key = [0_u8; 96];
        key[0] = 0xc0;
        assert!(public_key(&key).is_none());
        let mut point = [0_u8; 48];
        point[0] = 0xc0;
        assert!(signature(&point).is_none());
    }
}
