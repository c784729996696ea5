//! Evidence: statements of enclaves, checked when they are handed over and kept until they are settled.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use alloy_primitives::{B256, Bytes};
use og_contracts::IInferenceSettlementRelay::Leaf;
use og_contracts::ITEERegistry::getTEEPublicKeyCall;
use og_primitives::{ReceiptDigest, TeeId};
use rusqlite::{OptionalExtension as _, Row, Transaction};

use crate::clock::now_ms;
use crate::error::{Error, EvidenceError};
use crate::job::{Job, JobError, Status};
use crate::outbox::{Blob, int, uint};
use crate::service::Facilitator;

/// Enclave keys that are kept at hand.
const KEYS_MAX: usize = 1_024;

/// A statement of an enclave about one inference, and the receipt that it belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EvidenceItem {
    /// The enclave.
    pub tee_id: TeeId,
    /// Hash of the request, in the legacy form.
    pub input_hash: B256,
    /// Hash of the response, in the legacy form.
    pub output_hash: B256,
    /// Signed time, Unix seconds.
    pub timestamp: u64,
    /// RSA-PSS signature over `keccak256(input hash ‖ output hash ‖ u256 time)`.
    pub signature: Bytes,
    /// The receipt; a legacy statement without one stands for itself: its digest is its leaf hash.
    pub receipt_digest: Option<ReceiptDigest>,
}

impl EvidenceItem {
    /// The statement as a receipt carries it.
    fn statement(&self) -> og_receipt::claims::Leaf {
        og_receipt::claims::Leaf {
            tee_id: self.tee_id,
            input_hash: self.input_hash,
            output_hash: self.output_hash,
            timestamp: self.timestamp,
            signature: self.signature.clone(),
        }
    }

    /// What the enclave signed.
    pub fn message_hash(&self) -> B256 {
        self.statement().message_hash()
    }

    /// The statement as the relay takes it.
    pub fn leaf(&self) -> Leaf {
        Leaf {
            teeId: self.tee_id.0,
            inputHash: self.input_hash,
            outputHash: self.output_hash,
            signature: self.signature.clone(),
            timestamp: alloy_primitives::U256::from(self.timestamp),
        }
    }

    /// Leaf of the batch's Merkle tree.
    pub fn leaf_hash(&self) -> B256 {
        self.statement().hash()
    }

    /// The receipt's digest, or the leaf hash in its place.
    pub fn digest(&self) -> B256 {
        self.receipt_digest.map_or_else(|| self.leaf_hash(), |digest| digest.0)
    }
}

/// Public keys of registered enclaves. An id is the hash of its key, so what is known stays true.
#[derive(Debug, Default)]
pub(crate) struct TeeKeys(Mutex<HashMap<TeeId, Bytes>>);

/// One row of the outbox.
pub(crate) struct EvidenceRow {
    pub(crate) item: EvidenceItem,
    state: String,
    batch: Option<B256>,
    created_ms: u64,
    updated_ms: u64,
    transaction: Option<B256>,
    code: Option<String>,
    message: Option<String>,
    blob: Option<String>,
}

/// Columns of [`EvidenceRow`], over `evidence e LEFT JOIN batches b`.
pub(crate) const COLUMNS: &str = "e.receipt, e.tee, e.input_hash, e.output_hash, e.signature, e.signed_secs, e.state, \
    e.batch, e.created_ms, e.updated_ms, e.tx_hash, e.code, e.message, b.blob";

impl Facilitator {
    /// Takes a statement into the outbox after checking it. When this returns a job, the statement survives any
    /// crash; handing it over again returns the same job.
    ///
    /// # Errors
    /// The statement is not of a registered enclave, conflicts with one that was handed over before, or the registry
    /// or the outbox failed.
    pub async fn settle_data(&self, item: EvidenceItem) -> Result<Job, Error> {
        if let Some(row) = self.evidence_row(item.digest()).await? {
            return known(&row, &item);
        }
        let key = self.tee_key(item.tee_id).await?.ok_or(EvidenceError::UnknownTee)?;
        if !og_attest::legacy::verify_rsa_pss(&key, item.message_hash(), &item.signature) {
            return Err(EvidenceError::Signature.into());
        }
        let stored = item.clone();
        let row = self
            .outbox()
            .run(move |tx| {
                let (digest, leaf) = (stored.digest(), stored.leaf_hash());
                let now = int(now_ms());
                let inserted = tx.execute(
                    "INSERT INTO evidence(receipt, leaf, tee, input_hash, output_hash, signature, signed_secs, state,
                       created_ms, updated_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', ?8, ?8)
                     ON CONFLICT DO NOTHING",
                    (
                        Blob(digest),
                        Blob(leaf),
                        Blob(stored.tee_id.0),
                        Blob(stored.input_hash),
                        Blob(stored.output_hash),
                        stored.signature.as_ref(),
                        int(stored.timestamp),
                        now,
                    ),
                )?;
                match select(tx, digest)? {
                    Some(row) => Ok(row),
                    // The leaf is there under another receipt.
                    None if inserted == 0 => Err(EvidenceError::Conflict.into()),
                    None => Err(Error::Damaged("evidence")),
                }
            })
            .await?;
        self.wake_evidence();
        known(&row, &item)
    }

