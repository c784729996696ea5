//! A chain in memory behind a real JSON-RPC socket, with the faults that real ones have.
//!
//! It executes the few calls that settling makes as the contracts do, checks every signature, and keeps logs:
//! tests count charges in these logs, never in the facilitator's own books.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, U64, U256, address, keccak256};
use alloy_sol_types::{Revert, SolCall, SolError, SolEvent};
use axum::extract::State as AxumState;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use og_contracts::{
    IERC20Permit3009, IInferenceSettlementRelay as Relay, IMulticall3, IPermit2, ITEERegistry,
    IX402UptoPermit2Proxy as Upto, addresses,
};
use og_facilitator::*;
use og_primitives::{ReceiptDigest, TeeId};
use og_x402::wire::{EvmTerms, Permit2Authorization, TokenDomain, TokenPermissions, Witness};
use og_x402::*;
use rand::SeedableRng as _;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub const PAYMENT_CHAIN: u64 = 8_453;
pub const NETWORK_CHAIN: u64 = 10_740;
pub const OPG: Address = addresses::OPG;
pub const PAYEE: Address = address!("0x2222222222222222222222222222222222222222");
pub const REGISTRY: Address = addresses::TEE_REGISTRY;
pub const RELAY: Address = addresses::SETTLEMENT_RELAY;

/// A log that a test can count.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
    pub block: u64,
    pub transaction: B256,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Blocks are made only by [`FakeChain::seal`].
    pub no_blocks: bool,
    /// Transactions are taken, but the answers are lost.
    pub lose_send_answers: bool,
    /// Transactions are lost, and so are the answers.
    pub lose_sends: bool,
    /// Nothing answers.
    pub down: bool,
    /// Only transactions that pay at least this much get into blocks.
    pub least_max_fee: u128,
    /// The chain's clock stands where every permit is alive.
    pub early_clock: bool,
    /// Estimates succeed although the execution will revert.
    pub blind_estimates: bool,
    /// Request after which nothing answers any more, and whether it is still executed.
    pub crash_at: Option<(u64, bool)>,
}

#[derive(Clone, Debug, Default)]
struct Contracts {
    balances: BTreeMap<(Address, Address), U256>,
    allowances: BTreeMap<(Address, Address), U256>,
    permit2_used: BTreeSet<(Address, U256)>,
    eip3009_used: BTreeSet<(Address, Address, B256)>,
    tee_keys: BTreeMap<B256, Bytes>,
    tee_invalid: BTreeSet<B256>,
    heartbeats: BTreeMap<B256, u64>,
    leaves: BTreeMap<B256, B256>,
    receipts: BTreeMap<B256, B256>,
}

#[derive(Default)]
struct State {
    chain_id: u64,
    genesis: B256,
    block: u64,
    requests: u64,
    faults: Faults,
    contracts: Contracts,
    nonces: HashMap<Address, u64>,
    pool: BTreeMap<(Address, u64), TxEnvelope>,
    receipts: HashMap<B256, (u64, bool)>,
    transactions: HashMap<B256, (Option<Address>, Bytes)>,
    logs: Vec<LogEntry>,
    sent: u64,
}

/// The chain.
#[derive(Clone)]
pub struct FakeChain {
    state: Arc<Mutex<State>>,
    pub url: String,
    pub crashed: CancellationToken,
}

type Logs = Vec<(Address, Vec<B256>, Bytes)>;

