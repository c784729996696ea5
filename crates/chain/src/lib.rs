//! Execute blocks: revm, precompiles, state, genesis.
//!
//! ```text
//! candidates ──propose──▶ ┌ pending blocks (memory) ┐ ──finalize──▶ redb: blocks, receipts, logs, certificates,
//! foreign block ─execute─▶ └ changes over the state ┘               state and trie nodes of every height
//!                                     │                                            │
//!                                     └────────── View: the state after a block ───┘
//!                                          calls, estimates, proofs, queries
//! ```
//!
//! [`Chain`] is the handle. Consensus proposes, executes and finalises blocks by hash and never sees the EVM; RPC
//! asks. State and receipts roots are those of the block itself, computed before anybody votes for it. There is no
//! clock, randomness or environment here: time comes with each call.
//!
//! Blocks are standard Ethereum blocks under Osaka rules, with these deliberate differences: no per-transaction gas
//! cap (EIP-7825), no blobs (EIP-4844), no beacon chain (EIP-4788, withdrawals and execution requests are empty),
//! a base fee floor, milliseconds in `extraData`, and native verifiers of evidence at `0x…0900` and `0x…0901`.

mod block;
mod call;
mod chain;
mod error;
mod evm;
mod executed;
mod genesis;
mod logs;
mod precompile;
mod produce;
mod query;
mod state;
mod store;
mod trie;

pub use alloy_consensus::transaction::Recovered;
pub use alloy_consensus::{Header, TxEnvelope};
pub use block::{
    BLOCK_BYTES_MAX, Block, EXTRA_DATA_VERSION, TIMESTAMP_AHEAD_MS_MAX, TimestampError, block_hash,
    body_matches_header, check_timestamp, decode_block, encode_block, timestamp_ms,
};
pub use call::{
    AccountOverride, CALL_GAS_MAX, CallOutcome, CallRequest, CallResult, revert_reason,
};
pub use chain::{Chain, Head, PENDING_MAX, Storage};
pub use error::{BlockDecodeError, BlockError, CallError, Error, TxError};
pub use executed::{ExecutedBlock, TxOutcome};
pub use genesis::{BASE_FEE_FLOOR, GAS_LIMIT, Genesis, GenesisAccount, TrustedRoot};
pub use logs::{LOG_BLOCKS_MAX, LOGS_MAX, LogAt, LogFilter, logs_of};
pub use produce::{Proposal, ProposeRequest};
pub use query::{At, FEE_BLOCKS_MAX, FeeBlock, TransactionAt};
pub use state::{AccountState, EMPTY_CODE_HASH};
pub use trie::{AccountProof, StorageProof};
