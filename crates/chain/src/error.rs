//! Say what went wrong, with whose fault it is.
//!
//! [`Error`] is ours (disk, corruption, misuse of the API), [`BlockError`] is a proposer's, [`TxError`] a
//! sender's and [`CallError`] a caller's. Texts of [`TxError`] are those that clients match on.

use alloy_primitives::{Address, B256, Bytes, U256};

/// A failure of this node: its disk, its data, or the way it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database refused an operation.
    #[error("database: {0}")]
    Database(#[source] Box<redb::Error>),
    /// Stored data contradicts itself; the database needs restoring.
    #[error("corrupt chain data: {0}")]
    Corrupt(String),
    /// The database belongs to another chain.
    #[error("the database holds the chain of genesis {found}, not {expected}")]
    GenesisMismatch {
        /// Hash of the genesis that was asked for.
        expected: B256,
        /// Hash of the genesis in the database.
        found: B256,
    },
    /// The genesis description cannot start a chain.
    #[error("invalid genesis: {0}")]
    InvalidGenesis(&'static str),
    /// No block is known under this name.
    #[error("unknown block")]
    UnknownBlock,
    /// A block to finalise, or to build on, does not descend from the last finalised block.
    #[error("block {hash} does not descend from the last finalised block {head}")]
    ConflictsWithFinalized {
        /// The block asked for.
        hash: B256,
        /// The last finalised block.
        head: B256,
    },
    /// Too many blocks wait for finality; the caller has to finalise or drop some first.
    #[error("{limit} blocks already wait for finality")]
    TooManyPending {
        /// The most blocks that may wait.
        limit: usize,
    },
    /// A log query spans too many blocks.
    #[error("block range too wide: at most {limit} blocks may be scanned in one query")]
    RangeTooWide {
        /// The most blocks one query may scan.
        limit: u64,
    },
    /// A log query asks for a range that ends before it starts, or lies ahead of the head.
    #[error("invalid block range")]
    InvalidRange,
    /// A log query matches too many logs.
    #[error("query returned more than {limit} results; narrow the range or the filter")]
    TooManyLogs {
        /// The most logs one query may return.
        limit: usize,
    },
    /// The EVM stopped for a reason that is neither the transaction's nor the block's fault.
    #[error("evm: {0}")]
    Evm(String),
    /// A header's timestamp or number would leave its range.
    #[error("the next block's number or time does not fit its field")]
    OutOfRange,
}

macro_rules! from_database {
    ($($source:ty),*) => {$(
        impl From<$source> for Error {
            fn from(source: $source) -> Self {
                Self::Database(Box::new(source.into()))
            }
        }
    )*};
}

from_database!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError
);

impl Error {
    /// Stored data that does not decode, or is missing where another table promises it.
    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

/// Why a transaction cannot be in the next block. Wordings follow go-ethereum, whose clients retry on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxError {
    /// EIP-4844 transactions need a data availability layer, which this chain does not have.
    #[error(
        "transaction type not supported: blob transactions (type 3) are refused, this chain stores no blobs"
    )]
    BlobsUnsupported,
    /// The signature does not recover to an address, or has a high s (EIP-2).
    #[error("invalid sender: the signature does not recover to an address")]
    InvalidSignature,
    /// The nonce was used before.
    #[error("nonce too low: next nonce {state}, tx nonce {tx}")]
    NonceTooLow {
        /// The transaction's nonce.
        tx: u64,
        /// The account's next nonce.
        state: u64,
    },
    /// Earlier nonces are missing.
    #[error("nonce too high: next nonce {state}, tx nonce {tx}")]
    NonceTooHigh {
        /// The transaction's nonce.
        tx: u64,
        /// The account's next nonce.
        state: u64,
    },
    /// The account's nonce has reached its end (EIP-2681).
    #[error("nonce has max value")]
    NonceExhausted,
    /// The sender cannot pay gas limit * fee cap + value.
    #[error("insufficient funds for gas * price + value: have {have} want {want}")]
    InsufficientFunds {
        /// The sender's balance, wei.
        have: U256,
        /// What the transaction may cost, wei.
        want: U256,
    },
    /// Gas limit times price overflows 256 bits.
    #[error("insufficient funds for gas * price + value: the cost overflows 256 bits")]
    CostOverflow,
    /// The fee cap lies below the block's base fee.
    #[error("max fee per gas less than block base fee: baseFee {base_fee}")]
    FeeCapBelowBaseFee {
        /// Base fee of the block, wei.
        base_fee: u64,
    },
    /// The tip lies above the fee cap.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFeeCap,
    /// The gas limit does not cover what is charged before execution.
    #[error("intrinsic gas too low: gas {gas_limit}, minimum needed {needed}")]
    IntrinsicGas {
        /// The transaction's gas limit.
        gas_limit: u64,
        /// What is charged before execution (EIP-2028, 2930, 3860, 7623, 7702).
        needed: u64,
    },
    /// The gas limit lies above the block's.
    #[error("exceeds block gas limit: gas {gas_limit}, limit {block_gas_limit}")]
    GasLimitAboveBlock {
        /// The transaction's gas limit.
        gas_limit: u64,
        /// The block's gas limit.
        block_gas_limit: u64,
    },
    /// The block has too little gas left; the transaction may fit the next one.
    #[error("gas limit reached: the block has {left} gas left")]
    BlockFull {
        /// Gas left in the block.
        left: u64,
    },
    /// The block has too few bytes left (EIP-7934); the transaction may fit the next one.
    #[error("the block has no room for {bytes} more bytes")]
    BlockBytesFull {
        /// Encoded length of the transaction.
        bytes: usize,
    },
    /// Signed for another chain.
    #[error("invalid chain id for signer: this chain is {expected}")]
    WrongChain {
        /// This chain's id.
        expected: u64,
    },
    /// Creation code above the limit (EIP-3860).
    #[error("max initcode size exceeded")]
    InitCodeTooLarge,
    /// The sender is a contract (EIP-3607).
    #[error("sender not an eoa")]
    SenderIsContract,
    /// An EIP-7702 transaction without authorisations.
    #[error("EIP-7702 transaction with empty auth list")]
    EmptyAuthorizationList,
    /// Another rule of the execution layer.
    #[error("invalid transaction: {0}")]
    Invalid(String),
}