impl FakeChain {
    pub async fn start(chain_id: u64) -> Self {
        let state =
            State { chain_id, genesis: keccak256(chain_id.to_be_bytes()), ..State::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let chain = Self {
            state: Arc::new(Mutex::new(state)),
            url: format!("http://{}", listener.local_addr().unwrap()),
            crashed: CancellationToken::new(),
        };
        let router = Router::new().route("/", post(answer)).with_state(chain.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        chain
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.with(|state| change(&mut state.faults));
    }

    pub fn fund(&self, owner: Address, balance: u64, allowance: U256) {
        self.with(|state| {
            state.contracts.balances.insert((OPG, owner), U256::from(balance));
            state.contracts.allowances.insert((OPG, owner), allowance);
        });
    }

    pub fn balance(&self, owner: Address) -> U256 {
        self.with(|state| state.contracts.balances.get(&(OPG, owner)).copied().unwrap_or_default())
    }

    pub fn register(&self, tee: &Tee) {
        self.with(|state| state.contracts.tee_keys.insert(tee.id.0, tee.key_der.clone()));
    }

    /// The endpoint lies: under the id of one enclave it gives the key of another.
    pub fn register_as(&self, tee: &Tee, other: &Tee) {
        self.with(|state| state.contracts.tee_keys.insert(tee.id.0, other.key_der.clone()));
    }

    pub fn invalidate(&self, tee: &Tee) {
        self.with(|state| state.contracts.tee_invalid.insert(tee.id.0));
    }

    pub fn spend_permit2_nonce(&self, owner: Address, nonce: U256) {
        self.with(|state| state.contracts.permit2_used.insert((owner, nonce)));
    }

    /// A transaction of the same key from elsewhere takes the next nonce.
    pub fn steal_nonce(&self, sender: Address) {
        self.with(|state| {
            let nonce = state.nonces.entry(sender).or_default();
            state.pool.remove(&(sender, *nonce));
            *nonce += 1;
        });
    }

    pub fn change_genesis(&self) {
        self.with(|state| state.genesis = B256::ZERO);
    }

    pub fn seal(&self) {
        self.with(State::seal);
    }

    pub fn requests(&self) -> u64 {
        self.with(|state| state.requests)
    }

    /// Transactions that were handed in, repetitions included.
    pub fn sent(&self) -> u64 {
        self.with(|state| state.sent)
    }

    /// Logs of an event.
    pub fn logs<E: SolEvent>(&self, address: Address) -> Vec<LogEntry> {
        let all = self.with(|state| state.logs.clone());
        all.into_iter()
            .filter(|log| log.address == address && log.topics.first() == Some(&E::SIGNATURE_HASH))
            .collect()
    }

    /// Amounts that moved from `owner` to the payee, as the token's logs say.
    pub fn charges(&self, owner: Address) -> Vec<U256> {
        self.logs::<IERC20Permit3009::Transfer>(OPG)
            .iter()
            .filter(|log| log.topics[1..] == [owner.into_word(), PAYEE.into_word()])
            .map(|log| U256::from_be_slice(&log.data))
            .collect()
    }
}

async fn answer(AxumState(chain): AxumState<FakeChain>, Json(request): Json<Value>) -> Response {
    let lost = || StatusCode::BAD_GATEWAY.into_response();
    let method = request["method"].as_str().unwrap().to_owned();
    let (answer, crash) = chain.with(|state| {
        state.requests += 1;
        if state.faults.down {
            return (None, false);
        }
        let crash = state.faults.crash_at.filter(|(at, _)| state.requests >= *at);
        if let Some((_, false)) = crash {
            return (None, true);
        }
        let answer = state.handle(&method, &request["params"]);
        (Some(answer), crash.is_some())
    });
    if crash {
        chain.crashed.cancel();
        // The process that asked is about to die: it never gets an answer.
        std::future::pending::<()>().await;
    }
    let Some(answer) = answer else { return lost() };
    let faults = chain.with(|state| state.faults.clone());
    if method == "eth_sendRawTransaction" && (faults.lose_sends || faults.lose_send_answers) {
        return lost();
    }
    let id = &request["id"];
    Json(match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, message, data)) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message, "data": data } })
        }
    })
    .into_response()
}

type Answer = Result<Value, (i64, String, Option<Bytes>)>;

