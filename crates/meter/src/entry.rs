//! One payment: where it stands, what it owes, and what it may still take.

use alloy_primitives::{Address, B256, Bytes, U256};
use og_primitives::ReceiptDigest;
use og_x402::PaymentId;

use crate::price::AssetId;
use crate::record::Record;

/// Where a payment stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// Taken for a request that is being answered. Nothing is owed yet.
    Reserved,
    /// Answered and billed; the settlement is still ours to hand over.
    Answered(Bill),
    /// The facilitator holds the settlement durably; it is *pending*.
    HandedOver(Bill),
    /// The total has moved.
    Settled {
        /// What was charged.
        bill: Bill,
        /// In which transaction; none when the total is zero.
        transaction: Option<B256>,
    },
    /// The request came to nothing and costs nothing.
    Released {
        /// Why, as a code.
        reason: String,
    },
    /// The total can never be collected; the payer was not charged.
    Rejected {
        /// What was billed.
        bill: Bill,
        /// Why, as a code.
        reason: String,
    },
}

impl State {
    /// The state of the money in one word, for error bodies.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Answered(_) | Self::HandedOver(_) => "pending",
            Self::Settled { .. } => "settled",
            Self::Released { .. } => "released",
            Self::Rejected { .. } => "rejected",
        }
    }

    /// The bill, once there is one.
    pub const fn bill(&self) -> Option<&Bill> {
        match self {
            Self::Answered(bill)
            | Self::HandedOver(bill)
            | Self::Settled { bill, .. }
            | Self::Rejected { bill, .. } => Some(bill),
            Self::Reserved | Self::Released { .. } => None,
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self, Self::Settled { .. } | Self::Released { .. } | Self::Rejected { .. })
    }
}

/// What a signed receipt bills.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bill {
    /// The receipt.
    pub receipt: ReceiptDigest,
    /// Its total: what is charged, never more and never twice.
    pub total: U256,
    /// What a repeated request gets, or where that is found.
    pub answer: Bytes,
}

/// One payment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Who pays.
    pub payer: Address,
    /// With which token.
    pub asset: AssetId,
    /// Digest of the request that it pays for.
    pub request: B256,
    /// The most that the request can cost.
    pub bound: U256,
    /// The most that the payer permitted.
    pub permitted: U256,
    /// Last moment at which the payment can be settled, Unix seconds.
    pub deadline_secs: u64,
    /// When it last changed, Unix seconds.
    pub changed_secs: u64,
    /// The payment as it must be settled; opaque.
    pub context: Bytes,
    /// Where it stands.
    pub state: State,
}

impl Entry {
    /// What this payment may still take from the payer's balance.
    pub fn exposure(&self) -> U256 {
        match &self.state {
            State::Reserved => self.bound,
            State::Answered(bill) | State::HandedOver(bill) => bill.total,
            State::Settled { .. } | State::Released { .. } | State::Rejected { .. } => U256::ZERO,
        }
    }
}

/// What a payer's open payments in one token may take together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Exposure {
    /// Sum of the bounds and of the unsettled totals.
    pub amount: U256,
    /// How many payments.
    pub payments: u32,
}

impl Entry {
    pub(crate) fn with(&self, state: State, at_secs: u64) -> Self {
        let mut entry = self.clone();
        entry.state = state;
        entry.changed_secs = at_secs;
        entry
    }

    pub(crate) fn unsettled_bill(&self) -> Option<Bill> {
        match &self.state {
            State::Answered(bill) | State::HandedOver(bill) => Some(bill.clone()),
            _ => None,
        }
    }
}

/// The records that lead to an entry.
pub(crate) fn records_of(payment: PaymentId, entry: &Entry) -> Vec<Record> {
    let at_secs = entry.changed_secs;
    let mut records = vec![Record::Reserved {
        payment,
        payer: entry.payer,
        asset: entry.asset,
        request: entry.request,
        bound: entry.bound,
        permitted: entry.permitted,
        deadline_secs: entry.deadline_secs,
        at_secs,
        context: entry.context.clone(),
    }];
    if let Some(Bill { receipt, total, answer }) = entry.state.bill().cloned() {
        records.push(Record::Answered { payment, receipt, total, at_secs, answer });
    }
    records.extend(match &entry.state {
        State::Reserved | State::Answered(_) => None,
        State::HandedOver(_) => Some(Record::HandedOver { payment, at_secs }),
        State::Settled { transaction, .. } => {
            Some(Record::Settled { payment, transaction: *transaction, at_secs })
        }
        State::Released { reason } => {
            Some(Record::Released { payment, reason: reason.clone(), at_secs })
        }
        State::Rejected { reason, .. } => {
            Some(Record::Rejected { payment, reason: reason.clone(), at_secs })
        }
    });
    records
}
