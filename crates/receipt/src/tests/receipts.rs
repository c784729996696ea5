//! The receipt alone: its form, its signature, its arithmetic.

use alloy_primitives::{B256, U256};
use ed25519_dalek::SigningKey;
use og_attest::cose::Sign1;
use og_primitives::cbor::{Rules, Value};

use super::world::{Plan, world};
use crate::receipt::RECEIPT_BYTES_MAX;
use crate::{Error, Receipt, SettlementMode, TruthLevel, UnitPrices, Usage};

fn receipt() -> (Receipt, SigningKey) {
    let key = SigningKey::from_bytes(&[3; 32]);
    (Receipt::sign(world(&Plan::default()).receipt.claims().clone(), &key).unwrap(), key)
}

#[test]
fn a_receipt_reads_back_and_verifies_under_its_key_only() {
    let (receipt, key) = receipt();
    let again = Receipt::decode(receipt.to_bytes()).unwrap();
    assert_eq!(again, receipt);
    assert_eq!(again.digest(), receipt.digest());
    assert_eq!(receipt.verify(&key.verifying_key().to_bytes()), Ok(()));
    let other = SigningKey::from_bytes(&[4; 32]).verifying_key().to_bytes();
    assert_eq!(receipt.verify(&other), Err(Error::Signature));
    // A key of small order signs everything; it is refused.
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(receipt.verify(&identity).is_err());
}

#[test]
fn the_signature_is_for_receipts_and_nothing_else() {
    use ed25519_dalek::Signer;
    let (receipt, key) = receipt();
    let mut message = Sign1::decode(receipt.to_bytes(), RECEIPT_BYTES_MAX).unwrap();
    // The same payload, signed without the project's domain.
    message.signature = key.sign(&message.to_be_signed(&[])).to_bytes().to_vec();
    let undomained = Receipt::decode(&message.encode()).unwrap();
    assert_eq!(undomained.verify(&key.verifying_key().to_bytes()), Err(Error::Signature));
}

