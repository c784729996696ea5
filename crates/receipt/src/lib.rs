//! Check a receipt or bundle offline.
//!
//! ```text
//! request, answer ── digest ──▶ Claims ── Receipt (COSE_Sign1, Ed25519)          signed bill and result
//!                                              │
//! Bundle (.ogp) = receipt + evidence + registry record + settlement + header + certificate + payment
//!                                              │
//! TrustAnchors (the verifier's own) ───────────┴──▶ verify ──▶ Report: every check by name, the failed one last
//! ```
//!
//! | Module | Holds |
//! |---|---|
//! | [`claims`] | what a receipt says, and the words for it |
//! | [`receipt`] | the signed receipt |
//! | [`digest`], [`jcs`] | the digests of requests and answers |
//! | [`bundle`] | the file that carries everything needed to check a receipt |
//! | [`mod@verify`] | the checks, in order, against the verifier's trust anchors |
//! | [`payment`] | the payment transaction that a bundle refers to |
//! | [`assemble`] | building proofs for a bundle from a block's contents |
//!
//! The byte formats are specified in `docs/spec/receipt.md`. Pure functions over bytes: no I/O, no clock, no
//! randomness; builds for wasm32.

pub mod assemble;
pub mod bundle;
pub mod claims;
pub mod digest;
mod error;
mod fields;
pub mod jcs;
mod json;
pub mod payment;
pub mod receipt;
#[cfg(test)]
mod tests;
pub mod verify;

pub use bundle::{Bundle, ChainProof, SettlementProof};
pub use claims::{
    Claims, Engine, Leaf, ResponseForm, SettlementMode, TruthLevel, UnitPrices, Usage,
};
pub use error::Error;
pub use receipt::Receipt;
pub use verify::{Check, Outcome, Report, TrustAnchors, Verdict, verify};
