//! A chain with funded keys and small contracts, a node on it, and clients that speak raw JSON.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod network;

use std::{sync::Arc, time::Duration};

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_network::TxSignerSync as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, hex};
use alloy_signer_local::PrivateKeySigner;
use og_chain::{Genesis, GenesisAccount, Storage};
use og_contracts::genesis::{GenesisParams, base_alloc};
use og_node::{Clock, ManualClock, Node, NodeConfig, NodeHandle, Seal};
use serde_json::{Value, json};
use soketto::handshake::{Client, ServerResponse};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt as _},
    sync::CancellationToken,
};

pub const CHAIN_ID: u64 = 10740;
/// 2026-11-24.
pub const GENESIS_S: u64 = 1_795_000_000;
/// Stores its argument in slot 0 and logs it under topic 1.
pub const STORE: Address = address!("0x00000000000000000000000000000000005704e0");
/// Reverts with `Error("nope")`.
pub const REVERT: Address = address!("0x0000000000000000000000000000000000de7e47");
/// Returns the block's time.
pub const TIME: Address = address!("0x0000000000000000000000000000000000713e00");

pub fn key(n: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(n + 1)).unwrap()
}

pub fn coin(n: u64) -> U256 {
    U256::from(n) * U256::from(10).pow(U256::from(18))
}

pub fn genesis() -> Genesis {
    let mut genesis = Genesis::new(CHAIN_ID, GENESIS_S);
    // The tokens and tools that official clients look for at their own addresses.
    genesis.alloc = base_alloc(&GenesisParams::new(key(3).address(), GENESIS_S)).unwrap();
    for n in 0..4 {
        let account = GenesisAccount { balance: coin(100), ..GenesisAccount::default() };
        genesis.alloc.insert(key(n).address(), account);
    }
    let reverting = format!(
        "6064600c60003960646000fd08c379a0{:064x}{:064x}{:0<64}",
        0x20,
        4,
        hex::encode("nope")
    );
    let codes = [
        (STORE, "60003580600055600052600160206000a100"),
        (REVERT, &reverting),
        (TIME, "4260005260206000f3"),
    ];
    for (address, code) in codes {
        let code = hex::decode(code).unwrap().into();
        genesis
            .alloc
            .insert(address, GenesisAccount { nonce: 1, code, ..GenesisAccount::default() });
    }
    genesis
}

pub fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(GENESIS_S * 1_000 + 500))
}

pub async fn instant(storage: Storage, clock: Arc<dyn Clock>) -> NodeHandle {
    let config = NodeConfig { clock, ..NodeConfig::new(genesis(), storage, Seal::Instant) };
    Node::start(config, CancellationToken::new()).await.unwrap()
}

pub struct Draft {
    pub from: u8,
    pub nonce: u64,
    pub to: TxKind,
    pub value: U256,
    pub input: Bytes,
    pub gas: u64,
    pub tip: u128,
}

impl Draft {
    pub fn call(from: u8, nonce: u64, to: Address, word: u64) -> Self {
        Self {
            input: B256::from(U256::from(word)).to_vec().into(),
            gas: 100_000,
            ..Self::transfer(from, nonce, to, 0)
        }
    }

    pub fn transfer(from: u8, nonce: u64, to: Address, value: u64) -> Self {
        Self {
            from,
            nonce,
            to: to.into(),
            value: U256::from(value),
            input: Bytes::new(),
            gas: 21_000,
            tip: 1_000_000,
        }
    }

    pub fn with_gas(self, gas: u64) -> Self {
        Self { gas, ..self }
    }

    pub fn with_tip(self, tip: u128) -> Self {
        Self { tip, ..self }
    }

    pub fn signed(self) -> TxEnvelope {
        let mut tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: self.nonce,
            gas_limit: self.gas,
            max_fee_per_gas: 10_000_000_000,
            max_priority_fee_per_gas: self.tip,
            to: self.to,
            value: self.value,
            input: self.input,
            access_list: Default::default(),
        };
        let signature = key(self.from).sign_transaction_sync(&mut tx).unwrap();
        tx.into_signed(signature).into()
    }

    pub fn raw(self) -> String {
        hex::encode_prefixed(self.signed().encoded_2718())
    }
}

/// JSON-RPC over HTTP.
#[derive(Clone)]
pub struct Http {
    pub url: String,
    client: reqwest::Client,
}

impl Http {
    pub fn new(node: &NodeHandle) -> Self {
        Self { url: node.http_url().unwrap(), client: reqwest::Client::new() }
    }

    pub async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        let response = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Announces a body of this many bytes; gives what the server answers before any of it is sent.
    pub async fn announce(&self, bytes: usize) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let host = self.url.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1_024];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    async fn answer(&self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        let (status, text) = self.post(request.to_string()).await;
        assert_eq!(status, 200, "{method}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn ok(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert_eq!(answer.get("error"), None, "{method}: {answer}");
        answer["result"].take()
    }

    pub async fn err(&self, method: &str, params: Value) -> (i64, String, Value) {
        let answer = self.answer(method, params).await;
        let error = &answer["error"];
        assert!(error.is_object(), "{method} must fail: {answer}");
        let message = error["message"].as_str().unwrap().to_owned();
        (error["code"].as_i64().unwrap(), message, error["data"].clone())
    }

    pub async fn send(&self, draft: Draft) -> String {
        let hash = self.ok("eth_sendRawTransaction", json!([draft.raw()])).await;
        hash.as_str().unwrap().to_owned()
    }

    /// Sends and waits until the transaction is final.
    pub async fn included(&self, draft: Draft) -> Value {
        self.ok("eth_sendRawTransactionSync", json!([draft.raw(), 20_000])).await
    }
}

type Stream = Compat<tokio::net::TcpStream>;

/// JSON-RPC over WebSocket.
pub struct Ws {
    sender: soketto::Sender<Stream>,
    receiver: soketto::Receiver<Stream>,
    /// Notifications that came while an answer was awaited.
    early: Vec<Value>,
}

impl Ws {
    pub async fn connect(node: &NodeHandle) -> Self {
        let address = node.rpc_addr().unwrap();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = stream.compat();
        let host = address.to_string();
        let mut client = Client::new(stream, &host, "/");
        let response = client.handshake().await.unwrap();
        assert!(matches!(response, ServerResponse::Accepted { .. }));
        let (sender, receiver) = client.into_builder().finish();
        Self { sender, receiver, early: Vec::new() }
    }

    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 9, "method": method, "params": params});
        self.sender.send_text(request.to_string()).await.unwrap();
        self.sender.flush().await.unwrap();
        loop {
            let message = self.receive().await;
            if message.get("id").is_some() {
                return message;
            }
            self.early.push(message);
        }
    }

    pub async fn subscribe(&mut self, params: Value) -> String {
        let answer = self.request("eth_subscribe", params).await;
        answer["result"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The next notification of a subscription.
    pub async fn next(&mut self, subscription: &str) -> Value {
        loop {
            let of_it = |message: &Value| message["params"]["subscription"] == subscription;
            if let Some(index) = self.early.iter().position(of_it) {
                let mut message = self.early.remove(index);
                assert_eq!(message["method"], "eth_subscription");
                return message["params"]["result"].take();
            }
            let message = self.receive().await;
            self.early.push(message);
        }
    }

    async fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        let received = self.receiver.receive_data(&mut bytes);
        tokio::time::timeout(Duration::from_secs(20), received)
            .await
            .expect("a message within 20 s")
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

pub fn quantity(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no quantity"));
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}
