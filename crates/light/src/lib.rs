//! Check headers, certificates and inclusion proofs.
//!
//! What a stranger needs to check the OpenGradient chain without running a node. The caller brings two trust
//! anchors of its own, the validators' keys and the genesis hash; everything else is bytes from outside:
//!
//! ```text
//! ValidatorSet (proofs of possession checked) + genesis hash
//!        │
//! finality certificate ──▶ certified block hash ──▶ headers, child to parent ──▶ the wanted Header
//!                                                                                  │ state_root   │ receipts_root
//!                                                                  account ──▶ storage slot     receipt ──▶ log
//! ```
//!
//! | Module | Checks |
//! |---|---|
//! | [`validators`] | who may vote, and that each of them owns its BLS key |
//! | [`certificate`] | that a quorum of them finalised a block |
//! | [`finality`] | that a certificate covers a block, directly or through a descendant |
//! | [`header`] | Ethereum headers and their hashes |
//! | [`proof`] | accounts, storage slots, receipts and logs under a header's roots |
//!
//! Pure functions over bytes: no I/O, no clock, no randomness; builds for wasm32. Nothing here depends on the
//! consensus implementation: certificates are decoded from their published format and verified with a pure-Rust
//! pairing library, and a test of the consensus crate holds both implementations to the same verdicts.

mod bls;
pub mod certificate;
mod error;
pub mod finality;
pub mod header;
pub mod proof;
pub mod validators;

pub use certificate::{FinalityCertificate, consensus_namespace, verify_certificate};
pub use error::Error;
pub use finality::verify_finality;
pub use header::Header;
pub use proof::{Account, Receipt, verify_account, verify_log, verify_receipt, verify_storage};
pub use validators::{Validator, ValidatorSet};
