//! The JSON documents of the exchange.
//!
//! What a peer sends may name other chains and other address formats, so offers keep their fields as text and
//! are read as EVM terms on demand ([`PaymentRequirements::evm`]). Members that this crate does not know are
//! kept, so that what is echoed says everything that was offered.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;

use crate::X402_VERSION;

/// Members of a JSON object that this crate has no name for.
pub type Members = BTreeMap<String, Value>;

/// The challenge of the server: what it would accept for the resource.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    /// Protocol version, 2.
    pub x402_version: u64,
    /// Why the server asks: `Payment required`, or the reason code of a refused payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// The ways to pay, in the server's order of preference.
    pub accepts: Vec<PaymentRequirements>,
    /// Declarations of protocol extensions, echoed by clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Members>,
    /// Members that this crate has no name for.
    #[serde(flatten)]
    pub other: Members,
}

impl PaymentRequired {
    /// A challenge for `resource` with the given offers; `error` is `Payment required` or a reason code.
    pub fn new(resource: Resource, accepts: Vec<PaymentRequirements>, error: &str) -> Self {
        Self {
            x402_version: X402_VERSION,
            error: Some(error.to_owned()),
            resource: Some(resource),
            accepts,
            extensions: None,
            other: Members::new(),
        }
    }
}

/// What is paid for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Absolute URL.
    pub url: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Media type of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Members that this crate has no name for (`serviceName`, `tags`, `iconUrl`).
    #[serde(flatten)]
    pub other: Members,
}

/// One way to pay.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequirements {
    /// `upto` or `exact`.
    pub scheme: String,
    /// CAIP-2 name of the chain.
    pub network: String,
    /// Address of the token.
    pub asset: String,
    /// Token base units as a decimal string: the price (`exact`) or the cap (`upto`).
    pub amount: String,
    /// Who is paid.
    pub pay_to: String,
    /// How long the authorisation should live, in seconds; clients read 0 as one hour.
    #[serde(default)]
    pub max_timeout_seconds: u64,
    /// Scheme particulars: the token's EIP-712 name and version, the transfer method, the facilitator.
    #[serde(default)]
    pub extra: Members,
    /// Members that this crate has no name for.
    #[serde(flatten)]
    pub other: Members,
}

/// The particulars of an offer on an EVM chain. The amount is in token base units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EvmTerms {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The token.
    pub asset: Address,
    /// The price (`exact`) or the cap (`upto`).
    pub amount: U256,
    /// Who is paid.
    pub pay_to: Address,
}

/// What a token calls itself in its EIP-712 domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TokenDomain<'a> {
    /// EIP-712 domain name.
    pub name: &'a str,
    /// EIP-712 domain version.
    pub version: &'a str,
}

/// Why an offer is not one on an EVM chain.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TermsError {
    /// `network` is not `eip155:<id>`.
    #[error("network is not the canonical name of an EVM chain")]
    Network,
    /// `asset` is not an address.
    #[error("asset is not an EVM address")]
    Asset,
    /// `amount` is not a decimal 256-bit number.
    #[error("amount is not a decimal number of at most 256 bits")]
    Amount,
    /// `payTo` is not an address.
    #[error("payTo is not an EVM address")]
    PayTo,
}

impl PaymentRequirements {
    /// An `upto` offer on Permit2: the payer signs `terms.amount` as a cap, `facilitator` settles the real cost.
    pub fn upto(
        terms: &EvmTerms,
        token: TokenDomain<'_>,
        facilitator: Address,
        max_timeout_seconds: u64,
    ) -> Self {
        let mut offer = Self::exact_eip3009(terms, token, max_timeout_seconds);
        offer.scheme = "upto".to_owned();
        offer.extra.insert("assetTransferMethod".to_owned(), Value::from("permit2"));
        offer
            .extra
            .insert("facilitatorAddress".to_owned(), Value::from(facilitator.to_checksum(None)));
        offer
    }

    /// An `exact` offer on Permit2.
    pub fn exact_permit2(
        terms: &EvmTerms,
        token: TokenDomain<'_>,
        max_timeout_seconds: u64,
    ) -> Self {
        let mut offer = Self::exact_eip3009(terms, token, max_timeout_seconds);
        offer.extra.insert("assetTransferMethod".to_owned(), Value::from("permit2"));
        offer
    }

