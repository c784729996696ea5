//! Decide whether evidence says what it claims.
