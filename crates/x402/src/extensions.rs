//! Gas sponsoring declarations, and what clients make of them.
//!
//! A server may declare `eip2612GasSponsoring`; clients echo the declaration, and those that lack an allowance
//! for Permit2 replace it by a signed EIP-2612 permit. An echo without a signature means *not used*.
//! `erc20ApprovalGasSponsoring` (a pre-signed approval transaction whose gas the facilitator would advance) is
//! never offered by us and never acted on: advancing gas that the payer prices drains the advancer.

use alloy_primitives::{Address, Bytes, U256};
use serde_json::{Value, json};

use crate::eip712::Permit;
use crate::verify::InvalidReason;
use crate::wire::{Members, parse_address, parse_decimal};
use crate::{DEADLINE_MARGIN_SECS, PERMIT2};

/// Name of the extension with a signed EIP-2612 permit for Permit2.
pub const EIP2612_GAS_SPONSORING: &str = "eip2612GasSponsoring";

/// A signed EIP-2612 permit that gives Permit2 its allowance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SponsoredPermit {
    /// The permit.
    pub permit: Permit,
    /// Its signature, r‖s‖v.
    pub signature: Bytes,
}

/// The declaration by which a server offers to submit EIP-2612 permits.
pub fn eip2612_declaration() -> Members {
    let text = json!({ "type": "string" });
    let fields =
        ["from", "asset", "spender", "amount", "nonce", "deadline", "signature", "version"];
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), text.clone())).collect();
    Members::from([(
        EIP2612_GAS_SPONSORING.to_owned(),
        json!({
            "info": {
                "description": "The facilitator accepts EIP-2612 gasless permits for Permit2.",
                "version": "1",
            },
            "schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": properties,
                "required": fields,
            },
        }),
    )])
}

/// The permit that a client filled in, if it did; an echoed declaration is `None`.
///
/// # Errors
/// The protocol's reason code for a permit that does not serve the payment of `amount` of `asset` by `payer`.
pub fn sponsored_permit(
    extensions: Option<&Members>,
    payer: Address,
    asset: Address,
    amount: U256,
    now_secs: u64,
) -> Result<Option<SponsoredPermit>, InvalidReason> {
    let Some(info) = extensions
        .and_then(|extensions| extensions.get(EIP2612_GAS_SPONSORING))
        .and_then(|extension| extension.get("info"))
        .filter(|info| info.get("signature").is_some())
    else {
        return Ok(None);
    };
    let text = |field| {
        info.get(field).and_then(Value::as_str).ok_or(InvalidReason::InvalidEip2612ExtensionFormat)
    };
    let address =
        |field| parse_address(text(field)?).ok_or(InvalidReason::InvalidEip2612ExtensionFormat);
    let number =
        |field| parse_decimal(text(field)?).ok_or(InvalidReason::InvalidEip2612ExtensionFormat);
    let signature: Bytes =
        text("signature")?.parse().map_err(|_| InvalidReason::InvalidEip2612ExtensionFormat)?;
    if signature.len() != 65 {
        return Err(InvalidReason::InvalidEip2612ExtensionFormat);
    }
    let permit = Permit {
        owner: address("from")?,
        spender: address("spender")?,
        value: number("amount")?,
        nonce: number("nonce")?,
        deadline: number("deadline")?,
    };
    let permit_asset = address("asset")?;
    if permit.owner != payer {
        return Err(InvalidReason::Eip2612FromMismatch);
    }
    if permit_asset != asset {
        return Err(InvalidReason::Eip2612AssetMismatch);
    }
    if permit.spender != PERMIT2 {
        return Err(InvalidReason::Eip2612SpenderNotPermit2);
    }
    if permit.deadline < U256::from(now_secs.saturating_add(DEADLINE_MARGIN_SECS)) {
        return Err(InvalidReason::Eip2612DeadlineExpired);
    }
    // The proxy compares these on chain and would revert.
    if permit.value != amount {
        return Err(InvalidReason::Permit2612AmountMismatch);
    }
    Ok(Some(SponsoredPermit { permit, signature }))
}
