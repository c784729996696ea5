//! The committed contracts on the real executor: genesis state, registration, settlement, payments.
//!
//! Every enclave here is simulated.

#![allow(non_snake_case, reason = "fields of Solidity calls keep their names")]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "this is a test")]

mod artifacts;
mod enclave;
mod genesis;
mod network;
mod payments;
mod registration;
mod registry_lifecycle;
mod settlement;
