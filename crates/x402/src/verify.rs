//! Whether a payload pays for requirements: the order of checks and the reason codes of the protocol.
//!
//! Codes that need the payment chain (balance, allowance, simulation, reverts) are in the same list, so that the
//! facilitator speaks the same language; [`verify`] itself never returns those.

use alloy_primitives::{Address, U256};
use thiserror::Error;

use crate::eip712::{self, TokenContract};
use crate::extensions::{SponsoredPermit, sponsored_permit};
use crate::identity::PaymentIdentity;
use crate::signature::{ERC6492_SUFFIX, Signature};
use crate::wire::{
    Eip3009Authorization, Eip3009Payload, EvmTerms, PaymentPayload, PaymentRequirements,
    Permit2Authorization, Permit2Payload, SchemePayload,
};
use crate::{DEADLINE_MARGIN_SECS, EXACT_PROXY, PERMIT2, UPTO_PROXY, X402_VERSION};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal),+ $(,)?) => {
        /// Why a payment is refused. The text of the error is the protocol's code.
        #[derive(Clone, Copy, Debug, Eq, Error, Hash, Ord, PartialEq, PartialOrd)]
        pub enum InvalidReason {
            $($(#[$doc])* #[error($code)] $variant,)+
        }

        impl InvalidReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The protocol's code.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }
        }
    };
}

