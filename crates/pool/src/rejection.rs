use alloy_primitives::{Address, U256};

/// Why the pool refused a transaction.
///
/// The texts begin with the words that geth uses, since clients match on them: a message with
/// `nonce too low` makes official clients fetch a new nonce and retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The very same transaction is in the pool already; harmless for the sender.
    #[error("already known")]
    AlreadyKnown,
    /// The account has already used this nonce.
    #[error("nonce too low: address {sender}, tx: {tx} state: {state}")]
    NonceTooLow {
        /// Who signed.
        sender: Address,
        /// The transaction's nonce.
        tx: u64,
        /// The account's next nonce.
        state: u64,
    },
    /// Another transaction of this sender and nonce is waiting, and this one does not pay 10 % more.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The balance does not cover value plus gas limit times the highest fee.
    #[error(
        "insufficient funds for gas * price + value: address {sender} have {balance} want {cost}"
    )]
    InsufficientFunds {
        /// Who signed.
        sender: Address,
        /// Balance in wei.
        balance: U256,
        /// Most that the transaction can cost, in wei.
        cost: U256,
    },
    /// The fee cap is below the lowest base fee that the chain can have, so no block would take it.
    #[error("transaction underpriced: gas fee cap {fee_cap}, minimum needed {minimum}")]
    Underpriced {
        /// Fee cap in wei per gas.
        fee_cap: u128,
        /// Lowest acceptable fee cap in wei per gas.
        minimum: u128,
    },
    /// The encoded transaction is too long.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Oversized {
        /// Encoded length in bytes.
        size: usize,
        /// Most bytes allowed.
        limit: usize,
    },
    /// This sender has as many waiting transactions as one sender may have.
    #[error("account limit exceeded: address {sender}, limit {limit}")]
    AccountLimit {
        /// Who signed.
        sender: Address,
        /// Most transactions one sender may have waiting.
        limit: usize,
    },
    /// The pool is full of transactions that pay at least as much.
    #[error("txpool is full")]
    Full,
}