#[test]
fn every_flip_of_every_byte_is_refused() {
    let (receipt, key) = receipt();
    let key = key.verifying_key().to_bytes();
    for at in 0..receipt.to_bytes().len() {
        for bit in 0..8 {
            let mut mutant = receipt.to_bytes().to_vec();
            mutant[at] ^= 1 << bit;
            if let Ok(mutant) = Receipt::decode(&mutant) {
                assert!(mutant.verify(&key).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn a_claim_cannot_be_left_out_added_or_mistyped() {
    let (receipt, key) = receipt();
    let message = Sign1::decode(receipt.to_bytes(), RECEIPT_BYTES_MAX).unwrap();
    let Value::Map(entries) = Value::decode(&message.payload, Rules::DETERMINISTIC).unwrap() else {
        panic!("claims are a map");
    };
    assert_eq!(entries.len(), 26);
    let sign = |entries: &[(Value, Value)]| {
        use ed25519_dalek::Signer;
        let mut message = message.clone();
        message.payload = Value::Map(entries.to_vec()).encode();
        let to_be_signed = message.to_be_signed(og_primitives::domain::RECEIPT);
        message.signature = key.sign(&to_be_signed).to_bytes().to_vec();
        Receipt::decode(&message.encode())
    };
    assert!(sign(&entries).is_ok());
    for at in 0..entries.len() {
        let mut without = entries.clone();
        without.remove(at);
        assert!(matches!(sign(&without), Err(Error::Field { .. })), "{:?}", entries[at]);
        let mut mistyped = entries.clone();
        mistyped[at].1 = Value::Null;
        assert!(matches!(sign(&mistyped), Err(Error::Field { .. })), "{:?}", entries[at]);
    }
    let mut more = entries.clone();
    more.push((Value::Uint(27), Value::Uint(0)));
    assert!(matches!(sign(&more), Err(Error::Field { what: "claims", .. })));
    let mut future = entries;
    future[0].1 = Value::Uint(2);
    assert!(matches!(sign(&future), Err(Error::Field { what: "version", .. })));
}

#[test]
fn signing_holds_to_the_limits_of_reading() {
    let (receipt, key) = receipt();
    let mut claims = receipt.claims().clone();
    claims.model_served = "m".repeat(257);
    assert!(matches!(Receipt::sign(claims, &key), Err(Error::Field { what: "model_served", .. })));
    let mut claims = receipt.claims().clone();
    claims.leaf.tee_id = Default::default();
    assert!(matches!(Receipt::sign(claims, &key), Err(Error::Field { what: "leaf.tee_id", .. })));
}

#[test]
fn totals_are_rounded_up_once() {
    let prices = |prompt: u64, completion: u64| UnitPrices {
        prompt_per_million: U256::from(prompt),
        completion_per_million: U256::from(completion),
    };
    let usage = |prompt_tokens, completion_tokens| Usage { prompt_tokens, completion_tokens };
    assert_eq!(prices(1, 1).total(&usage(0, 0)), Some(U256::ZERO));
    assert_eq!(prices(1, 1).total(&usage(1, 0)), Some(U256::ONE));
    assert_eq!(prices(400_000, 600_000).total(&usage(1, 1)), Some(U256::ONE));
    assert_eq!(prices(400_001, 600_000).total(&usage(1, 1)), Some(U256::from(2)));
    assert_eq!(prices(1_000_000, 0).total(&usage(u64::MAX, 5)), Some(U256::from(u64::MAX)));
    let dear = UnitPrices { prompt_per_million: U256::MAX, ..prices(0, 0) };
    assert_eq!(dear.total(&usage(2, 0)), None);
}

#[test]
fn words_are_read_back_and_unknown_ones_are_refused() {
    for level in TruthLevel::ALL {
        assert_eq!(level.as_str().parse(), Ok(*level));
    }
    assert!(TruthLevel::ALL.is_sorted(), "weakest first");
    for mode in SettlementMode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(*mode));
    }
    assert!("Signed".parse::<TruthLevel>().is_err());
}

/// The legacy preimages, against the shared vectors.
#[test]
fn leaves_hash_as_the_shared_vectors_say() {
    let Some(json) = shared_vectors() else { return };
    let hash = |value: &serde_json::Value| value.as_str().unwrap().parse::<B256>().unwrap();
    let bytes = |value: &serde_json::Value| {
        alloy_primitives::Bytes::from(
            alloy_primitives::hex::decode(value.as_str().unwrap()).unwrap(),
        )
    };
    let leaves = json["merkle"]["leaves"].as_array().unwrap();
    for leaf in leaves {
        let ours = crate::Leaf {
            tee_id: hash(&leaf["tee_id"]).into(),
            input_hash: hash(&leaf["input_hash"]),
            output_hash: hash(&leaf["output_hash"]),
            timestamp: leaf["timestamp"].as_u64().unwrap(),
            signature: bytes(&leaf["signature"]),
        };
        assert_eq!(ours.hash(), hash(&leaf["leaf_hash"]));
    }
    let rsa = &json["rsa"];
    let ours = crate::Leaf {
        tee_id: hash(&rsa["tee_id"]).into(),
        input_hash: hash(&rsa["input_hash"]),
        output_hash: hash(&rsa["output_hash"]),
        timestamp: rsa["timestamp"].as_u64().unwrap(),
        signature: bytes(&rsa["signature_salt32"]),
    };
    assert_eq!(ours.message_hash(), hash(&rsa["message_hash"]));
    println!("VECTORS synthetic.json {}", leaves.len() + 1);
}

fn shared_vectors() -> Option<serde_json::Value> {
    let folder = std::env::var_os("OG_VECTORS").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        std::path::PathBuf::from,
    );
    if !folder.is_dir() {
        println!("SKIPPED synthetic.json: no shared vectors");
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(folder.join("synthetic.json")).unwrap()).unwrap())
}
