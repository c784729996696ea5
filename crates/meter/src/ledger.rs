//! The exactly-once state machine.
//!
//! ```text
//!             Reserve            Answer              HandOver               Settle
//!  (unknown) ────────▶ Reserved ────────▶ Answered ──────────▶ HandedOver ─────────▶ Settled
//!      ▲                  │ Release           │ Settle / Reject     │ Reject
//!      │ Forget           ▼ ▲ Reserve         ▼                     ▼
//!      └───────────── Released            Settled, Rejected      Rejected
//! ```
//!
//! One payment is bound to one request digest for good: a repetition of the same request joins it or gets the
//! stored answer, another request is refused. The charge is the total of the one receipt in the entry.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};
use og_primitives::ReceiptDigest;
use og_x402::PaymentId;
use thiserror::Error;

use crate::entry::records_of;
pub use crate::entry::{Bill, Entry, Exposure, State};
use crate::price::AssetId;
use crate::record::Record;

/// What is refused for everybody's sake. All of it is local policy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most payments of one payer in one token that are reserved or unsettled at a time.
    pub in_flight_per_payer_max: u32,
    /// A payment with less than this left to live is refused, so that it can still be settled. In seconds.
    pub deadline_margin_secs: u64,
    /// A payment with more than this left to live is refused, so that it can be forgotten one day. In seconds.
    pub deadline_ahead_secs_max: u64,
    /// How long after its deadline a payment that is over is remembered, with its answer. In seconds.
    pub retention_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_per_payer_max: 64,
            deadline_margin_secs: 10,
            deadline_ahead_secs_max: 2 * 3_600,
            retention_secs: 3_600,
        }
    }
}

/// All payments that can still matter.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    limits: Limits,
    entries: BTreeMap<PaymentId, Entry>,
    exposures: BTreeMap<(Address, AssetId), Exposure>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A request presents a verified payment.
    Reserve {
        /// The payment.
        payment: PaymentId,
        /// Who pays.
        payer: Address,
        /// With which token.
        asset: AssetId,
        /// Digest of the request.
        request: B256,
        /// The most that the request can cost.
        bound: U256,
        /// The most that the payer permitted.
        permitted: U256,
        /// Last moment at which the payment can be settled, Unix seconds.
        deadline_secs: u64,
        /// The payer's balance (or allowance, if lower) when it is known.
        balance: Option<U256>,
        /// The payment as it must be settled; opaque.
        context: Bytes,
    },
    /// The request was answered and the bill signed.
    Answer {
        /// The payment.
        payment: PaymentId,
        /// The receipt.
        receipt: ReceiptDigest,
        /// The receipt's total.
        total: U256,
        /// What a repeated request gets, or where that is found; opaque.
        answer: Bytes,
    },
    /// The request came to nothing.
    Release {
        /// The payment.
        payment: PaymentId,
        /// Why, as a code.
        reason: String,
    },
    /// The facilitator holds the settlement durably.
    HandOver {
        /// The payment.
        payment: PaymentId,
    },
    /// The payment chain has moved the total.
    Settle {
        /// The payment.
        payment: PaymentId,
        /// What moved, as the chain says.
        amount: U256,
        /// The transaction; none when the total is zero.
        transaction: Option<B256>,
    },
    /// The settlement failed for good.
    Reject {
        /// The payment.
        payment: PaymentId,
        /// Why, as a code.
        reason: String,
    },
    /// Time to drop what is over and too old to be presented again.
    Forget,
}

/// What a step did. `records` are appended and made durable before the outcome is acted upon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effects {
    /// The records to append, in order; none when nothing changed.
    pub records: Vec<Record>,
    /// What to do now.
    pub outcome: Outcome,
}

/// What to do after a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The payment is taken for this request: serve it.
    Reserved,
    /// The same request is being answered already: wait for it.
    Joined,
    /// The same request was answered: return that.
    Stored(Bill),
    /// The change is made.
    Done,
    /// It was made before; nothing changed.
    Already,
}

