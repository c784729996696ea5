//! The wire formats of the official clients: what they hash, and how the enclave signs it.
//!
//! The clients recompute a Keccak-256 hash over *Python's* JSON of a subset of their request, so this module
//! reads JSON without losing how its numbers were written ([`json`]), writes it as CPython would ([`python`]),
//! selects and shapes what is hashed ([`canonical`]) and signs the result with RSA-PSS ([`signing`]).
//! Nothing here carries a domain or a version; new code signs receipts instead and never builds on this.

pub mod canonical;
pub mod json;
pub mod python;
pub mod signing;
