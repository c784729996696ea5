//! The project's own vectors: a receipt, a bundle and digests, committed under `tests/vectors/`.
//!
//! `OG_UPDATE_VECTORS=1` writes them anew; the test then says what a format change changed.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::world::{Plan, world};
use crate::digest::{self, StreamDigest};
use crate::{SettlementMode, Verdict, verify};

#[test]
fn the_committed_vectors_are_what_this_code_makes() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/receipt.json");
    let ours = vectors();
    if std::env::var_os("OG_UPDATE_VECTORS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&ours).unwrap() + "\n").unwrap();
    }
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let committed: Value = serde_json::from_slice(&text).unwrap();
    for (name, value) in ours.as_object().unwrap() {
        assert_eq!(committed[name], *value, "{name}");
    }
}

fn vectors() -> Value {
    let hex = |bytes: &[u8]| alloy_primitives::hex::encode_prefixed(bytes);
    let batch = world(&Plan::default());
    let private = world(&Plan { mode: SettlementMode::Private, ..Plan::default() });
    assert_eq!(verify(&batch.bundle.encode(), Some(&batch.anchors)).verdict(), Verdict::Verified);
    let request =
        r#"{"model":"smollm2-135m-instruct","messages":[{"role":"user","content":"Grüß Gott"}]}"#;
    let json_answer = r#"{"id":"x","created":1.0,"choices":[{"index":0,"message":{"content":"€ \u20ac"}}],"usage":{"total_tokens":1e2},"tee_id":"0x00","receipt":"…"}"#;
    let events = [r#"{"a":1}"#, "", "[DONE]"];
    let mut stream = StreamDigest::new();
    let mut chain = vec![json!(stream.finish())];
    for event in events {
        stream.push(event.as_bytes());
        chain.push(json!(stream.finish()));
    }
    json!({
        "note": "SIMULATED enclave under the published development root; made by og-receipt's tests from constants",
        "anchors": {
            "chain_id": batch.anchors.chain_id,
            "genesis_hash": batch.anchors.genesis_hash,
            "validators": batch.anchors.validators,
            "tee_roots": batch.anchors.tee_roots.iter()
                .map(|root| json!({"sha256": root.sha256, "simulated": root.simulated}))
                .collect::<Vec<_>>(),
            "registry": batch.anchors.registry,
            "relay": batch.anchors.relay,
        },
        "claims": batch.receipt.claims(),
        "receipt": hex(batch.receipt.to_bytes()),
        "receipt_digest": batch.receipt.digest(),
        "leaf_hash": batch.receipt.claims().leaf.hash(),
        "bundle": hex(&batch.bundle.encode()),
        "private_bundle": hex(&private.bundle.encode()),
        "request": { "body": request, "digest": digest::request(request.as_bytes()) },
        "json_answer": { "body": json_answer, "digest": digest::json(json_answer.as_bytes()).unwrap() },
        "stream": { "events": events, "digests": chain },
    })
}
