//! Run a model: one trait, engines behind it.
//!
//! ```text
//! fetch ──file, hash checked──▶ gguf::GgufEngine ──implements──▶ Engine
//!                                   │
//!   ChatRequest ─▶ template ─▶ tokenizer ─▶ slots ─▶ decode ─▶ constrain ─▶ output ─▶ Delta… ─▶ Completion
//! ```
//!
//! An [`Engine`] is synchronous and takes everything it may depend on as an argument: the request carries the
//! sampling seed, and progress, text and cancellation pass through one callback. The same request therefore gives
//! the same tokens on the same build; [`EngineIdentity`] says which build that is.
//!
//! | Module | Holds |
//! |---|---|
//! | [`chat`] | requests, deltas and completions, in the terms of the chat-completions wire format |
//! | [`engine`] | the trait, and what an engine says about itself |
//! | [`gguf`] | GGUF models in pure Rust (candle, quantised llama) |
//! | [`constrain`] | force an answer to be JSON, or JSON of a schema |
//! | [`fetch`] | get a pinned model file from a package registry, once |
//! | [`cpu`] | say clearly that a CPU is too old, before anything else does |

pub mod chat;
pub mod constrain;
pub mod cpu;
pub mod engine;
mod error;
pub mod fetch;
pub mod gguf;

pub use chat::{
    ChatRequest, Completion, Delta, FinishReason, Message, ResponseFormat, Role, Sampling, Tool,
    ToolCall, ToolChoice, Usage,
};
pub use engine::{Engine, EngineIdentity, ModelInfo};
pub use error::Error;
pub use gguf::{GgufConfig, GgufEngine, Limits};
