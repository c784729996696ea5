//! What the log says: one record for each change of one payment, as deterministic CBOR.
//!
//! A record is an array whose first item is its kind. Bytes that the ledger only carries for its caller
//! (the payment to settle, the answer to return) are opaque here.

use alloy_primitives::{Address, B256, Bytes, U256};
use og_primitives::ReceiptDigest;
use og_primitives::cbor::{self, Rules, Value};
use og_x402::PaymentId;
use thiserror::Error;

use crate::price::AssetId;

/// Largest record, in bytes: an answer of some megabytes and a margin.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

const RULES: Rules = Rules { input_bytes_max: RECORD_BYTES_MAX, ..Rules::DETERMINISTIC };

/// One change of one payment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// The payment's nonce is taken for one request.
    Reserved {
        /// The payment.
        payment: PaymentId,
        /// Who pays.
        payer: Address,
        /// With which token.
        asset: AssetId,
        /// Digest of the request that it pays for.
        request: B256,
        /// The most that the request can cost.
        bound: U256,
        /// The most that the payer permitted.
        permitted: U256,
        /// Last moment at which the payment can be settled, Unix seconds.
        deadline_secs: u64,
        /// When this happened, Unix seconds.
        at_secs: u64,
        /// The payment as it must be settled; opaque.
        context: Bytes,
    },
    /// The request was answered and the bill signed.
    Answered {
        /// The payment.
        payment: PaymentId,
        /// The receipt that bills it.
        receipt: ReceiptDigest,
        /// The receipt's total, which is what will be charged.
        total: U256,
        /// When this happened, Unix seconds.
        at_secs: u64,
        /// What a repeated request gets, or where that is found; opaque.
        answer: Bytes,
    },
    /// The facilitator holds the settlement durably.
    HandedOver {
        /// The payment.
        payment: PaymentId,
        /// When this happened, Unix seconds.
        at_secs: u64,
    },
    /// The payment chain has moved the total.
    Settled {
        /// The payment.
        payment: PaymentId,
        /// The transaction; none when the total was zero.
        transaction: Option<B256>,
        /// When this happened, Unix seconds.
        at_secs: u64,
    },
    /// The request came to nothing and costs nothing.
    Released {
        /// The payment.
        payment: PaymentId,
        /// Why, as a code.
        reason: String,
        /// When this happened, Unix seconds.
        at_secs: u64,
    },
    /// The total can never be collected; the payer was not charged.
    Rejected {
        /// The payment.
        payment: PaymentId,
        /// Why, as a code.
        reason: String,
        /// When this happened, Unix seconds.
        at_secs: u64,
    },
    /// The payment is over and too old to be presented again.
    Forgotten {
        /// The payment.
        payment: PaymentId,
    },
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum RecordError {
    /// Not deterministic CBOR.
    #[error("record is not deterministic CBOR: {0}")]
    Cbor(#[from] cbor::Error),
    /// Not the array that a record of a known kind is.
    #[error("record is not of a known kind and shape")]
    Shape,
}

impl Record {
    /// The payment that changes.
    pub fn payment(&self) -> PaymentId {
        match self {
            Self::Reserved { payment, .. }
            | Self::Answered { payment, .. }
            | Self::HandedOver { payment, .. }
            | Self::Settled { payment, .. }
            | Self::Released { payment, .. }
            | Self::Rejected { payment, .. }
            | Self::Forgotten { payment } => *payment,
        }
    }

    /// Deterministic CBOR.
    pub fn encode(&self) -> Vec<u8> {
        let hash = |hash: &B256| Value::bytes(hash.as_slice());
        let number = |number: &U256| Value::bytes(number.to_be_bytes::<32>());
        let id = |payment: &PaymentId| hash(&payment.0);
        let items = match self {
            Self::Reserved {
                payment,
                payer,
                asset,
                request,
                bound,
                permitted,
                deadline_secs,
                at_secs,
                context,
            } => vec![
                Value::Uint(0),
                id(payment),
                Value::bytes(payer.as_slice()),
                Value::Uint(asset.chain_id),
                Value::bytes(asset.token.as_slice()),
                hash(request),
                number(bound),
                number(permitted),
                Value::Uint(*deadline_secs),
                Value::Uint(*at_secs),
                Value::bytes(context.as_ref()),
            ],
            Self::Answered { payment, receipt, total, at_secs, answer } => vec![
                Value::Uint(1),
                id(payment),
                hash(&receipt.0),
                number(total),
                Value::Uint(*at_secs),
                Value::bytes(answer.as_ref()),
            ],
            Self::HandedOver { payment, at_secs } => {
                vec![Value::Uint(2), id(payment), Value::Uint(*at_secs)]
            }
            Self::Settled { payment, transaction, at_secs } => vec![
                Value::Uint(3),
                id(payment),
                transaction.as_ref().map_or(Value::Null, hash),
                Value::Uint(*at_secs),
            ],
            Self::Released { payment, reason, at_secs } => {
                vec![Value::Uint(4), id(payment), Value::text(reason), Value::Uint(*at_secs)]
            }
            Self::Rejected { payment, reason, at_secs } => {
                vec![Value::Uint(5), id(payment), Value::text(reason), Value::Uint(*at_secs)]
            }
            Self::Forgotten { payment } => vec![Value::Uint(6), id(payment)],
        };
        Value::Array(items).encode()
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// [`RecordError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let value = Value::decode(bytes, RULES)?;
        let items = value.as_array().ok_or(RecordError::Shape)?;
        Self::from_items(items).ok_or(RecordError::Shape)
    }

    fn from_items(items: &[Value]) -> Option<Self> {
        let (kind, rest) = items.split_first()?;
        let (payment, rest) = rest.split_first()?;
        let payment = PaymentId(hash_of(payment)?);
        Some(match (kind.as_uint()?, rest) {
            (0, [payer, chain_id, token, request, bound, permitted, deadline, at, context]) => {
                Self::Reserved {
                    payment,
                    payer: address_of(payer)?,
                    asset: AssetId { chain_id: chain_id.as_uint()?, token: address_of(token)? },
                    request: hash_of(request)?,
                    bound: number_of(bound)?,
                    permitted: number_of(permitted)?,
                    deadline_secs: deadline.as_uint()?,
                    at_secs: at.as_uint()?,
                    context: Bytes::copy_from_slice(context.as_bytes()?),
                }
            }
            (1, [receipt, total, at, answer]) => Self::Answered {
                payment,
                receipt: ReceiptDigest(hash_of(receipt)?),
                total: number_of(total)?,
                at_secs: at.as_uint()?,
                answer: Bytes::copy_from_slice(answer.as_bytes()?),
            },
            (2, [at]) => Self::HandedOver { payment, at_secs: at.as_uint()? },
            (3, [transaction, at]) => Self::Settled {
                payment,
                transaction: match transaction {
                    Value::Null => None,
                    hash => Some(hash_of(hash)?),
                },
                at_secs: at.as_uint()?,
            },
            (4, [reason, at]) => Self::Released {
                payment,
                reason: reason.as_text()?.to_owned(),
                at_secs: at.as_uint()?,
            },
            (5, [reason, at]) => Self::Rejected {
                payment,
                reason: reason.as_text()?.to_owned(),
                at_secs: at.as_uint()?,
            },
            (6, []) => Self::Forgotten { payment },
            _ => return None,
        })
    }
}

fn hash_of(value: &Value) -> Option<B256> {
    B256::try_from(value.as_bytes()?).ok()
}

fn number_of(value: &Value) -> Option<U256> {
    Some(U256::from_be_bytes(hash_of(value)?.0))
}

fn address_of(value: &Value) -> Option<Address> {
    Address::try_from(value.as_bytes()?).ok()
}
