//! Frames around records, and how to read a log whose tail was torn by a crash.
//!
//! A frame is `u32 length ‖ u32 !length ‖ 8 bytes of keccak256(u64 position ‖ record) ‖ record`, numbers
//! big-endian; the position counts frames from 0, so frames cannot be dropped, repeated or moved unnoticed.
//! What a crash can leave behind is an unfinished last frame (or zeros, from file systems that extend first):
//! that tail was never acted upon and is cut. Anything else that does not read is damage, and is an error.

use alloy_primitives::keccak256;
use thiserror::Error;

use crate::record::{RECORD_BYTES_MAX, Record, RecordError};

const HEAD_BYTES: usize = 16;

/// What a log holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// The records, oldest first.
    pub records: Vec<Record>,
    /// Bytes that are whole frames; the caller cuts the file to this length before appending.
    pub valid_bytes: usize,
}

/// Why a log cannot be trusted. Offsets are in bytes.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum JournalError {
    /// A frame in the middle of the log does not read.
    #[error("journal is damaged at byte {at}")]
    Damaged {
        /// Where the frame starts.
        at: usize,
    },
    /// A whole frame holds something that is no record.
    #[error("journal frame at byte {at}: {source}")]
    Record {
        /// Where the frame starts.
        at: usize,
        /// What is wrong with it.
        source: RecordError,
    },
    /// The record is larger than a frame may be.
    #[error("record of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
}

/// The frame of the record that is number `position` of its log.
///
/// # Errors
/// [`JournalError::TooLong`].
pub fn frame(position: u64, record: &Record) -> Result<Vec<u8>, JournalError> {
    let record = record.encode();
    let length = u32::try_from(record.len())
        .ok()
        .filter(|_| record.len() <= RECORD_BYTES_MAX)
        .ok_or(JournalError::TooLong { len: record.len(), max: RECORD_BYTES_MAX })?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + record.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&(!length).to_be_bytes());
    frame.extend_from_slice(&checksum(position, &record));
    frame.extend_from_slice(&record);
    Ok(frame)
}

/// Reads a log.
///
/// # Errors
/// [`JournalError`] when something other than the tail does not read.
pub fn read(log: &[u8]) -> Result<Log, JournalError> {
    let mut records = Vec::new();
    let mut at = 0;
    loop {
        let rest = log.get(at..).unwrap_or_default();
        if rest.iter().all(|byte| *byte == 0) {
            break;
        }
        let Some((head, body)) = rest.split_first_chunk::<HEAD_BYTES>() else { break };
        let [l0, l1, l2, l3, n0, n1, n2, n3, sum @ ..] = head;
        let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
        let complement = u32::from_be_bytes([*n0, *n1, *n2, *n3]);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| !complement == u32::try_from(*length).unwrap_or(0))
            .filter(|length| *length <= RECORD_BYTES_MAX)
            .ok_or(JournalError::Damaged { at })?;
        let Some(record) = body.get(..length) else { break };
        let position = u64::try_from(records.len()).unwrap_or(u64::MAX);
        if checksum(position, record) != *sum {
            // The last frame may have its length on disk and its body not.
            if body.len() == length {
                break;
            }
            return Err(JournalError::Damaged { at });
        }
        records.push(Record::decode(record).map_err(|source| JournalError::Record { at, source })?);
        at += HEAD_BYTES + length;
    }
    Ok(Log { records, valid_bytes: at })
}

fn checksum(position: u64, record: &[u8]) -> [u8; 8] {
    let mut bytes = position.to_be_bytes().to_vec();
    bytes.extend_from_slice(record);
    let hash = keccak256(bytes);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash[..8]);
    sum
}
