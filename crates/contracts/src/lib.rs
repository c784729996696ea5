//! Name the contracts: ABIs, addresses, genesis code.
//!
//! ```text
//! contracts/src/*.sol ──npm compiler──▶ contracts/artifacts/*.json   (committed, rebuilt byte for byte in CI)
//!                                          │ include_str!
//!   abi  (what callers encode)         artifacts (runtime code, storage layout)
//!   addresses (where it stands)            │
//!   storage (how Solidity lays it out) ──▶ genesis: accounts of block 0 of both chains
//!                                      └─▶ registry: what storage proofs of the registry say
//! ```
//!
//! Genesis writes code and storage directly, without running constructors, so everything that clients hard-code
//! stands at its official address from block 0. Tests of `og-chain` run the result on the real executor.

pub mod abi;
pub mod addresses;
pub mod artifacts;
pub mod genesis;
pub mod registry;
pub mod storage;

pub use abi::{
    Appraisal, IERC20Permit3009, IEvidence, IInference, IInferenceSettlementRelay, IMulticall3,
    IPermit2, ITEEInferenceVerifier, ITEERegistry, ITEEVerifier, IX402ExactPermit2Proxy,
    IX402UptoPermit2Proxy,
};
pub use registry::registration_nonce;

/// A committed artifact is not what this crate expects of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The JSON does not parse.
    #[error("artifact {name} is not readable")]
    Artifact {
        /// The contract.
        name: &'static str,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The storage layout lacks a variable.
    #[error("artifact {name} has no storage variable {label}")]
    NoVariable {
        /// The contract.
        name: &'static str,
        /// The variable.
        label: &'static str,
    },
    /// An immutable is missing, or does not lie inside the code.
    #[error("artifact {name} has no immutable {label} that could be set")]
    NoImmutable {
        /// The contract.
        name: &'static str,
        /// The immutable.
        label: &'static str,
    },
    /// The constructor leaves an immutable that genesis did not set.
    #[error("artifact {name} has immutables, and genesis set {set} of {all}")]
    ImmutablesLeft {
        /// The contract.
        name: &'static str,
        /// How many were set.
        set: usize,
        /// How many there are.
        all: usize,
    },
}
