//! Evidence against a chain with faults. Settlements are counted in the chain's logs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

mod support;

use alloy_primitives::{B256, Bytes};
use og_contracts::IInferenceSettlementRelay::{ReceiptSettled, VerifiedBatchSettlement};
use og_contracts::ITEERegistry::HeartbeatReceived;
use og_facilitator::*;
use og_primitives::ReceiptDigest;
use og_primitives::merkle::process_proof;
use support::*;

/// Receipt digests that the relay has settled, with repetitions.
fn settled(world: &World) -> Vec<B256> {
    let mut digests: Vec<B256> =
        world.network.logs::<ReceiptSettled>(RELAY).iter().map(|log| log.topics[1]).collect();
    digests.sort();
    digests
}

fn digests(items: &[EvidenceItem]) -> Vec<B256> {
    let mut digests: Vec<B256> = items.iter().map(EvidenceItem::digest).collect();
    digests.sort();
    digests
}

#[tokio::test]
async fn statements_are_settled_in_published_batches() {
    let world = World::new().await;
    let tee = Tee::new(1);
    world.network.register(&tee);
    let running = Running::start(world.open());
    let items: Vec<EvidenceItem> = (0..40).map(|n| tee.evidence(n)).collect();
    let mut jobs = Vec::new();
    for item in &items {
        jobs.push(running.facilitator.settle_data(item.clone()).await.unwrap().job_id);
        assert_eq!(
            &running.facilitator.settle_data(item.clone()).await.unwrap().job_id,
            jobs.last().unwrap()
        );
    }
    for job in &jobs {
        let done = running.done(job).await;
        assert_eq!(done.status, Status::Succeeded);
        let root: B256 = done.merkle_root.unwrap().parse().unwrap();
        let transaction = running.facilitator.batch_transaction(root).await.unwrap().unwrap();
        assert_eq!(done.tx_hash, Some(transaction.to_string()));
    }
    assert_eq!(settled(&world), digests(&items));

    // Each batch's blob is the tree that the chain rebuilt, as OpenZeppelin's library dumps it.
    let blobs =
        og_blob::LocalStore::open(&world.folder.path().join("blobs"), og_blob::Limits::default())
            .unwrap();
    let batches = world.network.logs::<VerifiedBatchSettlement>(RELAY);
    assert!(batches.len() >= 3, "at most 16 to a batch");
    let mut published = 0;
    for batch in &batches {
        let id: og_blob::BlobId = std::str::from_utf8(&batch.data).unwrap().parse().unwrap();
        let dump: serde_json::Value =
            serde_json::from_slice(&blobs.get(id).await.unwrap().unwrap()).unwrap();
        assert_eq!(dump["format"], "standard-v1");
        assert_eq!(
            dump["leafEncoding"],
            serde_json::json!(["bytes32", "bytes32", "bytes32", "bytes", "uint256"])
        );
        let tree: Vec<B256> = serde_json::from_value(dump["tree"].clone()).unwrap();
        assert_eq!(tree[0], batch.topics[1]);
        for (value, digest) in dump["values"]
            .as_array()
            .unwrap()
            .iter()
            .zip(dump["receiptDigests"].as_array().unwrap())
        {
            let item =
                items.iter().find(|item| serde_json::json!(item.digest()) == *digest).unwrap();
            let index = usize::try_from(value["treeIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(tree[index], item.leaf_hash());
            assert_eq!(value["value"][3], serde_json::json!(item.signature));
            assert_eq!(value["value"][4], item.timestamp.to_string());
            // The proof, read from the dump as the library does.
            let (mut at, mut proof) = (index, Vec::new());
            while at > 0 {
                proof.push(tree[if at % 2 == 1 { at + 1 } else { at - 1 }]);
                at = (at - 1) / 2;
            }
            assert_eq!(process_proof(item.leaf_hash(), &proof), batch.topics[1]);
            published += 1;
        }
    }
    assert_eq!(published, items.len());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_crash_at_any_request_neither_loses_nor_repeats_evidence() {
    let tee = Tee::new(1);
    let mut crashes = 0;
    for executed in [false, true] {
        for at in 1.. {
            let world = World::new().await;
            world.network.register(&tee);
            let items = [tee.evidence(1), tee.evidence(2), tee.evidence(3)];
            world.network.faults(|faults| faults.crash_at = Some((at, executed)));
            let running = Running::start(world.open());
            let story = async {
                for item in &items {
                    running.facilitator.settle_data(item.clone()).await.unwrap();
                }
                for item in &items {
                    running.done(&evidence::job_id(item.digest())).await;
                }
            };
            let crashed = tokio::select! {
                () = story => false,
                () = world.network.crashed.cancelled() => true,
            };
            running.kill().await;
            world.network.faults(|faults| faults.crash_at = None);
            // The gateway hands over again what it got no answer for.
            let running = Running::start(world.open());
            for item in &items {
                running.facilitator.settle_data(item.clone()).await.unwrap();
            }
            for item in &items {
                let done = running.done(&evidence::job_id(item.digest())).await;
                assert_eq!(done.status, Status::Succeeded, "crash at {at}");
            }
            assert_eq!(settled(&world), digests(&items), "crash at {at}, executed: {executed}");
            running.stop().await.unwrap();
            if !crashed {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes > 16, "{crashes} crash points");
}

#[tokio::test]
async fn what_is_not_an_enclaves_is_refused_at_the_door() {
    let world = World::new().await;
    let (tee, stranger) = (Tee::new(1), Tee::new(2));
    world.network.register(&tee);
    let facilitator = world.open();
    let refused =
        async |item: EvidenceItem| facilitator.settle_data(item).await.unwrap_err().code();
    assert_eq!(refused(stranger.evidence(1)).await, "tee_not_registered");
    let changed = |change: fn(&mut EvidenceItem)| {
        let mut item = tee.evidence(1);
        change(&mut item);
        item
    };
    assert_eq!(refused(changed(|item| item.timestamp += 1)).await, "invalid_tee_signature");
    assert_eq!(
        refused(changed(|item| item.input_hash = B256::ZERO)).await,
        "invalid_tee_signature"
    );
    assert_eq!(
        refused(changed(|item| item.signature = Bytes::from_static(&[0xd3]))).await,
        "invalid_tee_signature"
    );
    facilitator.settle_data(tee.evidence(1)).await.unwrap();
    // The same statement for another receipt, and another statement for the same receipt.
    let other_receipt =
        changed(|item| item.receipt_digest = Some(ReceiptDigest(B256::repeat_byte(9))));
    assert_eq!(refused(other_receipt).await, "evidence_conflict");
    let mut other_statement = tee.evidence(2);
    other_statement.receipt_digest = tee.evidence(1).receipt_digest;
    assert_eq!(refused(other_statement).await, "evidence_conflict");
    // An endpoint that answers with another enclave's key is not believed.
    world.network.register_as(&stranger, &tee);
    assert_eq!(refused(stranger.evidence(7)).await, "tee_not_registered");
    world.network.faults(|faults| faults.down = true);
    assert_eq!(refused(stranger.evidence(7)).await, "chain_unreachable");
}

#[tokio::test]
async fn a_leaf_that_spoils_its_batch_is_quarantined_and_the_others_go_on() {
    let world = World::new().await;
    let (good, bad) = (Tee::new(1), Tee::new(2));
    world.network.register(&good);
    world.network.register(&bad);
    world.network.invalidate(&bad);
    let facilitator = world.open();
    let items = [good.evidence(1), bad.evidence(2), good.evidence(3), bad.evidence(4)];
    for item in &items {
        facilitator.settle_data(item.clone()).await.unwrap();
    }
    let running = Running::start(facilitator);
    for (at, item) in items.iter().enumerate() {
        let done = running.done(&evidence::job_id(item.digest())).await;
        if at % 2 == 0 {
            assert_eq!(done.status, Status::Succeeded);
        } else {
            assert_eq!(done.status, Status::Failed);
            assert_eq!(done.error.unwrap().code, "tee_not_valid_at_time");
        }
    }
    assert_eq!(settled(&world), digests(&[items[0].clone(), items[2].clone()]));
    running.stop().await.unwrap();

    // Evidence that was settled in an earlier life is recognised by the relay's own books.
    world.forget_outbox();
    let running = Running::start(world.open());
    let (old, new) = (&items[0], good.evidence(5));
    running.facilitator.settle_data(old.clone()).await.unwrap();
    running.facilitator.settle_data(new.clone()).await.unwrap();
    let again = running.done(&evidence::job_id(old.digest())).await;
    assert_eq!(again.status, Status::Succeeded);
    let logs = world.network.logs::<ReceiptSettled>(RELAY);
    let first = logs.iter().find(|log| log.topics[1] == old.digest()).unwrap();
    assert_eq!(again.tx_hash, Some(first.transaction.to_string()));
    assert_eq!(running.done(&evidence::job_id(new.digest())).await.status, Status::Succeeded);
    assert_eq!(settled(&world), digests(&[items[0].clone(), items[2].clone(), new]));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn heartbeats_are_checked_and_relayed_once() {
    let world = World::new().await;
    let tee = Tee::new(1);
    world.network.register(&tee);
    let facilitator = world.open();
    let now = now_secs();
    let first = facilitator.heartbeat(tee.heartbeat(now)).await.unwrap();
    assert_eq!((first.relayer, first.registry), (world.keys.heartbeat.address(), REGISTRY));
    let sent = world.network.sent();
    assert_eq!(facilitator.heartbeat(tee.heartbeat(now)).await.unwrap(), first);
    assert_eq!(world.network.sent(), sent, "the same heartbeat costs no second transaction");
    let refused =
        async |heartbeat: Heartbeat| facilitator.heartbeat(heartbeat).await.unwrap_err().code();
    assert_eq!(refused(tee.heartbeat(now - 1)).await, "heartbeat_not_newer");
    assert_eq!(refused(Tee::new(2).heartbeat(now)).await, "tee_not_registered");
    assert_eq!(
        refused(Heartbeat { timestamp: now + 1, ..tee.heartbeat(now) }).await,
        "invalid_tee_signature"
    );
    assert_eq!(
        refused(Heartbeat { registry: Some(OPG), ..tee.heartbeat(now + 2) }).await,
        "contract_mismatch"
    );
    assert_eq!(world.network.sent(), sent);
    facilitator.heartbeat(tee.heartbeat(now + 3)).await.unwrap();
    assert_eq!(world.network.logs::<HeartbeatReceived>(REGISTRY).len(), 2);
    drop(facilitator);
    // A registry that has seen a newer one refuses before anything is sent.
    world.forget_outbox();
    let facilitator = world.open();
    let error = facilitator.heartbeat(tee.heartbeat(now)).await.unwrap_err();
    assert_eq!(error.code(), "heartbeat_refused");
}

/// The hashes of the shared vectors: leaves and roots of the reference library.
#[test]
fn leaves_and_roots_equal_the_reference() {
    let folder = std::env::var_os("OG_VECTORS").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        std::path::PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(folder.join("synthetic.json")) else {
        println!("SKIPPED evidence leaves: no shared vectors");
        return;
    };
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let section = vectors
        .as_object()
        .unwrap()
        .values()
        .find(|value| value.get("roots_by_prefix_len").is_some())
        .unwrap();
    let hash = |value: &serde_json::Value| value.as_str().unwrap().parse::<B256>().unwrap();
    let mut leaves = Vec::new();
    let mut count = 0;
    for (at, leaf) in section["leaves"].as_array().unwrap().iter().enumerate() {
        let item = EvidenceItem {
            tee_id: og_primitives::TeeId(hash(&leaf["tee_id"])),
            input_hash: hash(&leaf["input_hash"]),
            output_hash: hash(&leaf["output_hash"]),
            timestamp: leaf["timestamp"].as_u64().unwrap(),
            signature: leaf["signature"].as_str().unwrap().parse().unwrap(),
            receipt_digest: None,
        };
        assert_eq!(item.leaf_hash(), hash(&leaf["leaf_hash"]));
        assert_eq!(item.digest(), item.leaf_hash());
        leaves.push(item.leaf_hash());
        let tree = og_primitives::merkle::MerkleTree::new(leaves.clone()).unwrap();
        assert_eq!(tree.root(), hash(&section["roots_by_prefix_len"][(at + 1).to_string()]));
        count += 1;
    }
    println!("VECTORS synthetic.json {count}");
}
