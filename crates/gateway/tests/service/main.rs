//! The whole gateway over TLS, with a mock upstream and a faked facilitator.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "a test says what it expects, and its parts are its own"
)]

mod enclave;
mod faults;
mod flow;
mod local;
mod payments;
mod support;
