//! Give errors the codes and texts that Ethereum clients know.

use alloy_primitives::{B256, Bytes, hex};
use jsonrpsee::types::ErrorObjectOwned;
use og_chain::{CallError, revert_reason};

use crate::mempool::SubmitError;

/// A request that makes no sense (JSON-RPC 2.0).
const INVALID_PARAMS: i32 = -32602;
/// No such method (JSON-RPC 2.0).
const METHOD_NOT_FOUND: i32 = -32601;
/// Our own failure (JSON-RPC 2.0).
const INTERNAL: i32 = -32603;
/// Any other refusal, as geth gives it.
const SERVER: i32 = -32000;
/// The request asks for more than one answer may hold (EIP-1474).
const LIMIT_EXCEEDED: i32 = -32005;
/// The call reverted; `data` holds what it returned.
const REVERTED: i32 = 3;
/// A transaction was accepted, but not included in time (EIP-7966).
const NOT_INCLUDED_YET: i32 = 4;

pub(super) fn invalid_params(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS, message.into(), None::<()>)
}

pub(super) fn method_not_found(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(METHOD_NOT_FOUND, message.into(), None::<()>)
}

pub(super) fn refused(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(SERVER, message.into(), None::<()>)
}

pub(super) fn limit_exceeded(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(LIMIT_EXCEEDED, message.into(), None::<()>)
}

/// Logs the cause and answers without it.
pub(super) fn internal(error: impl std::fmt::Display) -> ErrorObjectOwned {
    tracing::error!(%error, "rpc request failed");
    ErrorObjectOwned::owned(INTERNAL, "internal error", None::<()>)
}

pub(super) fn chain(error: og_chain::Error) -> ErrorObjectOwned {
    use og_chain::Error;
    match error {
        Error::UnknownBlock => refused("header not found"),
        Error::InvalidRange => refused("invalid block range params"),
        Error::TooManyLogs { .. } | Error::RangeTooWide { .. } => limit_exceeded(error.to_string()),
        other => internal(other),
    }
}

pub(super) fn call(error: CallError) -> ErrorObjectOwned {
    match error {
        CallError::Reverted { output } => reverted(&output),
        CallError::Internal(error) => chain(error),
        other => refused(other.to_string()),
    }
}

pub(super) fn submit(error: SubmitError) -> ErrorObjectOwned {
    match error {
        SubmitError::Chain(error) => chain(error),
        refusal => refused(refusal.to_string()),
    }
}

/// Code 3 with the revert data, and the reason in words where the data holds one.
pub(super) fn reverted(output: &Bytes) -> ErrorObjectOwned {
    let message = match revert_reason(output) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_owned(),
    };
    ErrorObjectOwned::owned(REVERTED, message, Some(hex::encode_prefixed(output)))
}

pub(super) fn not_included_yet(hash: B256, waited_ms: u64) -> ErrorObjectOwned {
    let message =
        format!("the transaction was added to the pool but was not included within {waited_ms} ms");
    ErrorObjectOwned::owned(NOT_INCLUDED_YET, message, Some(hash))
}
