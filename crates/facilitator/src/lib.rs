//! Verify and settle payments; anchor evidence.
//!
//! ```text
//! gateway ── settle ──────▶ payments ─▶ outbox ─▶ lane (payment chain) ─▶ x402 proxy / EIP-3009
//!         ── settle_data ─▶ evidence ─▶ outbox ─▶ batches ─▶ blob store
//!                                                       └──▶ lane (OpenGradient chain) ─▶ settlement relay
//!         ── heartbeat ───▶ heartbeats ───────────────────▶ lane ─▶ registry
//! ```
//!
//! A library first: [`Facilitator::open`], then the calls above, and [`Facilitator::run`] somewhere. [`http::router`]
//! puts the same over HTTP. Whatever was taken is in the outbox (SQLite) before the caller hears of it, every
//! transaction is there before it is sent, and its end is read from the chain, so a crash at any instruction
//! loses nothing and settles nothing twice. Nothing is charged above the amount that was signed.
//!
//! | Module | Holds |
//! |---|---|
//! | [`config`] | what a facilitator is told |
//! | [`payments`] | payments: taken once, settled once |
//! | [`evidence`] | statements of enclaves, checked at the door |
//! | `batches` | Merkle batches of evidence, published and settled |
//! | [`heartbeats`] | signs of life, relayed once each |
//! | `lane` | one key on one chain: nonces, fees, sending again |
//! | `outbox` | the promises on disk |
//! | [`funds`] | what the payment chain says about a payer |
//! | [`http`] | all of it over HTTP |

mod batches;
mod calls;
mod clock;
pub mod config;
mod error;
pub mod evidence;
pub mod funds;
pub mod heartbeats;
pub mod http;
pub mod job;
mod lane;
mod outbox;
pub mod payments;
mod rpc;
mod service;

pub use config::{Config, FlushPolicy, HttpSettle, Keys, NetworkChain, PaymentChain, Sending};
pub use error::{Error, EvidenceError, HeartbeatError};
pub use evidence::EvidenceItem;
pub use funds::Funds;
pub use heartbeats::{Heartbeat, Relayed};
pub use http::router;
pub use job::{Job, JobError, Status};
pub use payments::SettleRequest;
pub use rpc::RpcError;
pub use service::Facilitator;
