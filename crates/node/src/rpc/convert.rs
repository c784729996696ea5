//! Show blocks, transactions, receipts and logs the way Ethereum clients expect them.

use alloy_consensus::{Sealed, TxEnvelope, transaction::Recovered};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::{Address, U256};
use alloy_rlp::Encodable as _;
use alloy_rpc_types_eth::{
    Block, BlockTransactions, EIP1186AccountProofResponse, EIP1186StorageProof, Filter, Header,
    Log, Transaction, TransactionReceipt, TransactionRequest, state::StateOverride,
};
use jsonrpsee::types::ErrorObjectOwned;
use og_chain::{
    AccountOverride, AccountProof, CallRequest, EMPTY_CODE_HASH, ExecutedBlock, LogAt, LogFilter,
};

use super::{args::Slot, error};

/// Most addresses and topics together in a log filter: filters and subscriptions keep them.
const FILTER_VALUES_MAX: usize = 1_000;

pub(super) fn header(block: &ExecutedBlock) -> Header {
    Header::from_sealed(Sealed::new_unchecked(block.header().clone(), block.hash))
}

pub(super) fn block(block: &ExecutedBlock, full: bool) -> Block {
    let header = header(block).with_size(Some(U256::from(block.block.length())));
    let transactions = if full {
        let count = block.block.body.transactions.len();
        BlockTransactions::Full((0..count).filter_map(|i| included(block, i)).collect())
    } else {
        let hashes = block.block.body.transactions.iter().map(|tx| *tx.tx_hash());
        BlockTransactions::Hashes(hashes.collect())
    };
    let withdrawals = header.withdrawals_root.map(|_| Withdrawals::default());
    Block::new(header, transactions).with_withdrawals(withdrawals)
}

/// The transaction at `index` of a block.
pub(super) fn included(block: &ExecutedBlock, index: usize) -> Option<Transaction> {
    let tx = block.transaction(index)?;
    Some(Transaction {
        inner: Recovered::new_unchecked(tx.inner().to_owned().clone(), tx.signer()),
        block_hash: Some(block.hash),
        block_number: Some(block.number()),
        transaction_index: Some(quantity(index)),
        effective_gas_price: Some(block.outcomes.get(index)?.effective_gas_price),
        block_timestamp: Some(block.header().timestamp),
    })
}

/// A transaction that no block includes yet.
pub(super) fn waiting(tx: &Recovered<TxEnvelope>) -> Transaction {
    Transaction {
        inner: tx.clone(),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: None,
        block_timestamp: None,
    }
}

/// The receipt of the transaction at `index` of a block.
pub(super) fn receipt(block: &ExecutedBlock, index: usize) -> Option<TransactionReceipt> {
    let tx = block.transaction(index)?;
    let outcome = block.outcomes.get(index)?;
    let hash = *tx.inner().tx_hash();
    let mut log_index = outcome.first_log_index;
    let inner = outcome.receipt.clone().map_logs(|inner| {
        let log = Log {
            inner,
            block_hash: Some(block.hash),
            block_number: Some(block.number()),
            block_timestamp: Some(block.header().timestamp),
            transaction_hash: Some(hash),
            transaction_index: Some(quantity(index)),
            log_index: Some(log_index),
            removed: false,
        };
        log_index += 1;
        log
    });
    Some(TransactionReceipt {
        inner,
        transaction_hash: hash,
        transaction_index: Some(quantity(index)),
        block_hash: Some(block.hash),
        block_number: Some(block.number()),
        gas_used: outcome.gas_used,
        effective_gas_price: outcome.effective_gas_price,
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.signer(),
        to: alloy_consensus::Transaction::to(*tx.inner()),
        contract_address: outcome.contract_address,
    })
}

pub(super) fn log(at: LogAt) -> Log {
    Log {
        inner: at.log,
        block_hash: Some(at.block_hash),
        block_number: Some(at.block_number),
        block_timestamp: Some(at.block_timestamp),
        transaction_hash: Some(at.tx_hash),
        transaction_index: Some(at.tx_index),
        log_index: Some(at.log_index),
        removed: false,
    }
}

