//! What the outside sees of work under way.

use og_x402::SettleResponse;
use serde::{Deserialize, Serialize};

/// Work that was promised.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// `payment-<payment id>` or `settlement-batch-<receipt digest>`.
    pub job_id: String,
    /// `payments` or `evidence`.
    pub queue: String,
    /// Where it stands.
    pub status: Status,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub updated_at: u64,
    /// What came of it: present once the status is `succeeded` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<SettleResponse>,
    /// Why it is not done (yet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// The batch's Merkle root (evidence).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merkle_root: Option<String>,
    /// The batch's blob (evidence).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walrus_blob_id: Option<String>,
    /// The transaction, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<String>,
    /// `batch` (evidence).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement_type: Option<String>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting.
    Queued,
    /// Its transaction is under way.
    Processing,
    /// The chain did it.
    Succeeded,
    /// It will never be done; nothing was charged.
    Failed,
}

/// Why a job is not done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct JobError {
    /// Short stable name.
    pub code: String,
    /// The reason in words.
    pub message: String,
    /// Whether it is tried again.
    pub retryable: bool,
    /// Where the money stands: `pending` or `not_charged`.
    pub payment: String,
    /// The next safe step.
    pub next: String,
}

impl Status {
    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}