/// Why a foreign block is not a valid child of its parent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The parent is neither the last finalised block nor a pending one.
    #[error("unknown parent {hash}")]
    UnknownParent {
        /// Hash of the missing parent.
        hash: B256,
    },
    /// A header field has another value than the rules give it.
    #[error("header field {field}: {found}, expected {expected}")]
    Header {
        /// Name of the field, as in JSON-RPC.
        field: &'static str,
        /// What the block says.
        found: String,
        /// What the rules say.
        expected: String,
    },
    /// `extraData` is not two bytes of milliseconds below 1000 and the version byte.
    #[error("extraData does not hold the milliseconds of the block's time")]
    ExtraData,
    /// The block is older than its parent.
    #[error("block time {found_ms} ms lies before its parent's {parent_ms} ms")]
    Timestamp {
        /// The block's time, ms since 1970.
        found_ms: u64,
        /// The parent's time, ms since 1970.
        parent_ms: u64,
    },
    /// Ommers or withdrawals, which this chain does not have.
    #[error("the body holds {0}, which this chain does not have")]
    Body(&'static str),
    /// More bytes than EIP-7934 allows.
    #[error("block of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Length of the encoded block.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A transaction that cannot be executed.
    #[error("transaction {index} ({hash}): {source}")]
    Transaction {
        /// Its place in the block.
        index: usize,
        /// Its hash.
        hash: B256,
        /// What is wrong with it.
        source: TxError,
    },
    /// Our own failure; says nothing about the block.
    #[error(transparent)]
    Internal(#[from] Error),
}

impl BlockError {
    pub(crate) fn header(
        field: &'static str,
        found: impl std::fmt::Display,
        expected: impl std::fmt::Display,
    ) -> Self {
        Self::Header { field, found: found.to_string(), expected: expected.to_string() }
    }
}

/// Why bytes are not a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockDecodeError {
    /// More bytes than EIP-7934 allows.
    #[error("{bytes} bytes are more than the {limit} that a block may have")]
    TooLarge {
        /// Length given.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not RLP of a block.
    #[error("not an encoded block: {0}")]
    Rlp(#[from] alloy_rlp::Error),
    /// Bytes after the block.
    #[error("{0} bytes follow the block")]
    Trailing(usize),
    /// Another encoding of the same block exists; only the canonical one is accepted.
    #[error("not the canonical encoding of the block")]
    NotCanonical,
}

/// Why a call, an estimate or an access list cannot be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request could not be sent as a transaction either.
    #[error(transparent)]
    Rejected(#[from] TxError),
    /// An estimate whose execution reverts whatever the gas; `output` is the revert data.
    #[error("execution reverted{}", revert_suffix(.output))]
    Reverted {
        /// Revert data.
        output: Bytes,
    },
    /// An estimate whose execution halts whatever the gas.
    #[error("{reason}")]
    Halted {
        /// What stopped the EVM.
        reason: String,
    },
    /// An estimate that does not succeed with all the gas that was allowed.
    #[error("gas required exceeds allowance ({cap})")]
    GasExceedsAllowance {
        /// The most gas the request could use.
        cap: u64,
    },
    /// An override names an account in a way that cannot be applied.
    #[error("invalid state override for {address}: {what}")]
    InvalidOverride {
        /// The account.
        address: Address,
        /// What is wrong.
        what: &'static str,
    },
    /// Our own failure, or a block that is not there.
    #[error(transparent)]
    Internal(#[from] Error),
}

fn revert_suffix(output: &[u8]) -> String {
    crate::call::revert_reason(output).map(|reason| format!(": {reason}")).unwrap_or_default()
}
