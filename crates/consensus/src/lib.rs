//! Agree on blocks.
//!
//! Byzantine-fault-tolerant consensus for one chain: commonware simplex over authenticated peer-to-peer connections,
//! BLS12-381 multi-signature certificates, one seat one vote. This is the only crate that names the consensus library;
//! outside of it there are 32-byte digests, bytes, and [`Application`].
//!
//! ```text
//!                        ┌──────────── one runtime per validator ─────────────┐
//! Application ◀─propose──┤ Node ◀── Mailbox ◀── simplex engine ──▶ journal    │
//! (executor)  ◀─verify───┤  │                        │ votes, certificates     │
//!             ◀─finalized┤  ▼                        ▼                         │
//!                        │ Bodies (disk)  Exchange ─ p2p ◀──▶ other validators │
//!                        └─────────────────────────────────────────────────────┘
//! ```
//!
//! A leader's block goes to everybody as bytes; a validator votes for its digest after the application has executed
//! it. A quorum of votes notarises it. A second round finalises it, in which those vote whose disk holds the body; the
//! certificate that comes out of that round is what [`og_light`] verifies, and it finalises every ancestor too.
//!
//! Validators that missed something ask the others for bodies by digest and have the application execute them in
//! order. A restart on the same data directory resumes: votes are journalled before they are sent.

mod application;
mod automaton;
mod bodies;
mod config;
mod engine;
mod error;
mod exchange;
mod handle;
mod keys;
mod node;

pub use application::{Application, Block, Cancel, Context, Digest};
pub use config::{BODY_LEN_MAX, Clock, Config, EMPTY_BLOCK_INTERVAL_MAX, Timing, reserve_loopback};
pub use error::Error;
pub use handle::{Handle, spawn};
pub use keys::ValidatorKeys;
