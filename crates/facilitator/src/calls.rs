//! The calls that settle a payment, and what the contracts answer when they refuse.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{Revert, SolCall, SolError, SolInterface};
use og_contracts::IERC20Permit3009::{self, IERC20Permit3009Errors, authorizationStateCall};
use og_contracts::IPermit2::IPermit2Errors;
use og_contracts::IX402ExactPermit2Proxy::{self, IX402ExactPermit2ProxyErrors};
use og_contracts::IX402UptoPermit2Proxy::{self, IX402UptoPermit2ProxyErrors};
use og_x402::extensions::SponsoredPermit;
use og_x402::verify::Authorization;
use og_x402::wire::Permit2Authorization;
use og_x402::{EXACT_PROXY, InvalidReason, Scheme, UPTO_PROXY, VerifiedPayment};

/// The contract and the call data that settle `amount` of a payment.
pub(crate) fn settlement(payment: &VerifiedPayment, amount: U256) -> Option<(Address, Bytes)> {
    let signature = payment.signature.to_bytes();
    match (&payment.authorization, payment.scheme) {
        (Authorization::Permit2(signed), Scheme::UptoPermit2) => {
            Some((UPTO_PROXY, upto(signed, amount, signature, payment.sponsored_permit.as_ref())?))
        }
        (Authorization::Permit2(signed), Scheme::ExactPermit2) => {
            Some((EXACT_PROXY, exact(signed, signature, payment.sponsored_permit.as_ref())?))
        }
        (Authorization::Eip3009(signed), _) => {
            let call = IERC20Permit3009::transferWithAuthorization_0Call {
                from: signed.from,
                to: signed.to,
                value: signed.value,
                validAfter: signed.valid_after,
                validBefore: signed.valid_before,
                nonce: signed.nonce,
                v: payment.signature.v(),
                r: payment.signature.r(),
                s: payment.signature.s(),
            };
            Some((payment.terms.asset, call.abi_encode().into()))
        }
        (Authorization::Permit2(_), Scheme::ExactEip3009) => None,
    }
}

fn upto(
    signed: &Permit2Authorization,
    amount: U256,
    signature: Bytes,
    sponsored: Option<&SponsoredPermit>,
) -> Option<Bytes> {
    use IX402UptoPermit2Proxy as Proxy;
    let permit = Proxy::PermitTransferFrom {
        permitted: Proxy::TokenPermissions {
            token: signed.permitted.token,
            amount: signed.permitted.amount,
        },
        nonce: signed.nonce,
        deadline: signed.deadline,
    };
    let witness = Proxy::Witness {
        to: signed.witness.to,
        facilitator: signed.witness.facilitator?,
        validAfter: signed.witness.valid_after,
    };
    let owner = signed.from;
    Some(match sponsored {
        None => Proxy::settleCall { permit, amount, owner, witness, signature }.abi_encode().into(),
        Some(SponsoredPermit { permit: permit2612, signature: signature2612 }) => {
            let signature2612 = og_x402::Signature::parse(signature2612).ok()?;
            let permit2612 = Proxy::EIP2612Permit {
                value: permit2612.value,
                deadline: permit2612.deadline,
                r: signature2612.r(),
                s: signature2612.s(),
                v: signature2612.v(),
            };
            Proxy::settleWithPermitCall { permit2612, permit, amount, owner, witness, signature }
                .abi_encode()
                .into()
        }
    })
}

fn exact(
    signed: &Permit2Authorization,
    signature: Bytes,
    sponsored: Option<&SponsoredPermit>,
) -> Option<Bytes> {
    use IX402ExactPermit2Proxy as Proxy;
    let permit = Proxy::PermitTransferFrom {
        permitted: Proxy::TokenPermissions {
            token: signed.permitted.token,
            amount: signed.permitted.amount,
        },
        nonce: signed.nonce,
        deadline: signed.deadline,
    };
    let witness = Proxy::Witness { to: signed.witness.to, validAfter: signed.witness.valid_after };
    let owner = signed.from;
    Some(match sponsored {
        None => Proxy::settleCall { permit, owner, witness, signature }.abi_encode().into(),
        Some(SponsoredPermit { permit: permit2612, signature: signature2612 }) => {
            let signature2612 = og_x402::Signature::parse(signature2612).ok()?;
            let permit2612 = Proxy::EIP2612Permit {
                value: permit2612.value,
                deadline: permit2612.deadline,
                r: signature2612.r(),
                s: signature2612.s(),
                v: signature2612.v(),
            };
            Proxy::settleWithPermitCall { permit2612, permit, owner, witness, signature }
                .abi_encode()
                .into()
        }
    })
}