reasons! {
    /// The payload is of another protocol version.
    InvalidX402Version = "invalid_x402_version",
    /// The offer or the payload is not of scheme `upto`.
    InvalidUptoScheme = "invalid_upto_evm_scheme",
    /// The payload is on another chain than the `upto` offer.
    UptoNetworkMismatch = "invalid_upto_evm_network_mismatch",
    /// The payload is neither a Permit2 nor an EIP-3009 authorisation of the offer's kind.
    UnsupportedPayloadType = "unsupported_payload_type",
    /// The permit lets somebody else than the x402 proxy spend.
    InvalidPermit2Spender = "invalid_permit2_spender",
    /// The permit pays somebody else.
    InvalidPermit2Recipient = "invalid_permit2_recipient_mismatch",
    /// The permit names a facilitator that is not ours.
    UptoFacilitatorMismatch = "upto_facilitator_mismatch",
    /// The permit has less than 6 seconds to live.
    Permit2DeadlineExpired = "permit2_deadline_expired",
    /// The permit is not valid yet.
    Permit2NotYetValid = "permit2_not_yet_valid",
    /// The permit is over another amount.
    Permit2AmountMismatch = "permit2_amount_mismatch",
    /// The permit is over another token.
    Permit2TokenMismatch = "permit2_token_mismatch",
    /// The permit's signature is not the payer's.
    InvalidPermit2Signature = "invalid_permit2_signature",
    /// The payer is a contract wallet, which is not supported yet.
    UnsupportedContractWallet = "unsupported_contract_wallet",
    /// The EIP-2612 permit is another owner's.
    Eip2612FromMismatch = "eip2612_from_mismatch",
    /// The EIP-2612 permit is of another token.
    Eip2612AssetMismatch = "eip2612_asset_mismatch",
    /// The EIP-2612 permit does not allow Permit2.
    Eip2612SpenderNotPermit2 = "eip2612_spender_not_permit2",
    /// The EIP-2612 permit has less than 6 seconds to live.
    Eip2612DeadlineExpired = "eip2612_deadline_expired",
    /// The EIP-2612 permit is malformed.
    InvalidEip2612ExtensionFormat = "invalid_eip2612_extension_format",
    /// The EIP-2612 permit is over another amount than the Permit2 one.
    Permit2612AmountMismatch = "permit2_2612_amount_mismatch",
    /// The offer or the payload is not of scheme `exact`.
    InvalidExactScheme = "invalid_exact_evm_scheme",
    /// The payload is on another chain than the `exact` offer.
    ExactNetworkMismatch = "invalid_exact_evm_network_mismatch",
    /// The offer does not name the token's EIP-712 domain.
    ExactMissingEip712Domain = "invalid_exact_evm_missing_eip712_domain",
    /// The EIP-3009 transfer pays somebody else.
    ExactRecipientMismatch = "invalid_exact_evm_recipient_mismatch",
    /// The EIP-3009 signature is not the payer's.
    ExactSignature = "invalid_exact_evm_signature",
    /// The EIP-3009 transfer is over another amount.
    ExactAuthorizationValue = "invalid_exact_evm_authorization_value",
    /// The EIP-3009 transfer has less than 6 seconds to live.
    ExactValidBefore = "invalid_exact_evm_payload_authorization_valid_before",
    /// The EIP-3009 transfer is not valid yet.
    ExactValidAfter = "invalid_exact_evm_payload_authorization_valid_after",
    /// The signature is one of a contract wallet that is not deployed.
    ExactUndeployedSmartWallet = "invalid_exact_evm_payload_undeployed_smart_wallet",
    /// The payload answers none of the server's offers.
    NoMatchingRequirements = "no_matching_requirements",
    /// The payment's nonce has paid for another request.
    PaymentAlreadyUsed = "payment_already_used",
    /// The payer's balance is below the permitted amount.
    Permit2InsufficientBalance = "permit2_insufficient_balance",
    /// The payer has not allowed Permit2 to move the token.
    Permit2AllowanceRequired = "permit2_allowance_required",
    /// The x402 proxy is not deployed on the chain.
    Permit2ProxyNotDeployed = "permit2_proxy_not_deployed",
    /// The settlement would revert, for a reason that could not be told.
    Permit2SimulationFailed = "permit2_simulation_failed",
    /// The Permit2 nonce is used or invalidated.
    Permit2InvalidNonce = "permit2_invalid_nonce",
    /// The payer's balance is below the `exact` price.
    ExactInsufficientBalance = "invalid_exact_evm_insufficient_balance",
    /// The EIP-3009 nonce is used.
    ExactNonceAlreadyUsed = "invalid_exact_evm_nonce_already_used",
    /// The EIP-3009 transfer would revert, for a reason that could not be told.
    ExactSimulationFailed = "invalid_exact_evm_transaction_simulation_failed",
    /// The settlement transaction reverted.
    ExactTransactionFailed = "invalid_exact_evm_transaction_failed",
    /// The settlement transaction is in no state to count on.
    InvalidTransactionState = "invalid_transaction_state",
    /// The amount to settle is above the permitted one.
    SettlementExceedsAmount = "invalid_upto_evm_payload_settlement_exceeds_amount",
    /// The proxy refused the amount.
    UptoAmountExceedsPermitted = "upto_amount_exceeds_permitted",
    /// The proxy refused the facilitator.
    UptoUnauthorizedFacilitator = "upto_unauthorized_facilitator",
    /// Permit2 refused the amount.
    Permit2InvalidAmount = "permit2_invalid_amount",
    /// The proxy refused the payee.
    Permit2InvalidDestination = "permit2_invalid_destination",
    /// The proxy refused the owner.
    Permit2InvalidOwner = "permit2_invalid_owner",
    /// The proxy was called before the permit is valid.
    Permit2PaymentTooEarly = "permit2_payment_too_early",
    /// The facilitator does not serve this network.
    UnsupportedNetwork = "unsupported_network",
    /// The facilitator does not serve this scheme.
    UnsupportedScheme = "unsupported_scheme",
    /// The facilitator does not settle for this payee.
    PayToNotAllowed = "pay_to_not_allowed",
}

/// What the server accepts beyond the offer itself.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The facilitators that may be named in an `upto` witness.
    pub facilitators: Vec<Address>,
}

/// How the token moves.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// Up to the permitted amount, through Permit2.
    UptoPermit2,
    /// Exactly the permitted amount, through Permit2.
    ExactPermit2,
    /// Exactly the authorised amount, through EIP-3009.
    ExactEip3009,
}

/// What the payer signed, in the form that is settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Authorization {
    /// A Permit2 transfer.
    Permit2(Permit2Authorization),
    /// An EIP-3009 transfer.
    Eip3009(Eip3009Authorization),
}

/// A payment whose form, validity and signature are good. Balance and allowance are still open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedPayment {
    /// How the token moves.
    pub scheme: Scheme,
    /// What is consumed by settling.
    pub identity: PaymentIdentity,
    /// Who pays.
    pub payer: Address,
    /// Chain, token, most that may be charged (`upto`) or price (`exact`), and payee.
    pub terms: EvmTerms,
    /// Last moment at which it can be settled, Unix seconds.
    pub deadline_secs: u64,
    /// Who alone may settle (`upto`).
    pub facilitator: Option<Address>,
    /// What was signed.
    pub authorization: Authorization,
    /// The payer's signature in normal form.
    pub signature: Signature,
    /// A permit that gives Permit2 its allowance, when the client sent one.
    pub sponsored_permit: Option<SponsoredPermit>,
}

