//! Settling evidence: verified batches, the legacy calls, and what their roots are worth.

use IInferenceSettlementRelay::{Leaf, batchSettleVerifiedCall};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue;
use og_contracts::{IInferenceSettlementRelay, ITEEInferenceVerifier, ITEERegistry, addresses};

use crate::enclave::Enclave;
use crate::network::{Network, START};

const RELAY: Address = addresses::SETTLEMENT_RELAY;

fn leaf(enclave: &Enclave, number: u8, timestamp: u64) -> Leaf {
    let (inputHash, outputHash) = (B256::repeat_byte(number), B256::repeat_byte(0xf0));
    let timestamp = U256::from(timestamp);
    let message = keccak256(
        [inputHash.as_slice(), outputHash.as_slice(), &timestamp.to_be_bytes::<32>()].concat(),
    );
    Leaf {
        teeId: enclave.id().0,
        inputHash,
        outputHash,
        signature: enclave.sign(message, number.into()),
        timestamp,
    }
}

/// keccak256(keccak256(abi.encode(…))), computed without the contract.
fn hash(leaf: &Leaf) -> B256 {
    let fields =
        (leaf.teeId, leaf.inputHash, leaf.outputHash, leaf.signature.clone(), leaf.timestamp);
    keccak256(keccak256(fields.abi_encode_params()))
}

/// A batch in tree order, with one receipt digest a leaf.
fn batch(mut leaves: Vec<Leaf>) -> batchSettleVerifiedCall {
    leaves.sort_by_key(hash);
    let receiptDigests = leaves.iter().map(|leaf| keccak256(hash(leaf))).collect();
    batchSettleVerifiedCall { leaves, receiptDigests, blobId: Bytes::from_static(b"blob") }
}

/// Root of OpenZeppelin's StandardMerkleTree, level by level from its definition on the array of nodes.
fn root(sorted: &[B256]) -> B256 {
    fn node(index: usize, sorted: &[B256]) -> B256 {
        let size = sorted.len();
        if index >= size - 1 {
            return sorted[2 * size - 2 - index];
        }
        let (a, b) = (node(2 * index + 1, sorted), node(2 * index + 2, sorted));
        keccak256([a.min(b), a.max(b)].concat())
    }
    node(0, sorted)
}

/// Leaves and roots made by OpenZeppelin's own library.
#[test]
fn leaves_and_roots_equal_the_shared_vectors() {
    let folder = std::env::var_os("OG_VECTORS").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        std::path::PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(folder.join("synthetic.json")) else {
        println!("SKIPPED leaves_and_roots_equal_the_shared_vectors: no shared vectors");
        return;
    };
    let vectors: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let hex = |value: &serde_json::Value| {
        alloy_primitives::hex::decode(value.as_str().expect("text")).expect("hex")
    };
    let network = Network::opengradient();
    let merkle = &vectors["merkle"];
    let mut hashes = Vec::new();
    for vector in merkle["leaves"].as_array().expect("a list") {
        let leaf = Leaf {
            teeId: B256::from_slice(&hex(&vector["tee_id"])),
            inputHash: B256::from_slice(&hex(&vector["input_hash"])),
            outputHash: B256::from_slice(&hex(&vector["output_hash"])),
            signature: hex(&vector["signature"]).into(),
            timestamp: U256::from(vector["timestamp"].as_u64().expect("a time")),
        };
        let expected = B256::from_slice(&hex(&vector["leaf_hash"]));
        assert_eq!(hash(&leaf), expected);
        assert_eq!(
            network.view(RELAY, &IInferenceSettlementRelay::leafHashCall { leaf }),
            expected
        );
        hashes.push(expected);
        let mut sorted = hashes.clone();
        sorted.sort_unstable();
        let expected = hex(&merkle["roots_by_prefix_len"][hashes.len().to_string()]);
        assert_eq!(root(&sorted), B256::from_slice(&expected));
    }
    assert_eq!(hashes.len(), 5);
    println!("VECTORS synthetic.json {}", 2 * hashes.len());
}

