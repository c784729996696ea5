//! Validators that sign: BLS12-381 with signatures in G1, as the chain's certificates have them.

use alloy_primitives::B256;
use ark_bls12_381::{Fq, Fr, G1Affine, G1Projective, G2Affine, g1};
use ark_ec::hashing::curve_maps::wb::WBMap;
use ark_ec::hashing::map_to_curve_hasher::MapToCurve;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::PrimeField;
use ark_serialize::CanonicalSerialize;
use og_light::certificate::{FinalityCertificate, consensus_namespace};
use og_light::{Validator, ValidatorSet};
use og_primitives::domain;
use sha2::{Digest, Sha256};

const MESSAGE: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
const POSSESSION: &[u8] = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
const SEATS: u8 = 4;

fn secret(seed: u8, seat: u8) -> Fr {
    Fr::from_be_bytes_mod_order(&Sha256::digest([b'v', seed, seat]))
}

/// Four validators; their identities ascend with their seats.
pub(super) fn set(seed: u8) -> ValidatorSet {
    let validator = |seat| {
        let mut public_key = [0; 96];
        let point = (G2Affine::generator() * secret(seed, seat)).into_affine();
        point.serialize_compressed(&mut public_key[..]).unwrap();
        let possession =
            sign(&[secret(seed, seat)], POSSESSION, domain::VALIDATOR_POSSESSION, &public_key);
        Validator { identity: [seat + 1; 32], public_key, possession }
    };
    ValidatorSet::new((0..SEATS).map(validator).collect()).unwrap()
}

/// Fills in the signature of the certificate's signers.
pub(super) fn certificate(
    seed: u8,
    genesis_hash: B256,
    mut certificate: FinalityCertificate,
) -> Vec<u8> {
    let encoded = certificate.encode();
    // Epoch, view and parent view take one byte each here; the hash follows.
    let message = &encoded[..3 + 32];
    let namespace = [&consensus_namespace(genesis_hash)[..], b"_FINALIZE"].concat();
    let secrets: Vec<Fr> =
        certificate.signers.iter().map(|seat| secret(seed, u8::try_from(*seat).unwrap())).collect();
    certificate.signature = sign(&secrets, MESSAGE, &namespace, message);
    certificate.encode()
}

fn sign(secrets: &[Fr], suite: &[u8], namespace: &[u8], message: &[u8]) -> [u8; 48] {
    let framed = [&[u8::try_from(namespace.len()).unwrap()], namespace, message].concat();
    let hash = hash_to_g1(suite, &framed);
    let sum: G1Projective = secrets.iter().map(|secret| hash * secret).sum();
    let mut bytes = [0; 48];
    sum.into_affine().serialize_compressed(&mut bytes[..]).unwrap();
    bytes
}

/// RFC 9380 for BLS12381G1_XMD:SHA-256_SSWU_RO_.
fn hash_to_g1(suite: &[u8], message: &[u8]) -> G1Affine {
    let suite_len = [u8::try_from(suite.len()).unwrap()];
    let first = Sha256::new()
        .chain_update([0_u8; 64])
        .chain_update(message)
        .chain_update([0, 128, 0])
        .chain_update(suite)
        .chain_update(suite_len)
        .finalize();
    let mut uniform = Vec::new();
    let mut previous = [0_u8; 32];
    for number in 1..=4_u8 {
        let mixed: Vec<u8> = previous.iter().zip(first.iter()).map(|(a, b)| a ^ b).collect();
        let block = Sha256::new()
            .chain_update(mixed)
            .chain_update([number])
            .chain_update(suite)
            .chain_update(suite_len)
            .finalize();
        previous.copy_from_slice(&block);
        uniform.extend_from_slice(&block);
    }
    let map = |bytes: &[u8]| {
        WBMap::<g1::Config>::map_to_curve(Fq::from_be_bytes_mod_order(bytes)).unwrap()
    };
    let sum: G1Projective = map(&uniform[..64]).into_group() + map(&uniform[64..]);
    sum.into_affine().clear_cofactor()
}
