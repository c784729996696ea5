//! Decide whether evidence says what it claims.
//!
//! ```text
//! document ── cose ──▶ payload, signature          who signed what bytes
//!          ── nitro ─▶ measurements, times, fields  what the payload says
//!          ── x509 ──▶ leaf key … root              who vouches for the signer (roots: which root that may be)
//!          ── policy ▶ freshness, keys, nonce       what this verifier demands
//!                      ▼
//!                 Attestation (root says whether it is simulated)
//! ```
//!
//! [`verify`] is a pure function of the bytes, the [`Policy`] and the time given, the same in a validator, a
//! client and an auditor's offline check. [`appraisal`] holds what the precompile at `0x…0901` answers, [`legacy`]
//! what the older one at `0x…0900` does; [`keys`] what an
//! enclave binds into its evidence; [`simulated`] makes documents of the same format under a published
//! development root; [`driver`] is the trait behind which services make real ones.

pub mod appraisal;
pub mod cose;
mod der;
pub mod driver;
mod error;
pub mod keys;
pub mod legacy;
pub mod nitro;
mod policy;
pub mod roots;
mod rsa_pss;
pub mod simulated;
#[cfg(test)]
mod tests;
mod x509;

pub use der::DerError;
pub use error::{CertificateError, Error};
pub use nitro::{Attestation, verify};
pub use policy::{Policy, Strictness};
pub use roots::Root;
