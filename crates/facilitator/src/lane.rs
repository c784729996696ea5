//! One key on one chain: the only place where nonces are given out and transactions are sent.
//!
//! A *slot* is a nonce and what it will be spent on; it is on disk, with the signed transaction, before anything
//! is sent, and it never changes its mind: only the fee of a slot grows. So whatever crashes, sending a slot
//! again is safe, and its end is read from the chain.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use og_x402::Wallet;
use rusqlite::{OptionalExtension as _, Transaction};
use tokio::sync::Mutex;

use crate::clock::now_ms;
use crate::config::Sending;
use crate::error::Error;
use crate::outbox::{Blob, Outbox, int, uint};
use crate::rpc::{Call, Fees, Rpc, RpcError};

/// What a slot is spent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Payment,
    Batch,
    Heartbeat,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Batch => "batch",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SlotState {
    /// Under way.
    Open,
    /// In a block that counts.
    Mined {
        /// Whether it did what it should.
        success: bool,
        /// The transaction.
        transaction: B256,
    },
    /// The nonce was spent by a transaction that is not ours.
    Lost,
}

/// A key on a chain.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) rpc: Arc<Rpc>,
    chain_id: u64,
    confirmations: u64,
    wallet: Wallet,
    outbox: Outbox,
    sending: Sending,
    /// Held while a nonce is chosen and while slots are looked after.
    gate: Mutex<()>,
}

struct OpenSlot {
    id: i64,
    nonce: u64,
    target: Address,
    input: Bytes,
    gas_limit: u64,
    attempts: Vec<Attempt>,
}

#[derive(Clone)]
struct Attempt {
    hash: B256,
    raw: Vec<u8>,
    fees: Fees,
    signed_ms: u64,
    sent_ms: u64,
}

impl Lane {
    pub(crate) fn new(
        rpc: Arc<Rpc>,
        chain_id: u64,
        confirmations: u64,
        wallet: Wallet,
        outbox: Outbox,
        sending: Sending,
    ) -> Self {
        Self { rpc, chain_id, confirmations, wallet, outbox, sending, gate: Mutex::new(()) }
    }

    pub(crate) fn address(&self) -> Address {
        self.wallet.address()
    }

    /// Gas that a call needs, with a margin for state that changes before it runs.
    pub(crate) async fn estimate(&self, to: Address, input: Bytes) -> Result<u64, RpcError> {
        let gas = self.rpc.estimate_gas(&Call { from: self.address(), to, input }).await?;
        Ok(gas.saturating_add(gas / 4).saturating_add(10_000))
    }

