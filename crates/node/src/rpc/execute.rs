//! Run calls, price gas and take transactions.

use std::time::Duration;

use alloy_consensus::{Transaction as _, TxEnvelope, transaction::SignerRecoverable as _};
use alloy_eips::{BlockId, BlockNumberOrTag, eip2718::Decodable2718 as _, eip2930::AccessList};
use alloy_primitives::{B256, Bytes, U64, U256};
use alloy_rpc_types_eth::{
    FeeHistory, TransactionReceipt, TransactionRequest, state::StateOverride,
};
use jsonrpsee::types::ErrorObjectOwned;
use og_chain::{At, CallOutcome, CallRequest, CallResult, FEE_BLOCKS_MAX, FeeBlock};
use serde::{Deserialize, Serialize};

use super::{args::Args, backend::Backend, convert, error};

type Answer<T> = Result<T, ErrorObjectOwned>;

/// Smallest suggested tip in wei per gas.
const TIP_MIN: u128 = 1_000_000;
/// Largest suggested tip in wei per gas, whatever others pay.
const TIP_MAX: u128 = 100_000_000_000;
/// How many blocks a suggestion looks back.
const TIP_BLOCKS: u64 = 20;
/// Most percentiles of one `eth_feeHistory`.
const FEE_HISTORY_PERCENTILES_MAX: usize = 100;
/// How long `eth_sendRawTransactionSync` waits unless told otherwise, in milliseconds.
const SYNC_WAIT_MS: u64 = 2_000;
/// The longest that `eth_sendRawTransactionSync` waits, in milliseconds.
const SYNC_WAIT_MS_MAX: u64 = 30_000;

/// A call at the head sees `max(head's time, now)`; a call at an older block sees that block's time.
pub(super) fn call(node: &Backend, args: &mut Args<'_>) -> Answer<Bytes> {
    let (request, at) = call_args(node, args)?;
    let outcome = node.chain.call(&request, at, node.clock.now_s()).map_err(error::call)?;
    output(outcome)
}

pub(super) fn estimate_gas(node: &Backend, args: &mut Args<'_>) -> Answer<U64> {
    let (request, at) = call_args(node, args)?;
    let gas = node.chain.estimate_gas(&request, at, node.clock.now_s()).map_err(error::call)?;
    Ok(U64::from(gas))
}

/// The answer of `eth_createAccessList`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccessListWithGas {
    access_list: AccessList,
    gas_used: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn create_access_list(node: &Backend, args: &mut Args<'_>) -> Answer<AccessListWithGas> {
    let (request, at) = call_args(node, args)?;
    let (access_list, outcome) =
        node.chain.create_access_list(&request, at, node.clock.now_s()).map_err(error::call)?;
    let gas_used = U64::from(outcome.gas_used);
    let error = output(outcome).err().map(|error| error.message().to_owned());
    Ok(AccessListWithGas { access_list, gas_used, error })
}

fn call_args(node: &Backend, args: &mut Args<'_>) -> Answer<(CallRequest, At)> {
    let request: TransactionRequest = args.next()?;
    let block: Option<BlockId> = args.optional()?;
    let overrides: Option<StateOverride> = args.optional()?;
    if args.optional::<serde_json::Value>()?.is_some() {
        return Err(error::invalid_params("block overrides are not supported"));
    }
    let request = convert::call(request, node.chain.chain_id(), overrides)?;
    Ok((request, node.state_at(block)?))
}

fn output(outcome: CallOutcome) -> Answer<Bytes> {
    match outcome.result {
        CallResult::Success { output } => Ok(output),
        CallResult::Revert { output } => Err(error::reverted(&output)),
        CallResult::Halt { reason } => Err(error::refused(reason)),
    }
}

/// What a legacy transaction should offer: the next base fee, an eighth more in case it rises once,
/// and the suggested tip.
pub(super) fn gas_price(node: &Backend, _: &mut Args<'_>) -> Answer<U256> {
    let base_fee = u128::from(node.chain.next_base_fee(At::Latest).map_err(error::chain)?);
    Ok(U256::from(base_fee + base_fee / 8 + suggested_tip(node)?))
}

pub(super) fn max_priority_fee(node: &Backend, _: &mut Args<'_>) -> Answer<U256> {
    suggested_tip(node).map(U256::from)
}

/// The 60th percentile of what recent transactions tipped, by gas.
fn suggested_tip(node: &Backend) -> Answer<u128> {
    let blocks = node.chain.fee_history(At::Latest, TIP_BLOCKS).map_err(error::chain)?;
    let mut tips: Vec<_> = blocks.into_iter().flat_map(|block| block.tips).collect();
    tips.sort_unstable();
    Ok(percentile(&tips, 60.0).clamp(TIP_MIN, TIP_MAX))
}

