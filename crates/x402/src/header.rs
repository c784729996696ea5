//! The header form of the documents: standard padded base64 of one JSON object, with limits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::wire::{PaymentPayload, PaymentRequired, SettleResponse};

/// Longest header value that is read, in bytes. A payment with every known extension echoed is about 4 KiB.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Why a header value is not the document it should be.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The value is longer than [`HEADER_BYTES_MAX`].
    #[error("header of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The value is not standard padded base64.
    #[error("header is not base64")]
    Base64,
    /// The bytes are not the JSON document.
    #[error("header is not the expected JSON document: {0}")]
    Json(#[from] serde_json::Error),
}

/// Documents that travel in a header.
pub trait Decode: DeserializeOwned {}

impl Decode for PaymentRequired {}
impl Decode for PaymentPayload {}
impl Decode for SettleResponse {}

/// Reads a header value.
///
/// # Errors
/// [`HeaderError`] says which step failed.
pub fn decode<T: Decode>(value: &[u8]) -> Result<T, HeaderError> {
    if value.len() > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong { len: value.len(), max: HEADER_BYTES_MAX });
    }
    let json = STANDARD.decode(value.trim_ascii()).map_err(|_| HeaderError::Base64)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Writes a header value: compact JSON in standard base64.
///
/// # Errors
/// [`HeaderError::Json`] if the document cannot be written (no document of this crate does that), and
/// [`HeaderError::TooLong`] if no peer would read it.
pub fn encode<T: Decode + Serialize>(document: &T) -> Result<String, HeaderError> {
    let value = STANDARD.encode(serde_json::to_vec(document)?);
    if value.len() > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong { len: value.len(), max: HEADER_BYTES_MAX });
    }
    Ok(value)
}