/// What a call to an x402 proxy settled: owner, Permit2 nonce and amount.
pub(crate) fn settled_by(to: Address, input: &[u8]) -> Option<(Address, U256, U256)> {
    if to == UPTO_PROXY {
        use IX402UptoPermit2Proxy as Proxy;
        if let Ok(call) = Proxy::settleCall::abi_decode(input) {
            return Some((call.owner, call.permit.nonce, call.amount));
        }
        let call = Proxy::settleWithPermitCall::abi_decode(input).ok()?;
        return Some((call.owner, call.permit.nonce, call.amount));
    }
    if to == EXACT_PROXY {
        use IX402ExactPermit2Proxy as Proxy;
        if let Ok(call) = Proxy::settleCall::abi_decode(input) {
            return Some((call.owner, call.permit.nonce, call.permit.permitted.amount));
        }
        let call = Proxy::settleWithPermitCall::abi_decode(input).ok()?;
        return Some((call.owner, call.permit.nonce, call.permit.permitted.amount));
    }
    None
}

/// Whether an EIP-3009 nonce is used.
pub(crate) fn authorization_state(payment: &VerifiedPayment) -> Option<authorizationStateCall> {
    match &payment.authorization {
        Authorization::Eip3009(signed) => {
            Some(authorizationStateCall { authorizer: signed.from, nonce: signed.nonce })
        }
        Authorization::Permit2(_) => None,
    }
}

/// The protocol's reason for a revert, when the revert data tells.
pub(crate) fn reason_of_revert(data: &[u8]) -> Option<InvalidReason> {
    use IX402UptoPermit2ProxyErrors as Upto;
    if let Ok(error) = Upto::abi_decode(data) {
        return match error {
            Upto::AmountExceedsPermitted(_) => Some(InvalidReason::UptoAmountExceedsPermitted),
            Upto::UnauthorizedFacilitator(_) => Some(InvalidReason::UptoUnauthorizedFacilitator),
            Upto::InvalidDestination(_) => Some(InvalidReason::Permit2InvalidDestination),
            Upto::PaymentTooEarly(_) => Some(InvalidReason::Permit2PaymentTooEarly),
            Upto::InvalidOwner(_) => Some(InvalidReason::Permit2InvalidOwner),
            Upto::InvalidAmount(_) => Some(InvalidReason::Permit2InvalidAmount),
            Upto::Permit2612AmountMismatch(_) => Some(InvalidReason::Permit2612AmountMismatch),
            _ => None,
        };
    }
    if let Ok(error) = IX402ExactPermit2ProxyErrors::abi_decode(data) {
        use IX402ExactPermit2ProxyErrors as Exact;
        return match error {
            Exact::InvalidDestination(_) => Some(InvalidReason::Permit2InvalidDestination),
            Exact::PaymentTooEarly(_) => Some(InvalidReason::Permit2PaymentTooEarly),
            Exact::InvalidOwner(_) => Some(InvalidReason::Permit2InvalidOwner),
            Exact::InvalidAmount(_) => Some(InvalidReason::Permit2InvalidAmount),
            Exact::Permit2612AmountMismatch(_) => Some(InvalidReason::Permit2612AmountMismatch),
            _ => None,
        };
    }
    if let Ok(error) = IPermit2Errors::abi_decode(data) {
        use IPermit2Errors as Permit2;
        return Some(match error {
            Permit2::SignatureExpired(_) => InvalidReason::Permit2DeadlineExpired,
            Permit2::InvalidNonce(_) => InvalidReason::Permit2InvalidNonce,
            Permit2::InvalidAmount(_) => InvalidReason::Permit2InvalidAmount,
            Permit2::InvalidSigner(_)
            | Permit2::InvalidSignature(_)
            | Permit2::InvalidSignatureLength(_)
            | Permit2::InvalidContractSignature(_) => InvalidReason::InvalidPermit2Signature,
        });
    }
    if let Ok(error) = IERC20Permit3009Errors::abi_decode(data) {
        use IERC20Permit3009Errors as Token;
        return match error {
            Token::ERC20InsufficientBalance(_) => Some(InvalidReason::ExactInsufficientBalance),
            _ => None,
        };
    }
    None
}

/// What a revert says, for people: the string of `Error(string)`, or the data.
pub(crate) fn revert_text(data: &[u8], message: &str) -> String {
    match Revert::abi_decode(data) {
        Ok(revert) => revert.reason,
        Err(_) if data.is_empty() => message.to_owned(),
        Err(_) => format!("{message} ({})", Bytes::copy_from_slice(data)),
    }
}
