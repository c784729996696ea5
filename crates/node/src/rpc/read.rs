//! Read blocks, transactions, receipts and state.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::{
    Block, EIP1186AccountProofResponse, Index, Transaction, TransactionReceipt,
};
use jsonrpsee::types::ErrorObjectOwned;
use og_chain::At;

use super::{
    args::{Args, Slot},
    backend::Backend,
    convert, error,
};

type Answer<T> = Result<T, ErrorObjectOwned>;

/// Most storage slots of one `eth_getProof`.
const PROOF_SLOTS_MAX: usize = 1_024;

pub(super) fn block_number(node: &Backend, _: &mut Args<'_>) -> Answer<U64> {
    Ok(U64::from(node.chain.head().number))
}

pub(super) fn block_by_number(node: &Backend, args: &mut Args<'_>) -> Answer<Option<Block>> {
    let name: BlockNumberOrTag = args.next()?;
    block(node, name.into(), args)
}

pub(super) fn block_by_hash(node: &Backend, args: &mut Args<'_>) -> Answer<Option<Block>> {
    let hash = args.next()?;
    block(node, At::Hash(hash), args)
}

fn block(node: &Backend, at: At, args: &mut Args<'_>) -> Answer<Option<Block>> {
    let full = args.optional()?.unwrap_or(false);
    Ok(node.block(at)?.map(|block| convert::block(&block, full)))
}

pub(super) fn transaction_count_by_number(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<U64>> {
    let name: BlockNumberOrTag = args.next()?;
    transaction_count_of_block(node, name.into())
}

pub(super) fn transaction_count_by_hash(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<U64>> {
    let hash = args.next()?;
    transaction_count_of_block(node, At::Hash(hash))
}

fn transaction_count_of_block(node: &Backend, at: At) -> Answer<Option<U64>> {
    Ok(node.block(at)?.map(|block| U64::from(block.block.body.transactions.len())))
}

/// There are no uncles; the method is asked for by old clients.
pub(super) fn uncle_count(node: &Backend, args: &mut Args<'_>) -> Answer<Option<U64>> {
    let block: BlockId = args.next()?;
    Ok(node.block(block)?.map(|_| U64::ZERO))
}

pub(super) fn transaction_by_hash(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<Transaction>> {
    let hash = args.next()?;
    // The pool is asked first and the chain last: a transaction moves only from there to here.
    let waiting = node.mempool.get(&hash);
    if let Some((block, index)) = node.included(hash)? {
        return Ok(convert::included(&block, index));
    }
    Ok(waiting.map(|tx| convert::waiting(&tx)))
}

pub(super) fn transaction_by_number_and_index(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<Transaction>> {
    let name: BlockNumberOrTag = args.next()?;
    transaction_by_index(node, name.into(), args)
}

pub(super) fn transaction_by_hash_and_index(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<Transaction>> {
    let hash = args.next()?;
    transaction_by_index(node, At::Hash(hash), args)
}

fn transaction_by_index(
    node: &Backend,
    at: At,
    args: &mut Args<'_>,
) -> Answer<Option<Transaction>> {
    let index: Index = args.next()?;
    Ok(node.block(at)?.and_then(|block| convert::included(&block, index.0)))
}

pub(super) fn transaction_receipt(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<TransactionReceipt>> {
    let hash = args.next()?;
    let found = node.included(hash)?;
    Ok(found.and_then(|(block, index)| convert::receipt(&block, index)))
}

pub(super) fn block_receipts(
    node: &Backend,
    args: &mut Args<'_>,
) -> Answer<Option<Vec<TransactionReceipt>>> {
    let name: BlockId = args.next()?;
    Ok(node.block(name)?.map(|block| {
        (0..block.outcomes.len()).filter_map(|index| convert::receipt(&block, index)).collect()
    }))
}

pub(super) fn balance(node: &Backend, args: &mut Args<'_>) -> Answer<U256> {
    let address: Address = args.next()?;
    let at = node.state_at(args.optional()?)?;
    node.chain.balance(address, at).map_err(error::chain)
}

pub(super) fn code(node: &Backend, args: &mut Args<'_>) -> Answer<Bytes> {
    let address: Address = args.next()?;
    let at = node.state_at(args.optional()?)?;
    node.chain.code(address, at).map_err(error::chain)
}

pub(super) fn storage(node: &Backend, args: &mut Args<'_>) -> Answer<B256> {
    let address: Address = args.next()?;
    let slot: Slot = args.next()?;
    let at = node.state_at(args.optional()?)?;
    node.chain.storage(address, slot.word(), at).map_err(error::chain)
}

pub(super) fn transaction_count(node: &Backend, args: &mut Args<'_>) -> Answer<U64> {
    let address = args.next()?;
    let block = args.optional()?;
    node.nonce(address, block).map(U64::from)
}

pub(super) fn proof(node: &Backend, args: &mut Args<'_>) -> Answer<EIP1186AccountProofResponse> {
    let address: Address = args.next()?;
    let slots: Vec<Slot> = args.next()?;
    if slots.len() > PROOF_SLOTS_MAX {
        return Err(error::invalid_params(format!(
            "too many storage keys: at most {PROOF_SLOTS_MAX}"
        )));
    }
    let at = node.state_at(args.optional()?)?;
    let words: Vec<_> = slots.iter().map(|slot| slot.word()).collect();
    let proof = node.chain.proof(address, &words, at).map_err(error::chain)?;
    Ok(convert::proof(proof, address, &slots))
}
