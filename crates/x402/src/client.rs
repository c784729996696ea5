//! The payer's side: choosing an offer within limits, and authorising it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use thiserror::Error;

use crate::eip712::{self, TokenContract};
use crate::signature::Wallet;
use crate::wire::{
    Eip3009Authorization, Eip3009Payload, Members, PaymentPayload, PaymentRequired,
    PaymentRequirements, Permit2Authorization, Permit2Payload, SchemePayload, TermsError,
    TokenPermissions, Witness,
};
use crate::{EXACT_PROXY, UPTO_PROXY, X402_VERSION};

/// How long an authorisation lives when the server does not say, and the longest that is ever signed. In seconds.
pub const TIMEOUT_SECS_MAX: u64 = 3_600;

/// How far back an authorisation's validity starts, so that a payment chain with a slow clock takes it. In seconds.
pub const BACKDATE_SECS: u64 = 600;

/// The most that may be authorised in one payment, per token; tokens that are not listed are never paid with.
#[derive(Clone, Debug, Default)]
pub struct SpendLimits {
    /// (chain id, token) → token base units.
    pub per_payment_max: BTreeMap<(u64, Address), U256>,
}

/// What must be new in every authorisation.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// 256 random bits.
    pub nonce: U256,
    /// Unix seconds.
    pub now_secs: u64,
}

/// Why a challenge cannot be paid.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PayError {
    /// The challenge is of another protocol version.
    #[error("the server speaks x402 version {version}, not 2")]
    Version {
        /// Its version.
        version: u64,
    },
    /// No offer is of a known scheme on an EVM chain in a token that the limits list.
    #[error("none of the {offers} offers is in a token that the spend limits allow")]
    NoOffer {
        /// How many offers there were.
        offers: usize,
    },
    /// Every payable offer asks for more than the limits allow.
    #[error(
        "the cheapest payable offer asks for {amount} base units of {asset}, above the limit of {max}"
    )]
    AboveLimit {
        /// What it asks for.
        amount: U256,
        /// Its token.
        asset: Address,
        /// What the limit allows.
        max: U256,
    },
    /// The offer is not one on an EVM chain.
    #[error("offer: {0}")]
    Terms(#[from] TermsError),
    /// The scheme is neither `upto` nor `exact`.
    #[error("scheme {scheme} is not known")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// An `upto` offer without `extra.facilitatorAddress`.
    #[error("the offer names no facilitator")]
    MissingFacilitator,
    /// An EIP-3009 offer without the token's `extra.name` and `extra.version`.
    #[error("the offer names no EIP-712 domain of the token")]
    MissingTokenDomain,
}

/// Chooses the first offer, in the server's order, that the limits allow.
///
/// # Errors
/// [`PayError`] when there is none.
pub fn choose<'a>(
    required: &'a PaymentRequired,
    limits: &SpendLimits,
) -> Result<&'a PaymentRequirements, PayError> {
    if required.x402_version != X402_VERSION {
        return Err(PayError::Version { version: required.x402_version });
    }
    let mut above = None;
    for offer in &required.accepts {
        let Ok(terms) = offer.evm() else { continue };
        if offer.scheme != "upto" && offer.scheme != "exact" {
            continue;
        }
        let Some(max) = limits.per_payment_max.get(&(terms.chain_id, terms.asset)) else {
            continue;
        };
        if terms.amount <= *max {
            return Ok(offer);
        }
        above.get_or_insert(PayError::AboveLimit {
            amount: terms.amount,
            asset: terms.asset,
            max: *max,
        });
    }
    Err(above.unwrap_or(PayError::NoOffer { offers: required.accepts.len() }))
}

/// Pays `offer` of the challenge: signs it and echoes what the server wants echoed.
///
/// # Errors
/// [`PayError`] when the offer cannot be authorised.
pub fn pay(
    required: &PaymentRequired,
    offer: &PaymentRequirements,
    wallet: &Wallet,
    fresh: Fresh,
) -> Result<PaymentPayload, PayError> {
    Ok(PaymentPayload {
        x402_version: X402_VERSION,
        payload: authorize(offer, wallet, fresh)?,
        accepted: offer.clone(),
        resource: required.resource.clone(),
        extensions: required.extensions.clone(),
        other: Members::new(),
    })
}

/// Signs an authorisation of `offer`.
///
/// # Errors
/// [`PayError`] when the offer lacks what its scheme needs.
pub fn authorize(
    offer: &PaymentRequirements,
    wallet: &Wallet,
    fresh: Fresh,
) -> Result<SchemePayload, PayError> {
    match offer.scheme.as_str() {
        "upto" => {
            let facilitator = offer.facilitator().ok_or(PayError::MissingFacilitator)?;
            authorize_permit2(offer, wallet, fresh, Some(facilitator))
        }
        "exact" if offer.moves_by_permit2() => authorize_permit2(offer, wallet, fresh, None),
        "exact" => authorize_eip3009(offer, wallet, fresh),
        scheme => Err(PayError::Scheme { scheme: scheme.to_owned() }),
    }
}

fn authorize_permit2(
    offer: &PaymentRequirements,
    wallet: &Wallet,
    fresh: Fresh,
    facilitator: Option<Address>,
) -> Result<SchemePayload, PayError> {
    let terms = offer.evm()?;
    let (valid_after, deadline) = validity(offer, fresh);
    let permit2_authorization = Permit2Authorization {
        from: wallet.address(),
        permitted: TokenPermissions { token: terms.asset, amount: terms.amount },
        spender: if facilitator.is_some() { UPTO_PROXY } else { EXACT_PROXY },
        nonce: fresh.nonce,
        deadline,
        witness: Witness { to: terms.pay_to, facilitator, valid_after },
    };
    let digest = eip712::permit2_digest(&permit2_authorization, terms.chain_id);
    Ok(SchemePayload::Permit2(Permit2Payload {
        signature: wallet.sign(&digest).to_bytes(),
        permit2_authorization,
    }))
}

fn authorize_eip3009(
    offer: &PaymentRequirements,
    wallet: &Wallet,
    fresh: Fresh,
) -> Result<SchemePayload, PayError> {
    let terms = offer.evm()?;
    let domain = offer.token_domain().ok_or(PayError::MissingTokenDomain)?;
    let (valid_after, valid_before) = validity(offer, fresh);
    let authorization = Eip3009Authorization {
        from: wallet.address(),
        to: terms.pay_to,
        value: terms.amount,
        valid_after,
        valid_before,
        nonce: B256::from(fresh.nonce),
    };
    let token = TokenContract {
        name: domain.name,
        version: domain.version,
        chain_id: terms.chain_id,
        address: terms.asset,
    };
    let digest = eip712::eip3009_digest(&authorization, &token);
    Ok(SchemePayload::Eip3009(Eip3009Payload {
        signature: wallet.sign(&digest).to_bytes(),
        authorization,
    }))
}

fn validity(offer: &PaymentRequirements, fresh: Fresh) -> (U256, U256) {
    let timeout = match offer.max_timeout_seconds {
        0 => TIMEOUT_SECS_MAX,
        secs => secs.min(TIMEOUT_SECS_MAX),
    };
    (
        U256::from(fresh.now_secs.saturating_sub(BACKDATE_SECS)),
        U256::from(fresh.now_secs.saturating_add(timeout)),
    )
}
