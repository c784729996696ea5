//! Wait until an answer's evidence is final.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use alloy_rpc_types_eth::{Filter, Log};
use alloy_sol_types::SolEvent as _;
use og_contracts::IInferenceSettlementRelay::ReceiptSettled;
use og_primitives::ReceiptDigest;

use crate::{Chain, Error};

/// How often the chain is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Where a receipt was settled.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The block, final.
    pub block_number: u64,
    /// Its hash.
    pub block_hash: B256,
    /// The transaction.
    pub transaction_hash: B256,
    /// The transaction's place in the block.
    pub transaction_index: u64,
    /// The log's place in the block.
    pub log_index: u64,
    /// The verified batch's root.
    pub merkle_root: B256,
}

/// Waits until the relay's log for `receipt` is final, at most `timeout`.
///
/// # Errors
/// [`Error::NotSettled`] when it does not come in time; [`Error::Chain`] when the chain does not answer.
pub async fn wait(
    chain: &Chain,
    relay: Address,
    receipt: ReceiptDigest,
    timeout: Duration,
) -> Result<Settlement, Error> {
    let filter = Filter::new()
        .address(relay)
        .event_signature(ReceiptSettled::SIGNATURE_HASH)
        .topic1(receipt.0)
        .from_block(0_u64);
    let begun = Instant::now();
    loop {
        if let Some(settlement) = chain.logs(&filter).await?.iter().find_map(read) {
            return Ok(settlement);
        }
        if begun.elapsed() >= timeout {
            return Err(Error::NotSettled {
                waited_secs: timeout.as_secs(),
                waiting_for: "the receipt's log on the settlement relay",
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Reads a settlement from a log of a final block.
fn read(log: &Log) -> Option<Settlement> {
    let event = ReceiptSettled::decode_log(&log.inner).ok()?;
    Some(Settlement {
        block_number: log.block_number?,
        block_hash: log.block_hash?,
        transaction_hash: log.transaction_hash?,
        transaction_index: log.transaction_index?,
        log_index: log.log_index?,
        merkle_root: event.merkleRoot,
    })
}
