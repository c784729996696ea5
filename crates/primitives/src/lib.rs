//! Name the things: ids, amounts, hashes, canonical bytes, signature domains.
//!
//! Everything above this crate speaks in these words. It does no I/O, reads no clock and no randomness,
//! and builds for wasm32.
//!
//! | Module | Holds |
//! |---|---|
//! | [`cbor`] | deterministic CBOR (RFC 8949 §4.2): one encoder, one strict decoder with limits |
//! | [`domain`] | every signature and hash domain of the project, in one table |
//! | [`ids`] | newtypes for the hashes that must never be mixed up |
//! | [`merkle`] | the Merkle tree of evidence batches (OpenZeppelin `standard-v1`) |
//! | [`networks`] | chain ids and their CAIP-2 names |

pub mod cbor;
pub mod domain;
pub mod ids;
pub mod merkle;
pub mod networks;

pub use alloy_primitives::{Address, B256, Bytes, U256, address, b256, keccak256};
pub use ids::{ReceiptDigest, TeeId};
