//! The few JSON-RPC calls that settling needs, with errors told apart by what they mean for a transaction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy_sol_types::{SolCall, SolEvent};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

/// Most bytes that are read of one answer.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Priority fee where an endpoint does not suggest one, in wei.
const PRIORITY_FEE_WEI: u128 = 1_000_000;

/// Why a call came to nothing.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RpcError {
    /// No answer that could be read: what became of the request is unknown.
    #[error("endpoint does not answer: {0}")]
    Unreachable(String),
    /// The call would revert.
    #[error("execution reverted: {message}")]
    Reverted {
        /// Revert data, empty when there is none.
        data: Bytes,
        /// The endpoint's words.
        message: String,
    },
    /// The endpoint refuses the request.
    #[error("endpoint refuses ({code}): {message}")]
    Refused {
        /// JSON-RPC error code.
        code: i64,
        /// The endpoint's words.
        message: String,
    },
}

/// A JSON-RPC endpoint.
#[derive(Debug)]
pub(crate) struct Rpc {
    client: reqwest::Client,
    url: String,
    next_id: AtomicU64,
}

/// A call of a contract.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Who calls.
    pub(crate) from: Address,
    /// The contract.
    pub(crate) to: Address,
    /// Call data.
    pub(crate) input: Bytes,
}

/// EIP-1559 fees, wei per gas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fees {
    /// Most in all.
    pub(crate) max_fee: u128,
    /// Most for the proposer.
    pub(crate) priority: u128,
}

/// What became of a transaction.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    block_number: U64,
    status: U64,
}

impl Receipt {
    pub(crate) fn block_number(&self) -> u64 {
        self.block_number.to()
    }

    pub(crate) fn success(&self) -> bool {
        self.status == U64::ONE
    }
}

/// A log and where it is from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    /// The transaction that wrote it.
    pub(crate) transaction_hash: B256,
}