#[test]
fn a_verified_batch_stores_its_root_and_names_every_receipt() {
    let mut network = Network::opengradient();
    let relayer = network.people.relayer.clone();
    let (one, two) = (Enclave::new(0), Enclave::new(1));
    one.register(&mut network);
    two.register(&mut network);
    let mut number = 0;
    for size in [1, 2, 3, 5, 8] {
        network.advance(1);
        let now = network.now();
        let leaves = (0..size)
            .map(|i| {
                number += 1;
                leaf(if i % 2 == 0 { &one } else { &two }, number, now)
            })
            .collect();
        let call = batch(leaves);
        let hashes: Vec<_> = call.leaves.iter().map(hash).collect();
        let expected = root(&hashes);
        assert_eq!(network.call(relayer.address(), RELAY, &call).expect("settles"), expected);
        assert!(
            !network.view(
                RELAY,
                &IInferenceSettlementRelay::isVerifiedRootCall { merkleRoot: expected }
            )
        );
        let sent = network.sent(&relayer, RELAY, &call);
        println!("verified batch of {size}: {} gas", sent.outcome().gas_used);
        assert!(
            sent.outcome().gas_used < 200_000 + size as u64 * 130_000,
            "{} gas",
            sent.outcome().gas_used
        );

        let settled = sent.events::<IInferenceSettlementRelay::ReceiptSettled>();
        assert_eq!(settled.len(), size);
        for (i, event) in settled.iter().enumerate() {
            assert_eq!(event.receiptDigest, call.receiptDigests[i]);
            assert_eq!(
                (event.merkleRoot, event.leaf, event.teeId),
                (expected, hashes[i], call.leaves[i].teeId)
            );
            let by_digest = IInferenceSettlementRelay::settledReceiptCall {
                receiptDigest: event.receiptDigest,
            };
            let by_leaf = IInferenceSettlementRelay::settledLeafCall { leafHash: event.leaf };
            assert_eq!(
                (network.view(RELAY, &by_digest), network.view(RELAY, &by_leaf)),
                (expected, expected)
            );
            let encoded = IInferenceSettlementRelay::leafHashCall { leaf: call.leaves[i].clone() };
            assert_eq!(network.view(RELAY, &encoded), hashes[i]);
        }
        let (batchSize, blobId) = (U256::from(size), call.blobId.clone());
        let summary = IInferenceSettlementRelay::VerifiedBatchSettlement {
            merkleRoot: expected,
            batchSize,
            blobId: blobId.clone(),
        };
        assert_eq!(sent.events::<IInferenceSettlementRelay::VerifiedBatchSettlement>(), [summary]);
        let legacy = IInferenceSettlementRelay::BatchSettlement {
            merkleRoot: expected,
            batchSize,
            walrusBlobId: blobId,
        };
        assert_eq!(sent.events::<IInferenceSettlementRelay::BatchSettlement>(), [legacy]);
        assert!(
            network.view(
                RELAY,
                &IInferenceSettlementRelay::isVerifiedRootCall { merkleRoot: expected }
            )
        );
        let stored =
            network.view(RELAY, &IInferenceSettlementRelay::batchesCall { merkleRoot: expected });
        assert_eq!(
            (stored.settledAt, stored.size as usize, stored.submitter),
            (now, size, relayer.address())
        );
        assert_eq!(stored.blobIdHash, keccak256(b"blob"));
        if size == 2 {
            let proof = vec![hashes[1]];
            let inclusion = |leaf: &Leaf, merkleRoot| {
                let call = IInferenceSettlementRelay::verifyInclusionCall {
                    leaf: leaf.clone(),
                    proof: proof.clone(),
                    merkleRoot,
                };
                network.view(RELAY, &call)
            };
            assert!(inclusion(&call.leaves[0], expected));
            assert!(
                !inclusion(&call.leaves[1], expected) && !inclusion(&call.leaves[0], B256::ZERO)
            );
        }
    }
}

