//! Serve inference from inside an enclave, signed and metered.
//!
//! ```text
//! TLS ─▶ routes ─▶ request (every field honoured or refused) ─▶ payment (402, or a verified permit)
//!                     └▶ books: reserve durably ─▶ inference ─▶ upstream (OpenAI-compatible, or local)
//!                                                    │ chunks to the client, hash chain, token counts
//!                                                    ├▶ legacy tee_* signature, COSE receipt
//!                                                    ├▶ books: bill, fsync ─▶ final event
//!                                                    └▶ settlement worker ─▶ facilitator (until settled)
//! ```
//!
//! Keys are born at start and never leave ([`enclave`]). One payment pays for one request and is charged at most
//! once, with the total of its signed receipt; a request that fails costs nothing; an answer that was paid for can
//! be asked for again with the same payment and body. Nothing here trusts the host beyond keeping the journal.
//!
//! | Module | Holds |
//! |---|---|
//! | [`config`] | what an operator decides |
//! | [`gateway`] | start and stop |
//! | [`enclave`] | keys, certificate, evidence |
//! | [`request`], [`payment`], [`error`] | what comes in and what is refused |
//! | [`books`], [`journal`], [`answers`] | the ledger, its file, and answers kept |
//! | [`upstream`] | who answers |
//! | [`wire`] | the bodies clients read |
//! | [`settlement`], [`heartbeat`] | the facilitator as the gateway sees it |
//! | [`legacy`] | what official clients hash and verify |

pub mod answers;
pub mod books;
pub mod clock;
pub mod config;
pub mod enclave;
pub mod error;
pub mod gateway;
pub mod heartbeat;
mod inference;
pub mod journal;
pub mod legacy;
pub mod payment;
pub mod request;
mod response;
mod routes;
mod server;
pub mod settlement;
pub mod upstream;
pub mod wire;

pub use clock::{Clock, ManualClock, SystemClock};
pub use config::Config;
pub use enclave::{Identity, simulated_attester};
pub use gateway::{Gateway, GatewayHandle, Parts, StartError};
pub use settlement::{Funds, Settlement};
