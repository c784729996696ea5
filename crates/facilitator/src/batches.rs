//! Batches of evidence: formed in the outbox, published, settled, and taken apart when a leaf spoils them.
//!
//! ```text
//! queued items ──form (one transaction; id = Merkle root)──▶ formed ─ blob stored ─ estimated ─▶ sent ─▶ settled
//!      ▲                                                        │
//!      └── the others ◀── dissolved: the spoiling leaf is quarantined, or noted as settled before ──┘
//! ```
//!
//! The root is the batch's id, the blob's id is the hash of its content and the relay refuses a leaf twice, so
//! every step can be repeated after a crash without effect.

use std::sync::atomic::Ordering;

use alloy_primitives::{B256, Bytes};
use alloy_sol_types::{SolCall, SolInterface};
use og_contracts::IInferenceSettlementRelay::{
    IInferenceSettlementRelayErrors, ReceiptSettled, batchSettleVerifiedCall, settledLeafCall,
    settledReceiptCall,
};
use og_primitives::merkle::MerkleTree;
use rusqlite::{OptionalExtension as _, Transaction};
use serde_json::{Value, json};

use crate::calls::revert_text;
use crate::clock::now_ms;
use crate::error::Error;
use crate::evidence::{COLUMNS, EvidenceItem, EvidenceRow};
use crate::lane::{Purpose, SlotState, slot_state};
use crate::outbox::{Blob, int, uint};
use crate::rpc::RpcError;
use crate::service::Facilitator;

/// Most leaves that the relay takes at a time.
const BATCH_ITEMS_MAX: usize = 256;

struct Batch {
    root: B256,
    sent: bool,
    /// In ascending order of leaf hashes, as the tree and the relay have them.
    items: Vec<EvidenceItem>,
}

/// When the next round is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// A batch is under way.
    Poll,
    /// Items wait for their flush.
    InMs(u64),
    /// Nothing waits.
    Idle,
}

impl Facilitator {
    /// One round over batches under way and items that wait.
    pub(crate) async fn evidence_round(&self) -> Result<Next, Error> {
        let lane = self.evidence_lane();
        lane.look_after().await?;
        for batch in self.open_batches().await? {
            self.advance_batch(batch).await?;
        }
        loop {
            let (waiting, due_in_ms) = self.flush_due().await?;
            if waiting == 0 {
                break;
            }
            if due_in_ms > 0 {
                let open = !self.open_batches().await?.is_empty();
                return Ok(if open { Next::Poll } else { Next::InMs(due_in_ms) });
            }
            let Some(batch) = self.form_batch().await? else { break };
            self.advance_batch(batch).await?;
        }
        Ok(if self.open_batches().await?.is_empty() { Next::Idle } else { Next::Poll })
    }

    /// How many items wait, and in how many milliseconds they are due.
    async fn flush_due(&self) -> Result<(usize, u64), Error> {
        let (count, oldest, newest): (i64, Option<i64>, Option<i64>) = self
            .outbox()
            .run(|tx| {
                Ok(tx.query_row(
                    "SELECT COUNT(*), MIN(created_ms), MAX(created_ms) FROM evidence WHERE state = 'queued'",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )?)
            })
            .await?;
        let waiting = usize::try_from(count).unwrap_or(usize::MAX);
        let policy = self.config().flush;
        if waiting >= policy.items_max {
            return Ok((waiting, 0));
        }
        let due = |since: Option<i64>, after: u64| uint(since.unwrap_or(0)).saturating_add(after);
        let at = due(oldest, policy.age_ms).min(due(newest, policy.idle_ms));
        Ok((waiting, at.saturating_sub(now_ms())))
    }

    async fn form_batch(&self) -> Result<Option<Batch>, Error> {
        let limit = self.batch_limit().load(Ordering::Relaxed).clamp(1, BATCH_ITEMS_MAX);
        let limit = limit.min(self.config().flush.items_max.max(1));
        self.outbox()
            .run(move |tx| {
                let mut items = read_items(
                    tx,
                    &format!("e.state = 'queued' ORDER BY e.created_ms, e.leaf LIMIT {limit}"),
                    [],
                )?;
                items.sort_by_key(EvidenceItem::leaf_hash);
                let leaves = items.iter().map(EvidenceItem::leaf_hash).collect();
                let Ok(tree) = MerkleTree::new(leaves) else { return Ok(None) };
                let (root, now) = (tree.root(), int(now_ms()));
                tx.execute(
                    "INSERT INTO batches(root, state, created_ms, updated_ms) VALUES(?1, 'formed', ?2, ?2)",
                    (Blob(root), now),
                )?;
                for item in &items {
                    tx.execute(
                        "UPDATE evidence SET state = 'batched', batch = ?2, updated_ms = ?3 WHERE receipt = ?1",
                        (Blob(item.digest()), Blob(root), now),
                    )?;
                }
                Ok(Some(Batch { root, sent: false, items }))
            })
            .await
    }

