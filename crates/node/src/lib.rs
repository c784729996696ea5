//! Run a validator or full node: p2p, sync, RPC.
//!
//! ```text
//!  client ──HTTP / WebSocket──▶ rpc ──submit──▶ Mempool ◀──candidates── sealer ──propose / verify──▶ og-chain
//!    ▲                           │ reads                                  │ finalize (fsync)            │
//!    └──── answers, pushes ◀─────┴──────────── head feed ◀────────────────┴─────────────────────────────┘
//! ```
//!
//! [`Node::start`] opens the chain, binds the RPC server and starts one of two sealers: instant seal (one
//! operator, no certificates: the local payment chain) or consensus through `og-consensus` (BFT validators,
//! a certificate for what is final). The sealers are the only writers of the chain; everything that RPC
//! shows is final. Time comes through a [`Clock`].
//!
//! A shutdown stops the RPC server, then the sealer; final blocks are on disk before anybody hears of
//! them, so a restart, graceful or not, resumes from the last final block.

mod clock;
mod error;
mod mempool;
mod node;
mod rpc;
mod seal;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::Error;
pub use mempool::{Mempool, SubmitError};
pub use node::{Node, NodeConfig, NodeHandle, Seal, Validator, mempool_for};
pub use rpc::RpcConfig;
