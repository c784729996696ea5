//! Order pending transactions.
