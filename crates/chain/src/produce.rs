//! Build a block from candidate transactions, and check a block that somebody else built.
//!
//! Both walk the same path: header from the parent, EIP-2935 call, transactions in order, roots. What a proposer
//! gets is therefore what every voter computes, before voting.

use std::sync::Arc;

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::transaction::{Recovered, SignerRecoverable};
use alloy_consensus::{
    Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction, TxEnvelope, TxReceipt,
};
use alloy_eips::eip1559::{BaseFeeParams, calc_next_block_base_fee};
use alloy_primitives::{Address, B256, Bloom, U256};
use alloy_rlp::Encodable;
use revm::context::result::ExecutionResult;

use crate::block::{BLOCK_BYTES_MAX, Block, block_hash, split_timestamp, timestamp_ms};
use crate::error::{BlockError, Error, TxError};
use crate::evm::{Executor, Failure, Mode, tx_env};
use crate::executed::{ExecutedBlock, outcomes_of};
use crate::genesis::{Genesis, empty_body, header_template};
use crate::precompile::Native;
use crate::state::{Layer, View, Workspace};
use crate::trie::seal_state;

/// No transaction costs less; a block with less gas left is full.
const TRANSACTION_GAS_MIN: u64 = 21_000;

/// Bytes of a block kept for its header and list heads when transactions are chosen.
const HEADER_BYTES_MARGIN: usize = 2048;

/// What a proposer asks for.
#[derive(Clone, Debug)]
pub struct ProposeRequest {
    /// Hash of the block to build on: the last finalised one or a pending one.
    pub parent: B256,
    /// Transactions to try, in this order. Those of one sender must be in the order of their nonces.
    pub candidates: Vec<Recovered<TxEnvelope>>,
    /// Time of the block, ms since 1970; the parent's when that is later.
    pub timestamp_ms: u64,
    /// Who receives the tips.
    pub beneficiary: Address,
}

/// A block that was built, and the candidates that are not in it.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The block; it is pending already.
    pub executed: Arc<ExecutedBlock>,
    /// Hashes of the candidates left out, with the reason.
    pub rejected: Vec<(B256, TxError)>,
}

/// The base fee of the block after `parent` (EIP-1559), never below the floor.
pub(crate) fn next_base_fee(parent: &Header, floor: u64) -> u64 {
    let next = calc_next_block_base_fee(
        parent.gas_used,
        parent.gas_limit,
        parent.base_fee_per_gas.unwrap_or(floor),
        BaseFeeParams::ethereum(),
    );
    next.max(floor)
}

/// The header of a child of `parent` before anything is executed.
fn child_header(
    parent: &ExecutedBlock,
    genesis: &Genesis,
    time_ms: u64,
    beneficiary: Address,
) -> Result<Header, Error> {
    let (timestamp, extra_data) = split_timestamp(time_ms);
    Ok(Header {
        parent_hash: parent.hash,
        beneficiary,
        number: parent.number().checked_add(1).ok_or(Error::OutOfRange)?,
        gas_limit: genesis.gas_limit,
        timestamp,
        extra_data,
        base_fee_per_gas: Some(next_base_fee(parent.header(), genesis.base_fee_floor)),
        ..header_template()
    })
}

/// A block in the making.
struct Run<'a> {
    executor: Executor<'a>,
    gas_limit: u64,
    gas_used: u64,
    receipts: Vec<ReceiptEnvelope>,
}

impl<'a> Run<'a> {
    fn start(
        workspace: &'a mut Workspace,
        header: &Header,
        genesis: &Genesis,
        native: &Arc<Native>,
    ) -> Result<Self, Error> {
        let native = Arc::clone(native);
        let mut executor = Executor::new(workspace, header, genesis.chain_id, native, Mode::Block);
        executor.record_parent(header.parent_hash)?;
        Ok(Self { executor, gas_limit: header.gas_limit, gas_used: 0, receipts: Vec::new() })
    }

    const fn gas_left(&self) -> u64 {
        self.gas_limit.saturating_sub(self.gas_used)
    }

