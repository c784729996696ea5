//! Prove an inference.
//!
//! ```text
//! Model ──prepare──▶ cached commitment ─┐
//! input ──execute──▶ accumulators ──────┴─▶ sumcheck ──▶ opening ──▶ proof bytes (checked by og-zkml)
//! ```
//!
//! | Module | Holds |
//! |---|---|
//! | [`opener`] | what a backend offers a prover |
//! | [`hyrax`], [`whir`] | the two backends |
//! | [`trace`] | proofs with the accumulators in the clear |

pub mod hyrax;
pub mod opener;
pub mod trace;
pub mod whir;