/// Checks that `payload` pays for `requirements`, the server's own copy of the accepted offer, at `now_secs`.
///
/// Whether the payload's `accepted` means one of the server's offers is asked first, with
/// [`crate::wire::find_matching`].
///
/// # Errors
/// The first reason, in the protocol's order.
pub fn verify(
    payload: &PaymentPayload,
    requirements: &PaymentRequirements,
    policy: &Policy,
    now_secs: u64,
) -> Result<VerifiedPayment, InvalidReason> {
    if payload.x402_version != X402_VERSION {
        return Err(InvalidReason::InvalidX402Version);
    }
    match requirements.scheme.as_str() {
        "upto" => verify_upto(payload, requirements, policy, now_secs),
        "exact" => verify_exact(payload, requirements, now_secs),
        _ => Err(InvalidReason::UnsupportedScheme),
    }
}

fn verify_upto(
    payload: &PaymentPayload,
    requirements: &PaymentRequirements,
    policy: &Policy,
    now_secs: u64,
) -> Result<VerifiedPayment, InvalidReason> {
    if payload.accepted.scheme != "upto" {
        return Err(InvalidReason::InvalidUptoScheme);
    }
    let SchemePayload::Permit2(signed) = &payload.payload else {
        return Err(InvalidReason::UnsupportedPayloadType);
    };
    let facilitator = signed
        .permit2_authorization
        .witness
        .facilitator
        .ok_or(InvalidReason::UnsupportedPayloadType)?;
    if payload.accepted.network != requirements.network {
        return Err(InvalidReason::UptoNetworkMismatch);
    }
    let terms = requirements.evm().map_err(|_| InvalidReason::UnsupportedNetwork)?;
    if signed.permit2_authorization.spender != UPTO_PROXY {
        return Err(InvalidReason::InvalidPermit2Spender);
    }
    if signed.permit2_authorization.witness.to != terms.pay_to {
        return Err(InvalidReason::InvalidPermit2Recipient);
    }
    if !policy.facilitators.contains(&facilitator) {
        return Err(InvalidReason::UptoFacilitatorMismatch);
    }
    finish_permit2(payload, signed, terms, Scheme::UptoPermit2, now_secs)
}

fn verify_exact(
    payload: &PaymentPayload,
    requirements: &PaymentRequirements,
    now_secs: u64,
) -> Result<VerifiedPayment, InvalidReason> {
    if payload.accepted.scheme != "exact" {
        return Err(InvalidReason::InvalidExactScheme);
    }
    match &payload.payload {
        SchemePayload::Permit2(signed) if requirements.moves_by_permit2() => {
            verify_exact_permit2(payload, signed, requirements, now_secs)
        }
        SchemePayload::Eip3009(signed) if !requirements.moves_by_permit2() => {
            verify_exact_eip3009(payload, signed, requirements, now_secs)
        }
        _ => Err(InvalidReason::UnsupportedPayloadType),
    }
}

fn verify_exact_permit2(
    payload: &PaymentPayload,
    signed: &Permit2Payload,
    requirements: &PaymentRequirements,
    now_secs: u64,
) -> Result<VerifiedPayment, InvalidReason> {
    // A facilitator would make it the witness of the other scheme, which the exact proxy cannot settle.
    if signed.permit2_authorization.witness.facilitator.is_some() {
        return Err(InvalidReason::UnsupportedPayloadType);
    }
    if payload.accepted.network != requirements.network {
        return Err(InvalidReason::ExactNetworkMismatch);
    }
    let terms = requirements.evm().map_err(|_| InvalidReason::UnsupportedNetwork)?;
    if signed.permit2_authorization.spender != EXACT_PROXY {
        return Err(InvalidReason::InvalidPermit2Spender);
    }
    if signed.permit2_authorization.witness.to != terms.pay_to {
        return Err(InvalidReason::InvalidPermit2Recipient);
    }
    finish_permit2(payload, signed, terms, Scheme::ExactPermit2, now_secs)
}

