//! What the gateway needs from the payment and verification chains, as traits; and the worker that hands finished
//! requests over until they are settled.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use async_trait::async_trait;
use futures::StreamExt as _;
use og_primitives::TeeId;
use og_receipt::Receipt;
use og_x402::verify::{InvalidReason, VerifiedPayment};
use og_x402::{PaymentId, PaymentPayload, PaymentRequirements};
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::books::Books;

/// What a payer could pay now, in base units of the payment's token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spendable {
    /// The payer's balance.
    pub balance: U256,
    /// What Permit2 may move of it; the maximum when a sponsored permit will allow it.
    pub allowance: U256,
}

/// Why funds could not be told.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FundsError {
    /// The payment can never be settled, for example because its nonce is used.
    #[error("{0}")]
    Refused(InvalidReason),
    /// The payment chain cannot be asked now.
    #[error("the payment chain cannot be asked: {0}")]
    Unavailable(String),
}

/// Looks at the payment chain.
#[async_trait]
pub trait Funds: Send + Sync {
    /// Balance and allowance of the payer, and whether the payment's nonce is still free.
    ///
    /// # Errors
    /// See [`FundsError`].
    async fn spendable(&self, payment: &VerifiedPayment) -> Result<Spendable, FundsError>;
}

/// A payment to settle.
#[derive(Clone, Debug, PartialEq)]
pub struct PaymentJob {
    /// Which payment; the key under which settling is idempotent.
    pub payment: PaymentId,
    /// What the client signed.
    pub payload: PaymentPayload,
    /// The offer it answered, with the cap as its amount.
    pub requirements: PaymentRequirements,
    /// What is charged: the total of the signed receipt.
    pub amount: U256,
    /// Last moment at which it can be settled, Unix seconds.
    pub deadline_secs: u64,
}

/// Evidence to anchor.
#[derive(Clone, Debug)]
pub struct EvidenceJob {
    /// The signed receipt; its claims hold the legacy leaf and the settlement mode.
    pub receipt: Receipt,
    /// The request body, in mode `individual`, which publishes it.
    pub input: Option<Bytes>,
    /// The answer's text, in mode `individual`, which publishes it.
    pub output: Option<String>,
}

/// A sign of life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// The enclave.
    pub tee_id: TeeId,
    /// Signed time, Unix seconds.
    pub timestamp: u64,
    /// RSA-PSS signature over `keccak(teeId ‖ u256(timestamp))`.
    pub signature: Vec<u8>,
    /// The registry.
    pub registry: Address,
}

/// How far a payment has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Settled {
    /// The facilitator holds it durably.
    Pending,
    /// The amount has moved.
    Done {
        /// In which transaction; none when the amount is zero.
        transaction: Option<B256>,
    },
    /// It can never be collected.
    Failed {
        /// The reason code.
        reason: String,
    },
    /// The facilitator does not know it; it must be handed over again.
    Unknown,
}

/// Why something could not be handed over.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SettlementError {
    /// Not now; it is tried again.
    #[error("{0}")]
    Unavailable(String),
    /// Never.
    #[error("refused: {0}")]
    Refused(String),
}

/// The facilitator, as the gateway sees it. All calls are idempotent.
#[async_trait]
pub trait Settlement: Send + Sync {
    /// Takes a payment durably, to settle exactly its amount.
    ///
    /// # Errors
    /// See [`SettlementError`].
    async fn settle(&self, job: &PaymentJob) -> Result<Settled, SettlementError>;

    /// How far a payment has come.
    ///
    /// # Errors
    /// See [`SettlementError`].
    async fn settled(&self, payment: PaymentId) -> Result<Settled, SettlementError>;

    /// Takes evidence durably, to anchor it. Never called in mode `private`.
    ///
    /// # Errors
    /// See [`SettlementError`].
    async fn settle_data(&self, job: &EvidenceJob) -> Result<(), SettlementError>;

    /// Relays a heartbeat to the registry; answers with the transaction.
    ///
    /// # Errors
    /// See [`SettlementError`].
    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<B256, SettlementError>;
}

/// Longest pause between attempts.
const RETRY_MAX: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(100);

/// Settlements in the air at once.
const AT_ONCE: usize = 16;

/// Hands over what is answered and asks after what is handed over, until stopped.
pub(crate) async fn work(
    books: Arc<Books>,
    settlement: Arc<dyn Settlement>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut pause = RETRY_MIN;
    loop {
        let quiet = round(&books, settlement.as_ref()).await;
        let waiting = books.open_settlements() > 0;
        pause = if quiet { (pause * 2).min(RETRY_MAX) } else { RETRY_MIN };
        let rest = if waiting { pause } else { Duration::from_secs(30) };
        tokio::select! {
            () = wake.notified() => pause = RETRY_MIN,
            () = tokio::time::sleep(rest) => {}
            () = stop.cancelled() => {
                // One last attempt, so that a clean stop leaves as little as possible to the next start.
                round(&books, settlement.as_ref()).await;
                return;
            }
        }
    }
}

/// One pass over everything open; whether nothing moved.
async fn round(books: &Books, settlement: &dyn Settlement) -> bool {
    let taken = futures::stream::iter(books.to_hand_over()).map(|payment| async move {
        let result = hand_over(books, settlement, payment).await;
        if let Err(error) = &result {
            tracing::warn!(%payment, %error, "settlement is not taken; it stays in the journal");
        }
        result.is_ok()
    });
    let mut moved =
        taken.buffer_unordered(AT_ONCE).fold(false, |any, moved| async move { any | moved }).await;
    let confirmed = futures::stream::iter(books.to_confirm())
        .map(|payment| confirm(books, settlement, payment));
    moved |= confirmed
        .buffer_unordered(AT_ONCE)
        .fold(false, |any, moved| async move { any | moved })
        .await;
    books.forget().await;
    !moved
}

/// Asks after a payment that was handed over; whether it has ended.
async fn confirm(books: &Books, settlement: &dyn Settlement, payment: PaymentId) -> bool {
    match settlement.settled(payment).await {
        Ok(Settled::Pending) => false,
        Ok(Settled::Unknown) => {
            if let Err(error) = hand_over(books, settlement, payment).await {
                tracing::warn!(%payment, %error, "a lost settlement is not taken again");
            }
            false
        }
        Ok(end) => {
            books.note_settled(payment, end).await;
            true
        }
        Err(error) => {
            tracing::debug!(%payment, %error, "settlement cannot be asked after");
            false
        }
    }
}

async fn hand_over(
    books: &Books,
    settlement: &dyn Settlement,
    payment: PaymentId,
) -> Result<(), SettlementError> {
    let Some((job, evidence)) = books.jobs(payment) else {
        return Err(SettlementError::Unavailable("its journal entry cannot be read".into()));
    };
    if let Some(evidence) = evidence {
        match settlement.settle_data(&evidence).await {
            Ok(()) => {}
            Err(error @ SettlementError::Unavailable(_)) => return Err(error),
            // The payment is owed all the same.
            Err(error) => {
                tracing::error!(%payment, %error, "evidence is refused and stays unanchored");
            }
        }
    }
    if job.amount.is_zero() {
        books.note_settled(payment, Settled::Done { transaction: None }).await;
        return Ok(());
    }
    match settlement.settle(&job).await {
        Ok(end) => {
            books.note_settled(payment, end).await;
            Ok(())
        }
        Err(SettlementError::Refused(reason)) => {
            tracing::error!(%payment, %reason, "a payment is refused; the answer was given for nothing");
            books.note_settled(payment, Settled::Failed { reason }).await;
            Ok(())
        }
        Err(error) => Err(error),
    }
}
