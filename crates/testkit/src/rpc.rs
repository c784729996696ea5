//! Just enough JSON-RPC to read two chains without our own client.
//!
//! What is charged and settled is counted from the chains' logs, read here with nothing of ours in between but the
//! node under test.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// keccak256 of `Transfer(address,address,uint256)`.
pub const TRANSFER_TOPIC: &str =
    "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

/// A JSON-RPC endpoint.
#[derive(Clone, Debug)]
pub struct Rpc {
    client: reqwest::Client,
    url: String,
}

/// An EIP-20 transfer found in the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who paid, `0x…` lower case.
    pub from: String,
    /// Who was paid, `0x…` lower case.
    pub to: String,
    /// How much, in base units.
    pub amount: u128,
    /// In which transaction.
    pub transaction: String,
}

impl Rpc {
    /// An endpoint at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { client: reqwest::Client::new(), url: url.into() }
    }

    /// Calls a method.
    ///
    /// # Errors
    /// When the node cannot be reached or answers with an error.
    pub async fn call(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let response = self.client.post(&self.url).json(&request).send().await;
        let response = response.with_context(|| format!("calling {method} at {}", self.url))?;
        let mut answer: Value =
            response.json().await.with_context(|| format!("reading {method}"))?;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }

    /// The latest block's number.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn block_number(&self) -> anyhow::Result<u64> {
        let number = self.call("eth_blockNumber", json!([])).await?;
        quantity(&number).and_then(|number| Ok(u64::try_from(number)?))
    }

    /// A token balance in base units.
    ///
    /// # Errors
    /// As [`Self::call`], and when the balance passes 128 bits.
    pub async fn token_balance(&self, token: &str, owner: &str) -> anyhow::Result<u128> {
        let data = format!("0x70a08231{}", word_of_address(owner)?);
        let balance = self.call("eth_call", json!([{"to": token, "data": data}, "latest"])).await?;
        quantity(&balance)
    }

    /// A token allowance in base units, at most `u128::MAX`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn token_allowance(
        &self,
        token: &str,
        owner: &str,
        spender: &str,
    ) -> anyhow::Result<u128> {
        let data = format!("0xdd62ed3e{}{}", word_of_address(owner)?, word_of_address(spender)?);
        let allowance =
            self.call("eth_call", json!([{"to": token, "data": data}, "latest"])).await?;
        Ok(quantity(&allowance).unwrap_or(u128::MAX))
    }

    /// All logs of a contract, from block 0, oldest first.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn logs(&self, address: &str, topics: Value) -> anyhow::Result<Vec<Value>> {
        let filter = json!([{"address": address, "topics": topics, "fromBlock": "0x0", "toBlock": "latest"}]);
        let logs = self.call("eth_getLogs", filter).await?;
        logs.as_array().cloned().context("eth_getLogs did not return a list")
    }

    /// All transfers of a token from `payer`, oldest first.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn transfers_from(&self, token: &str, payer: &str) -> anyhow::Result<Vec<Transfer>> {
        let payer = format!("0x{}", word_of_address(payer)?);
        let logs = self.logs(token, json!([TRANSFER_TOPIC, payer])).await?;
        logs.iter().map(transfer).collect()
    }
}

fn transfer(log: &Value) -> anyhow::Result<Transfer> {
    let address = |topic: &Value| {
        topic
            .as_str()
            .and_then(|topic| topic.get(26..))
            .map(|address| format!("0x{}", address.to_lowercase()))
            .context("a transfer log without parties")
    };
    Ok(Transfer {
        from: address(&log["topics"][1])?,
        to: address(&log["topics"][2])?,
        amount: quantity(&log["data"])?,
        transaction: log["transactionHash"].as_str().unwrap_or_default().to_owned(),
    })
}

/// Reads a hex quantity or a 32-byte word.
///
/// # Errors
/// When it is no such text or passes 128 bits.
pub fn quantity(value: &Value) -> anyhow::Result<u128> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let text = text.with_context(|| format!("{value} is no quantity"))?;
    let digits = text.trim_start_matches('0');
    if digits.is_empty() {
        return if text.is_empty() { bail!("an empty quantity") } else { Ok(0) };
    }
    u128::from_str_radix(digits, 16).with_context(|| format!("{value} is no 128-bit quantity"))
}

fn word_of_address(address: &str) -> anyhow::Result<String> {
    let digits = address
        .strip_prefix("0x")
        .filter(|digits| digits.len() == 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let digits = digits.with_context(|| format!("{address} is no address"))?;
    Ok(format!("{:0>64}", digits.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_words() {
        for (text, expected) in [
            ("0x0", 0),
            ("0xff", 255),
            ("0x00000000000000000000000000000000000000000000000000000000000000ff", 255),
        ] {
            assert_eq!(quantity(&json!(text)).unwrap(), expected);
        }
        for text in ["0x", "12", "", "0xg", "0x100000000000000000000000000000000"] {
            assert!(quantity(&json!(text)).is_err(), "{text}");
        }
        let word = word_of_address("0x00000000000000000000000000000000000000Ab").unwrap();
        assert!(word.len() == 64 && word.ends_with("00ab"));
        assert!(word_of_address("0x12").is_err());
    }

    #[test]
    fn a_transfer_is_read_from_its_log() {
        let log = json!({
            "topics": [
                TRANSFER_TOPIC,
                "0x000000000000000000000000AAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "0x000000000000000000000000bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            ],
            "data": "0x0000000000000000000000000000000000000000000000000000000000000007",
            "transactionHash": "0x01",
        });
        let read = transfer(&log).unwrap();
        assert_eq!((read.from.len(), read.to.len(), read.amount), (42, 42, 7));
        assert_eq!(read.from, format!("0x{}", "a".repeat(40)));
        assert!(transfer(&json!({"topics": [], "data": "0x1"})).is_err());
    }
}
