//! Prices and costs. Amounts are token base units in 256 bits; nothing is a float, and every division rounds
//! up, once, on the total.

use core::fmt;

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Prices are per this many model tokens.
pub const TOKENS_PER_PRICE: u64 = 1_000_000;

/// Model tokens that a chat template may add around one message, at most.
pub const TEMPLATE_TOKENS_PER_MESSAGE: u64 = 16;

/// Model tokens that a chat template may add around a conversation (a default system prompt), at most.
pub const TEMPLATE_TOKENS: u64 = 64;

/// A token on a chain.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AssetId {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The token's contract.
    pub token: Address,
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eip155:{}/erc20:{}", self.chain_id, self.token)
    }
}

/// What a million model tokens cost, in token base units. In configuration the numbers are decimal strings.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UnitPrice {
    /// A million prompt tokens.
    #[serde(serialize_with = "decimal", deserialize_with = "from_decimal")]
    pub input_per_million: U256,
    /// A million completion tokens, reasoning included.
    #[serde(serialize_with = "decimal", deserialize_with = "from_decimal")]
    pub output_per_million: U256,
}

/// Model tokens of one request.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Usage {
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Completion tokens, reasoning included.
    pub output_tokens: u64,
}

/// A cost that does not fit 256 bits.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the cost of {usage:?} does not fit 256 bits")]
pub struct PriceError {
    /// The usage.
    pub usage: Usage,
}

impl UnitPrice {
    /// The cost of `usage`, rounded up to a whole base unit.
    ///
    /// # Errors
    /// [`PriceError`] when the prices are absurd enough to overflow.
    pub fn cost(&self, usage: Usage) -> Result<U256, PriceError> {
        let part = |price: U256, tokens: u64| price.checked_mul(U256::from(tokens));
        part(self.input_per_million, usage.input_tokens)
            .zip(part(self.output_per_million, usage.output_tokens))
            .and_then(|(input, output)| input.checked_add(output))
            .map(|millionths| millionths.div_ceil(U256::from(TOKENS_PER_PRICE)))
            .ok_or(PriceError { usage })
    }

    /// The most that a request can cost: every prompt token of the bound and every completion token allowed.
    ///
    /// # Errors
    /// [`PriceError`] when the prices are absurd enough to overflow.
    pub fn worst_case(
        &self,
        prompt_tokens_max: u64,
        output_tokens_max: u64,
    ) -> Result<U256, PriceError> {
        self.cost(Usage { input_tokens: prompt_tokens_max, output_tokens: output_tokens_max })
    }
}

/// The most prompt tokens that a text of `bytes` in `messages` messages can be: no tokenizer makes more than one
/// token of a byte, and templates add a bounded number.
pub fn prompt_token_bound(bytes: u64, messages: u64) -> u64 {
    messages
        .saturating_mul(TEMPLATE_TOKENS_PER_MESSAGE)
        .saturating_add(TEMPLATE_TOKENS)
        .saturating_add(bytes)
}

fn decimal<S: Serializer>(number: &U256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn from_decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
    let text = String::deserialize(deserializer)?;
    og_x402::wire::parse_decimal(&text)
        .ok_or_else(|| serde::de::Error::custom("a price is a decimal string of base units"))
}
