//! Run the whole network on one machine.
//!
//! ```text
//!                        ┌───────────── OpenGradient chain (10740) ─────────────┐
//!                        │ validator 0 (RPC) · validator 1 · … over real p2p    │
//!                        └──▲──────────────────▲────────────────────▲───────────┘
//!                  register │          batches │                    │ reads
//!   local model ─▶ gateway ─┴─▶ bridge ─▶ facilitator ─▶ store      clients
//!   (candle)       (simulated TEE)             │
//!                                     settle   ▼
//!                             payment chain (8453), instant seal
//! ```
//!
//! Everything runs in one process and talks over loopback the way it would between machines, the hand-over from
//! gateway to facilitator excepted, which is a function call ([`bridge`]). The enclave is **simulated**: same
//! formats, a published development root, and every screen says so.
//!
//! A start on a used directory resumes: the journal of earlier enclaves is settled first, their owner disables
//! them, the new enclave registers, and the network is ready when the registry lists exactly the live gateway.
//!
//! | Module | Holds |
//! |---|---|
//! | [`options`] | what a devnet is told |
//! | [`accounts`] | play money behind published keys |
//! | [`founding`] | what a network is born with, kept for its restarts |
//! | [`chains`] | both chains |
//! | [`models`] | the local model, the upstream's models, and their prices |
//! | [`bridge`] | gateway and facilitator, hand in hand |
//! | [`enclave`] | registering the gateway, retiring earlier ones |
//! | [`network`] | all of it, started and stopped in order |

pub mod accounts;
mod bridge;
mod chains;
mod enclave;
mod founding;
mod models;
pub mod network;
pub mod options;

pub use network::Devnet;
pub use options::{Options, Ports, Progress, Upstream};

/// Checks that this machine can run what was built for it.
///
/// # Errors
/// When the processor lacks the instructions of x86-64-v3, with their names.
pub fn check_cpu() -> anyhow::Result<()> {
    Ok(og_infer::cpu::require()?)
}
