//! Accounts, storage slots, receipts and logs under a header's roots (Merkle Patricia tries).

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::Nibbles;
use alloy_trie::proof::{ProofVerificationError, verify_proof};

use crate::error::Error;

/// Most nodes on a path: one per nibble of a 32-byte key, and the leaf.
const PROOF_NODES_MAX: usize = 65;

/// Most bytes of an account or storage proof: 65 full branch nodes stay below this.
const STATE_PROOF_LEN_MAX: usize = 64 * 1024;

/// Most bytes of a receipt proof. A receipt's logs are bounded by the block gas limit (8 gas per byte of data).
const RECEIPT_PROOF_LEN_MAX: usize = 16 * 1024 * 1024;

/// An account as the state trie holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Account {
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// Native coin, wei.
    pub balance: U256,
    /// Root of its storage trie.
    pub storage_root: B256,
    /// Keccak-256 of its code.
    pub code_hash: B256,
}

/// A transaction's receipt as the receipts trie holds it (EIP-2718 envelope).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// EIP-2718 type of the transaction; 0 for a legacy one.
    pub tx_type: u8,
    /// Whether it succeeded.
    pub success: bool,
    /// Gas used in the block up to and including it.
    pub cumulative_gas_used: u64,
    /// Logs it emitted, in order.
    pub logs: Vec<Log>,
}

/// Proves an account under a state root; `None` when it is proven that there is none.
///
/// # Errors
///
/// [`Error::ProofSize`], [`Error::Proof`] or [`Error::ProvenValue`].
pub fn verify_account(
    state_root: B256,
    address: Address,
    proof: &[Bytes],
) -> Result<Option<Account>, Error> {
    const WHAT: &str = "account";
    let key = Nibbles::unpack(keccak256(address));
    let Some(value) = value_at(WHAT, state_root, key, proof, STATE_PROOF_LEN_MAX)? else {
        return Ok(None);
    };
    let account = |rlp: &mut &[u8]| {
        let mut fields = alloy_rlp::Header::decode_bytes(rlp, true)?;
        let account = Account {
            nonce: Decodable::decode(&mut fields)?,
            balance: Decodable::decode(&mut fields)?,
            storage_root: Decodable::decode(&mut fields)?,
            code_hash: Decodable::decode(&mut fields)?,
        };
        end(fields)?;
        Ok(account)
    };
    exact(WHAT, &value, account).map(Some)
}

/// Proves the value of a storage slot under an account's storage root; zero when it is proven to be unset.
///
/// # Errors
///
/// [`Error::ProofSize`], [`Error::Proof`] or [`Error::ProvenValue`].
pub fn verify_storage(storage_root: B256, slot: B256, proof: &[Bytes]) -> Result<U256, Error> {
    const WHAT: &str = "storage";
    let key = Nibbles::unpack(keccak256(slot));
    match value_at(WHAT, storage_root, key, proof, STATE_PROOF_LEN_MAX)? {
        Some(value) => exact(WHAT, &value, U256::decode),
        None => Ok(U256::ZERO),
    }
}

/// Proves the receipt of the transaction at `index` in the block under its receipts root.
///
/// # Errors
///
/// [`Error::ProofSize`], [`Error::Proof`], [`Error::ProvenValue`], or [`Error::Absent`] when the block has no such
/// transaction.
pub fn verify_receipt(receipts_root: B256, index: u64, proof: &[Bytes]) -> Result<Receipt, Error> {
    const WHAT: &str = "receipt";
    let key = Nibbles::unpack(alloy_rlp::encode(index));
    let value = value_at(WHAT, receipts_root, key, proof, RECEIPT_PROOF_LEN_MAX)?
        .ok_or(Error::Absent { what: WHAT })?;
    exact(WHAT, &value, receipt)
}

/// Proves a log: the one at `log_index` within the receipt of the transaction at `index`, emitted by `address` in a
/// transaction that succeeded.
///
/// # Errors
///
/// Those of [`verify_receipt`], [`Error::LogIndex`], [`Error::LogAddress`].
pub fn verify_log(
    receipts_root: B256,
    index: u64,
    proof: &[Bytes],
    log_index: usize,
    address: Address,
) -> Result<Log, Error> {
    let logs = verify_receipt(receipts_root, index, proof)?.logs;
    let count = logs.len();
    let log = logs.into_iter().nth(log_index).ok_or(Error::LogIndex { index: log_index, count })?;
    if log.address != address {
        return Err(Error::LogAddress { found: log.address, expected: address });
    }
    Ok(log)
}

/// Follows a proof from the root to the key. Whether it is sound is decided by `alloy_trie` alone; we only learn the
/// value from what it says about the claim "there is none", and then have it verify that value.
fn value_at(
    what: &'static str,
    root: B256,
    key: Nibbles,
    proof: &[Bytes],
    len_max: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let len: usize = proof.iter().map(|node| node.len()).sum();
    if proof.len() > PROOF_NODES_MAX || len > len_max {
        return Err(Error::ProofSize { what });
    }
    let unsound = |error: ProofVerificationError| {
        let mut reason = error.to_string();
        // Keep the message readable: nodes are up to megabytes long.
        if let Some((cut, _)) = reason.char_indices().nth(200) {
            reason.truncate(cut);
        }
        Error::Proof { what, reason }
    };
    match verify_proof(root, key, None, proof) {
        Ok(()) => Ok(None),
        Err(ProofVerificationError::ValueMismatch { path, got: Some(value), expected: None })
            if path == key =>
        {
            let value = value.to_vec();
            verify_proof(root, key, Some(value.clone()), proof).map_err(unsound)?;
            Ok(Some(value))
        }
        Err(error) => Err(unsound(error)),
    }
}

fn receipt(rlp: &mut &[u8]) -> alloy_rlp::Result<Receipt> {
    let tx_type = match rlp.first() {
        Some(first @ 1..=0x7f) => {
            let tx_type = *first;
            *rlp = rlp.get(1..).unwrap_or_default();
            tx_type
        }
        _ => 0,
    };
    let mut fields = alloy_rlp::Header::decode_bytes(rlp, true)?;
    let success = bool::decode(&mut fields)?;
    let cumulative_gas_used = u64::decode(&mut fields)?;
    let _bloom = alloy_primitives::Bloom::decode(&mut fields)?;
    let logs = Vec::<Log>::decode(&mut fields)?;
    end(fields)?;
    Ok(Receipt { tx_type, success, cumulative_gas_used, logs })
}

fn exact<T>(
    what: &'static str,
    value: &[u8],
    decode: impl FnOnce(&mut &[u8]) -> alloy_rlp::Result<T>,
) -> Result<T, Error> {
    let mut rest = value;
    decode(&mut rest)
        .and_then(|decoded| end(rest).map(|()| decoded))
        .map_err(|error| Error::ProvenValue { what, reason: error.to_string() })
}

fn end(rest: &[u8]) -> alloy_rlp::Result<()> {
    if rest.is_empty() { Ok(()) } else { Err(alloy_rlp::Error::UnexpectedLength) }
}