impl State {
    fn handle(&mut self, method: &str, params: &Value) -> Answer {
        let parse = |value: &Value| serde_json::from_value::<B256>(value.clone()).unwrap();
        Ok(match method {
            "eth_chainId" => json!(U64::from(self.chain_id)),
            "eth_blockNumber" => json!(U64::from(self.block)),
            "eth_maxPriorityFeePerGas" => json!("0x1"),
            "eth_getBlockByNumber" => {
                json!({ "hash": self.genesis, "number": "0x0", "baseFeePerGas": "0x7" })
            }
            "eth_getTransactionCount" => {
                let sender: Address = serde_json::from_value(params[0].clone()).unwrap();
                json!(U64::from(self.nonces.get(&sender).copied().unwrap_or(0)))
            }
            "eth_getTransactionReceipt" => match self.receipts.get(&parse(&params[0])) {
                Some((block, success)) => json!({
                    "blockNumber": U64::from(*block), "status": U64::from(*success), "transactionHash": params[0],
                }),
                None => Value::Null,
            },
            "eth_getTransactionByHash" => match self.transactions.get(&parse(&params[0])) {
                Some((to, input)) => json!({ "to": to, "input": input, "hash": params[0] }),
                None => Value::Null,
            },
            "eth_getLogs" => {
                let filter = &params[0];
                let matches = |log: &&LogEntry| {
                    json!(log.address) == filter["address"]
                        && filter["topics"].as_array().unwrap().iter().enumerate().all(
                            |(at, topic)| {
                                topic.is_null()
                                    || log.topics.get(at).is_some_and(|own| json!(own) == *topic)
                            },
                        )
                };
                let logs = self.logs.iter().filter(matches);
                logs.map(|log| json!({ "transactionHash": log.transaction })).collect()
            }
            "eth_call" | "eth_estimateGas" => {
                let call = &params[0];
                let from: Address = serde_json::from_value(call["from"].clone()).unwrap();
                let to: Address = serde_json::from_value(call["to"].clone()).unwrap();
                let input: Bytes = serde_json::from_value(call["input"].clone()).unwrap();
                let blind = method == "eth_estimateGas" && self.faults.blind_estimates;
                match self.contracts.clone().execute(from, to, &input, self.now_secs()) {
                    Ok((_, output)) if method == "eth_call" => json!(output),
                    Ok(_) => json!("0x30000"),
                    Err(_) if blind => json!("0x30000"),
                    Err(data) => return Err((3, "execution reverted".to_owned(), Some(data))),
                }
            }
            "eth_sendRawTransaction" => return self.take(params),
            other => return Err((-32601, format!("no method {other}"), None)),
        })
    }

    fn take(&mut self, params: &Value) -> Answer {
        let raw: Bytes = serde_json::from_value(params[0].clone()).unwrap();
        let transaction = TxEnvelope::decode_2718_exact(&raw).unwrap();
        let sender = transaction.recover_signer().unwrap();
        let hash = *transaction.tx_hash();
        assert_eq!(transaction.chain_id(), Some(self.chain_id));
        if self.faults.lose_sends {
            return Ok(json!(hash));
        }
        self.sent += 1;
        let nonce = transaction.nonce();
        if nonce < self.nonces.get(&sender).copied().unwrap_or(0) {
            return Err((-32000, "nonce too low".to_owned(), None));
        }
        if let Some(before) = self.pool.get(&(sender, nonce)) {
            if *before.tx_hash() == hash {
                return Err((-32000, "already known".to_owned(), None));
            }
            if transaction.max_fee_per_gas() * 10 < before.max_fee_per_gas() * 11 {
                return Err((-32000, "replacement transaction underpriced".to_owned(), None));
            }
        }
        self.pool.insert((sender, nonce), transaction);
        if !self.faults.no_blocks {
            self.seal();
        }
        Ok(json!(hash))
    }

    fn now_secs(&self) -> u64 {
        if self.faults.early_clock { 0 } else { now_secs() }
    }

    fn seal(&mut self) {
        self.block += 1;
        loop {
            let next = self.pool.iter().find_map(|((sender, nonce), transaction)| {
                let ready = self.nonces.get(sender).copied().unwrap_or(0) == *nonce
                    && transaction.max_fee_per_gas() >= self.faults.least_max_fee;
                ready.then_some((*sender, *nonce))
            });
            let Some(key) = next else { return };
            let transaction = self.pool.remove(&key).unwrap();
            let (hash, to) = (*transaction.tx_hash(), transaction.to());
            *self.nonces.entry(key.0).or_default() += 1;
            let mut contracts = self.contracts.clone();
            let done = contracts.execute(key.0, to.unwrap(), transaction.input(), self.now_secs());
            self.receipts.insert(hash, (self.block, done.is_ok()));
            self.transactions.insert(hash, (to, transaction.input().clone()));
            if let Ok((logs, _)) = done {
                self.contracts = contracts;
                let block = self.block;
                self.logs.extend(logs.into_iter().map(|(address, topics, data)| LogEntry {
                    address,
                    topics,
                    data,
                    block,
                    transaction: hash,
                }));
            }
        }
    }
}

