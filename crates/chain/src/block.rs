//! Name a block and its time, and read one from foreign bytes.
//!
//! Blocks are Ethereum's. Two rules are our own: a header keeps the milliseconds of its time in `extraData`
//! (two bytes, big-endian, below 1000) followed by a version byte, and time may stand still between blocks.

use alloy_consensus::proofs::calculate_transaction_root;
use alloy_consensus::{Header, TxEnvelope};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable, Encodable};

use crate::error::BlockDecodeError;

/// A block of this chain: an Ethereum block with signed transactions.
pub type Block = alloy_consensus::Block<TxEnvelope>;

/// The most bytes an encoded block may have (EIP-7934: 10 MiB less a margin of 2 MiB).
pub const BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How far a block's time may lie ahead of a voter's clock, ms.
pub const TIMESTAMP_AHEAD_MS_MAX: u64 = 500;

/// Last byte of `extraData`: the version of the rule that gives the other bytes their meaning.
pub const EXTRA_DATA_VERSION: u8 = 1;

/// Whether the body is the one that the header commits to: these transactions, no ommers, an empty list of
/// withdrawals. A header's hash alone does not tell, since the body beside it may be any.
pub fn body_matches_header(block: &Block) -> bool {
    let body = &block.body;
    body.ommers.is_empty()
        && body.withdrawals.as_ref().is_some_and(|withdrawals| withdrawals.is_empty())
        && calculate_transaction_root(&body.transactions) == block.header.transactions_root
}

/// The canonical bytes of a block: RLP, as in Ethereum.
pub fn encode_block(block: &Block) -> Bytes {
    let mut out = Vec::with_capacity(block.length());
    block.encode(&mut out);
    out.into()
}

/// Reads a block from foreign bytes; accepts the canonical encoding only.
///
/// # Errors
/// When the bytes are too many, are not a block, or encode one in another way.
pub fn decode_block(bytes: &[u8]) -> Result<Block, BlockDecodeError> {
    if bytes.len() > BLOCK_BYTES_MAX {
        return Err(BlockDecodeError::TooLarge { bytes: bytes.len(), limit: BLOCK_BYTES_MAX });
    }
    let mut rest = bytes;
    let block = Block::decode(&mut rest)?;
    if !rest.is_empty() {
        return Err(BlockDecodeError::Trailing(rest.len()));
    }
    if *encode_block(&block) != *bytes {
        return Err(BlockDecodeError::NotCanonical);
    }
    Ok(block)
}

/// Keccak-256 of the RLP header: the block hash, and what consensus votes on.
pub fn block_hash(header: &Header) -> B256 {
    header.hash_slow()
}

/// The time of a block in ms since 1970; `None` when `extraData` does not follow the rule.
pub fn timestamp_ms(header: &Header) -> Option<u64> {
    let &[high, low, EXTRA_DATA_VERSION] = header.extra_data.as_ref() else { return None };
    let ms = u64::from(u16::from_be_bytes([high, low]));
    if ms >= 1000 {
        return None;
    }
    header.timestamp.checked_mul(1000)?.checked_add(ms)
}

/// Splits a time into the header's `timestamp` (s) and `extraData`.
pub(crate) fn split_timestamp(time_ms: u64) -> (u64, Bytes) {
    // The remainder is below 1000, so the conversion cannot fail.
    let ms = u16::try_from(time_ms % 1000).unwrap_or_default().to_be_bytes();
    (time_ms / 1000, vec![ms[0], ms[1], EXTRA_DATA_VERSION].into())
}

/// Why a voter refuses a block for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Older than its parent.
    #[error("block time {time_ms} ms lies before its parent's {parent_ms} ms")]
    BeforeParent {
        /// The block's time.
        time_ms: u64,
        /// The parent's time.
        parent_ms: u64,
    },
    /// Too far in the voter's future.
    #[error("block time {time_ms} ms lies more than 500 ms after {now_ms} ms")]
    Ahead {
        /// The block's time.
        time_ms: u64,
        /// The voter's clock.
        now_ms: u64,
    },
}

/// The rule of a vote: parent ≤ time ≤ now + 500 ms. The clock is the caller's.
///
/// # Errors
/// When the rule does not hold.
pub const fn check_timestamp(
    parent_ms: u64,
    time_ms: u64,
    now_ms: u64,
) -> Result<(), TimestampError> {
    if time_ms < parent_ms {
        return Err(TimestampError::BeforeParent { time_ms, parent_ms });
    }
    if time_ms > now_ms.saturating_add(TIMESTAMP_AHEAD_MS_MAX) {
        return Err(TimestampError::Ahead { time_ms, now_ms });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_header_round_trips_and_other_extra_data_has_none() {
        for time in [0, 1, 999, 1000, 1_700_000_000_123, 1_700_000_000_999] {
            let (timestamp, extra_data) = split_timestamp(time);
            let header = Header { timestamp, extra_data, ..Default::default() };
            assert_eq!(timestamp_ms(&header), Some(time));
        }
        for extra in [&[][..], &[0, 0], &[0, 0, 2], &[0, 0, 1, 0], &[3, 232, 1], &[255, 255, 1]] {
            let header = Header { extra_data: extra.to_vec().into(), ..Default::default() };
            assert_eq!(timestamp_ms(&header), None, "{extra:?}");
        }
    }

    #[test]
    fn a_vote_allows_the_parents_time_up_to_half_a_second_ahead() {
        assert_eq!(check_timestamp(1000, 1000, 600), Ok(()));
        assert_eq!(check_timestamp(1000, 1500, 1000), Ok(()));
        assert!(matches!(check_timestamp(1000, 1501, 1000), Err(TimestampError::Ahead { .. })));
        assert!(matches!(
            check_timestamp(1000, 999, 1000),
            Err(TimestampError::BeforeParent { .. })
        ));
        assert_eq!(check_timestamp(0, u64::MAX, u64::MAX), Ok(()));
    }

    #[test]
    fn decoding_refuses_what_is_not_exactly_a_block() {
        let block = Block::default();
        let bytes = encode_block(&block);
        assert_eq!(decode_block(&bytes).expect("its own bytes"), block);
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(matches!(decode_block(&longer), Err(BlockDecodeError::Trailing(1))));
        assert!(decode_block(&bytes[..bytes.len() - 1]).is_err());
        let huge = vec![0; BLOCK_BYTES_MAX + 1];
        assert!(matches!(decode_block(&huge), Err(BlockDecodeError::TooLarge { .. })));
    }
}
