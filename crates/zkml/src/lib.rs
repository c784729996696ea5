//! Read a model into one checked integer graph; verify a proof of inference.
//!
//! ```text
//! model.onnx ──onnx──▶ float graph ──compile──▶ Program + Weights ──commit──▶ model id
//!                        │ reference                │ execute: integers only, bit-exact
//!                        ▼                          ▼
//!                    certificate              outputs ◀──verify── proof file (.ogz)
//! ```
//!
//! Everything below `compile` is integers: the executor, the verifier and the prover share one meaning of a model.
//!
//! | Module | Holds |
//! |---|---|
//! | [`onnx`] | ONNX files: a bounded reader, shapes, folding, into a float graph |
//! | [`mod@reference`] | the float graph executed in `f32`, to calibrate and to compare with |
//! | [`compile`] | float graph and ranges into a program of integers |
//! | [`certificate`] | how far the integers are from the floats |
//! | [`qir`] | the program: operators, types, proven ranges, canonical bytes |
//! | [`execute`] | the executor |
//! | [`model`] | program, weights and commitments: what a model id commits to |
//! | [`field`], [`transcript`], [`scheme`], [`sumcheck`], [`layout`] | the parts of a proof |
//! | [`hyrax`], [`whir`] | the two ways of committing to weights |
//! | [`trace`] | verification with the accumulators in the clear |
//! | [`succinct`] | verification with accumulators and activations committed to |
//! | [`proof_file`] | proof files (`.ogz`): all that a stranger needs to check |
//! | [`security`] | what a proof's soundness adds up to |

pub mod certificate;
pub mod compile;
pub mod execute;
pub mod field;
pub mod hyrax;
pub mod layout;
pub mod model;
pub mod onnx;
pub mod proof_file;
pub mod qir;
pub mod reference;
pub mod scheme;
pub mod security;
pub mod succinct;
pub mod sumcheck;
pub mod trace;
pub mod transcript;
pub mod whir;
