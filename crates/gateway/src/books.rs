//! The ledger with its journal, the requests that wait for one another, and the answers kept.
//!
//! Every change is decided by [`og_meter::step`] under one lock and queued for the journal in that order; callers
//! act only after it is durable.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{B256, Bytes};
use og_meter::{Entry, Input, Ledger, Limits, Outcome, Refused, State, step};
use og_primitives::ReceiptDigest;
use og_primitives::cbor::{Rules, Value};
use og_receipt::Receipt;
use og_x402::{PaymentId, PaymentPayload, PaymentRequirements};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::answers::Answers;
use crate::clock::Clock;
use crate::error::ApiError;
use crate::journal::{self, Durable, Journal};
use crate::settlement::{EvidenceJob, PaymentJob, Settled};

/// What a request that runs twice waits for.
pub(crate) type Ending = watch::Receiver<Option<Result<(), ApiError>>>;

/// All payments, durable.
pub struct Books {
    inner: Mutex<Inner>,
    journal: Journal,
    /// Set when something could not be made durable: from then on nothing is taken and nothing is collected.
    stopped: AtomicBool,
    clock: Arc<dyn Clock>,
    /// The answers kept.
    pub answers: Answers,
}

struct Inner {
    ledger: Ledger,
    running: HashMap<PaymentId, watch::Sender<Option<Result<(), ApiError>>>>,
    receipts: BTreeMap<ReceiptDigest, PaymentId>,
}

/// The payment as it must be settled: the ledger's opaque context.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Context {
    pub(crate) payload: PaymentPayload,
    pub(crate) requirements: PaymentRequirements,
}

/// What a finished request leaves behind: the ledger's opaque answer.
#[derive(Clone, Debug)]
pub(crate) struct Leavings {
    pub(crate) receipt: Vec<u8>,
    pub(crate) published: Option<(Vec<u8>, String)>,
}

/// What to do with a request that presents a payment.
pub(crate) enum Admission {
    /// Serve it.
    Serve,
    /// The same request is being answered: wait for its end.
    Wait(Ending),
    /// The same request was answered.
    Answered,
}

/// A finished request as it can be fetched again.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The payment.
    pub payment: PaymentId,
    /// COSE bytes of the receipt.
    pub receipt: Vec<u8>,
    /// Where the money stands, in one word.
    pub state: &'static str,
    /// The settling transaction, once there is one.
    pub transaction: Option<B256>,
}