#[test]
fn one_bad_leaf_refuses_the_batch() {
    let mut network = Network::opengradient();
    let (relayer, admin) = (network.people.relayer.clone(), network.people.admin.clone());
    let (enclave, stranger) = (Enclave::new(0), Enclave::new(1));
    enclave.register(&mut network);
    let now = network.now();
    let good = batch(vec![leaf(&enclave, 1, now), leaf(&enclave, 2, now), leaf(&enclave, 3, now)]);
    use IInferenceSettlementRelay as relay;
    let denied = relay::AccessControlUnauthorizedAccount {
        account: admin.address(),
        neededRole: keccak256("SETTLEMENT_RELAY_ROLE"),
    };
    network.reverts(admin.address(), RELAY, &good, &denied);
    let from = relayer.address();
    let with = |change: &dyn Fn(&mut batchSettleVerifiedCall)| {
        let mut call = good.clone();
        change(&mut call);
        call
    };

    // Shape.
    let empty =
        batchSettleVerifiedCall { leaves: vec![], receiptDigests: vec![], blobId: Bytes::new() };
    network.reverts(from, RELAY, &empty, &relay::EmptyBatch {});
    let call = with(&|call| call.leaves = vec![call.leaves[0].clone(); 257]);
    network.reverts(from, RELAY, &call, &relay::BatchTooLarge { size: U256::from(257) });
    let call = with(&|call| call.receiptDigests.truncate(2));
    let lengths = relay::LengthMismatch { leaves: U256::from(3), receiptDigests: U256::from(2) };
    network.reverts(from, RELAY, &call, &lengths);
    for blobId in [vec![], vec![1; 257]] {
        let call = with(&|call| call.blobId = blobId.clone().into());
        network.reverts(from, RELAY, &call, &relay::InvalidBlobId {});
    }
    // Order and duplicates inside the batch.
    let call = with(&|call| call.leaves.swap(1, 2));
    network.reverts(from, RELAY, &call, &relay::LeavesNotSorted { index: U256::from(2) });
    let call = with(&|call| call.leaves[1] = call.leaves[0].clone());
    let twice = relay::DuplicateLeaf { index: U256::from(1), leaf: hash(&good.leaves[0]) };
    network.reverts(from, RELAY, &call, &twice);
    let call = with(&|call| call.receiptDigests[2] = call.receiptDigests[0]);
    let twice =
        relay::DuplicateReceipt { index: U256::from(2), receiptDigest: good.receiptDigests[0] };
    network.reverts(from, RELAY, &call, &twice);
    let call = with(&|call| call.receiptDigests[1] = B256::ZERO);
    network.reverts(from, RELAY, &call, &relay::MissingReceiptDigest { index: U256::from(1) });

    // Signatures, one mutation a field.
    let mutants: [&dyn Fn(&mut Leaf); 4] = [
        &|leaf| leaf.inputHash = B256::repeat_byte(9),
        &|leaf| leaf.outputHash = B256::repeat_byte(9),
        &|leaf| leaf.timestamp -= U256::from(1),
        &|leaf| {
            leaf.signature = [&leaf.signature[..255], &[leaf.signature[255] ^ 1]].concat().into();
        },
    ];
    for mutate in mutants {
        let mut bad = leaf(&enclave, 4, now);
        mutate(&mut bad);
        let at = batch(vec![bad.clone(), good.leaves[0].clone()]);
        let index = at.leaves.iter().position(|leaf| *leaf == bad).expect("in it");
        network.reverts(
            from,
            RELAY,
            &at,
            &relay::InvalidLeafSignature { index: U256::from(index) },
        );
    }
    // Enclaves: unknown, and one that did not sign then.
    let teeId = stranger.id().0;
    let call = batch(vec![leaf(&stranger, 1, now)]);
    network.reverts(from, RELAY, &call, &relay::UnknownTEE { index: U256::ZERO, teeId });
    let teeId = enclave.id().0;
    for time in [START - 61, now + 301] {
        let not_then =
            relay::TEENotValidAt { index: U256::ZERO, teeId, timestamp: U256::from(time) };
        network.reverts(from, RELAY, &batch(vec![leaf(&enclave, 1, time)]), &not_then);
    }

    // Settled once, no leaf and no receipt settles again, whatever stands beside it.
    let sent = network.sent(&relayer, RELAY, &good);
    assert_eq!(sent.events::<relay::ReceiptSettled>().len(), 3);
    let again = relay::DuplicateLeaf { index: U256::ZERO, leaf: hash(&good.leaves[0]) };
    network.reverts(from, RELAY, &good, &again);
    let fresh = leaf(&enclave, 5, now);
    let call = batch(vec![fresh.clone(), good.leaves[2].clone()]);
    assert!(network.call(from, RELAY, &call).is_err());
    let call = batchSettleVerifiedCall {
        receiptDigests: vec![good.receiptDigests[1]],
        ..batch(vec![fresh])
    };
    let again =
        relay::DuplicateReceipt { index: U256::ZERO, receiptDigest: good.receiptDigests[1] };
    network.reverts(from, RELAY, &call, &again);
}

