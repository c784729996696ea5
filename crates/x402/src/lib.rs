//! Run the payment exchange as a state machine over bytes.
//!
//! x402 version 2 over HTTP, as the official clients speak it. The way of one payment:
//!
//! ```text
//! server  PaymentRequired ── header::encode ──▶ PAYMENT-REQUIRED
//! client  client::choose ─▶ client::authorize (EIP-712, secp256k1) ─▶ PaymentPayload ─▶ PAYMENT-SIGNATURE
//! server  header::decode ─▶ matching ─▶ verify(payload, requirements, policy, now) ─▶ VerifiedPayment
//! server  … settles …  ─▶ SettleResponse ── header::encode ──▶ PAYMENT-RESPONSE
//! ```
//!
//! Nothing here does I/O, reads a clock or draws randomness: nonces and times are arguments. A verified payment
//! still says nothing about the payer's balance and allowance; those live on the payment chain and are the
//! facilitator's to check.
//!
//! | Module | Holds |
//! |---|---|
//! | [`wire`] | the JSON documents of the exchange |
//! | [`header`] | their header form: base64 of JSON, with limits |
//! | [`eip712`] | what wallets sign: Permit2 witnesses, EIP-3009, EIP-2612 |
//! | [`signature`] | secp256k1 recovery and deterministic signing |
//! | [`client`] | choosing an offer and authorising it |
//! | [`mod@verify`] | whether a payload pays for requirements, with the protocol's reason codes |
//! | [`identity`] | what makes a payment one payment |
//! | [`extensions`] | gas sponsoring declarations and what clients echo of them |

pub mod client;
pub mod eip712;
pub mod extensions;
pub mod header;
pub mod identity;
pub mod signature;
pub mod verify;
pub mod wire;

pub use client::{Fresh, SpendLimits};
pub use header::{Decode, HeaderError};
pub use identity::{PaymentId, PaymentIdentity};
pub use signature::{Signature, Wallet};
pub use verify::{InvalidReason, Policy, Scheme, VerifiedPayment, verify};
pub use wire::{
    PaymentPayload, PaymentRequired, PaymentRequirements, Resource, SchemePayload, SettleResponse,
    VerifyResponse,
};

use alloy_primitives::{Address, address};

/// The protocol version that this crate speaks.
pub const X402_VERSION: u64 = 2;

/// Request header with the payment of the client.
pub const PAYMENT_SIGNATURE: &str = "payment-signature";
/// Response header with the challenge of the server.
pub const PAYMENT_REQUIRED: &str = "payment-required";
/// Response header with the outcome of a settlement.
pub const PAYMENT_RESPONSE: &str = "payment-response";

/// Uniswap's Permit2, at one address on every chain.
pub const PERMIT2: Address = address!("0x000000000022D473030F116dDEE9F6B43aC78BA3");
/// The x402 proxy that settles up to the permitted amount.
pub const UPTO_PROXY: Address = address!("0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002");
/// The x402 proxy that settles exactly the permitted amount.
pub const EXACT_PROXY: Address = address!("0x402085c248EeA27D92E8b30b2C58ed07f9E20001");

/// An authorisation with less than this left to live is refused: it could not be settled in time. In seconds.
pub const DEADLINE_MARGIN_SECS: u64 = 6;