    /// Executes one transaction; leaves everything as it was when it is refused.
    fn step(&mut self, tx: &TxEnvelope, sender: Address) -> Result<(), Failure> {
        let env = tx_env(tx, sender).map_err(Failure::Rejected)?;
        let gas_limit = env.gas_limit;
        if gas_limit > self.gas_limit {
            let block_gas_limit = self.gas_limit;
            return Err(Failure::Rejected(TxError::GasLimitAboveBlock {
                gas_limit,
                block_gas_limit,
            }));
        }
        if gas_limit > self.gas_left() {
            return Err(Failure::Rejected(TxError::BlockFull { left: self.gas_left() }));
        }
        let ran = self.executor.run(env)?;
        self.executor.apply(ran.state);
        self.gas_used = self.gas_used.saturating_add(ran.result.tx_gas_used());
        self.receipts.push(receipt(tx, ran.result, self.gas_used));
        Ok(())
    }
}

fn receipt(tx: &TxEnvelope, result: ExecutionResult, cumulative_gas_used: u64) -> ReceiptEnvelope {
    let status = result.is_success().into();
    // A reverted or halted transaction leaves no logs, whatever the EVM saw before.
    let logs = if result.is_success() { result.into_logs() } else { Vec::new() };
    let receipt = Receipt { status, cumulative_gas_used, logs };
    ReceiptEnvelope::from_typed(tx.tx_type(), ReceiptWithBloom::from(receipt))
}

/// Builds a block on `parent` from the candidates that can be executed.
pub(crate) fn propose(
    view: View,
    parent: &ExecutedBlock,
    genesis: &Genesis,
    native: &Arc<Native>,
    request: ProposeRequest,
) -> Result<(Layer, Vec<(B256, TxError)>), Error> {
    let time_ms = request.timestamp_ms.max(parent.timestamp_ms());
    let header = child_header(parent, genesis, time_ms, request.beneficiary)?;
    let mut workspace = Workspace::new(view);
    let mut run = Run::start(&mut workspace, &header, genesis, native)?;
    let mut bytes_left = BLOCK_BYTES_MAX - HEADER_BYTES_MARGIN;
    let (mut transactions, mut senders, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    for candidate in request.candidates {
        let hash = *candidate.inner().tx_hash();
        let bytes = candidate.inner().length();
        let refused = if run.gas_left() < TRANSACTION_GAS_MIN {
            Some(TxError::BlockFull { left: run.gas_left() })
        } else if bytes > bytes_left {
            Some(TxError::BlockBytesFull { bytes })
        } else {
            match run.step(candidate.inner(), candidate.signer()) {
                Ok(()) => None,
                Err(Failure::Rejected(reason)) => Some(reason),
                Err(Failure::Internal(source)) => return Err(source),
            }
        };
        match refused {
            Some(reason) => rejected.push((hash, reason)),
            None => {
                bytes_left -= bytes;
                let (tx, sender) = candidate.into_parts();
                transactions.push(tx);
                senders.push(sender);
            }
        }
    }
    let (gas_used, receipts) = (run.gas_used, run.receipts);
    let mut block = Block { header, body: empty_body() };
    block.body.transactions = transactions;
    let layer = seal(workspace, parent, block, senders, receipts, gas_used)?;
    Ok((layer, rejected))
}

/// Fills in the roots and the rest that execution gives.
fn seal(
    workspace: Workspace,
    parent: &ExecutedBlock,
    mut block: Block,
    senders: Vec<Address>,
    receipts: Vec<ReceiptEnvelope>,
    gas_used: u64,
) -> Result<Layer, Error> {
    let (changes, state_root) = seal_state(workspace, parent.header().state_root)?;
    let header = &mut block.header;
    header.state_root = state_root;
    header.transactions_root = calculate_transaction_root(&block.body.transactions);
    header.receipts_root = calculate_receipt_root(&receipts);
    header.logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom());
    header.gas_used = gas_used;
    let outcomes = outcomes_of(&block, &senders, receipts);
    let hash = block_hash(&block.header);
    Ok(Layer { block: Arc::new(ExecutedBlock { hash, block, senders, outcomes }), changes })
}