impl Contracts {
    /// Runs a call as the contract would; the error is revert data.
    fn execute(
        &mut self,
        from: Address,
        to: Address,
        input: &[u8],
        now: u64,
    ) -> Result<(Logs, Bytes), Bytes> {
        match to {
            UPTO_PROXY => self.upto(from, input, now).map(|logs| (logs, Bytes::new())),
            OPG => self.token(input, now),
            addresses::MULTICALL3 => self.multicall(input),
            REGISTRY => self.registry(input),
            RELAY => self.relay(input),
            _ => Err(Bytes::new()),
        }
    }

    fn upto(&mut self, from: Address, input: &[u8], now: u64) -> Result<Logs, Bytes> {
        let call = Upto::settleCall::abi_decode(input).map_err(|_| Bytes::new())?;
        let refuse = |error: Vec<u8>| Err(error.into());
        if call.witness.facilitator != from {
            return refuse(Upto::UnauthorizedFacilitator {}.abi_encode());
        }
        if call.amount > call.permit.permitted.amount {
            return refuse(Upto::AmountExceedsPermitted {}.abi_encode());
        }
        if call.permit.deadline < U256::from(now) {
            return refuse(
                IPermit2::SignatureExpired { signatureDeadline: call.permit.deadline }.abi_encode(),
            );
        }
        let authorization = Permit2Authorization {
            from: call.owner,
            permitted: TokenPermissions {
                token: call.permit.permitted.token,
                amount: call.permit.permitted.amount,
            },
            spender: UPTO_PROXY,
            nonce: call.permit.nonce,
            deadline: call.permit.deadline,
            witness: Witness {
                to: call.witness.to,
                facilitator: Some(call.witness.facilitator),
                valid_after: call.witness.validAfter,
            },
        };
        let digest = eip712::permit2_digest(&authorization, PAYMENT_CHAIN);
        let signer =
            Signature::parse(&call.signature).and_then(|signature| signature.signer(&digest));
        if !self.permit2_used.insert((call.owner, call.permit.nonce)) {
            return refuse(IPermit2::InvalidNonce {}.abi_encode());
        }
        if signer != Ok(call.owner) {
            return refuse(IPermit2::InvalidSigner {}.abi_encode());
        }
        let token = call.permit.permitted.token;
        let allowance = self.allowances.get(&(token, call.owner)).copied().unwrap_or_default();
        if allowance < call.amount {
            return refuse(Revert::from("TRANSFER_FROM_FAILED").abi_encode());
        }
        self.transfer(token, call.owner, call.witness.to, call.amount)
            .ok_or_else(|| Revert::from("TRANSFER_FROM_FAILED").abi_encode().into())
    }

    fn token(&mut self, input: &[u8], now: u64) -> Result<(Logs, Bytes), Bytes> {
        use IERC20Permit3009::{
            AuthorizationUsed, allowanceCall, authorizationStateCall, balanceOfCall,
            transferWithAuthorization_0Call as Transfer3009,
        };
        let word = |number: U256| Ok((Vec::new(), number.to_be_bytes_vec().into()));
        if let Ok(call) = balanceOfCall::abi_decode(input) {
            return word(self.balances.get(&(OPG, call.account)).copied().unwrap_or_default());
        }
        if let Ok(call) = allowanceCall::abi_decode(input) {
            return word(self.allowances.get(&(OPG, call.owner)).copied().unwrap_or_default());
        }
        if let Ok(call) = authorizationStateCall::abi_decode(input) {
            let used = self.eip3009_used.contains(&(OPG, call.authorizer, call.nonce));
            return word(U256::from(used));
        }
        let call = Transfer3009::abi_decode(input).map_err(|_| Bytes::new())?;
        let fresh = self.eip3009_used.insert((OPG, call.from, call.nonce));
        if !fresh || call.validBefore <= U256::from(now) {
            return Err(Revert::from("authorization").abi_encode().into());
        }
        let mut logs = self
            .transfer(OPG, call.from, call.to, call.value)
            .ok_or_else(|| Revert::from("balance").abi_encode())?;
        let topics = vec![AuthorizationUsed::SIGNATURE_HASH, call.from.into_word(), call.nonce];
        logs.push((OPG, topics, Bytes::new()));
        Ok((logs, Bytes::new()))
    }

    fn transfer(
        &mut self,
        token: Address,
        from: Address,
        to: Address,
        amount: U256,
    ) -> Option<Logs> {
        let balance = self.balances.entry((token, from)).or_default();
        *balance = balance.checked_sub(amount)?;
        *self.balances.entry((token, to)).or_default() += amount;
        let topics =
            vec![IERC20Permit3009::Transfer::SIGNATURE_HASH, from.into_word(), to.into_word()];
        Some(vec![(token, topics, amount.to_be_bytes_vec().into())])
    }