    /// An `exact` offer on EIP-3009.
    pub fn exact_eip3009(
        terms: &EvmTerms,
        token: TokenDomain<'_>,
        max_timeout_seconds: u64,
    ) -> Self {
        Self {
            scheme: "exact".to_owned(),
            network: og_primitives::networks::caip2(terms.chain_id),
            asset: terms.asset.to_checksum(None),
            amount: terms.amount.to_string(),
            pay_to: terms.pay_to.to_checksum(None),
            max_timeout_seconds,
            extra: Members::from([
                ("name".to_owned(), Value::from(token.name)),
                ("version".to_owned(), Value::from(token.version)),
            ]),
            other: Members::new(),
        }
    }

    /// Reads the offer as one on an EVM chain.
    ///
    /// # Errors
    /// The first field that is not what an EVM chain needs.
    pub fn evm(&self) -> Result<EvmTerms, TermsError> {
        Ok(EvmTerms {
            chain_id: og_primitives::networks::chain_id_of(&self.network)
                .ok_or(TermsError::Network)?,
            asset: parse_address(&self.asset).ok_or(TermsError::Asset)?,
            amount: parse_decimal(&self.amount).ok_or(TermsError::Amount)?,
            pay_to: parse_address(&self.pay_to).ok_or(TermsError::PayTo)?,
        })
    }

    /// The token's EIP-712 domain, when the offer names it.
    pub fn token_domain(&self) -> Option<TokenDomain<'_>> {
        Some(TokenDomain {
            name: self.extra.get("name")?.as_str().filter(|name| !name.is_empty())?,
            version: self.extra.get("version")?.as_str().filter(|version| !version.is_empty())?,
        })
    }

    /// The facilitator that may settle, when the offer names it (`upto`).
    pub fn facilitator(&self) -> Option<Address> {
        parse_address(self.extra.get("facilitatorAddress")?.as_str()?)
    }

    /// Whether the token moves through Permit2 rather than EIP-3009.
    pub fn moves_by_permit2(&self) -> bool {
        self.scheme == "upto"
            || self.extra.get("assetTransferMethod").and_then(Value::as_str) == Some("permit2")
    }

    /// Whether `accepted`, echoed by a client, means this offer: same scheme, network, amount, asset and payee.
    /// The spelling of addresses is no difference; `extra` and the timeout are not compared.
    pub fn matches(&self, accepted: &Self) -> bool {
        if self.scheme != accepted.scheme || self.network != accepted.network {
            return false;
        }
        match (self.evm(), accepted.evm()) {
            (Ok(own), Ok(theirs)) => own == theirs,
            _ => false,
        }
    }
}

/// The offer among `own` that `accepted` means. Two offers that differ in the transfer method only are told apart
/// by it; a client that does not echo the method means the first.
pub fn find_matching<'a>(
    own: &'a [PaymentRequirements],
    accepted: &PaymentRequirements,
) -> Option<&'a PaymentRequirements> {
    let mut matching = own.iter().filter(|offer| offer.matches(accepted));
    let first = matching.clone().next();
    matching.find(|offer| offer.moves_by_permit2() == accepted.moves_by_permit2()).or(first)
}

/// The payment of the client.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayload {
    /// Protocol version, 2.
    pub x402_version: u64,
    /// The signed authorisation.
    pub payload: SchemePayload,
    /// The offer that it answers, as the server wrote it.
    pub accepted: PaymentRequirements,
    /// Echo of the challenge's resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Echo of the challenge's extensions, some of them filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Members>,
    /// Members that this crate has no name for.
    #[serde(flatten)]
    pub other: Members,
}

/// What the wallet signed, with its signature.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SchemePayload {
    /// A Permit2 transfer with a witness.
    Permit2(Permit2Payload),
    /// An EIP-3009 transfer.
    Eip3009(Eip3009Payload),
    /// Neither: refused as `unsupported_payload_type` by verification.
    Other(Value),
}

impl<'de> Deserialize<'de> for SchemePayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let has = |member| value.get(member).is_some();
        // A payload that claims to be both is neither: its two halves could be read differently by different readers.
        Ok(match (has("permit2Authorization"), has("authorization")) {
            (true, false) => Permit2Payload::deserialize(&value).map(Self::Permit2),
            (false, true) => Eip3009Payload::deserialize(&value).map(Self::Eip3009),
            _ => return Ok(Self::Other(value)),
        }
        .unwrap_or(Self::Other(value)))
    }
}