/// Executes a foreign block on its parent and checks every field of it.
pub(crate) fn execute(
    view: View,
    parent: &ExecutedBlock,
    genesis: &Genesis,
    native: &Arc<Native>,
    block: &Block,
) -> Result<Layer, BlockError> {
    let bytes = block.length();
    if bytes > BLOCK_BYTES_MAX {
        return Err(BlockError::TooLarge { bytes, limit: BLOCK_BYTES_MAX });
    }
    let found_ms = timestamp_ms(&block.header).ok_or(BlockError::ExtraData)?;
    let parent_ms = parent.timestamp_ms();
    if found_ms < parent_ms {
        return Err(BlockError::Timestamp { found_ms, parent_ms });
    }
    if !block.body.ommers.is_empty() {
        return Err(BlockError::Body("ommers"));
    }
    match &block.body.withdrawals {
        Some(withdrawals) if withdrawals.is_empty() => {}
        Some(_) => return Err(BlockError::Body("withdrawals")),
        // The list itself is part of the canonical body.
        None => return Err(BlockError::Body("no withdrawals list")),
    }
    let beneficiary = block.header.beneficiary;
    let mut header = child_header(parent, genesis, found_ms, beneficiary)?;
    check_rules(&block.header, &header)?;
    // Cheap to check before executing, and it binds the body to the header.
    header.transactions_root = calculate_transaction_root(&block.body.transactions);
    if block.header.transactions_root != header.transactions_root {
        let (found, expected) = (block.header.transactions_root, header.transactions_root);
        return Err(BlockError::header("transactionsRoot", found, expected));
    }
    let mut workspace = Workspace::new(view);
    let mut run = Run::start(&mut workspace, &header, genesis, native)?;
    let mut senders = Vec::with_capacity(block.body.transactions.len());
    for (index, tx) in block.body.transactions.iter().enumerate() {
        let hash = *tx.tx_hash();
        let refuse = |source| BlockError::Transaction { index, hash, source };
        let sender = tx.recover_signer().map_err(|_| refuse(TxError::InvalidSignature))?;
        match run.step(tx, sender) {
            Ok(()) => senders.push(sender),
            Err(Failure::Rejected(source)) => return Err(refuse(source)),
            Err(Failure::Internal(source)) => return Err(source.into()),
        }
    }
    let (gas_used, receipts) = (run.gas_used, run.receipts);
    let mine = Block { header, body: block.body.clone() };
    let layer = seal(workspace, parent, mine, senders, receipts, gas_used)?;
    check_results(&block.header, layer.block.header())?;
    Ok(layer)
}

/// The fields that the rules fix before execution.
fn check_rules(found: &Header, expected: &Header) -> Result<(), BlockError> {
    macro_rules! same {
        ($($field:ident: $name:literal),* $(,)?) => {$(
            if found.$field != expected.$field {
                let (found, expected) = (&found.$field, &expected.$field);
                return Err(BlockError::header($name, format!("{found:?}"), format!("{expected:?}")));
            }
        )*};
    }
    same!(
        parent_hash: "parentHash",
        number: "number",
        timestamp: "timestamp",
        extra_data: "extraData",
        gas_limit: "gasLimit",
        base_fee_per_gas: "baseFeePerGas",
        ommers_hash: "sha3Uncles",
        difficulty: "difficulty",
        nonce: "nonce",
        mix_hash: "mixHash",
        withdrawals_root: "withdrawalsRoot",
        blob_gas_used: "blobGasUsed",
        excess_blob_gas: "excessBlobGas",
        parent_beacon_block_root: "parentBeaconBlockRoot",
        requests_hash: "requestsHash",
    );
    Ok(())
}

/// The fields that execution gives, and finally the whole header.
fn check_results(found: &Header, expected: &Header) -> Result<(), BlockError> {
    if found.gas_used != expected.gas_used {
        return Err(BlockError::header("gasUsed", found.gas_used, expected.gas_used));
    }
    if found.receipts_root != expected.receipts_root {
        let (found, expected) = (found.receipts_root, expected.receipts_root);
        return Err(BlockError::header("receiptsRoot", found, expected));
    }
    if found.logs_bloom != expected.logs_bloom {
        return Err(BlockError::header("logsBloom", found.logs_bloom, expected.logs_bloom));
    }
    if found.state_root != expected.state_root {
        let (found, expected) = (found.state_root, expected.state_root);
        return Err(BlockError::header("stateRoot", found, expected));
    }
    if found != expected {
        // Fields of later forks, which no rule above names.
        return Err(BlockError::header("hash", block_hash(found), block_hash(expected)));
    }
    Ok(())
}

/// The most a transaction can cost its sender, wei; `None` when that overflows.
pub(crate) fn cost_max(tx: &TxEnvelope) -> Option<U256> {
    let fee = U256::from(tx.gas_limit()).checked_mul(U256::from(tx.max_fee_per_gas()))?;
    fee.checked_add(tx.value())
}
