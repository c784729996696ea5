//! Discover, pay, call and verify.
