//! Order pending transactions.
//!
//! Data flow: a signed transaction with its recovered sender and the sender's [`Account`] goes into
//! [`Pool::add`], which minds nonce, funds, replacement and capacity. Whether a transaction is
//! well formed for the chain (chain id, type, intrinsic gas) is the executor's knowledge: the node asks
//! it first. [`Pool::best`] yields candidates for a block, dearest tip first, each sender in nonce
//! order, against the account state of the parent that the block builds on.
//! [`Pool::on_block`] tells the pool what a new head changed: used-up transactions leave, waiting
//! ones become executable, old ones expire.
//!
//! The pool is pure: no clock (age is counted in blocks), no randomness, no I/O, and its answers
//! depend on nothing but the calls made. Everything it holds is bounded by [`Limits`].

mod pool;
mod rejection;

pub use pool::{Account, Added, Budget, Limits, Place, Pool, Status, Update};
pub use rejection::Rejection;

/// A signed transaction together with the sender recovered from its signature.
pub type PooledTransaction = alloy_consensus::transaction::Recovered<alloy_consensus::TxEnvelope>;
