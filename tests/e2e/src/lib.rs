//! Run real binaries against third-party clients.
//!
//! The tests of this crate start the `og` binary as a user would (`OG_BIN`, else the one that `cargo build --package og`
//! left beside them) and judge it from outside: by what official clients say, and by what both chains' logs say. Amounts
//! and counts never come from our own database.
//!
//! | Module | Holds |
//! |---|---|
//! | [`network`] | a devnet with a mock upstream, in a temporary directory |
//! | [`charges`] | what a request must cost, and what the payment chain says was paid |
//! | [`payer`] | a paying HTTP client that can also pay wrongly |
//! | [`reports`] | what client scripts report |

pub mod charges;
pub mod network;
pub mod payer;
pub mod reports;