/// The part of a filter that does not name blocks.
pub(super) fn log_filter(filter: &Filter) -> Result<LogFilter, ErrorObjectOwned> {
    let addresses: Vec<_> = filter.address.iter().copied().collect();
    let topics = filter.topics.each_ref().map(|topic| topic.iter().copied().collect::<Vec<_>>());
    let values = topics.iter().map(Vec::len).chain([addresses.len()]).sum::<usize>();
    if values > FILTER_VALUES_MAX {
        return Err(error::invalid_params(format!(
            "exceed max addresses or topics: at most {FILTER_VALUES_MAX} together"
        )));
    }
    Ok(LogFilter { from_block: 0, to_block: u64::MAX, addresses, topics })
}

pub(super) fn proof(
    proof: AccountProof,
    address: Address,
    slots: &[Slot],
) -> EIP1186AccountProofResponse {
    let account = proof.account;
    let storage_proof = proof
        .storage
        .into_iter()
        .zip(slots)
        .map(|(storage, slot)| {
            let key = match slot {
                Slot::Word(word) => (*word).into(),
                Slot::Number(number) => (*number).into(),
            };
            EIP1186StorageProof { key, value: storage.value, proof: storage.proof }
        })
        .collect();
    EIP1186AccountProofResponse {
        address,
        balance: account.as_ref().map_or(U256::ZERO, |a| a.balance),
        code_hash: account.as_ref().map_or(EMPTY_CODE_HASH, |a| a.code_hash),
        nonce: account.as_ref().map_or(0, |a| a.nonce),
        storage_hash: account
            .as_ref()
            .map_or(alloy_consensus::constants::EMPTY_ROOT_HASH, |a| a.storage_root),
        account_proof: proof.account_proof,
        storage_proof,
    }
}

/// What `eth_call` and its kin ask of the executor.
pub(super) fn call(
    request: TransactionRequest,
    chain_id: u64,
    overrides: Option<StateOverride>,
) -> Result<CallRequest, ErrorObjectOwned> {
    if request.blob_versioned_hashes.is_some() || request.max_fee_per_blob_gas.is_some() {
        return Err(error::refused(og_chain::TxError::BlobsUnsupported.to_string()));
    }
    if request.chain_id.is_some_and(|id| id != chain_id) {
        let wrong = og_chain::TxError::WrongChain { expected: chain_id };
        return Err(error::refused(wrong.to_string()));
    }
    if request.gas_price.is_some()
        && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(error::refused(
            "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified",
        ));
    }
    let input = request.input.try_into_unique_input().map_err(|_| {
        error::refused(
            r#"both "data" and "input" are set and not equal. Please use "input" to pass transaction call data"#,
        )
    })?;
    Ok(CallRequest {
        from: request.from,
        to: request.to.and_then(|to| to.to().copied()),
        input: input.unwrap_or_default(),
        value: request.value.unwrap_or_default(),
        gas: request.gas,
        gas_price: request.gas_price,
        max_fee_per_gas: request.max_fee_per_gas,
        max_priority_fee_per_gas: request.max_priority_fee_per_gas,
        nonce: request.nonce,
        access_list: request.access_list.unwrap_or_default(),
        authorization_list: request.authorization_list.unwrap_or_default(),
        overrides: overrides
            .unwrap_or_default()
            .into_iter()
            .map(|(address, change)| Ok((address, account_override(change)?)))
            .collect::<Result<_, ErrorObjectOwned>>()?,
    })
}

fn account_override(
    change: alloy_rpc_types_eth::state::AccountOverride,
) -> Result<AccountOverride, ErrorObjectOwned> {
    if change.move_precompile_to.is_some() {
        return Err(error::invalid_params("movePrecompileToAddress is not supported"));
    }
    if change.state.is_some() && change.state_diff.is_some() {
        return Err(error::invalid_params("an account override has both state and stateDiff"));
    }
    Ok(AccountOverride {
        balance: change.balance,
        nonce: change.nonce,
        code: change.code,
        state: change.state.map(|slots| slots.into_iter().collect()),
        state_diff: change.state_diff.unwrap_or_default().into_iter().collect(),
    })
}

fn quantity(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}