/// The part of a transaction that tells what it called.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Transaction {
    /// The contract.
    pub(crate) to: Option<Address>,
    /// Call data.
    pub(crate) input: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    hash: B256,
    base_fee_per_gas: Option<U128>,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Value>,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl Rpc {
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, RpcError> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| RpcError::Unreachable(error.to_string()))?;
        Ok(Self { client, url: url.to_owned(), next_id: AtomicU64::new(1) })
    }

    pub(crate) async fn chain_id(&self) -> Result<u64, RpcError> {
        self.request::<U64>("eth_chainId", json!([])).await.map(|id| id.to())
    }

    pub(crate) async fn genesis_hash(&self) -> Result<B256, RpcError> {
        let block: Block = self.request("eth_getBlockByNumber", json!(["0x0", false])).await?;
        Ok(block.hash)
    }

    pub(crate) async fn block_number(&self) -> Result<u64, RpcError> {
        self.request::<U64>("eth_blockNumber", json!([])).await.map(|number| number.to())
    }

    /// How many transactions of `sender` are in blocks.
    pub(crate) async fn transaction_count(&self, sender: Address) -> Result<u64, RpcError> {
        let params = json!([sender, "latest"]);
        self.request::<U64>("eth_getTransactionCount", params).await.map(|count| count.to())
    }

    pub(crate) async fn estimate_gas(&self, call: &Call) -> Result<u64, RpcError> {
        self.request::<U64>("eth_estimateGas", json!([call.json()])).await.map(|gas| gas.to())
    }

    pub(crate) async fn call(&self, call: &Call) -> Result<Bytes, RpcError> {
        self.request("eth_call", json!([call.json(), "latest"])).await
    }

    /// Reads from a contract.
    pub(crate) async fn read<C: SolCall>(
        &self,
        to: Address,
        call: C,
    ) -> Result<C::Return, RpcError> {
        let input = call.abi_encode().into();
        let output = self.call(&Call { from: Address::ZERO, to, input }).await?;
        C::abi_decode_returns(&output)
            .map_err(|error| RpcError::Unreachable(format!("{}: {error}", C::SIGNATURE)))
    }

    pub(crate) async fn fees(&self) -> Result<Fees, RpcError> {
        let (block, priority) = tokio::join!(
            self.request::<Block>("eth_getBlockByNumber", json!(["latest", false])),
            self.request::<U128>("eth_maxPriorityFeePerGas", json!([])),
        );
        let priority = match priority {
            Ok(priority) => priority.to(),
            Err(RpcError::Refused { .. }) => PRIORITY_FEE_WEI,
            Err(error) => return Err(error),
        };
        let base: u128 = block?.base_fee_per_gas.unwrap_or_default().to();
        Ok(Fees { max_fee: base.saturating_mul(2).saturating_add(priority), priority })
    }

    pub(crate) async fn send_raw(&self, raw: &[u8]) -> Result<B256, RpcError> {
        self.request("eth_sendRawTransaction", json!([Bytes::copy_from_slice(raw)])).await
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.request_optional("eth_getTransactionReceipt", json!([hash])).await
    }

    pub(crate) async fn transaction(&self, hash: B256) -> Result<Option<Transaction>, RpcError> {
        self.request_optional("eth_getTransactionByHash", json!([hash])).await
    }

    /// Logs of event `E` of a contract with the given indexed values, from `from_block` on.
    pub(crate) async fn logs<E: SolEvent>(
        &self,
        address: Address,
        indexed: &[Option<B256>],
        from_block: u64,
    ) -> Result<Vec<Log>, RpcError> {
        let mut topics = vec![json!(E::SIGNATURE_HASH)];
        topics.extend(indexed.iter().map(|topic| json!(topic)));
        let filter = json!({
            "address": address, "topics": topics,
            "fromBlock": U64::from(from_block), "toBlock": "latest",
        });
        self.request("eth_getLogs", json!([filter])).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, RpcError> {
        self.request_optional(method, params)
            .await?
            .ok_or_else(|| RpcError::Unreachable(format!("{method}: empty answer")))
    }

    async fn request_optional<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<Option<T>, RpcError> {
        let unreachable =
            |what: &dyn core::fmt::Display| RpcError::Unreachable(format!("{method}: {what}"));
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        // The URL may hold a key, so errors are written without it.
        let mut response = self
            .client
            .post(&self.url)
            .json(&body)
            .send()
            .await
            .map_err(|error| unreachable(&error.without_url()))?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| unreachable(&error.without_url()))?
        {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(unreachable(&"answer is too large"));
            }
            answer.extend_from_slice(&chunk);
        }
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|error| unreachable(&format_args!("HTTP {status}: {error}")))?;
        if let Some(error) = answer.error {
            return Err(error.into_error());
        }
        let Some(result) = answer.result.filter(|result| !result.is_null()) else {
            return Ok(None);
        };
        serde_json::from_value(result).map(Some).map_err(|error| unreachable(&error))
    }
}

impl AnswerError {
    fn into_error(self) -> RpcError {
        let data = match &self.data {
            Some(Value::String(data)) => data.parse::<Bytes>().ok(),
            Some(Value::Object(object)) => {
                object.get("data").and_then(Value::as_str).and_then(|data| data.parse().ok())
            }
            _ => None,
        };
        // Code 3 is the convention for reverts; others only say it.
        if self.code == 3 || self.message.contains("revert") {
            return RpcError::Reverted { data: data.unwrap_or_default(), message: self.message };
        }
        // Endpoints that are overloaded or starting are not saying no.
        if matches!(self.code, -32005 | -32603) {
            return RpcError::Unreachable(format!("({}) {}", self.code, self.message));
        }
        RpcError::Refused { code: self.code, message: self.message }
    }
}

impl Call {
    fn json(&self) -> Value {
        json!({ "from": self.from, "to": self.to, "input": self.input, "data": self.input, "value": U256::ZERO })
    }
}