/// Why a step is refused. Nothing changed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refused {
    /// The payment is bound to another request.
    #[error("the payment was used for another request")]
    AlreadyUsed {
        /// Where the money of that request stands, see [`State::word`].
        money: &'static str,
    },
    /// The request may cost more than the payer permitted.
    #[error("the request may cost {bound}, above the permitted {permitted}")]
    AbovePermitted {
        /// The most that the request can cost.
        bound: U256,
        /// The most that the payer permitted.
        permitted: U256,
    },
    /// The payer's balance does not cover this request and the open ones.
    #[error("a balance of {balance} does not cover {needed} and the {open} of open requests")]
    BalanceTooLow {
        /// The balance given.
        balance: U256,
        /// The bound of this request.
        needed: U256,
        /// The exposure of the open ones.
        open: U256,
    },
    /// The payer has too many open requests.
    #[error("more than {max} open requests of one payer")]
    TooManyInFlight {
        /// The limit.
        max: u32,
    },
    /// The payment cannot be settled in time.
    #[error("the payment has less than {margin_secs} seconds to live")]
    DeadlineTooClose {
        /// What it should have.
        margin_secs: u64,
    },
    /// The payment lives so long that it would have to be remembered forever.
    #[error("the payment has more than {max_secs} seconds to live")]
    DeadlineTooFar {
        /// What it may have.
        max_secs: u64,
    },
    /// The receipt bills more than the payer permitted.
    #[error("a total of {total} is above the permitted {permitted}")]
    TotalAbovePermitted {
        /// The receipt's total.
        total: U256,
        /// The most that the payer permitted.
        permitted: U256,
    },
    /// The chain moved another amount than was billed.
    #[error("{amount} moved, {total} was billed")]
    AmountDiffers {
        /// What moved.
        amount: U256,
        /// What was billed.
        total: U256,
    },
    /// No such payment is open or remembered.
    #[error("the payment is not known")]
    Unknown,
    /// The payment is not where this could happen.
    #[error("the payment is {state}")]
    WrongState {
        /// Where it is, see [`State::word`].
        state: &'static str,
    },
}

/// Why a log is not one that [`step`] wrote.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("record {position} cannot follow those before it")]
pub struct ReplayError {
    /// Number of the record in the log.
    pub position: usize,
}

/// Decides on an input and applies it.
///
/// # Errors
/// [`Refused`]; the ledger is unchanged.
pub fn step(ledger: &mut Ledger, input: Input, now_secs: u64) -> Result<Effects, Refused> {
    let effects = ledger.decide(input, now_secs)?;
    for record in &effects.records {
        // `decide` only writes records that fit; a test replays every log.
        let applied = ledger.apply(record.clone());
        debug_assert!(applied.is_some(), "a decided record applies");
    }
    Ok(effects)
}