    async fn advance_batch(&self, batch: Batch) -> Result<(), Error> {
        if batch.sent {
            let reference = batch.root.to_string();
            let slot =
                self.outbox().run(move |tx| slot_state(tx, Purpose::Batch, &reference)).await?;
            match slot {
                Some(SlotState::Open) => return Ok(()),
                Some(SlotState::Mined { success: true, transaction }) => {
                    return self.note_settled(&batch, transaction).await;
                }
                // It reverted although it was estimated, or its nonce was lost: what spoils it shows below.
                Some(SlotState::Mined { success: false, .. } | SlotState::Lost) | None => {}
            }
        }
        let blob_id = self.blobs().put(dump(&batch)?).await?.id.to_string();
        let (root, stored) = (batch.root, blob_id.clone());
        self.outbox()
            .run(move |tx| {
                tx.execute("UPDATE batches SET blob = ?2 WHERE root = ?1", (Blob(root), stored))?;
                Ok(())
            })
            .await?;
        let input: Bytes = batchSettleVerifiedCall {
            leaves: batch.items.iter().map(EvidenceItem::leaf).collect(),
            receiptDigests: batch.items.iter().map(EvidenceItem::digest).collect(),
            blobId: blob_id.into_bytes().into(),
        }
        .abi_encode()
        .into();
        let (lane, relay) = (self.evidence_lane(), self.config().network.relay);
        match lane.estimate(relay, input.clone()).await {
            Ok(gas) => {
                let mark = move |tx: &Transaction<'_>| {
                    tx.execute(
                        "UPDATE batches SET state = 'sent', updated_ms = ?2 WHERE root = ?1",
                        (Blob(root), int(now_ms())),
                    )?;
                    Ok(())
                };
                lane.send(Purpose::Batch, root.to_string(), relay, input, gas, mark).await
            }
            Err(RpcError::Reverted { data, message }) => {
                self.take_apart(batch, &data, &message).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The relay refuses the batch: finds the leaf that spoils it, and lets the others go on.
    async fn take_apart(&self, batch: Batch, data: &[u8], message: &str) -> Result<(), Error> {
        use IInferenceSettlementRelayErrors as Refusal;
        let (index, code) = match Refusal::abi_decode(data) {
            Ok(Refusal::UnknownTEE(error)) => (Some(error.index), "tee_not_registered"),
            Ok(Refusal::TEENotValidAt(error)) => (Some(error.index), "tee_not_valid_at_time"),
            Ok(Refusal::InvalidLeafSignature(error)) => {
                (Some(error.index), "invalid_tee_signature")
            }
            Ok(Refusal::DuplicateLeaf(error)) => (Some(error.index), "evidence_conflict"),
            Ok(Refusal::DuplicateReceipt(error)) => (Some(error.index), "evidence_conflict"),
            Ok(Refusal::MissingReceiptDigest(error)) => {
                (Some(error.index), "receipt_digest_missing")
            }
            Ok(Refusal::AccessControlUnauthorizedAccount(_)) => {
                // Ours to mend, not the items': they stay batched and are tried again.
                return Err(RpcError::Refused {
                    code: 3,
                    message: "the evidence key lacks the settlement relay role".to_owned(),
                }
                .into());
            }
            _ => (None, "batch_reverted"),
        };
        let text = revert_text(data, message);
        let item = index
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| batch.items.get(index))
            // The only one it could be.
            .or_else(|| batch.items.first().filter(|_| batch.items.len() == 1));
        match item {
            Some(item) => {
                if let Some((transaction, root)) = self.settled_before(item).await? {
                    self.note_item(item.digest(), Some(transaction), Some(root), None).await?;
                } else {
                    tracing::warn!(receipt = %item.digest(), code, "evidence quarantined: {text}");
                    self.note_item(item.digest(), None, None, Some((code, text))).await?;
                }
            }
            None => {
                // Nobody is named: smaller batches find the one, or fit into a block.
                let half = (batch.items.len() / 2).max(1);
                self.batch_limit().store(half, Ordering::Relaxed);
                tracing::warn!(root = %batch.root, half, "batch reverted without a reason: {text}");
            }
        }
        self.dissolve(batch.root).await
    }

    /// Whether the relay has this statement with this receipt: the transaction and the root that settled it.
    async fn settled_before(&self, item: &EvidenceItem) -> Result<Option<(B256, B256)>, Error> {
        let (rpc, relay) = (&self.evidence_lane().rpc, self.config().network.relay);
        let digest = item.digest();
        let by_receipt = rpc.read(relay, settledReceiptCall { receiptDigest: digest }).await?;
        let by_leaf = rpc.read(relay, settledLeafCall { leafHash: item.leaf_hash() }).await?;
        if by_receipt.is_zero() || by_receipt != by_leaf {
            return Ok(None);
        }
        let logs = rpc.logs::<ReceiptSettled>(relay, &[Some(digest)], 0).await?;
        Ok(logs.first().map(|log| (log.transaction_hash, by_receipt)))
    }

    async fn note_settled(&self, batch: &Batch, transaction: B256) -> Result<(), Error> {
        let root = batch.root;
        self.outbox()
            .run(move |tx| {
                let now = int(now_ms());
                tx.execute(
                    "UPDATE batches SET state = 'settled', tx_hash = ?2, updated_ms = ?3 WHERE root = ?1",
                    (Blob(root), Blob(transaction), now),
                )?;
                tx.execute(
                    "UPDATE evidence SET state = 'settled', tx_hash = ?2, updated_ms = ?3, code = NULL, message = NULL
                     WHERE batch = ?1 AND state = 'batched'",
                    (Blob(root), Blob(transaction), now),
                )?;
                Ok(())
            })
            .await?;
        self.batch_limit().store(BATCH_ITEMS_MAX, Ordering::Relaxed);
        self.announce();
        Ok(())
    }

    async fn note_item(
        &self,
        digest: B256,
        transaction: Option<B256>,
        root: Option<B256>,
        refusal: Option<(&'static str, String)>,
    ) -> Result<(), Error> {
        self.outbox()
            .run(move |tx| {
                let state = if refusal.is_some() { "quarantined" } else { "settled" };
                let (code, message) = refusal.unzip();
                tx.execute(
                    "UPDATE evidence SET state = ?2, batch = ?3, tx_hash = ?4, code = ?5, message = ?6, updated_ms = ?7
                     WHERE receipt = ?1",
                    (
                        Blob(digest),
                        state,
                        root.map(Blob),
                        transaction.map(Blob),
                        code,
                        message,
                        int(now_ms()),
                    ),
                )?;
                Ok(())
            })
            .await?;
        self.announce();
        Ok(())
    }

    async fn dissolve(&self, root: B256) -> Result<(), Error> {
        self.outbox()
            .run(move |tx| {
                tx.execute(
                    "UPDATE evidence SET state = 'queued', batch = NULL WHERE batch = ?1 AND state = 'batched'",
                    [Blob(root)],
                )?;
                tx.execute("DELETE FROM batches WHERE root = ?1", [Blob(root)])?;
                Ok(())
            })
            .await
    }

    async fn open_batches(&self) -> Result<Vec<Batch>, Error> {
        self.outbox()
            .run(|tx| {
                let mut statement = tx.prepare(
                    "SELECT root, state FROM batches WHERE state IN ('formed', 'sent') ORDER BY created_ms",
                )?;
                let heads = statement
                    .query_map([], |row| {
                        Ok((row.get::<_, Blob<B256>>(0)?.0, row.get::<_, String>(1)?))
                    })?
                    .collect::<Result<Vec<_>, _>>()?;
                heads
                    .into_iter()
                    .map(|(root, state)| {
                        let items = read_items(
                            tx,
                            "e.batch = ?1 AND e.state = 'batched' ORDER BY e.leaf",
                            [Blob(root)],
                        )?;
                        Ok(Batch { root, sent: state == "sent", items })
                    })
                    .collect()
            })
            .await
    }

    /// Whether a batch is settled, by its root; for tests and explorers.
    ///
    /// # Errors
    /// When the outbox fails.
    pub async fn batch_transaction(&self, root: B256) -> Result<Option<B256>, Error> {
        self.outbox()
            .run(move |tx| {
                let hash: Option<Option<Blob<B256>>> = tx
                    .query_row("SELECT tx_hash FROM batches WHERE root = ?1", [Blob(root)], |row| {
                        row.get(0)
                    })
                    .optional()?;
                Ok(hash.flatten().map(|blob| blob.0))
            })
            .await
    }
}

fn read_items<P: rusqlite::Params>(
    tx: &Transaction<'_>,
    condition: &str,
    params: P,
) -> Result<Vec<EvidenceItem>, Error> {
    let mut statement = tx.prepare(&format!(
        "SELECT {COLUMNS} FROM evidence e LEFT JOIN batches b ON b.root = e.batch WHERE {condition}"
    ))?;
    let rows = statement.query_map(params, EvidenceRow::read)?;
    rows.map(|row| Ok(row?.item)).collect()
}

/// The tree as OpenZeppelin's library dumps and loads it (`standard-v1`), with the receipts beside.
fn dump(batch: &Batch) -> Result<axum::body::Bytes, Error> {
    let damaged = Error::Damaged("batch");
    let Ok(tree) = MerkleTree::new(batch.items.iter().map(EvidenceItem::leaf_hash).collect())
    else {
        return Err(damaged);
    };
    if tree.root() != batch.root {
        return Err(damaged);
    }
    let values: Vec<Value> = batch
        .items
        .iter()
        .map(|item| {
            json!({
                "value": [
                    item.tee_id, item.input_hash, item.output_hash, item.signature, item.timestamp.to_string(),
                ],
                "treeIndex": tree.tree_index(&item.leaf_hash()),
            })
        })
        .collect();
    let digests: Vec<B256> = batch.items.iter().map(EvidenceItem::digest).collect();
    let dump = json!({
        "format": "standard-v1",
        "leafEncoding": ["bytes32", "bytes32", "bytes32", "bytes", "uint256"],
        "tree": tree.nodes(),
        "values": values,
        "receiptDigests": digests,
    });
    Ok(dump.to_string().into())
}