#[test]
fn the_same_answer_in_the_same_second_settles_twice_when_signed_twice() {
    let mut network = Network::opengradient();
    let relayer = network.people.relayer.clone();
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let first = leaf(&enclave, 1, network.now());
    let timestamp = first.timestamp.to_be_bytes::<32>();
    let message =
        keccak256([first.inputHash.as_slice(), first.outputHash.as_slice(), &timestamp].concat());
    let second = Leaf { signature: enclave.sign(message, 77), ..first.clone() };
    assert_ne!(first.signature, second.signature, "the salt is random");
    network.sent(&relayer, RELAY, &batch(vec![first, second]));
}

#[test]
fn a_retired_enclave_keeps_what_it_signed() {
    let mut network = Network::opengradient();
    let (relayer, operator, admin) = (
        network.people.relayer.clone(),
        network.people.operator.clone(),
        network.people.admin.clone(),
    );
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let teeId = enclave.id().0;
    network.advance(100);
    let (before, after) = (network.now(), network.now() + 500);
    network.sent(&operator, addresses::TEE_REGISTRY, &ITEERegistry::disableTEECall { teeId });
    network.advance(10_000);
    network.sent(&relayer, RELAY, &batch(vec![leaf(&enclave, 1, before)]));
    let late = batch(vec![leaf(&enclave, 2, after)]);
    let error = IInferenceSettlementRelay::TEENotValidAt {
        index: U256::ZERO,
        teeId,
        timestamp: U256::from(after),
    };
    network.reverts(relayer.address(), RELAY, &late, &error);

    // The batch verifier agrees; the recent one asks for an enabled enclave.
    let Leaf { inputHash, outputHash, timestamp, signature, .. } = leaf(&enclave, 1, before);
    let any_time = ITEEInferenceVerifier::verifySignatureNoTimestampCall {
        teeId,
        inputHash,
        outputHash,
        timestamp,
        signature: signature.clone(),
    };
    assert!(network.view(addresses::INFERENCE_VERIFIER, &any_time));
    let recent = ITEEInferenceVerifier::verifySignatureCall {
        teeId,
        inputHash,
        outputHash,
        timestamp,
        signature,
    };
    assert!(!network.view(addresses::INFERENCE_VERIFIER, &recent));

    // Known to be compromised, it loses it.
    let ban =
        ITEERegistry::banTEECall { teeId, compromisedSince: alloy_primitives::Uint::from(before) };
    network.sent(&admin, addresses::TEE_REGISTRY, &ban);
    assert!(!network.view(addresses::INFERENCE_VERIFIER, &any_time));
    assert!(
        network.call(relayer.address(), RELAY, &batch(vec![leaf(&enclave, 3, before)])).is_err()
    );
}

