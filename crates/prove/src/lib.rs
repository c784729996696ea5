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
//! | [`sumcheck`] | sums of products of vectors |
//! | [`trace`] | mode T: proofs with the accumulators in the clear |
//! | [`succinct`] | mode S: proofs with accumulators and activations committed to |

pub mod hyrax;
pub mod opener;
pub mod succinct;
pub mod sumcheck;
pub mod trace;
pub mod whir;
