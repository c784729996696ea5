//! A block with what came of it: senders, receipts, logs.

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Header, ReceiptEnvelope, Transaction, TxEnvelope};
use alloy_primitives::{Address, B256, Log};

use crate::block::{Block, timestamp_ms};

/// What came of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxOutcome {
    /// The receipt that the receipts root commits to.
    pub receipt: ReceiptEnvelope,
    /// Gas charged for this transaction alone.
    pub gas_used: u64,
    /// Price paid per unit of gas, wei.
    pub effective_gas_price: u128,
    /// Address of the contract that the transaction was to create, whether or not it succeeded.
    pub contract_address: Option<Address>,
    /// Place of the first log of this transaction in the block.
    pub first_log_index: u64,
}

/// A block that was executed, with senders and outcomes in the order of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedBlock {
    /// Keccak-256 of the RLP header.
    pub hash: B256,
    /// Header and transactions.
    pub block: Block,
    /// Sender of each transaction.
    pub senders: Vec<Address>,
    /// Outcome of each transaction.
    pub outcomes: Vec<TxOutcome>,
}

impl ExecutedBlock {
    /// Height.
    pub const fn number(&self) -> u64 {
        self.block.header.number
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.block.header
    }

    /// Time, ms since 1970.
    pub fn timestamp_ms(&self) -> u64 {
        // A block is only built or accepted with well-formed `extraData`.
        timestamp_ms(&self.block.header).unwrap_or(self.block.header.timestamp.saturating_mul(1000))
    }

    /// The transaction at an index, with its sender.
    pub fn transaction(&self, index: usize) -> Option<Recovered<&TxEnvelope>> {
        let tx = self.block.body.transactions.get(index)?;
        Some(Recovered::new_unchecked(tx, *self.senders.get(index)?))
    }

    /// All logs in order.
    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        self.outcomes.iter().flat_map(|outcome| outcome.receipt.logs())
    }
}

/// Derives outcomes from receipts: everything else follows from the block.
pub(crate) fn outcomes_of(
    block: &Block,
    senders: &[Address],
    receipts: Vec<ReceiptEnvelope>,
) -> Vec<TxOutcome> {
    let mut outcomes = Vec::with_capacity(receipts.len());
    let (mut gas_before, mut logs_before) = (0_u64, 0_u64);
    for ((tx, sender), receipt) in block.body.transactions.iter().zip(senders).zip(receipts) {
        let cumulative = receipt.cumulative_gas_used();
        let logs = u64::try_from(receipt.logs().len()).unwrap_or(u64::MAX);
        outcomes.push(TxOutcome {
            gas_used: cumulative.saturating_sub(gas_before),
            effective_gas_price: tx.effective_gas_price(block.header.base_fee_per_gas),
            contract_address: tx.to().is_none().then(|| sender.create(tx.nonce())),
            first_log_index: logs_before,
            receipt,
        });
        gas_before = cumulative;
        logs_before = logs_before.saturating_add(logs);
    }
    outcomes
}