#[test]
fn the_recent_verifier_has_its_window() {
    let mut network = Network::opengradient();
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    network.advance(10_000);
    let now = network.now();
    let verdict = |time: u64, tamper: bool| {
        let Leaf { teeId, inputHash, mut outputHash, signature, timestamp } =
            leaf(&enclave, 1, time);
        if tamper {
            outputHash = B256::ZERO;
        }
        let call = ITEEInferenceVerifier::verifySignatureCall {
            teeId,
            inputHash,
            outputHash,
            timestamp,
            signature,
        };
        network.view(addresses::INFERENCE_VERIFIER, &call)
    };
    for (time, valid) in [
        (now - 3601, false),
        (now - 3600, true),
        (now, true),
        (now + 300, true),
        (now + 301, false),
    ] {
        assert_eq!(verdict(time, false), valid, "{time}");
    }
    assert!(!verdict(now, true));
}

#[test]
fn a_legacy_root_is_a_claim_and_shown_as_one() {
    let mut network = Network::opengradient();
    let (relayer, bob) = (network.people.relayer.clone(), network.people.bob.clone());
    let root = B256::repeat_byte(7);
    let call = IInferenceSettlementRelay::batchSettleCall {
        root,
        size: U256::from(20),
        walrusBlobId: Bytes::from_static(b"blob"),
    };
    let denied = IInferenceSettlementRelay::AccessControlUnauthorizedAccount {
        account: bob.address(),
        neededRole: keccak256("SETTLEMENT_RELAY_ROLE"),
    };
    network.reverts(bob.address(), RELAY, &call, &denied);
    let sent = network.sent(&relayer, RELAY, &call);
    assert_eq!(sent.events::<IInferenceSettlementRelay::BatchSettlement>()[0].merkleRoot, root);
    assert!(sent.events::<IInferenceSettlementRelay::VerifiedBatchSettlement>().is_empty());
    assert!(
        !network.view(RELAY, &IInferenceSettlementRelay::isVerifiedRootCall { merkleRoot: root })
    );
    let proof = |proof: Vec<B256>, root, leaf| {
        network.view(RELAY, &IInferenceSettlementRelay::verifyProofCall { proof, root, leaf })
    };
    assert!(proof(vec![], root, root) && !proof(vec![], root, B256::ZERO));
    let (a, b) = (B256::repeat_byte(1), B256::repeat_byte(2));
    assert!(
        proof(vec![b], keccak256([a, b].concat()), a)
            && proof(vec![a], keccak256([a, b].concat()), b)
    );
}

#[test]
fn one_inference_settles_alone() {
    let mut network = Network::opengradient();
    let (relayer, alice) = (network.people.relayer.clone(), network.people.alice.address());
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let Leaf { teeId, inputHash, outputHash, signature, timestamp } =
        leaf(&enclave, 1, network.now());
    let call = IInferenceSettlementRelay::settleIndividualCall {
        teeId,
        inputHash,
        outputHash,
        timestamp,
        ethAddress: alice,
        walrusBlobId: Bytes::from_static(b"blob"),
        signature,
    };
    let sent = network.sent(&relayer, RELAY, &call);
    let event = &sent.events::<IInferenceSettlementRelay::IndividualSettlement>()[0];
    assert_eq!((event.teeId, event.ethAddress, event.outputHash), (teeId, alice, outputHash));
    let forged = IInferenceSettlementRelay::settleIndividualCall { outputHash: B256::ZERO, ..call };
    network.reverts_saying(relayer.address(), RELAY, &forged, "Invalid signature");
}