    /// Gives a call the next nonce, signs it, puts it on disk together with `mark`, and sends it.
    ///
    /// When this returns an error before the call is on disk, nothing happened. A failure to send is not an error:
    /// [`Lane::look_after`] sends again.
    pub(crate) async fn send(
        &self,
        purpose: Purpose,
        reference: String,
        to: Address,
        input: Bytes,
        gas_limit: u64,
        mark: impl FnOnce(&Transaction<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        let (fees, count) =
            tokio::try_join!(self.rpc.fees(), self.rpc.transaction_count(self.address()))?;
        let (chain_id, sender) = (self.chain_id, self.address());
        let after_ours: Option<i64> = self
            .outbox
            .run(move |tx| {
                Ok(tx.query_row(
                    "SELECT MAX(nonce) + 1 FROM slots WHERE chain_id = ?1 AND sender = ?2",
                    (int(chain_id), Blob(sender)),
                    |row| row.get(0),
                )?)
            })
            .await?;
        let nonce = count.max(after_ours.map_or(0, uint));
        let attempt = self.sign(nonce, to, &input, gas_limit, fees);
        let stored = attempt.clone();
        self.outbox
            .run(move |tx| {
                tx.execute(
                    "INSERT INTO slots(chain_id, sender, nonce, purpose, reference, target, input, gas_limit,
                       state, created_ms)
                     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'open', ?9)",
                    (
                        int(chain_id),
                        Blob(sender),
                        int(nonce),
                        purpose.as_str(),
                        reference,
                        Blob(to),
                        input.as_ref(),
                        int(gas_limit),
                        int(stored.signed_ms),
                    ),
                )?;
                insert_attempt(tx, tx.last_insert_rowid(), &stored)?;
                mark(tx)
            })
            .await?;
        self.broadcast(&attempt).await;
        Ok(())
    }

    /// Looks at every slot that is under way: notes what is in blocks, sends again, raises fees.
    pub(crate) async fn look_after(&self) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        let slots = self.open_slots().await?;
        if slots.is_empty() {
            return Ok(());
        }
        let count = self.rpc.transaction_count(self.address()).await?;
        for slot in slots {
            if slot.nonce < count {
                self.note_end(&slot).await?;
            } else {
                self.push(&slot).await?;
            }
        }
        Ok(())
    }

    /// How many slots are under way.
    pub(crate) async fn open_count(&self) -> Result<usize, Error> {
        let (chain_id, sender) = (self.chain_id, self.address());
        let count: i64 = self
            .outbox
            .run(move |tx| {
                Ok(tx.query_row(
                    "SELECT COUNT(*) FROM slots WHERE chain_id = ?1 AND sender = ?2 AND state = 'open'",
                    (int(chain_id), Blob(sender)),
                    |row| row.get(0),
                )?)
            })
            .await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The nonce is spent: by which attempt?
    async fn note_end(&self, slot: &OpenSlot) -> Result<(), Error> {
        for attempt in slot.attempts.iter().rev() {
            let Some(receipt) = self.rpc.receipt(attempt.hash).await? else { continue };
            if self.confirmations > 1 {
                let head = self.rpc.block_number().await?;
                if head.saturating_sub(receipt.block_number()) + 1 < self.confirmations {
                    return Ok(());
                }
            }
            let (id, hash) = (slot.id, attempt.hash);
            let (success, block) = (receipt.success(), receipt.block_number());
            return self
                .outbox
                .run(move |tx| {
                    tx.execute(
                        "UPDATE slots SET state = 'mined', success = ?2, tx_hash = ?3, block = ?4 WHERE id = ?1",
                        (id, success, Blob(hash), int(block)),
                    )?;
                    Ok(())
                })
                .await;
        }
        // A receipt may lag behind the count; only a long silence means that somebody else spent the nonce.
        let newest = slot.attempts.iter().map(|attempt| attempt.signed_ms).max().unwrap_or(0);
        if now_ms().saturating_sub(newest) > self.sending.lost_ms {
            tracing::warn!(nonce = slot.nonce, sender = %self.address(), "nonce spent by a foreign transaction");
            let id = slot.id;
            self.outbox
                .run(move |tx| {
                    tx.execute("UPDATE slots SET state = 'lost' WHERE id = ?1", [id])?;
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    /// Not in a block yet: sends again, with a higher fee when it is time.
    async fn push(&self, slot: &OpenSlot) -> Result<(), Error> {
        let Some(newest) = slot.attempts.last() else { return Err(Error::Damaged("slot")) };
        let now = now_ms();
        if now.saturating_sub(newest.signed_ms) > self.sending.bump_ms {
            let suggested = self.rpc.fees().await?;
            // Pools take a replacement from 10 % on.
            let raised = |fee: u128| fee.saturating_add(fee / 8).saturating_add(1);
            let fees = Fees {
                max_fee: suggested.max_fee.max(raised(newest.fees.max_fee)),
                priority: suggested.priority.max(raised(newest.fees.priority)),
            };
            let attempt = self.sign(slot.nonce, slot.target, &slot.input, slot.gas_limit, fees);
            let (id, stored) = (slot.id, attempt.clone());
            self.outbox.run(move |tx| insert_attempt(tx, id, &stored)).await?;
            self.broadcast(&attempt).await;
        } else if now.saturating_sub(newest.sent_ms) > self.sending.rebroadcast_ms {
            self.broadcast(newest).await;
            let hash = newest.hash;
            self.outbox
                .run(move |tx| {
                    tx.execute(
                        "UPDATE attempts SET sent_ms = ?2 WHERE tx_hash = ?1",
                        (Blob(hash), int(now)),
                    )?;
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    async fn broadcast(&self, attempt: &Attempt) {
        match self.rpc.send_raw(&attempt.raw).await {
            Ok(_) => {}
            Err(RpcError::Refused { message, .. }) if message.contains("known") => {}
            Err(error) => {
                tracing::warn!(transaction = %attempt.hash, %error, "transaction not taken yet; it is sent again");
            }
        }
    }

    fn sign(&self, nonce: u64, to: Address, input: &Bytes, gas_limit: u64, fees: Fees) -> Attempt {
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.priority,
            to: TxKind::Call(to),
            value: U256::ZERO,
            input: input.clone(),
            ..TxEip1559::default()
        };
        let signature = self.wallet.sign(&transaction.signature_hash());
        let signed = transaction.into_signed(alloy_primitives::Signature::from_scalars_and_parity(
            signature.r(),
            signature.s(),
            signature.v() == 28,
        ));
        let now = now_ms();
        Attempt {
            hash: *signed.hash(),
            raw: signed.encoded_2718(),
            fees,
            signed_ms: now,
            sent_ms: now,
        }
    }

    async fn open_slots(&self) -> Result<Vec<OpenSlot>, Error> {
        let (chain_id, sender) = (self.chain_id, self.address());
        self.outbox
            .run(move |tx| {
                let mut statement = tx.prepare(
                    "SELECT id, nonce, target, input, gas_limit FROM slots
                     WHERE chain_id = ?1 AND sender = ?2 AND state = 'open' ORDER BY nonce",
                )?;
                let mut slots = statement
                    .query_map((int(chain_id), Blob(sender)), |row| {
                        Ok(OpenSlot {
                            id: row.get(0)?,
                            nonce: uint(row.get(1)?),
                            target: row.get::<_, Blob<Address>>(2)?.0,
                            input: row.get::<_, Vec<u8>>(3)?.into(),
                            gas_limit: uint(row.get(4)?),
                            attempts: Vec::new(),
                        })
                    })?
                    .collect::<Result<Vec<_>, _>>()?;
                for slot in &mut slots {
                    slot.attempts = attempts_of(tx, slot.id)?;
                }
                Ok(slots)
            })
            .await
    }
}

/// Where the latest slot of a purpose and reference stands.
pub(crate) fn slot_state(
    tx: &Transaction<'_>,
    purpose: Purpose,
    reference: &str,
) -> Result<Option<SlotState>, Error> {
    let row: Option<(String, Option<bool>, Option<Blob<B256>>)> = tx
        .prepare(
            "SELECT state, success, tx_hash FROM slots WHERE purpose = ?1 AND reference = ?2
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row((purpose.as_str(), reference), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match row {
        None => Ok(None),
        Some((state, _, _)) if state == "open" => Ok(Some(SlotState::Open)),
        Some((state, _, _)) if state == "lost" => Ok(Some(SlotState::Lost)),
        Some((_, Some(success), Some(Blob(transaction)))) => {
            Ok(Some(SlotState::Mined { success, transaction }))
        }
        Some(_) => Err(Error::Damaged("slot")),
    }
}

fn attempts_of(tx: &Transaction<'_>, slot: i64) -> Result<Vec<Attempt>, Error> {
    let mut statement = tx.prepare(
        "SELECT tx_hash, raw, max_fee, priority, signed_ms, sent_ms FROM attempts
         WHERE slot = ?1 ORDER BY signed_ms, rowid",
    )?;
    let rows = statement.query_map([slot], |row| {
        Ok((
            row.get::<_, Blob<B256>>(0)?.0,
            row.get::<_, Vec<u8>>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?,
            uint(row.get(4)?),
            uint(row.get(5)?),
        ))
    })?;
    rows.map(|row| {
        let (hash, raw, max_fee, priority, signed_ms, sent_ms) = row?;
        let fee = |text: &str| text.parse().map_err(|_| Error::Damaged("fee"));
        let fees = Fees { max_fee: fee(&max_fee)?, priority: fee(&priority)? };
        Ok(Attempt { hash, raw, fees, signed_ms, sent_ms })
    })
    .collect()
}

fn insert_attempt(tx: &Transaction<'_>, slot: i64, attempt: &Attempt) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO attempts VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            Blob(attempt.hash),
            slot,
            &attempt.raw,
            attempt.fees.max_fee.to_string(),
            attempt.fees.priority.to_string(),
            int(attempt.signed_ms),
            int(attempt.sent_ms),
        ),
    )?;
    Ok(())
}
