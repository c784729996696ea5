//! Ethereum headers and their hashes.

use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256, keccak256};
use alloy_rlp::Decodable;

use crate::error::Error;

/// Longest header: the fields of the Osaka rules at their widest stay below this.
pub const HEADER_LEN_MAX: usize = 1024;

/// Most bytes of `extra_data` (Yellow Paper, formally Hx).
const EXTRA_DATA_MAX: usize = 32;

/// An Ethereum execution header, decoded from RLP, with its hash.
///
/// Fields that a fork added are absent in headers from before it; fields of forks after Osaka are refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// Keccak-256 of the RLP bytes: the block's identity, and what validators vote on.
    pub hash: B256,
    /// Hash of the parent's header.
    pub parent_hash: B256,
    /// Hash of the ommers list.
    pub ommers_hash: B256,
    /// Receiver of priority fees.
    pub beneficiary: Address,
    /// Root of the account trie after this block.
    pub state_root: B256,
    /// Root of the trie of transactions.
    pub transactions_root: B256,
    /// Root of the trie of receipts.
    pub receipts_root: B256,
    /// Bloom filter over the logs.
    pub logs_bloom: Bloom,
    /// Zero after the merge.
    pub difficulty: U256,
    /// Height; the genesis block is 0.
    pub number: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Gas used.
    pub gas_used: u64,
    /// Unix time, seconds.
    pub timestamp: u64,
    /// At most 32 bytes.
    pub extra_data: Bytes,
    /// PREVRANDAO.
    pub mix_hash: B256,
    /// Zero after the merge.
    pub nonce: B64,
    /// Base fee, wei per gas (London).
    pub base_fee_per_gas: Option<u64>,
    /// Root of withdrawals (Shanghai).
    pub withdrawals_root: Option<B256>,
    /// Blob gas used (Cancun).
    pub blob_gas_used: Option<u64>,
    /// Excess blob gas (Cancun).
    pub excess_blob_gas: Option<u64>,
    /// Root of the parent beacon block (Cancun).
    pub parent_beacon_block_root: Option<B256>,
    /// Hash of the execution requests (Prague).
    pub requests_hash: Option<B256>,
}

impl Header {
    /// Decodes one header; nothing may follow it.
    ///
    /// # Errors
    ///
    /// [`Error::HeaderEncoding`] when the bytes are not the canonical RLP of a header.
    pub fn decode(rlp: &[u8]) -> Result<Self, Error> {
        if rlp.len() > HEADER_LEN_MAX {
            return Err(Error::HeaderEncoding("too long".into()));
        }
        let wrong = |error: alloy_rlp::Error| Error::HeaderEncoding(error.to_string());
        let mut rest = rlp;
        let mut fields = alloy_rlp::Header::decode_bytes(&mut rest, true).map_err(wrong)?;
        if !rest.is_empty() {
            return Err(Error::HeaderEncoding("trailing bytes".into()));
        }
        let header = Self::fields(keccak256(rlp), &mut fields).map_err(wrong)?;
        if !fields.is_empty() {
            return Err(Error::HeaderEncoding("unknown fields".into()));
        }
        if header.extra_data.len() > EXTRA_DATA_MAX {
            return Err(Error::HeaderEncoding("extra data exceeds 32 bytes".into()));
        }
        Ok(header)
    }

    fn fields(hash: B256, rlp: &mut &[u8]) -> alloy_rlp::Result<Self> {
        Ok(Self {
            hash,
            parent_hash: Decodable::decode(rlp)?,
            ommers_hash: Decodable::decode(rlp)?,
            beneficiary: Decodable::decode(rlp)?,
            state_root: Decodable::decode(rlp)?,
            transactions_root: Decodable::decode(rlp)?,
            receipts_root: Decodable::decode(rlp)?,
            logs_bloom: Decodable::decode(rlp)?,
            difficulty: Decodable::decode(rlp)?,
            number: Decodable::decode(rlp)?,
            gas_limit: Decodable::decode(rlp)?,
            gas_used: Decodable::decode(rlp)?,
            timestamp: Decodable::decode(rlp)?,
            extra_data: Decodable::decode(rlp)?,
            mix_hash: Decodable::decode(rlp)?,
            nonce: Decodable::decode(rlp)?,
            base_fee_per_gas: optional(rlp)?,
            withdrawals_root: optional(rlp)?,
            blob_gas_used: optional(rlp)?,
            excess_blob_gas: optional(rlp)?,
            parent_beacon_block_root: optional(rlp)?,
            requests_hash: optional(rlp)?,
        })
    }
}

fn optional<T: Decodable>(rlp: &mut &[u8]) -> alloy_rlp::Result<Option<T>> {
    if rlp.is_empty() { Ok(None) } else { T::decode(rlp).map(Some) }
}