    pub(crate) async fn evidence_job(&self, digest: B256) -> Result<Option<Job>, Error> {
        Ok(self.evidence_row(digest).await?.map(|row| row.job()))
    }

    /// Key of a registered enclave; `None` when the registry has none.
    pub(crate) async fn tee_key(&self, tee_id: TeeId) -> Result<Option<Bytes>, Error> {
        if let Some(key) = self.tee_keys().get(tee_id) {
            return Ok(Some(key));
        }
        let call = getTEEPublicKeyCall { teeId: tee_id.0 };
        let key = match self.evidence_lane().rpc.read(self.config().network.registry, call).await {
            Ok(key) => key,
            // The registry reverts where it knows nothing.
            Err(crate::rpc::RpcError::Reverted { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // An endpoint that lies about a key is caught by the id.
        if key.is_empty() || TeeId::from_signing_key_der(&key) != tee_id {
            return Ok(None);
        }
        self.tee_keys().put(tee_id, key.clone());
        Ok(Some(key))
    }

    async fn evidence_row(&self, digest: B256) -> Result<Option<EvidenceRow>, Error> {
        self.outbox().run(move |tx| select(tx, digest)).await
    }
}

impl TeeKeys {
    fn get(&self, tee_id: TeeId) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&tee_id).cloned()
    }

    fn put(&self, tee_id: TeeId, key: Bytes) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(tee_id, key);
    }
}

impl EvidenceRow {
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let item = EvidenceItem {
            receipt_digest: Some(ReceiptDigest(row.get::<_, Blob<B256>>(0)?.0)),
            tee_id: TeeId(row.get::<_, Blob<B256>>(1)?.0),
            input_hash: row.get::<_, Blob<B256>>(2)?.0,
            output_hash: row.get::<_, Blob<B256>>(3)?.0,
            signature: row.get::<_, Vec<u8>>(4)?.into(),
            timestamp: uint(row.get(5)?),
        };
        Ok(Self {
            item,
            state: row.get(6)?,
            batch: row.get::<_, Option<Blob<B256>>>(7)?.map(|blob| blob.0),
            created_ms: uint(row.get(8)?),
            updated_ms: uint(row.get(9)?),
            transaction: row.get::<_, Option<Blob<B256>>>(10)?.map(|blob| blob.0),
            code: row.get(11)?,
            message: row.get(12)?,
            blob: row.get(13)?,
        })
    }

    fn job(&self) -> Job {
        let status = match self.state.as_str() {
            "queued" => Status::Queued,
            "batched" => Status::Processing,
            "settled" => Status::Succeeded,
            _ => Status::Failed,
        };
        Job {
            job_id: job_id(self.item.digest()),
            queue: "evidence".to_owned(),
            status,
            created_at: self.created_ms,
            updated_at: self.updated_ms,
            result: None,
            error: self.code.as_ref().map(|code| JobError {
                code: code.clone(),
                message: self.message.clone().unwrap_or_default(),
                retryable: !status.is_final(),
                payment: "not_affected".to_owned(),
                next: if status.is_final() {
                    "sign a new statement in the enclave"
                } else {
                    "wait"
                }
                .to_owned(),
            }),
            merkle_root: self.batch.map(|root| root.to_string()),
            walrus_blob_id: self.blob.clone(),
            tx_hash: self.transaction.map(|hash| hash.to_string()),
            settlement_type: Some("batch".to_owned()),
        }
    }
}

/// The job id of the settlement of a statement.
pub fn job_id(digest: B256) -> String {
    format!("settlement-batch-{digest:x}")
}

fn known(row: &EvidenceRow, item: &EvidenceItem) -> Result<Job, Error> {
    if row.item.leaf_hash() != item.leaf_hash() {
        return Err(EvidenceError::Conflict.into());
    }
    Ok(row.job())
}

fn select(tx: &Transaction<'_>, digest: B256) -> Result<Option<EvidenceRow>, Error> {
    Ok(tx
        .prepare(&format!(
            "SELECT {COLUMNS} FROM evidence e LEFT JOIN batches b ON b.root = e.batch WHERE e.receipt = ?1"
        ))?
        .query_row([Blob(digest)], EvidenceRow::read)
        .optional()?)
}
