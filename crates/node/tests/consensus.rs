//! Four validators in one process, over real connections on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, in its helpers too"
)]

mod devchain;

use std::time::{Duration, Instant};

use alloy_primitives::{Address, Bytes, U256};
use devchain::{
    Draft, GENESIS_S, Http, manual_clock,
    network::{Network, reach, stop_all},
    quantity,
};
use og_node::{Clock as _, SystemClock};
use serde_json::{Value, json};

fn payee() -> Address {
    Address::repeat_byte(0xee)
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_are_final_soon_and_provably() {
    let network = Network::new();
    let nodes = network.start_all().await;
    let https: Vec<_> = nodes.iter().map(Http::new).collect();
    // The first block shows that the validators have found each other.
    https[0]
        .ok("eth_sendRawTransactionSync", json!([Draft::transfer(1, 0, payee(), 1).raw(), 30_000]))
        .await;

    let mut waits = Vec::new();
    let mut last = 0;
    for nonce in 0..40 {
        // Each through another validator's server: all of them reach the leader.
        let http = &https[usize::try_from(nonce).unwrap() % https.len()];
        let sent = Instant::now();
        let receipt = http.included(Draft::transfer(0, nonce, payee(), 1)).await;
        waits.push(sent.elapsed());
        assert_eq!(receipt["status"], "0x1");
        last = quantity(&receipt["blockNumber"]);
    }
    waits.sort();
    let median = waits[waits.len() / 2];
    println!(
        "MEASURED transfer to finality, 4 validators: median {median:?}, slowest {:?}",
        waits[waits.len() - 1]
    );
    assert!(median < Duration::from_secs(2), "{median:?}");

    for node in &nodes {
        reach(node, last).await;
    }
    let genesis_hash = nodes[0].chain().unwrap().genesis_hash();
    let validators: Vec<Bytes> =
        network.set.validators().iter().map(|v| v.to_bytes().to_vec().into()).collect();
    assert_eq!(https[0].ok("og_validators", json!([])).await, json!(validators));
    for height in 1..=last {
        let height = format!("0x{height:x}");
        let expected = https[0].ok("eth_getBlockByNumber", json!([height, false])).await;
        for http in &https {
            assert_eq!(http.ok("eth_getBlockByNumber", json!([height, false])).await, expected);
            let finality = http.ok("og_getFinalityCertificate", json!([height])).await;
            let certificate: Bytes =
                serde_json::from_value(finality["certificate"].clone()).unwrap();
            let headers: Vec<Bytes> = serde_json::from_value(finality["headers"].clone()).unwrap();
            let header =
                og_light::verify_finality(&network.set, genesis_hash, &certificate, &headers)
                    .unwrap();
            assert_eq!(json!(header.hash), expected["hash"]);
            assert_eq!(finality["blockHash"], expected["hash"]);
        }
    }
    let balance = https[3].ok("eth_getBalance", json!([payee(), "latest"])).await;
    assert_eq!(balance, json!(U256::from(41)));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_four_go_on_and_the_fourth_catches_up() {
    let network = Network::new();
    let mut nodes = network.start_all().await;
    let sync = |http: &Http, nonce| {
        let http = http.clone();
        async move {
            let raw = Draft::transfer(0, nonce, payee(), 1).raw();
            let receipt = http.ok("eth_sendRawTransactionSync", json!([raw, 30_000])).await;
            quantity(&receipt["blockNumber"])
        }
    };
    let http = Http::new(&nodes[0]);
    sync(&http, 0).await;
    nodes.pop().unwrap().stop().await.unwrap();
    let mut last = 0;
    for nonce in 1..6 {
        last = sync(&http, nonce).await;
    }
    let late = network.start(3).await;
    reach(&late, last).await;
    let balance = Http::new(&late).ok("eth_getBalance", json!([payee(), "latest"])).await;
    assert_eq!(balance, json!(U256::from(6)));
    nodes.push(late);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_validators_resumes() {
    let network = Network::new();
    let mut before: Option<Value> = None;
    for nonce in 0..2 {
        let nodes = network.start_all().await;
        let http = Http::new(&nodes[0]);
        if let Some(block) = &before {
            let same = http.ok("eth_getBlockByHash", json!([block["hash"], false])).await;
            assert_eq!(&same, block);
        }
        let raw = Draft::transfer(0, nonce, payee(), 1).raw();
        let receipt = http.ok("eth_sendRawTransactionSync", json!([raw, 30_000])).await;
        let height = quantity(&receipt["blockNumber"]);
        before =
            Some(http.ok("eth_getBlockByNumber", json!([receipt["blockNumber"], false])).await);
        for node in &nodes {
            reach(node, height).await;
        }
        stop_all(nodes).await;
    }
}

/// Without transactions, blocks come all the same, and their times go with the clock.
#[tokio::test(flavor = "multi_thread")]
async fn empty_blocks_keep_coming() {
    let network = Network::new();
    let nodes = network.start_all().await;
    reach(&nodes[0], 2).await;
    let http = Http::new(&nodes[0]);
    let block = http.ok("eth_getBlockByNumber", json!(["latest", false])).await;
    let time = quantity(&block["timestamp"]);
    let now = SystemClock.now_s();
    assert!(time + 10 >= now && time <= now + 1, "block at {time}, now {now}");
    assert_eq!(block["transactions"], json!([]));
    stop_all(nodes).await;
}

/// Six hours pass on the clock while the validators run: their blocks go along, and nobody refuses them.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_follow_a_simulated_clock() {
    let clock = manual_clock();
    let network = Network::at(clock.clone());
    let nodes = network.start_all().await;
    let http = Http::new(&nodes[0]);
    for nonce in 0..12 {
        let raw = Draft::transfer(0, nonce, payee(), 1).raw();
        let receipt = http.ok("eth_sendRawTransactionSync", json!([raw, 30_000])).await;
        let block = http.ok("eth_getBlockByNumber", json!([receipt["blockNumber"], false])).await;
        let passed = quantity(&block["timestamp"]) - GENESIS_S;
        assert_eq!(passed, nonce * 1_800, "block {}", block["number"]);
        clock.advance(Duration::from_secs(1_800));
    }
    stop_all(nodes).await;
}
