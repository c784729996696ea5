//! Everything that can go wrong, with the state of the money and the next safe step.

use og_x402::InvalidReason;
use thiserror::Error;

use crate::rpc::RpcError;

/// Why a request was not done.
#[derive(Debug, Error)]
pub enum Error {
    /// The payment is refused.
    #[error("the payment is refused: {0}")]
    Payment(#[from] InvalidReason),
    /// The payment is being settled, or was, for another amount.
    #[error("this payment is already {state} for {settled} base units, not {asked}")]
    OtherAmount {
        /// Where the first settlement stands.
        state: &'static str,
        /// Its amount.
        settled: String,
        /// The amount asked for now.
        asked: String,
    },
    /// A field of the request is missing or malformed.
    #[error("{param}: {message}")]
    Malformed {
        /// The field.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The evidence is not signed by a registered enclave.
    #[error("{0}")]
    Evidence(#[from] EvidenceError),
    /// The heartbeat is not one that the registry would take.
    #[error("{0}")]
    Heartbeat(#[from] HeartbeatError),
    /// The caller may not do this.
    #[error("settlements are not open to this caller")]
    Forbidden,
    /// No such job.
    #[error("no job has this id")]
    UnknownJob,
    /// A chain does not answer.
    #[error("chain: {0}")]
    Chain(#[from] RpcError),
    /// A chain is not the one that the outbox was made for.
    #[error("the {role} endpoint is on another chain: {message}")]
    WrongChain {
        /// `payment` or `network`.
        role: &'static str,
        /// How it differs.
        message: String,
    },
    /// The outbox cannot be read or written.
    #[error("outbox: {0}")]
    Outbox(#[from] rusqlite::Error),
    /// The outbox cannot be created.
    #[error("outbox: {0}")]
    File(#[from] std::io::Error),
    /// The outbox holds something that this version did not write.
    #[error("outbox: unreadable {0}")]
    Damaged(&'static str),
    /// A blob could not be stored.
    #[error("blob: {0}")]
    Blob(#[from] og_blob::Error),
    /// The service is stopping.
    #[error("the facilitator is stopping")]
    Stopping,
}

/// Why evidence is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum EvidenceError {
    /// No enclave is registered under the id.
    #[error("no enclave is registered under this id")]
    UnknownTee,
    /// The signature is not the enclave's.
    #[error("the signature is not one of this enclave over these hashes and this time")]
    Signature,
    /// The receipt, or the statement, was handed over with other content.
    #[error("this receipt or statement was handed over before with other content")]
    Conflict,
}

/// Why a heartbeat is refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum HeartbeatError {
    /// No enclave is registered under the id.
    #[error("no enclave is registered under this id")]
    UnknownTee,
    /// The signature is not the enclave's.
    #[error("the signature is not one of this enclave over this time")]
    Signature,
    /// The heartbeat is for another registry.
    #[error("the heartbeat is for another registry")]
    OtherRegistry,
    /// A newer one was relayed.
    #[error("a newer heartbeat of this enclave was relayed")]
    NotNewer,
    /// The registry refuses it.
    #[error("the registry refuses the heartbeat")]
    Refused,
}

impl Error {
    /// Short stable name, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Payment(reason) => reason.code(),
            Self::OtherAmount { .. } => "settlement_amount_differs",
            Self::Malformed { .. } => "invalid_request",
            Self::Evidence(EvidenceError::UnknownTee)
            | Self::Heartbeat(HeartbeatError::UnknownTee) => "tee_not_registered",
            Self::Evidence(EvidenceError::Signature)
            | Self::Heartbeat(HeartbeatError::Signature) => "invalid_tee_signature",
            Self::Evidence(EvidenceError::Conflict) => "evidence_conflict",
            Self::Heartbeat(HeartbeatError::OtherRegistry) => "contract_mismatch",
            Self::Heartbeat(HeartbeatError::NotNewer) => "heartbeat_not_newer",
            Self::Heartbeat(HeartbeatError::Refused) => "heartbeat_refused",
            Self::Forbidden => "forbidden",
            Self::UnknownJob => "job_not_found",
            Self::Chain(_) => "chain_unreachable",
            Self::WrongChain { .. } => "wrong_chain",
            Self::Outbox(_) | Self::File(_) | Self::Damaged(_) => "outbox_failed",
            Self::Blob(_) => "blob_failed",
            Self::Stopping => "stopping",
        }
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Chain(_) | Self::Outbox(_) | Self::File(_) | Self::Blob(_) | Self::Stopping => {
                true
            }
            Self::Payment(reason) => matches!(
                reason,
                InvalidReason::Permit2InsufficientBalance
                    | InvalidReason::Permit2AllowanceRequired
                    | InvalidReason::Permit2NotYetValid
                    | InvalidReason::ExactInsufficientBalance
                    | InvalidReason::ExactValidAfter
            ),
            _ => false,
        }
    }

    /// Where the money of the request stands, when it is about money.
    pub fn money(&self) -> Option<&'static str> {
        match self {
            Self::Payment(_) => Some("not_charged"),
            Self::OtherAmount { state, .. } => Some(state),
            _ => None,
        }
    }

    /// The next safe step.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Payment(InvalidReason::Permit2AllowanceRequired) => {
                "approve Permit2 for the token, then try again"
            }
            Self::Payment(
                InvalidReason::Permit2InsufficientBalance | InvalidReason::ExactInsufficientBalance,
            ) => "fund the payer, then try again",
            Self::Payment(_) => "sign a new authorisation",
            Self::OtherAmount { .. } => "look at the job of the first settlement",
            Self::Malformed { .. } => "correct the request",
            Self::Evidence(EvidenceError::UnknownTee)
            | Self::Heartbeat(HeartbeatError::UnknownTee) => "register the enclave first",
            Self::Evidence(_) | Self::Heartbeat(_) => "sign a new statement in the enclave",
            Self::Forbidden => "ask the operator for a token",
            Self::UnknownJob => "hand the settlement over again; that is safe",
            Self::WrongChain { .. } => "check the endpoints and the outbox of the facilitator",
            Self::Damaged(_) => "restore the outbox from a backup",
            Self::Chain(_) | Self::Outbox(_) | Self::File(_) | Self::Blob(_) | Self::Stopping => {
                "hand it over again; that is safe"
            }
        }
    }
}