impl Books {
    /// Opens the journal in `folder`.
    ///
    /// # Errors
    /// See [`journal::Error`].
    pub fn open(
        folder: &Path,
        limits: Limits,
        answer_bytes_max: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, journal::Error> {
        let (journal, ledger) = Journal::open(folder, limits, clock.now_secs())?;
        let receipts = ledger
            .entries()
            .filter_map(|(payment, entry)| Some((entry.state.bill()?.receipt, *payment)))
            .collect();
        let inner = Inner { ledger, running: HashMap::new(), receipts };
        let answers = Answers::new(folder, answer_bytes_max);
        Ok(Self {
            inner: Mutex::new(inner),
            journal,
            stopped: AtomicBool::new(false),
            clock,
            answers,
        })
    }

    /// Whether the journal failed: nothing is taken and nothing is collected any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// What the ledger knows of a payment.
    pub fn entry(&self, payment: PaymentId) -> Option<Entry> {
        self.lock().ledger.entry(&payment).cloned()
    }

    /// Payments that are answered and not settled yet.
    pub fn open_settlements(&self) -> usize {
        let inner = self.lock();
        inner.ledger.to_hand_over().count() + inner.ledger.to_confirm().count()
    }

    /// A finished request, by its receipt.
    pub fn finished(&self, receipt: ReceiptDigest) -> Option<Finished> {
        let inner = self.lock();
        let payment = *inner.receipts.get(&receipt)?;
        let state = &inner.ledger.entry(&payment)?.state;
        let leavings = Leavings::decode(&state.bill()?.answer)?;
        let transaction = match state {
            State::Settled { transaction, .. } => *transaction,
            _ => None,
        };
        Some(Finished { payment, receipt: leavings.receipt, state: state.word(), transaction })
    }

    /// Takes a payment for a request, durably.
    pub(crate) async fn admit(
        &self,
        reserve: Input,
    ) -> Result<Result<Admission, Refused>, journal::Error> {
        let Input::Reserve { payment, .. } = reserve else { return Ok(Err(Refused::Unknown)) };
        let (admission, durable) = {
            let mut inner = self.lock();
            match self.step(&mut inner, reserve) {
                Err(refused) => return Ok(Err(refused)),
                Ok((Outcome::Joined, durable)) => match inner.running.get(&payment) {
                    Some(running) => (Admission::Wait(running.subscribe()), durable),
                    None => return Ok(Err(Refused::Unknown)),
                },
                Ok((Outcome::Stored(_), durable)) => (Admission::Answered, durable),
                Ok((Outcome::Reserved, durable)) => {
                    inner.running.insert(payment, watch::channel(None).0);
                    (Admission::Serve, durable)
                }
                Ok((Outcome::Done | Outcome::Already, _)) => return Ok(Err(Refused::Unknown)),
            }
        };
        self.durable(durable).await?;
        Ok(Ok(admission))
    }

    /// Notes the bill of an answered request, durably. Those who wait are told by [`Self::finish`].
    pub(crate) async fn bill(
        &self,
        payment: PaymentId,
        receipt: &Receipt,
        leavings: &Leavings,
    ) -> Result<(), journal::Error> {
        let digest = receipt.digest();
        let durable = {
            let mut inner = self.lock();
            let input = Input::Answer {
                payment,
                receipt: digest,
                total: receipt.claims().total,
                answer: leavings.encode(),
            };
            let durable = self.step(&mut inner, input).map(|(_, durable)| durable);
            inner.receipts.insert(digest, payment);
            durable
        };
        match durable {
            Ok(durable) => self.durable(durable).await,
            Err(refused) => {
                // The total is bounded by what was reserved; anything else is a fault of ours, and nobody is charged.
                tracing::error!(%payment, %refused, "a bill does not fit its reservation");
                Err(journal::Error::Stopped)
            }
        }
    }

    /// Gives a payment back and tells those who wait, durably where possible: a crash before it is durable gives it
    /// back too.
    pub(crate) async fn release(&self, payment: PaymentId, error: &ApiError) {
        let (stepped, running) = {
            let mut inner = self.lock();
            let release = Input::Release { payment, reason: error.code.as_str().to_owned() };
            // Both at once: the same request may come again the moment the payment is free.
            (self.step(&mut inner, release), inner.running.remove(&payment))
        };
        if let Ok((_, durable)) = stepped {
            let _ = self.durable(durable).await;
        }
        if let Some(running) = running {
            let _ = running.send(Some(Err(error.clone())));
        }
    }

    /// Tells those who wait that the answer is there.
    pub(crate) fn finish(&self, payment: PaymentId) {
        let running = self.lock().running.remove(&payment);
        if let Some(running) = running {
            let _ = running.send(Some(Ok(())));
        }
    }

    pub(crate) fn to_hand_over(&self) -> Vec<PaymentId> {
        if self.is_stopped() {
            return Vec::new();
        }
        self.lock().ledger.to_hand_over().collect()
    }

    pub(crate) fn to_confirm(&self) -> Vec<PaymentId> {
        self.lock().ledger.to_confirm().collect()
    }

    /// What is to be handed over for a payment; `None` when the entry cannot be read.
    pub(crate) fn jobs(&self, payment: PaymentId) -> Option<(PaymentJob, Option<EvidenceJob>)> {
        let entry = self.entry(payment)?;
        let bill = entry.state.bill()?;
        let context: Context = serde_json::from_slice(&entry.context).ok()?;
        let leavings = Leavings::decode(&bill.answer)?;
        let receipt = Receipt::decode(&leavings.receipt).ok()?;
        let job = PaymentJob {
            payment,
            payload: context.payload,
            requirements: context.requirements,
            amount: bill.total,
            deadline_secs: entry.deadline_secs,
        };
        let (input, output) = leavings.published.map(|(i, o)| (i.into(), o)).unzip();
        let private = receipt.claims().mode == og_receipt::SettlementMode::Private;
        Some((job, (!private).then_some(EvidenceJob { receipt, input, output })))
    }

    /// Notes how far a settlement has come.
    pub(crate) async fn note_settled(&self, payment: PaymentId, settled: Settled) {
        let durable = {
            let mut inner = self.lock();
            let total =
                inner.ledger.entry(&payment).and_then(|entry| Some(entry.state.bill()?.total));
            let input = match settled {
                Settled::Pending | Settled::Unknown => Input::HandOver { payment },
                Settled::Done { transaction } => {
                    Input::Settle { payment, amount: total.unwrap_or_default(), transaction }
                }
                Settled::Failed { reason } => Input::Reject { payment, reason },
            };
            self.step(&mut inner, input)
        };
        match durable {
            Ok((_, durable)) => {
                let _ = self.durable(durable).await;
            }
            Err(refused) => {
                tracing::error!(%payment, %refused, "a settlement does not fit its entry");
            }
        }
    }

    /// Drops what is over and too old to be asked for again.
    pub(crate) async fn forget(&self) {
        let durable = {
            let mut inner = self.lock();
            let stepped = self.step(&mut inner, Input::Forget);
            let Inner { ledger, receipts, .. } = &mut *inner;
            receipts.retain(|_, payment| ledger.entry(payment).is_some());
            stepped
        };
        if let Ok((_, durable)) = durable {
            let _ = self.durable(durable).await;
        }
    }

    async fn durable(&self, durable: Durable) -> Result<(), journal::Error> {
        let result = durable.wait().await;
        if result.is_err() {
            self.stopped.store(true, Ordering::SeqCst);
        }
        result
    }

    fn step(&self, inner: &mut Inner, input: Input) -> Result<(Outcome, Durable), Refused> {
        let effects = step(&mut inner.ledger, input, self.clock.now_secs())?;
        Ok((effects.outcome, self.journal.append(effects.records)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl core::fmt::Debug for Books {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}

impl Leavings {
    fn encode(&self) -> Bytes {
        let mut map = vec![(Value::Uint(1), Value::bytes(self.receipt.clone()))];
        if let Some((input, output)) = &self.published {
            map.push((Value::Uint(2), Value::bytes(input.clone())));
            map.push((Value::Uint(3), Value::text(output.clone())));
        }
        Value::Map(map).encode().into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let rules = Rules { input_bytes_max: 16 << 20, ..Rules::DETERMINISTIC };
        let Ok(Value::Map(map)) = Value::decode(bytes, rules) else { return None };
        let mut receipt = None;
        let (mut input, mut output) = (None, None);
        for entry in map {
            match entry {
                (Value::Uint(1), Value::Bytes(bytes)) => receipt = Some(bytes),
                (Value::Uint(2), Value::Bytes(bytes)) => input = Some(bytes),
                (Value::Uint(3), Value::Text(text)) => output = Some(text),
                _ => return None,
            }
        }
        Some(Self { receipt: receipt?, published: input.zip(output) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leavings_read_back_and_mutants_are_refused() {
        for published in [None, Some((vec![1, 2, 3], "out".to_owned()))] {
            let leavings = Leavings { receipt: vec![9; 40], published };
            let bytes = leavings.encode();
            let read = Leavings::decode(&bytes).unwrap();
            assert_eq!((read.receipt, read.published), (leavings.receipt, leavings.published));
            for cut in 0..bytes.len() {
                assert!(Leavings::decode(&bytes[..cut]).is_none());
            }
            for at in 0..bytes.len() {
                for flip in [1, 0x20, 0x80, 0xff] {
                    let mut mutant = bytes.to_vec();
                    mutant[at] ^= flip;
                    let _ = Leavings::decode(&mutant);
                }
            }
        }
    }
}