impl Ledger {
    /// An empty ledger.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The ledger that a log leads to.
    ///
    /// # Errors
    /// [`ReplayError`] at the first record that could not have been written.
    pub fn replay(
        limits: Limits,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, ReplayError> {
        let mut ledger = Self::new(limits);
        for (position, record) in records.into_iter().enumerate() {
            ledger.apply(record).ok_or(ReplayError { position })?;
        }
        Ok(ledger)
    }

    /// One payment.
    pub fn entry(&self, payment: &PaymentId) -> Option<&Entry> {
        self.entries.get(payment)
    }

    /// Every payment, in the order of ids.
    pub fn entries(&self) -> impl Iterator<Item = (&PaymentId, &Entry)> {
        self.entries.iter()
    }

    /// Payments whose request was being answered: after a restart, to be released.
    pub fn interrupted(&self) -> impl Iterator<Item = PaymentId> {
        self.in_state(|state| matches!(state, State::Reserved))
    }

    /// Payments whose settlement is still ours to hand over.
    pub fn to_hand_over(&self) -> impl Iterator<Item = PaymentId> {
        self.in_state(|state| matches!(state, State::Answered(_)))
    }

    /// Payments whose settlement the facilitator holds and whose end is not known yet.
    pub fn to_confirm(&self) -> impl Iterator<Item = PaymentId> {
        self.in_state(|state| matches!(state, State::HandedOver(_)))
    }

    /// What a payer's open payments in a token may take together.
    pub fn exposure(&self, payer: Address, asset: AssetId) -> Exposure {
        self.exposures.get(&(payer, asset)).copied().unwrap_or_default()
    }

    /// The records that bring a new log to this ledger's state: for compacting a log.
    pub fn snapshot(&self) -> Vec<Record> {
        self.entries.iter().flat_map(|(payment, entry)| records_of(*payment, entry)).collect()
    }

    fn in_state(&self, wanted: fn(&State) -> bool) -> impl Iterator<Item = PaymentId> {
        self.entries.iter().filter(move |(_, entry)| wanted(&entry.state)).map(|(id, _)| *id)
    }

    fn decide(&self, input: Input, now_secs: u64) -> Result<Effects, Refused> {
        let at_secs = now_secs;
        match input {
            Input::Reserve { .. } => self.decide_reserve(input, now_secs),
            Input::Answer { payment, receipt, total, answer } => {
                let entry = self.known(&payment)?;
                match &entry.state {
                    State::Reserved if total > entry.permitted => {
                        Err(Refused::TotalAbovePermitted { total, permitted: entry.permitted })
                    }
                    State::Reserved => {
                        Ok(done(Record::Answered { payment, receipt, total, at_secs, answer }))
                    }
                    state => already_if(
                        state,
                        state.bill().is_some_and(|bill| {
                            bill.receipt == receipt && bill.total == total && bill.answer == answer
                        }),
                    ),
                }
            }
            Input::Release { payment, reason } => match &self.known(&payment)?.state {
                State::Reserved => Ok(done(Record::Released { payment, reason, at_secs })),
                state => already_if(state, matches!(state, State::Released { .. })),
            },
            Input::HandOver { payment } => match &self.known(&payment)?.state {
                State::Answered(_) => Ok(done(Record::HandedOver { payment, at_secs })),
                state => already_if(
                    state,
                    matches!(
                        state,
                        State::HandedOver(_) | State::Settled { .. } | State::Rejected { .. }
                    ),
                ),
            },
            Input::Settle { payment, amount, transaction } => match &self.known(&payment)?.state {
                State::Answered(bill) | State::HandedOver(bill) if amount != bill.total => {
                    Err(Refused::AmountDiffers { amount, total: bill.total })
                }
                State::Answered(_) | State::HandedOver(_) => {
                    Ok(done(Record::Settled { payment, transaction, at_secs }))
                }
                state => already_if(
                    state,
                    matches!(state, State::Settled { bill, transaction: before }
                        if bill.total == amount && *before == transaction),
                ),
            },
            Input::Reject { payment, reason } => match &self.known(&payment)?.state {
                State::Answered(_) | State::HandedOver(_) => {
                    Ok(done(Record::Rejected { payment, reason, at_secs }))
                }
                state => already_if(state, matches!(state, State::Rejected { .. })),
            },
            Input::Forget => {
                let records = self
                    .entries
                    .iter()
                    .filter(|(_, entry)| {
                        let until = entry.deadline_secs.saturating_add(self.limits.retention_secs);
                        entry.state.is_over() && until < now_secs
                    })
                    .map(|(payment, _)| Record::Forgotten { payment: *payment })
                    .collect();
                Ok(Effects { records, outcome: Outcome::Done })
            }
        }
    }

    fn decide_reserve(&self, input: Input, now_secs: u64) -> Result<Effects, Refused> {
        let Input::Reserve {
            payment,
            payer,
            asset,
            request,
            bound,
            permitted,
            deadline_secs,
            balance,
            context,
        } = input
        else {
            return Err(Refused::Unknown);
        };
        if let Some(entry) = self.entries.get(&payment) {
            if entry.request != request {
                return Err(Refused::AlreadyUsed { money: entry.state.word() });
            }
            let outcome = match &entry.state {
                State::Reserved => Some(Outcome::Joined),
                // It failed and cost nothing: the same request may try again.
                State::Released { .. } => None,
                State::Answered(bill)
                | State::HandedOver(bill)
                | State::Settled { bill, .. }
                | State::Rejected { bill, .. } => Some(Outcome::Stored(bill.clone())),
            };
            if let Some(outcome) = outcome {
                return Ok(Effects { records: Vec::new(), outcome });
            }
        }
        let limits = &self.limits;
        if bound > permitted {
            return Err(Refused::AbovePermitted { bound, permitted });
        }
        if deadline_secs < now_secs.saturating_add(limits.deadline_margin_secs) {
            return Err(Refused::DeadlineTooClose { margin_secs: limits.deadline_margin_secs });
        }
        if deadline_secs > now_secs.saturating_add(limits.deadline_ahead_secs_max) {
            return Err(Refused::DeadlineTooFar { max_secs: limits.deadline_ahead_secs_max });
        }
        let open = self.exposure(payer, asset);
        if open.payments >= limits.in_flight_per_payer_max {
            return Err(Refused::TooManyInFlight { max: limits.in_flight_per_payer_max });
        }
        let needed = open.amount.saturating_add(bound);
        if let Some(balance) = balance.filter(|balance| *balance < needed) {
            return Err(Refused::BalanceTooLow { balance, needed: bound, open: open.amount });
        }
        Ok(Effects {
            records: vec![Record::Reserved {
                payment,
                payer,
                asset,
                request,
                bound,
                permitted,
                deadline_secs,
                at_secs: now_secs,
                context,
            }],
            outcome: Outcome::Reserved,
        })
    }

    fn known(&self, payment: &PaymentId) -> Result<&Entry, Refused> {
        self.entries.get(payment).ok_or(Refused::Unknown)
    }

    /// Applies a record; `None`, with the ledger unchanged, when it cannot follow what was before.
    fn apply(&mut self, record: Record) -> Option<()> {
        let payment = record.payment();
        let before = self.entries.get(&payment);
        let after = match record {
            Record::Reserved {
                payer,
                asset,
                request,
                bound,
                permitted,
                deadline_secs,
                at_secs,
                context,
                ..
            } => {
                let again = |before: &Entry| {
                    matches!(before.state, State::Released { .. }) && before.request == request
                };
                if bound > permitted || !before.is_none_or(again) {
                    return None;
                }
                Some(Entry {
                    payer,
                    asset,
                    request,
                    bound,
                    permitted,
                    deadline_secs,
                    changed_secs: at_secs,
                    context,
                    state: State::Reserved,
                })
            }
            Record::Answered { receipt, total, at_secs, answer, .. } => {
                let entry = before.filter(|entry| total <= entry.permitted)?;
                matches!(entry.state, State::Reserved).then_some(())?;
                Some(entry.with(State::Answered(Bill { receipt, total, answer }), at_secs))
            }
            Record::HandedOver { at_secs, .. } => {
                let State::Answered(bill) = &before?.state else { return None };
                Some(before?.with(State::HandedOver(bill.clone()), at_secs))
            }
            Record::Settled { transaction, at_secs, .. } => {
                let bill = before?.unsettled_bill()?;
                Some(before?.with(State::Settled { bill, transaction }, at_secs))
            }
            Record::Rejected { reason, at_secs, .. } => {
                let bill = before?.unsettled_bill()?;
                Some(before?.with(State::Rejected { bill, reason }, at_secs))
            }
            Record::Released { reason, at_secs, .. } => {
                matches!(before?.state, State::Reserved).then_some(())?;
                Some(before?.with(State::Released { reason }, at_secs))
            }
            Record::Forgotten { .. } => {
                before?.state.is_over().then_some(())?;
                None
            }
        };
        if let Some(before) = self.entries.remove(&payment) {
            self.exposures.entry((before.payer, before.asset)).and_modify(|exposure| {
                exposure.amount = exposure.amount.saturating_sub(before.exposure());
                exposure.payments =
                    exposure.payments.saturating_sub(u32::from(!before.state.is_over()));
            });
            if self.exposure(before.payer, before.asset) == Exposure::default() {
                self.exposures.remove(&(before.payer, before.asset));
            }
        }
        if let Some(after) = after {
            if !after.state.is_over() {
                let exposure = self.exposures.entry((after.payer, after.asset)).or_default();
                exposure.amount = exposure.amount.saturating_add(after.exposure());
                exposure.payments = exposure.payments.saturating_add(1);
            }
            self.entries.insert(payment, after);
        }
        Some(())
    }
}

fn done(record: Record) -> Effects {
    Effects { records: vec![record], outcome: Outcome::Done }
}

fn already_if(state: &State, already: bool) -> Result<Effects, Refused> {
    if already {
        Ok(Effects { records: Vec::new(), outcome: Outcome::Already })
    } else {
        Err(Refused::WrongState { state: state.word() })
    }
}