/// A signed Permit2 authorisation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Permit2Payload {
    /// 65 bytes r‖s‖v for an ordinary wallet.
    pub signature: Bytes,
    /// What was signed.
    pub permit2_authorization: Permit2Authorization,
}

/// A Permit2 transfer with a witness. Numbers are decimal strings on the wire.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Permit2Authorization {
    /// The payer.
    #[serde(with = "checksummed")]
    pub from: Address,
    /// Token and greatest amount.
    pub permitted: TokenPermissions,
    /// The proxy that may move the token.
    #[serde(with = "checksummed")]
    pub spender: Address,
    /// Unordered Permit2 nonce.
    #[serde(with = "decimal")]
    pub nonce: U256,
    /// Unix seconds.
    #[serde(with = "decimal")]
    pub deadline: U256,
    /// What the proxy checks beyond Permit2.
    pub witness: Witness,
}

/// Token and greatest amount, in token base units.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenPermissions {
    /// The token.
    #[serde(with = "checksummed")]
    pub token: Address,
    /// Greatest amount.
    #[serde(with = "decimal")]
    pub amount: U256,
}

/// What an x402 proxy checks beyond Permit2.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// Who is paid.
    #[serde(with = "checksummed")]
    pub to: Address,
    /// Who alone may settle; `upto` only.
    #[serde(with = "checksummed_option", default, skip_serializing_if = "Option::is_none")]
    pub facilitator: Option<Address>,
    /// Unix seconds.
    #[serde(with = "decimal")]
    pub valid_after: U256,
}

/// A signed EIP-3009 authorisation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Eip3009Payload {
    /// 65 bytes r‖s‖v for an ordinary wallet.
    pub signature: Bytes,
    /// What was signed.
    pub authorization: Eip3009Authorization,
}

/// An EIP-3009 transfer. Numbers are decimal strings on the wire.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Eip3009Authorization {
    /// The payer.
    #[serde(with = "checksummed")]
    pub from: Address,
    /// Who is paid.
    #[serde(with = "checksummed")]
    pub to: Address,
    /// Token base units.
    #[serde(with = "decimal")]
    pub value: U256,
    /// Unix seconds.
    #[serde(with = "decimal")]
    pub valid_after: U256,
    /// Unix seconds.
    #[serde(with = "decimal")]
    pub valid_before: U256,
    /// Random 32 bytes.
    pub nonce: B256,
}

/// The facilitator's opinion of a payment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyResponse {
    /// Whether it can be settled as things stand.
    pub is_valid: bool,
    /// Reason code when not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<String>,
    /// The reason in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_message: Option<String>,
    /// Who pays, when that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
}

/// The outcome of a settlement.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettleResponse {
    /// Whether the token has moved.
    pub success: bool,
    /// Transaction hash, empty when there is none (yet).
    pub transaction: String,
    /// CAIP-2 name of the chain.
    pub network: String,
    /// Who paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// Token base units that moved, as a decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// Reason code when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// The reason in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Members that this crate has no name for.
    #[serde(flatten)]
    pub other: Members,
}

/// Reads an address in any letter case; EIP-55 is not enforced because official clients send all-lower-case ones.
pub fn parse_address(text: &str) -> Option<Address> {
    let digits = text.strip_prefix("0x")?;
    (digits.len() == 40).then(|| text.parse().ok())?
}

/// Reads a decimal number in its only spelling: digits, no sign, no leading zero.
pub fn parse_decimal(text: &str) -> Option<U256> {
    let canonical = !text.is_empty()
        && text.len() <= 78
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    canonical.then(|| U256::from_str_radix(text, 10).ok())?
}

mod decimal {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        number: &U256,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<U256, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_decimal(&text).ok_or_else(|| serde::de::Error::custom("not a decimal number"))
    }
}

mod checksummed {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        address: &Address,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&address.to_checksum(None))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Address, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_address(&text).ok_or_else(|| serde::de::Error::custom("not an address"))
    }
}

mod checksummed_option {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        address: &Option<Address>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => checksummed::serialize(address, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Address>, D::Error> {
        checksummed::deserialize(deserializer).map(Some)
    }
}
