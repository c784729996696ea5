//! The JSON-RPC surface over HTTP, on a chain with instant seal and a clock of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod devchain;

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256};
use alloy_rpc_types_eth::{
    Block, EIP1186AccountProofResponse, FeeHistory, Transaction, TransactionReceipt,
};
use devchain::{
    CHAIN_ID, Draft, GENESIS_S, Http, REVERT, STORE, TIME, coin, instant, key, manual_clock,
    quantity,
};
use og_chain::Storage;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn names_the_chain() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    assert_eq!(quantity(&http.ok("eth_chainId", json!([])).await), CHAIN_ID);
    assert_eq!(http.ok("net_version", json!([])).await, "10740");
    assert_eq!(http.ok("eth_accounts", json!([])).await, json!([]));
    assert_eq!(http.ok("eth_syncing", json!([])).await, false);
    assert!(
        http.ok("web3_clientVersion", json!([])).await.as_str().unwrap().contains("OpenGradient")
    );
    assert_eq!(http.ok("web3_sha3", json!(["0x"])).await, json!(keccak256([])));
    let genesis = http.ok("og_getGenesis", json!([])).await;
    assert_eq!(genesis["genesisHash"], json!(node.chain().unwrap().genesis_hash()));
    assert_eq!(genesis["genesis"]["chain_id"], CHAIN_ID);
    assert_eq!(http.ok("og_validators", json!([])).await, json!([]));
    assert_eq!(http.ok("og_getFinalityCertificate", json!(["0x0"])).await, Value::Null);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_shows_everywhere() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let answer = http.included(Draft::call(0, 0, STORE, 77)).await;
    let receipt: TransactionReceipt = serde_json::from_value(answer.clone()).unwrap();
    assert!(receipt.inner.status());
    assert_eq!(receipt.from, key(0).address());
    assert_eq!(receipt.to, Some(STORE));
    assert_eq!(receipt.contract_address, None);
    let hash = receipt.transaction_hash;
    for field in [
        "blockHash",
        "blockNumber",
        "logs",
        "logsBloom",
        "gasUsed",
        "cumulativeGasUsed",
        "effectiveGasPrice",
        "type",
        "status",
        "transactionIndex",
    ] {
        assert!(answer.get(field).is_some(), "{field} is missing: {answer}");
    }
    let log = &answer["logs"][0];
    assert_eq!(log["topics"], json!([B256::with_last_byte(1)]));
    assert_eq!(log["data"], json!(B256::from(U256::from(77))));
    assert_eq!(log["removed"], false);
    assert_eq!(log["logIndex"], "0x0");

    let head = http.ok("eth_blockNumber", json!([])).await;
    assert_eq!(quantity(&head), 1);
    let full: Block =
        serde_json::from_value(http.ok("eth_getBlockByNumber", json!(["latest", true])).await)
            .unwrap();
    assert_eq!(full.header.inner.hash_slow(), full.header.hash);
    assert_eq!(full.transactions.as_transactions().unwrap()[0].inner.tx_hash(), &hash);
    let hashes = http.ok("eth_getBlockByHash", json!([full.header.hash, false])).await;
    assert_eq!(hashes["transactions"], json!([hash]));
    assert_eq!(hashes["parentHash"], json!(node.chain().unwrap().genesis_hash()));
    assert!(quantity(&hashes["size"]) > 500);

    let by_hash = http.ok("eth_getTransactionByHash", json!([hash])).await;
    let tx: Transaction = serde_json::from_value(by_hash.clone()).unwrap();
    assert_eq!((tx.block_number, tx.transaction_index), (Some(1), Some(0)));
    assert_eq!(by_hash["gasPrice"], answer["effectiveGasPrice"]);
    assert_eq!(
        http.ok("eth_getTransactionByBlockNumberAndIndex", json!(["0x1", "0x0"])).await,
        by_hash
    );
    assert_eq!(
        http.ok("eth_getTransactionByBlockHashAndIndex", json!([full.header.hash, "0x0"])).await,
        by_hash
    );
    assert_eq!(
        http.ok("eth_getTransactionByBlockNumberAndIndex", json!(["0x1", "0x1"])).await,
        Value::Null
    );
    assert_eq!(http.ok("eth_getTransactionReceipt", json!([hash])).await, answer);
    assert_eq!(http.ok("eth_getBlockReceipts", json!(["latest"])).await, json!([answer]));
    for (method, name) in [
        ("eth_getBlockTransactionCountByNumber", json!("0x1")),
        ("eth_getBlockTransactionCountByHash", json!(full.header.hash)),
    ] {
        assert_eq!(http.ok(method, json!([name])).await, "0x1");
    }
    assert_eq!(http.ok("eth_getUncleCountByBlockNumber", json!(["latest"])).await, "0x0");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_null() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let none = B256::repeat_byte(9);
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["0x63", false])),
        ("eth_getBlockByHash", json!([none, false])),
        ("eth_getTransactionByHash", json!([none])),
        ("eth_getTransactionReceipt", json!([none])),
        ("eth_getBlockReceipts", json!(["0x63"])),
        ("eth_getBlockTransactionCountByHash", json!([none])),
        ("og_getFinalityCertificate", json!(["0x63"])),
    ] {
        assert_eq!(http.ok(method, params).await, Value::Null, "{method}");
    }
    let (code, message, _) = http.err("eth_getBalance", json!([STORE, "0x63"])).await;
    assert_eq!((code, message.as_str()), (-32000, "header not found"));
    let (code, ..) = http.err("eth_call", json!([{"to": STORE}, {"blockHash": none}])).await;
    assert_eq!(code, -32000);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_read_at_any_block_by_any_name() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let first = http.included(Draft::call(0, 0, STORE, 1)).await;
    http.included(Draft::call(0, 1, STORE, 2)).await;
    let slot = |at: Value| {
        let http = http.clone();
        async move {
            let word = http.ok("eth_getStorageAt", json!([STORE, "0x0", at])).await;
            U256::from_str_radix(word.as_str().unwrap().trim_start_matches("0x"), 16)
                .unwrap()
                .to::<u64>()
        }
    };
    for (at, expected) in [
        (json!("latest"), 2),
        (json!("safe"), 2),
        (json!("finalized"), 2),
        (json!("pending"), 2),
        (json!("earliest"), 0),
        (json!("0x1"), 1),
        (json!({"blockNumber": "0x1"}), 1),
        (json!({"blockHash": first["blockHash"]}), 1),
        (json!({"blockHash": first["blockHash"], "requireCanonical": true}), 1),
    ] {
        assert_eq!(slot(at.clone()).await, expected, "{at}");
    }
    let word = json!([STORE, B256::ZERO, "latest"]);
    assert_eq!(http.ok("eth_getStorageAt", word).await, json!(B256::with_last_byte(2)));
    let sender = key(0).address();
    assert_eq!(http.ok("eth_getTransactionCount", json!([sender, "latest"])).await, "0x2");
    assert_eq!(http.ok("eth_getTransactionCount", json!([sender, "0x1"])).await, "0x1");
    assert_eq!(http.ok("eth_getBalance", json!([sender, "earliest"])).await, json!(coin(100)));
    assert_ne!(http.ok("eth_getBalance", json!([sender])).await, json!(coin(100)));
    assert_eq!(http.ok("eth_getCode", json!([sender, "latest"])).await, "0x");
    assert!(http.ok("eth_getCode", json!([STORE, "latest"])).await.as_str().unwrap().len() > 10);

    let proof = http.ok("eth_getProof", json!([STORE, ["0x0"], "latest"])).await;
    let proof: EIP1186AccountProofResponse = serde_json::from_value(proof).unwrap();
    let header = http.ok("eth_getBlockByNumber", json!(["latest", false])).await;
    let root: B256 = serde_json::from_value(header["stateRoot"].clone()).unwrap();
    let account = og_light::verify_account(root, STORE, &proof.account_proof).unwrap().unwrap();
    assert_eq!(account.storage_root, proof.storage_hash);
    let value =
        og_light::verify_storage(proof.storage_hash, B256::ZERO, &proof.storage_proof[0].proof)
            .unwrap();
    assert_eq!((value, proof.storage_proof[0].value), (U256::from(2), U256::from(2)));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_run_at_the_present_time() {
    let clock = manual_clock();
    let node = instant(Storage::Memory, clock.clone()).await;
    let http = Http::new(&node);
    let time = |at: Value| {
        let http = http.clone();
        async move {
            let word = http.ok("eth_call", json!([{"to": TIME}, at])).await;
            U256::from_str_radix(word.as_str().unwrap().trim_start_matches("0x"), 16)
                .unwrap()
                .to::<u64>()
        }
    };
    http.included(Draft::transfer(0, 0, STORE, 0).with_gas(60_000)).await;
    let block_time =
        quantity(&http.ok("eth_getBlockByNumber", json!(["latest", false])).await["timestamp"]);
    assert_eq!(block_time, GENESIS_S);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(time(json!("latest")).await, GENESIS_S + 3_600);
    assert_eq!(time(json!("pending")).await, GENESIS_S + 3_600);
    assert_eq!(time(json!("0x0")).await, GENESIS_S, "an older block keeps its own time");
    http.included(Draft::transfer(0, 1, STORE, 0).with_gas(60_000)).await;
    let block_time =
        quantity(&http.ok("eth_getBlockByNumber", json!(["latest", false])).await["timestamp"]);
    assert_eq!(block_time, GENESIS_S + 3_600);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reverts_carry_code_3_reason_and_data() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    for method in ["eth_call", "eth_estimateGas"] {
        let (code, message, data) = http.err(method, json!([{"to": REVERT}])).await;
        assert_eq!((code, message.as_str()), (3, "execution reverted: nope"), "{method}");
        assert!(data.as_str().unwrap().starts_with("0x08c379a0"), "{data}");
        assert_eq!(data.as_str().unwrap().len(), 2 + 200);
    }
    // A transaction with enough gas is included all the same, and says so in its receipt.
    let receipt = http.included(Draft::call(0, 0, REVERT, 0)).await;
    assert_eq!(receipt["status"], "0x0");
    assert_eq!(receipt["logs"], json!([]));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_take_overrides_and_estimates_suffice() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let poor = Address::repeat_byte(0x77);
    let rich = json!({poor.to_string(): {"balance": "0xde0b6b3a7640000"}});
    let value = json!({"from": poor, "to": STORE, "value": "0x1"});
    let (code, message, _) = http.err("eth_call", json!([value, "latest"])).await;
    assert!(code == -32000 && message.contains("insufficient funds"), "{code} {message}");
    http.ok("eth_call", json!([value, "latest", rich])).await;
    let code = json!({poor.to_string(): {"code": "0x602a60005260206000f3"}});
    let answer = http.ok("eth_call", json!([{"to": poor}, "latest", code])).await;
    assert_eq!(answer, json!(B256::with_last_byte(42)));

    let input = B256::with_last_byte(5);
    let call = json!({"from": key(0).address(), "to": STORE, "data": input});
    let gas = quantity(&http.ok("eth_estimateGas", json!([call])).await);
    let receipt = http.included(Draft::call(0, 0, STORE, 5).with_gas(gas)).await;
    assert_eq!(receipt["status"], "0x1", "an estimate of {gas} must suffice");
    let list = http.ok("eth_createAccessList", json!([call])).await;
    assert_eq!(list["accessList"], json!([{"address": STORE, "storageKeys": [B256::ZERO]}]));
    for refused in [
        json!([{"to": STORE, "input": "0x01", "data": "0x02"}]),
        json!([{"to": STORE, "gasPrice": "0x1", "maxFeePerGas": "0x1"}]),
        json!([{"to": STORE, "chainId": "0x1"}]),
        json!([{"to": STORE, "blobVersionedHashes": [B256::ZERO]}]),
    ] {
        let (code, ..) = http.err("eth_call", refused.clone()).await;
        assert_eq!(code, -32000, "{refused}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fees_are_suggested_and_remembered() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let tip = quantity(&http.ok("eth_maxPriorityFeePerGas", json!([])).await);
    assert_eq!(tip, 1_000_000);
    for nonce in 0..3 {
        http.included(Draft::call(0, nonce, STORE, 1).with_tip(5_000_000)).await;
    }
    let tip = quantity(&http.ok("eth_maxPriorityFeePerGas", json!([])).await);
    assert_eq!(tip, 5_000_000, "what recent transactions paid");
    let base =
        quantity(&http.ok("eth_getBlockByNumber", json!(["latest", false])).await["baseFeePerGas"]);
    let price = quantity(&http.ok("eth_gasPrice", json!([])).await);
    assert!(price >= base + tip, "{price}");
    let history = http.ok("eth_feeHistory", json!(["0x2", "latest", [0, 50, 100]])).await;
    let history: FeeHistory = serde_json::from_value(history).unwrap();
    assert_eq!(history.oldest_block, 2);
    assert_eq!((history.base_fee_per_gas.len(), history.gas_used_ratio.len()), (3, 2));
    assert_eq!(history.reward.unwrap(), vec![vec![5_000_000; 3]; 2]);
    let all = http.ok("eth_feeHistory", json!([99, "latest"])).await;
    assert_eq!(all["oldestBlock"], "0x0");
    assert_eq!(http.err("eth_feeHistory", json!(["0x1", "latest", [101]])).await.0, -32602);
    assert_eq!(http.err("eth_feeHistory", json!(["0x1", "0x63"])).await.0, -32000);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused_with_the_words_clients_know() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    http.included(Draft::transfer(0, 0, TIME, 1).with_gas(60_000)).await;
    let refusal = |raw: String| {
        let http = http.clone();
        async move {
            let (code, message, _) = http.err("eth_sendRawTransaction", json!([raw])).await;
            assert_eq!(code, -32000, "{message}");
            message
        }
    };
    let nonce = refusal(Draft::transfer(0, 0, TIME, 2).raw()).await;
    assert!(nonce.starts_with("nonce too low"), "{nonce}");
    let funds = refusal(Draft { value: coin(1_000), ..Draft::transfer(1, 0, TIME, 0) }.raw()).await;
    assert!(funds.starts_with("insufficient funds for gas * price + value"), "{funds}");
    let gas = refusal(Draft::transfer(1, 0, TIME, 0).with_gas(20_000).raw()).await;
    assert!(gas.starts_with("intrinsic gas too low"), "{gas}");
    let limit = refusal(Draft::transfer(1, 0, TIME, 0).with_gas(60_000_001).raw()).await;
    assert!(limit.starts_with("exceeds block gas limit"), "{limit}");
    let blob = refusal(format!("0x03{}", "00".repeat(64))).await;
    assert!(blob.starts_with("transaction type not supported"), "{blob}");
    let rlp = refusal("0x02deadbeef".to_owned()).await;
    assert!(rlp.starts_with("rlp"), "{rlp}");
    let trailing = refusal(format!("{}00", Draft::transfer(1, 0, TIME, 0).raw())).await;
    assert!(trailing.starts_with("rlp"), "{trailing}");
    assert_eq!(http.err("eth_sendRawTransaction", json!(["not hex"])).await.0, -32602);

    // Pre-EIP-155: replayable on every chain.
    let mut legacy = alloy_consensus::TxLegacy {
        gas_limit: 60_000,
        gas_price: 10_000_000_000,
        to: TxKind::Call(TIME),
        ..Default::default()
    };
    let signature =
        alloy_network::TxSignerSync::sign_transaction_sync(&key(2), &mut legacy).unwrap();
    let legacy: alloy_consensus::TxEnvelope =
        alloy_consensus::SignableTransaction::into_signed(legacy, signature).into();
    let raw = hex::encode_prefixed(alloy_eips::eip2718::Encodable2718::encoded_2718(&legacy));
    assert!(refusal(raw).await.contains("replay-protected"));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn resending_is_harmless_and_gaps_wait() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let sender = key(0).address();
    let late = http.send(Draft::call(0, 1, STORE, 2)).await;
    assert_eq!(http.send(Draft::call(0, 1, STORE, 2)).await, late, "waiting");
    assert_eq!(http.ok("eth_getTransactionCount", json!([sender, "pending"])).await, "0x0");
    let waiting = http.ok("eth_getTransactionByHash", json!([late])).await;
    assert_eq!((&waiting["blockNumber"], &waiting["hash"]), (&Value::Null, &json!(late)));
    assert_eq!(http.ok("eth_getTransactionReceipt", json!([late])).await, Value::Null);
    assert_eq!(
        http.ok("txpool_status", json!([])).await,
        json!({"pending": "0x0", "queued": "0x1"})
    );
    let content = http.ok("txpool_content", json!([])).await;
    assert_eq!(content["queued"][format!("{sender:#x}")]["1"]["hash"], late, "{content}");
    let (code, message, data) =
        http.err("eth_sendRawTransactionSync", json!([Draft::call(0, 1, STORE, 2).raw(), 1])).await;
    assert_eq!((code, &data), (4, &json!(late)), "{message}");

    http.included(Draft::call(0, 0, STORE, 1)).await;
    http.ok("eth_sendRawTransactionSync", json!([Draft::call(0, 1, STORE, 2).raw(), 20_000])).await;
    assert_eq!(http.send(Draft::call(0, 1, STORE, 2)).await, late, "included");
    assert_eq!(http.ok("eth_getTransactionCount", json!([sender, "pending"])).await, "0x2");
    assert_eq!(
        http.ok("txpool_status", json!([])).await,
        json!({"pending": "0x0", "queued": "0x0"})
    );
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_searched_and_polled() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let topic = B256::with_last_byte(1);
    let logs = http.ok("eth_newFilter", json!([{"address": STORE}])).await;
    let other = http.ok("eth_newFilter", json!([{"address": TIME}])).await;
    let blocks = http.ok("eth_newBlockFilter", json!([])).await;
    let pending = http.ok("eth_newPendingTransactionFilter", json!([])).await;
    let full = http.ok("eth_newPendingTransactionFilter", json!([true])).await;
    let first = http.included(Draft::call(0, 0, STORE, 1)).await;
    let second = http.included(Draft::call(0, 1, STORE, 2)).await;

    let count = |filter: Value| {
        let http = http.clone();
        async move { http.ok("eth_getLogs", json!([filter])).await.as_array().unwrap().len() }
    };
    assert_eq!(count(json!({"fromBlock": "0x0"})).await, 2);
    assert_eq!(count(json!({})).await, 1, "the default is the head alone");
    assert_eq!(
        count(json!({"fromBlock": "earliest", "toBlock": "latest", "topics": [topic]})).await,
        2
    );
    assert_eq!(count(json!({"fromBlock": "0x0", "topics": [null, topic]})).await, 0);
    assert_eq!(count(json!({"fromBlock": "0x0", "topics": [[B256::ZERO, topic]]})).await, 2);
    assert_eq!(count(json!({"fromBlock": "0x0", "address": [TIME, STORE]})).await, 2);
    assert_eq!(count(json!({"fromBlock": "0x0", "address": TIME})).await, 0);
    assert_eq!(count(json!({"fromBlock": "0x1", "toBlock": "0x1"})).await, 1);
    assert_eq!(count(json!({"fromBlock": "0x63", "toBlock": "0x64"})).await, 0);
    assert_eq!(count(json!({"blockHash": first["blockHash"]})).await, 1);
    assert_eq!(
        http.err("eth_getLogs", json!([{"blockHash": B256::ZERO}])).await.1,
        "unknown block"
    );
    assert_eq!(
        http.err("eth_getLogs", json!([{"fromBlock": "0x2", "toBlock": "0x1"}])).await.0,
        -32000
    );
    let many = vec![STORE; 3]
        .into_iter()
        .chain((0..1_001u64).map(|n| Address::from_word(B256::from(U256::from(n)))));
    let many: Vec<_> = many.collect();
    assert_eq!(http.err("eth_getLogs", json!([{"address": many}])).await.0, -32602);

    let changes = http.ok("eth_getFilterChanges", json!([logs])).await;
    assert_eq!(changes, json!([first["logs"][0], second["logs"][0]]));
    assert_eq!(http.ok("eth_getFilterChanges", json!([logs])).await, json!([]));
    assert_eq!(http.ok("eth_getFilterLogs", json!([logs])).await, json!([second["logs"][0]]));
    assert_eq!(http.ok("eth_getFilterChanges", json!([other])).await, json!([]));
    assert_eq!(
        http.ok("eth_getFilterChanges", json!([blocks])).await,
        json!([first["blockHash"], second["blockHash"]])
    );
    let hashes = json!([first["transactionHash"], second["transactionHash"]]);
    assert_eq!(http.ok("eth_getFilterChanges", json!([pending])).await, hashes);
    let whole = http.ok("eth_getFilterChanges", json!([full])).await;
    assert_eq!(whole[1]["hash"], second["transactionHash"]);
    assert_eq!(http.ok("eth_uninstallFilter", json!([logs])).await, true);
    assert_eq!(http.ok("eth_uninstallFilter", json!([logs])).await, false);
    assert_eq!(http.err("eth_getFilterChanges", json!([logs])).await.1, "filter not found");
    assert_eq!(http.err("eth_getFilterLogs", json!([blocks])).await.1, "filter not found");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_filter_is_forgotten() {
    let clock = manual_clock();
    let node = instant(Storage::Memory, clock.clone()).await;
    let http = Http::new(&node);
    let idle = http.ok("eth_newBlockFilter", json!([])).await;
    clock.advance(Duration::from_secs(301));
    http.ok("eth_newBlockFilter", json!([])).await;
    assert_eq!(http.err("eth_getFilterChanges", json!([idle])).await.1, "filter not found");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_bad_requests() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let (status, text) = http
        .post(r#"[{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]},{"jsonrpc":"2.0","id":"two","method":"nope"},{"jsonrpc":"2.0","id":3,"method":"eth_blockNumber"}]"#)
        .await;
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answers.len()), (200, 3));
    assert_eq!(answers[0]["result"], "0x29f4");
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!("two"), &json!(-32601)));
    assert_eq!(answers[2]["result"], "0x0");

    let one = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    let (_, text) = http.post(format!("[{}]", vec![one; 1_001].join(","))).await;
    let error: Value = serde_json::from_str(&text).unwrap();
    assert!(error["error"]["code"].is_number(), "{text}");
    for (body, code) in [("{", -32700), ("[]", -32600), (r#"{"jsonrpc":"2.0","id":1}"#, -32600)] {
        let (_, text) = http.post(body).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["error"]["code"], code, "{body}: {text}");
    }
    assert!(http.announce(5 * 1024 * 1024).await.starts_with("HTTP/1.1 413 "));
    assert_eq!(http.err("eth_fillTransaction", json!([{}])).await.0, -32601);
    for (method, params) in [
        ("eth_getBalance", json!([])),
        ("eth_getBalance", json!(["0x1234"])),
        ("eth_getBalance", json!([STORE, "newest"])),
        ("eth_getBlockByNumber", json!([{}, 5])),
        ("eth_getStorageAt", json!([STORE, "0xzz"])),
        ("eth_getStorageAt", json!([STORE, format!("0x{}", "0".repeat(65))])),
        ("eth_getProof", json!([STORE, vec!["0x0"; 1_025], "latest"])),
        ("eth_call", json!(["0x"])),
        ("eth_call", json!([{"to": STORE}, "latest", null, {"number": "0x1"}])),
        ("eth_newFilter", json!([{"topics": [[], [], [], [], []]}])),
        ("eth_getLogs", json!({"fromBlock": "0x0"})),
    ] {
        let (code, message, _) = http.err(method, params.clone()).await;
        assert_eq!(code, -32602, "{method} {params}: {message}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_from_many_senders_keeps_order_and_loses_nothing() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    let mut sends = tokio::task::JoinSet::new();
    for from in 0..4 {
        let http = http.clone();
        sends.spawn(async move {
            // Backwards, so that all but the first wait for a gap to close.
            for nonce in (0..25).rev() {
                http.send(Draft::transfer(from, nonce, Address::repeat_byte(0xee), 1)).await;
            }
        });
    }
    sends.join_all().await;
    for from in 0..4 {
        let last = Draft::transfer(from, 24, Address::repeat_byte(0xee), 1).raw();
        let receipt = http.ok("eth_sendRawTransactionSync", json!([last, 20_000])).await;
        assert_eq!(receipt["status"], "0x1");
        assert_eq!(
            http.ok("eth_getTransactionCount", json!([key(from).address(), "latest"])).await,
            "0x19"
        );
    }
    let balance = http.ok("eth_getBalance", json!([Address::repeat_byte(0xee), "latest"])).await;
    assert_eq!(balance, "0x64");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn contracts_are_deployed() {
    let node = instant(Storage::Memory, manual_clock()).await;
    let http = Http::new(&node);
    // Returns one byte of code: STOP.
    let input: Bytes = hex::decode("6001600c60003960016000f300").unwrap().into();
    let draft = Draft { to: TxKind::Create, input, gas: 200_000, ..Draft::transfer(0, 0, TIME, 0) };
    let receipt = http.included(draft).await;
    let address = key(0).address().create(0);
    assert_eq!(receipt["contractAddress"], json!(address));
    assert_eq!(receipt["to"], Value::Null);
    assert_eq!(http.ok("eth_getCode", json!([address, "latest"])).await, "0x00");
    node.stop().await.unwrap();
}