pub(super) fn fee_history(node: &Backend, args: &mut Args<'_>) -> Answer<FeeHistory> {
    let count = args.next::<U64OrNumber>()?.0.min(FEE_BLOCKS_MAX);
    let newest: BlockNumberOrTag = args.next()?;
    let percentiles: Option<Vec<f64>> = args.optional()?;
    check_percentiles(percentiles.as_deref().unwrap_or_default())?;
    let newest = node.number(newest);
    let head = node.chain.head().number;
    if newest > head {
        let text = format!("request beyond head block: requested {newest}, head {head}");
        return Err(error::refused(text));
    }
    if count == 0 {
        return Ok(FeeHistory { oldest_block: newest, ..FeeHistory::default() });
    }
    let at = At::Number(newest);
    let blocks = node.chain.fee_history(at, count).map_err(error::chain)?;
    let next = node.chain.next_base_fee(at).map_err(error::chain)?;
    let fees = blocks.iter().map(|block| block.base_fee).chain([next]).map(u128::from);
    Ok(FeeHistory {
        oldest_block: blocks.first().map_or(newest, |block| block.number),
        base_fee_per_gas: fees.collect(),
        gas_used_ratio: blocks.iter().map(gas_used_ratio).collect(),
        // There are no blobs; clients expect the arrays all the same.
        base_fee_per_blob_gas: vec![1; blocks.len() + 1],
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        reward: percentiles.map(|percentiles| {
            blocks
                .iter()
                .map(|block| percentiles.iter().map(|p| percentile(&block.tips, *p)).collect())
                .collect()
        }),
    })
}

fn check_percentiles(percentiles: &[f64]) -> Answer<()> {
    if percentiles.len() > FEE_HISTORY_PERCENTILES_MAX {
        return Err(error::invalid_params("over the query limit of 100 reward percentiles"));
    }
    let is_valid = percentiles.iter().all(|p| (0.0..=100.0).contains(p)) && percentiles.is_sorted();
    if is_valid { Ok(()) } else { Err(error::invalid_params("invalid reward percentile")) }
}

#[expect(clippy::cast_precision_loss, reason = "the answer is a ratio in floating point")]
fn gas_used_ratio(block: &FeeBlock) -> f64 {
    block.gas_used as f64 / block.gas_limit as f64
}

/// The tip at a percentile of gas; `tips` are sorted pairs of tip and gas.
#[expect(clippy::cast_precision_loss, reason = "percentiles are given in floating point")]
fn percentile(tips: &[(u128, u64)], percentile: f64) -> u128 {
    let total: u64 = tips.iter().map(|(_, gas)| gas).sum();
    let threshold = total as f64 * percentile / 100.0;
    let mut gas_so_far = 0;
    for (tip, gas) in tips {
        gas_so_far += gas;
        if gas_so_far as f64 >= threshold {
            return *tip;
        }
    }
    tips.last().map_or(0, |(tip, _)| *tip)
}

