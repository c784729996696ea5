//! Requests and subscriptions over WebSocket, and how a node stops and resumes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod devchain;

use alloy_primitives::B256;
use devchain::{Draft, Http, STORE, TIME, Ws, instant, manual_clock, quantity};
use og_chain::Storage;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn heads_logs_and_pending_transactions_are_pushed() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let mut ws = Ws::connect(&node).await;
    assert_eq!(ws.request("eth_blockNumber", json!([])).await["result"], "0x0");
    let heads = ws.subscribe(json!(["newHeads"])).await;
    let logs = ws.subscribe(json!(["logs", {"address": STORE}])).await;
    let none = ws.subscribe(json!(["logs", {"address": TIME}])).await;
    let all = ws.subscribe(json!(["logs"])).await;
    let hashes = ws.subscribe(json!(["newPendingTransactions"])).await;
    let full = ws.subscribe(json!(["newPendingTransactions", true])).await;
    let syncing = ws.subscribe(json!(["syncing"])).await;
    assert!(
        [&heads, &logs, &none, &all, &hashes, &full, &syncing]
            .iter()
            .all(|id| id.starts_with("0x"))
    );

    for nonce in 0..3 {
        let receipt = http.included(Draft::call(0, nonce, STORE, nonce)).await;
        let head = ws.next(&heads).await;
        assert_eq!(head["hash"], receipt["blockHash"]);
        assert_eq!(quantity(&head["number"]), nonce + 1);
        assert!(head.get("stateRoot").is_some() && head.get("transactions").is_none(), "{head}");
        assert_eq!(ws.next(&logs).await, receipt["logs"][0]);
        assert_eq!(ws.next(&all).await, receipt["logs"][0]);
        assert_eq!(ws.next(&hashes).await, receipt["transactionHash"]);
        assert_eq!(ws.next(&full).await["hash"], receipt["transactionHash"]);
    }

    assert_eq!(ws.request("eth_unsubscribe", json!([logs])).await["result"], true);
    assert_eq!(ws.request("eth_unsubscribe", json!([logs])).await["result"], false);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_makes_no_sense_is_refused() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let mut ws = Ws::connect(&node).await;
    for (params, code) in [
        (json!([]), -32602),
        (json!(["weather"]), -32601),
        (json!(["transactionReceipts"]), -32601),
        (json!(["newHeads", {"address": STORE}]), -32602),
        (json!(["logs", true]), -32602),
        (json!(["logs", {"topics": [[], [], [], [], []]}]), -32602),
        (json!(["newPendingTransactions", {"address": STORE}]), -32602),
    ] {
        let answer = ws.request("eth_subscribe", params.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{params}: {answer}");
    }
    // There is nothing to push to over HTTP.
    let (code, ..) = Http::new(&node).err("eth_subscribe", json!(["newHeads"])).await;
    assert!(code < 0);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_has_only_so_many_subscriptions() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let mut ws = Ws::connect(&node).await;
    let limit = og_node::RpcConfig::default().subscriptions_max;
    for _ in 0..limit {
        ws.subscribe(json!(["newHeads"])).await;
    }
    let answer = ws.request("eth_subscribe", json!(["newHeads"])).await;
    assert!(answer["error"]["code"].is_number(), "{answer}");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_resumes_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let storage = || Storage::File(folder.path().join("chain.redb"));
    let clock = manual_clock();
    let mut hashes: Vec<Value> = Vec::new();
    for nonce in 0..3 {
        let node = instant(storage(), clock.clone()).await;
        let http = Http::new(&node);
        assert_eq!(quantity(&http.ok("eth_blockNumber", json!([])).await), nonce);
        for hash in &hashes {
            assert_eq!(http.ok("eth_getTransactionReceipt", json!([hash])).await["status"], "0x1");
        }
        let receipt = http.included(Draft::call(0, nonce, STORE, nonce + 1)).await;
        hashes.push(receipt["transactionHash"].clone());
        let word = http.ok("eth_getStorageAt", json!([STORE, "0x0", "latest"])).await;
        assert_eq!(word, json!(B256::with_last_byte(u8::try_from(nonce).unwrap() + 1)));
        // A subscriber that is still connected does not hold the node up.
        let mut ws = Ws::connect(&node).await;
        ws.subscribe(json!(["newHeads"])).await;
        node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_from_outside_stops_the_node() {
    let shutdown = tokio_util::sync::CancellationToken::new();
    let config =
        og_node::NodeConfig::new(devchain::genesis(), Storage::Memory, og_node::Seal::Instant);
    let node = og_node::Node::start(config, shutdown.clone()).await.unwrap();
    assert!(node.is_running());
    let address = node.rpc_addr().unwrap();
    shutdown.cancel();
    node.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is closed");
}
