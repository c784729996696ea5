//! Read positional parameters one after another.

use std::str::FromStr as _;

use alloy_primitives::{B256, U256};
use jsonrpsee::types::{ErrorObjectOwned, Params, params::ParamsSequence};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

use super::error;

/// The parameters of one request, in order.
pub(super) struct Args<'a> {
    rest: ParamsSequence<'a>,
    index: usize,
}

impl<'a> Args<'a> {
    pub(super) fn new(params: &'a Params<'_>) -> Self {
        Self { rest: params.sequence(), index: 0 }
    }

    /// The next parameter, which must be there.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<T, ErrorObjectOwned> {
        let index = self.index;
        self.optional()?.ok_or_else(|| {
            error::invalid_params(format!("missing value for required argument {index}"))
        })
    }

    /// The next parameter; absent and `null` mean the same.
    pub(super) fn optional<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ErrorObjectOwned> {
        let index = self.index;
        self.index += 1;
        self.rest.optional_next().map_err(|cause| {
            // The parser's own words name what it expected.
            let detail = cause
                .data()
                .and_then(|data| serde_json::from_str::<String>(data.get()).ok())
                .unwrap_or_else(|| cause.message().to_owned());
            error::invalid_params(format!("invalid argument {index}: {detail}"))
        })
    }
}

/// A storage slot, as a full word or as a short number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Word(B256),
    Number(U256),
}

impl Slot {
    pub(super) fn word(self) -> B256 {
        match self {
            Self::Word(word) => word,
            Self::Number(number) => number.into(),
        }
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        if digits.len() == 64 {
            return B256::from_str(&text).map(Self::Word).map_err(D::Error::custom);
        }
        if digits.len() > 64 {
            return Err(D::Error::custom("a storage slot has at most 32 bytes"));
        }
        if digits.is_empty() {
            return Ok(Self::Number(U256::ZERO));
        }
        U256::from_str_radix(digits, 16).map(Self::Number).map_err(D::Error::custom)
    }
}
