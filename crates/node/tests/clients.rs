//! viem, ethers, web3.py and forge, unmodified, against both sealers.
//!
//! Needs node, npm and python3, and a package registry on the first run; what is missing is said and skipped,
//! unless `OG_CLIENTS=required`. See `tests/clients/rpc/run.sh`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, in its helpers too"
)]

mod devchain;

use std::path::PathBuf;

use alloy_primitives::{B256, Bytes, hex};
use devchain::{
    Http, instant, key,
    network::{Network, stop_all},
};
use og_chain::Storage;
use og_contracts::addresses::{PERMIT2, USDC};
use og_node::{NodeHandle, SystemClock};
use serde_json::json;
use tokio::process::Command;

/// What `run.sh` exits with when a tool or a package is not to be had.
const NOT_HERE: i32 = 77;

/// Runs the clients with an account of its own for each call.
async fn run(name: &str, node: &NodeHandle, account: u8) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/rpc/run.sh");
    let output = Command::new("sh")
        .arg(script)
        .env("OG_RPC_URL", node.http_url().unwrap())
        .env("OG_WS_URL", node.ws_url().unwrap())
        .env("OG_PRIVATE_KEY", key(account).to_bytes().to_string())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{name}:\n{said}");
    let is_required = std::env::var("OG_CLIENTS").is_ok_and(|value| value == "required");
    if output.status.code() == Some(NOT_HERE) && !is_required {
        println!("SKIPPED {name}: the clients cannot be installed here");
        return;
    }
    assert!(output.status.success(), "{name}: {}\n{said}", output.status);
    for client in ["viem", "ethers", "web3.py", "forge"] {
        assert!(said.contains(&format!("{client}: passed")), "{client} did not run");
    }
    // viem approved Permit2 for USDC, as official SDKs do before their first payment.
    let owner = key(account).address().into_word();
    let allowance = [&hex!("dd62ed3e")[..], &owner[..], &PERMIT2.into_word()[..]].concat();
    let request = json!([{"to": USDC, "input": Bytes::from(allowance)}]);
    let allowance = Http::new(node).ok("eth_call", request).await;
    assert_eq!(allowance, json!(B256::with_last_byte(77)));
}

/// One test for both: they share what the package managers install.
#[tokio::test(flavor = "multi_thread")]
async fn third_party_clients_work_unmodified() {
    let node = instant(Storage::Memory, std::sync::Arc::new(SystemClock)).await;
    run("instant seal", &node, 0).await;
    node.stop().await.unwrap();

    let network = Network::new();
    let nodes = network.start_all().await;
    run("four validators", &nodes[0], 1).await;
    stop_all(nodes).await;
}