    fn multicall(&mut self, input: &[u8]) -> Result<(Logs, Bytes), Bytes> {
        let call = IMulticall3::aggregate3Call::abi_decode(input).map_err(|_| Bytes::new())?;
        let results: Vec<IMulticall3::Result> = call
            .calls
            .iter()
            .map(|item| {
                let output = if item.target == PERMIT2 {
                    let call = IPermit2::nonceBitmapCall::abi_decode(&item.callData).unwrap();
                    let used = self.permit2_used.iter().filter(|(owner, nonce)| {
                        *owner == call.owner && *nonce >> 8_usize == call.wordPos
                    });
                    let bits = used.fold(U256::ZERO, |bits, (_, nonce)| {
                        bits | U256::ONE << (*nonce & U256::from(255))
                    });
                    bits.to_be_bytes_vec().into()
                } else {
                    self.token(&item.callData, 0).map(|(_, output)| output).unwrap_or_default()
                };
                IMulticall3::Result { success: true, returnData: output }
            })
            .collect();
        Ok((Vec::new(), IMulticall3::aggregate3Call::abi_encode_returns(&results).into()))
    }

    fn registry(&mut self, input: &[u8]) -> Result<(Logs, Bytes), Bytes> {
        use ITEERegistry::{HeartbeatReceived, getTEEPublicKeyCall, heartbeatCall};
        if let Ok(call) = getTEEPublicKeyCall::abi_decode(input) {
            let key = self.tee_keys.get(&call.teeId).cloned().unwrap_or_default();
            return Ok((Vec::new(), getTEEPublicKeyCall::abi_encode_returns(&key).into()));
        }
        let call = heartbeatCall::abi_decode(input).map_err(|_| Bytes::new())?;
        let timestamp: u64 = call.timestamp.to();
        let last = self.heartbeats.insert(call.teeId, timestamp);
        if last.is_some_and(|last| last >= timestamp) {
            return Err(ITEERegistry::HeartbeatNotNewer {}.abi_encode().into());
        }
        let topics = vec![HeartbeatReceived::SIGNATURE_HASH, call.teeId];
        Ok((vec![(REGISTRY, topics, call.timestamp.to_be_bytes_vec().into())], Bytes::new()))
    }

    fn relay(&mut self, input: &[u8]) -> Result<(Logs, Bytes), Bytes> {
        if let Ok(call) = Relay::settledReceiptCall::abi_decode(input) {
            return Ok((
                Vec::new(),
                self.receipts.get(&call.receiptDigest).copied().unwrap_or_default().into(),
            ));
        }
        if let Ok(call) = Relay::settledLeafCall::abi_decode(input) {
            return Ok((
                Vec::new(),
                self.leaves.get(&call.leafHash).copied().unwrap_or_default().into(),
            ));
        }
        let call = Relay::batchSettleVerifiedCall::abi_decode(input).map_err(|_| Bytes::new())?;
        assert_eq!(call.leaves.len(), call.receiptDigests.len());
        let items: Vec<EvidenceItem> = call
            .leaves
            .iter()
            .map(|leaf| EvidenceItem {
                tee_id: TeeId(leaf.teeId),
                input_hash: leaf.inputHash,
                output_hash: leaf.outputHash,
                timestamp: leaf.timestamp.to(),
                signature: leaf.signature.clone(),
                receipt_digest: None,
            })
            .collect();
        let hashes: Vec<B256> = items.iter().map(EvidenceItem::leaf_hash).collect();
        assert!(hashes.is_sorted(), "leaves go in ascending order");
        for (at, (item, hash)) in items.iter().zip(&hashes).enumerate() {
            let index = U256::from(at);
            if self.leaves.contains_key(hash) {
                return Err(Relay::DuplicateLeaf { index, leaf: *hash }.abi_encode().into());
            }
            if self.tee_invalid.contains(&item.tee_id.0) {
                let error = Relay::TEENotValidAt {
                    index,
                    teeId: item.tee_id.0,
                    timestamp: U256::from(item.timestamp),
                };
                return Err(error.abi_encode().into());
            }
            let key = &self.tee_keys[&item.tee_id.0];
            if !og_attest::legacy::verify_rsa_pss(key, item.message_hash(), &item.signature) {
                return Err(Relay::InvalidLeafSignature { index }.abi_encode().into());
            }
        }
        let root = og_primitives::merkle::MerkleTree::new(hashes.clone()).unwrap().root();
        let mut logs = Vec::new();
        for (at, (digest, hash)) in call.receiptDigests.iter().zip(&hashes).enumerate() {
            if self.receipts.insert(*digest, root).is_some() {
                let error =
                    Relay::DuplicateReceipt { index: U256::from(at), receiptDigest: *digest };
                return Err(error.abi_encode().into());
            }
            self.leaves.insert(*hash, root);
            let topics =
                vec![Relay::ReceiptSettled::SIGNATURE_HASH, *digest, root, call.leaves[at].teeId];
            logs.push((RELAY, topics, (*hash).into()));
        }
        logs.push((RELAY, vec![Relay::VerifiedBatchSettlement::SIGNATURE_HASH, root], call.blobId));
        Ok((logs, root.into()))
    }
}