/// The checks that both Permit2 schemes share, from the deadline on.
fn finish_permit2(
    payload: &PaymentPayload,
    signed: &Permit2Payload,
    terms: EvmTerms,
    scheme: Scheme,
    now_secs: u64,
) -> Result<VerifiedPayment, InvalidReason> {
    let authorization = &signed.permit2_authorization;
    if authorization.deadline < earliest_deadline(now_secs) {
        return Err(InvalidReason::Permit2DeadlineExpired);
    }
    if authorization.witness.valid_after > U256::from(now_secs) {
        return Err(InvalidReason::Permit2NotYetValid);
    }
    if authorization.permitted.amount != terms.amount {
        return Err(InvalidReason::Permit2AmountMismatch);
    }
    if authorization.permitted.token != terms.asset {
        return Err(InvalidReason::Permit2TokenMismatch);
    }
    let digest = eip712::permit2_digest(authorization, terms.chain_id);
    let signature = signature_of_wallet(&signed.signature)
        .ok_or(InvalidReason::UnsupportedContractWallet)?
        .ok_or(InvalidReason::InvalidPermit2Signature)?;
    if signature.signer(&digest) != Ok(authorization.from) {
        return Err(InvalidReason::InvalidPermit2Signature);
    }
    let sponsored_permit = sponsored_permit(
        payload.extensions.as_ref(),
        authorization.from,
        terms.asset,
        authorization.permitted.amount,
        now_secs,
    )?;
    Ok(VerifiedPayment {
        scheme,
        identity: PaymentIdentity {
            chain_id: terms.chain_id,
            nonce_keeper: PERMIT2,
            owner: authorization.from,
            nonce: authorization.nonce,
        },
        payer: authorization.from,
        terms,
        deadline_secs: authorization.deadline.saturating_to(),
        facilitator: authorization.witness.facilitator,
        authorization: Authorization::Permit2(authorization.clone()),
        signature,
        sponsored_permit,
    })
}

fn verify_exact_eip3009(
    payload: &PaymentPayload,
    signed: &Eip3009Payload,
    requirements: &PaymentRequirements,
    now_secs: u64,
) -> Result<VerifiedPayment, InvalidReason> {
    if payload.accepted.network != requirements.network {
        return Err(InvalidReason::ExactNetworkMismatch);
    }
    let terms = requirements.evm().map_err(|_| InvalidReason::UnsupportedNetwork)?;
    let domain = requirements.token_domain().ok_or(InvalidReason::ExactMissingEip712Domain)?;
    let authorization = &signed.authorization;
    if authorization.to != terms.pay_to {
        return Err(InvalidReason::ExactRecipientMismatch);
    }
    let token = TokenContract {
        name: domain.name,
        version: domain.version,
        chain_id: terms.chain_id,
        address: terms.asset,
    };
    let digest = eip712::eip3009_digest(authorization, &token);
    let signature = signature_of_wallet(&signed.signature)
        .ok_or(InvalidReason::ExactUndeployedSmartWallet)?
        .ok_or(InvalidReason::ExactSignature)?;
    if signature.signer(&digest) != Ok(authorization.from) {
        return Err(InvalidReason::ExactSignature);
    }
    if authorization.value != terms.amount {
        return Err(InvalidReason::ExactAuthorizationValue);
    }
    if authorization.valid_before < earliest_deadline(now_secs) {
        return Err(InvalidReason::ExactValidBefore);
    }
    // EIP-3009 is valid strictly after `validAfter`.
    if authorization.valid_after > U256::from(now_secs) {
        return Err(InvalidReason::ExactValidAfter);
    }
    Ok(VerifiedPayment {
        scheme: Scheme::ExactEip3009,
        identity: PaymentIdentity {
            chain_id: terms.chain_id,
            nonce_keeper: terms.asset,
            owner: authorization.from,
            nonce: U256::from_be_bytes(authorization.nonce.0),
        },
        payer: authorization.from,
        terms,
        deadline_secs: authorization.valid_before.saturating_to(),
        facilitator: None,
        authorization: Authorization::Eip3009(authorization.clone()),
        signature,
        sponsored_permit: None,
    })
}

fn earliest_deadline(now_secs: u64) -> U256 {
    U256::from(now_secs.saturating_add(DEADLINE_MARGIN_SECS))
}

/// The signature of an ordinary wallet: `None` when the bytes are one of an undeployed contract wallet (ERC-6492),
/// `Some(None)` when they are no signature at all.
fn signature_of_wallet(bytes: &[u8]) -> Option<Option<Signature>> {
    if bytes.len() > 65 && bytes.ends_with(ERC6492_SUFFIX.as_slice()) {
        return None;
    }
    Some(Signature::parse(bytes).ok())
}