/// A block count, which clients send as a quantity or as a plain number.
#[derive(Debug, Deserialize)]
#[serde(from = "U64OrNumberWire")]
struct U64OrNumber(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum U64OrNumberWire {
    Number(u64),
    Quantity(U64),
}

impl From<U64OrNumberWire> for U64OrNumber {
    fn from(wire: U64OrNumberWire) -> Self {
        match wire {
            U64OrNumberWire::Number(number) => Self(number),
            U64OrNumberWire::Quantity(quantity) => Self(quantity.to()),
        }
    }
}

pub(super) fn send_raw_transaction(node: &Backend, args: &mut Args<'_>) -> Answer<B256> {
    let bytes: Bytes = args.next()?;
    submit(node, &bytes)
}

fn submit(node: &Backend, bytes: &[u8]) -> Answer<B256> {
    let tx = decode(bytes)?;
    if tx.chain_id().is_none() {
        return Err(error::refused(
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ));
    }
    let sender = tx
        .recover_signer()
        .map_err(|_| error::refused(og_chain::TxError::InvalidSignature.to_string()))?;
    let tx = og_chain::Recovered::new_unchecked(tx, sender);
    let hash = node.mempool.submit(&node.chain, tx).map_err(error::submit)?;
    tracing::debug!(%hash, %sender, "transaction taken");
    Ok(hash)
}

/// Reads exactly one transaction, with nothing after it.
fn decode(bytes: &[u8]) -> Answer<TxEnvelope> {
    if bytes.first() == Some(&3) {
        return Err(error::refused(og_chain::TxError::BlobsUnsupported.to_string()));
    }
    let mut rest = bytes;
    let tx = TxEnvelope::decode_2718(&mut rest)
        .map_err(|cause| error::refused(format!("rlp: {cause}")))?;
    if rest.is_empty() {
        Ok(tx)
    } else {
        Err(error::refused(format!("rlp: {} bytes after the transaction", rest.len())))
    }
}

/// Submits and waits until the transaction is final (EIP-7966).
pub(super) async fn send_raw_transaction_sync(
    node: std::sync::Arc<Backend>,
    bytes: Bytes,
    timeout_ms: Option<u64>,
) -> Answer<TransactionReceipt> {
    let waits_ms = timeout_ms.unwrap_or(SYNC_WAIT_MS).min(SYNC_WAIT_MS_MAX);
    let mut heads = node.heads.subscribe();
    let submitting = node.clone();
    let hash = tokio::task::spawn_blocking(move || submit(&submitting, &bytes))
        .await
        .map_err(error::internal)??;
    let included = async {
        loop {
            heads.borrow_and_update();
            let reading = node.clone();
            let found = tokio::task::spawn_blocking(move || reading.included(hash))
                .await
                .map_err(error::internal)??;
            if let Some(receipt) = found.and_then(|(block, index)| convert::receipt(&block, index))
            {
                return Ok(receipt);
            }
            if heads.changed().await.is_err() {
                return Err(error::internal("the node stops"));
            }
        }
    };
    let timeout = Duration::from_millis(waits_ms);
    tokio::select! {
        answer = included => answer,
        () = tokio::time::sleep(timeout) => Err(error::not_included_yet(hash, waits_ms)),
        () = node.shutdown.cancelled() => Err(error::internal("the node stops")),
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEip7702, TxLegacy};
    use alloy_eips::{
        eip2718::Encodable2718 as _, eip2930::AccessListItem, eip7702::Authorization,
    };
    use alloy_primitives::{Address, Signature, TxKind};
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    fn samples() -> Vec<Vec<u8>> {
        let signature = Signature::new(U256::from(11), U256::from(12), true);
        let access_list = AccessList(vec![AccessListItem {
            address: Address::repeat_byte(1),
            storage_keys: vec![B256::repeat_byte(2)],
        }]);
        let authorization =
            Authorization { chain_id: U256::from(1), address: Address::repeat_byte(3), nonce: 4 };
        let legacy = TxLegacy {
            chain_id: Some(10740),
            nonce: 300,
            to: TxKind::Create,
            input: vec![7; 60].into(),
            ..TxLegacy::default()
        };
        let dynamic = TxEip1559 {
            chain_id: 10740,
            value: U256::MAX,
            access_list: access_list.clone(),
            ..TxEip1559::default()
        };
        let set_code = TxEip7702 {
            chain_id: 10740,
            access_list,
            authorization_list: vec![authorization.into_signed(signature)],
            ..TxEip7702::default()
        };
        let envelopes: [TxEnvelope; 3] = [
            legacy.into_signed(signature).into(),
            dynamic.into_signed(signature).into(),
            set_code.into_signed(signature).into(),
        ];
        envelopes.iter().map(|tx| tx.encoded_2718()).collect()
    }

    #[test]
    fn raw_transactions_have_one_encoding() {
        for bytes in samples() {
            assert_eq!(decode(&bytes).unwrap().encoded_2718(), bytes);
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
            }
        }
    }

    /// Mutated bytes never panic, and whatever is accepted is the encoding of what was read.
    #[test]
    fn mutated_raw_transactions_are_refused_or_canonical() {
        let mut random = StdRng::seed_from_u64(0x0000_06d0_de00_0001);
        let samples = samples();
        let mut accepted = 0;
        for round in 0..60_000 {
            let mut bytes = samples[round % samples.len()].clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..4) {
                    0 => bytes[at] ^= 1 << random.random_range(0..8),
                    1 => bytes[at] = random.random(),
                    2 => bytes.insert(at, random.random()),
                    _ => drop(bytes.remove(at)),
                }
            }
            if let Ok(tx) = decode(&bytes) {
                accepted += 1;
                assert_eq!(tx.encoded_2718(), bytes);
            }
        }
        assert!(accepted > 1_000, "only {accepted} mutants got past the outer layers");
    }

    #[test]
    fn percentiles_weigh_by_gas() {
        let tips = [(1, 50), (5, 30), (9, 20)];
        assert_eq!(percentile(&tips, 0.0), 1);
        assert_eq!(percentile(&tips, 50.0), 1);
        assert_eq!(percentile(&tips, 51.0), 5);
        assert_eq!(percentile(&tips, 81.0), 9);
        assert_eq!(percentile(&tips, 100.0), 9);
        assert_eq!(percentile(&[], 50.0), 0);
    }

    #[test]
    fn percentiles_are_checked() {
        assert!(check_percentiles(&[0.0, 50.0, 100.0]).is_ok());
        for bad in [&[50.0, 10.0][..], &[-1.0], &[100.1], &[f64::NAN], &[1.0; 101]] {
            assert!(check_percentiles(bad).is_err(), "{bad:?}");
        }
    }
}