/// An enclave's legacy RSA key.
pub struct Tee {
    key: rsa::PrivateKey,
    pub key_der: Bytes,
    pub id: TeeId,
}

impl Tee {
    pub fn new(seed: u64) -> Self {
        // Finding primes takes a second; once for each key of a test binary is enough.
        static KEYS: Mutex<BTreeMap<u64, rsa::PrivateKey>> = Mutex::new(BTreeMap::new());
        let new = || {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            rsa::PrivateKey::new(&mut rng, 2048).unwrap()
        };
        let key = KEYS.lock().unwrap().entry(seed).or_insert_with(new).clone();
        // DER SubjectPublicKeyInfo of a 2048-bit key with exponent 65537.
        let head = "30820122300d06092a864886f70d01010105000382010f003082010a0282010100";
        let mut key_der = alloy_primitives::hex::decode(head).unwrap();
        key_der.extend_from_slice(&key.n().to_be_bytes());
        key_der.extend_from_slice(&[0x02, 0x03, 0x01, 0x00, 0x01]);
        let key_der = Bytes::from(key_der);
        let id = TeeId::from_signing_key_der(&key_der);
        Self { key, key_der, id }
    }

    fn sign(&self, hash: B256, salt: u64) -> Bytes {
        let mut rng = rand::rngs::StdRng::seed_from_u64(salt);
        let key = rsa::pss::SigningKey::<sha2::Sha256>::new(self.key.clone());
        key.sign_with_rng(&mut rng, hash.as_slice()).to_vec().into()
    }

    pub fn evidence(&self, n: u8) -> EvidenceItem {
        let mut item = EvidenceItem {
            tee_id: self.id,
            input_hash: B256::repeat_byte(n),
            output_hash: B256::repeat_byte(n ^ 0xff),
            timestamp: now_secs(),
            signature: Bytes::new(),
            receipt_digest: Some(ReceiptDigest(keccak256([n, 1]))),
        };
        item.signature = self.sign(item.message_hash(), u64::from(n));
        item
    }

    pub fn heartbeat(&self, timestamp: u64) -> Heartbeat {
        let mut heartbeat = Heartbeat {
            tee_id: self.id,
            timestamp,
            signature: Bytes::new(),
            registry: Some(REGISTRY),
        };
        heartbeat.signature = self.sign(heartbeat.message_hash(), timestamp);
        heartbeat
    }
}

/// Both chains, a folder, and what it takes to open a facilitator over them, as often as a test wants.
pub struct World {
    pub payment: FakeChain,
    pub network: FakeChain,
    pub folder: tempfile::TempDir,
    pub payer: Wallet,
    pub keys: Keys,
    pub sending: Sending,
}

impl World {
    pub async fn new() -> Self {
        let wallet = |n: u8| Wallet::from_key(&[n; 32]).unwrap();
        let world = Self {
            payment: FakeChain::start(PAYMENT_CHAIN).await,
            network: FakeChain::start(NETWORK_CHAIN).await,
            folder: tempfile::tempdir().unwrap(),
            payer: wallet(0x11),
            keys: Keys { payment: wallet(0x21), evidence: wallet(0x22), heartbeat: wallet(0x22) },
            sending: Sending {
                in_flight_max: 8,
                poll_ms: 5,
                rebroadcast_ms: 20,
                bump_ms: 60_000,
                lost_ms: 50,
                rpc_timeout_ms: 5_000,
                retry_ms_max: 50,
            },
        };
        world.payment.fund(world.payer.address(), 1_000_000, U256::MAX);
        world
    }

    pub fn open(&self) -> Facilitator {
        self.open_with(|_| ())
    }

    pub fn open_with(&self, change: impl FnOnce(&mut Config)) -> Facilitator {
        let path: &Path = self.folder.path();
        let blobs =
            og_blob::LocalStore::open(&path.join("blobs"), og_blob::Limits::default()).unwrap();
        let mut config = Config {
            database: path.join("outbox.sqlite"),
            payment: PaymentChain {
                rpc_url: self.payment.url.clone(),
                chain_id: PAYMENT_CHAIN,
                confirmations: 1,
                assets: vec![OPG],
                payees: vec![PAYEE],
            },
            network: NetworkChain {
                rpc_url: self.network.url.clone(),
                chain_id: NETWORK_CHAIN,
                registry: REGISTRY,
                relay: RELAY,
            },
            flush: FlushPolicy { items_max: 16, idle_ms: 10, age_ms: 40 },
            sending: self.sending,
            http_settle: HttpSettle::Open,
            retention_days: 30,
        };
        change(&mut config);
        Facilitator::open(config, self.keys.clone(), blobs).unwrap()
    }

    pub fn forget_outbox(&self) {
        for name in ["outbox.sqlite", "outbox.sqlite-wal", "outbox.sqlite-shm"] {
            let _ = std::fs::remove_file(self.folder.path().join(name));
        }
    }

    /// An `upto` payment of at most `cap`, to be settled for `amount`.
    pub fn payment(&self, nonce: u64, cap: u64, amount: u64) -> SettleRequest {
        self.payment_at(nonce, cap, amount, now_secs())
    }

    pub fn payment_at(&self, nonce: u64, cap: u64, amount: u64, now_secs: u64) -> SettleRequest {
        let terms = EvmTerms {
            chain_id: PAYMENT_CHAIN,
            asset: OPG,
            amount: U256::from(cap),
            pay_to: PAYEE,
        };
        let offer =
            PaymentRequirements::upto(&terms, opg_domain(), self.keys.payment.address(), 300);
        self.signed(offer, nonce, amount, now_secs)
    }

    pub fn exact_payment(&self, nonce: u64, amount: u64) -> SettleRequest {
        let terms = EvmTerms {
            chain_id: PAYMENT_CHAIN,
            asset: OPG,
            amount: U256::from(amount),
            pay_to: PAYEE,
        };
        let offer = PaymentRequirements::exact_eip3009(&terms, opg_domain(), 300);
        self.signed(offer, nonce, amount, now_secs())
    }

    fn signed(
        &self,
        offer: PaymentRequirements,
        nonce: u64,
        amount: u64,
        now_secs: u64,
    ) -> SettleRequest {
        let challenge =
            PaymentRequired::new(Resource::default(), vec![offer.clone()], "Payment required");
        let fresh = Fresh { nonce: U256::from(nonce), now_secs };
        let payment_payload = client::pay(&challenge, &offer, &self.payer, fresh).unwrap();
        let payment_requirements = PaymentRequirements { amount: amount.to_string(), ..offer };
        SettleRequest { payment_payload, payment_requirements }
    }
}

/// A running facilitator.
pub struct Running {
    pub facilitator: Facilitator,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Running {
    pub fn start(facilitator: Facilitator) -> Self {
        let stop = CancellationToken::new();
        let (worker, token) = (facilitator.clone(), stop.clone());
        let task = tokio::spawn(async move { worker.run(token).await });
        Self { facilitator, stop, task }
    }

    pub async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        let done = self.task.await.unwrap();
        drop(self.facilitator);
        done
    }

    /// Drops everything in the middle of whatever it is doing.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        drop(self.facilitator);
    }

    pub async fn done(&self, id: &str) -> Job {
        tokio::time::timeout(std::time::Duration::from_secs(20), self.facilitator.wait(id))
            .await
            .unwrap_or_else(|_| panic!("job {id} is not done in time"))
            .unwrap()
    }
}

pub fn opg_domain() -> TokenDomain<'static> {
    TokenDomain { name: "OpenGradient", version: "1" }
}

pub fn now_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Waits for something that has no event, by looking often.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not come to be");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
