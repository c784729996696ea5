//! Who answers: any OpenAI-compatible service, or the engine inside the enclave.
//!
//! Upstream-specific JSON lives under [`openai`] and nowhere else. Both kinds speak to the rest of the gateway in
//! [`Event`]s and one [`End`].

pub mod local;
pub mod openai;

use async_trait::async_trait;
use og_receipt::{Engine as EngineClaim, TruthLevel};
use tokio::sync::mpsc;

use crate::error::{ApiError, Code};
use crate::request::Call;

/// A piece of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// More text; never empty.
    Text(String),
    /// More of a tool call. Calls come in the order of `index`; id and name come with the first piece.
    Tool {
        /// The call's place.
        index: u32,
        /// Its id, with the first piece.
        id: Option<String>,
        /// Its function, with the first piece.
        name: Option<String>,
        /// More of the arguments' JSON text.
        arguments: String,
    },
}

/// How an answer ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it took, if the upstream said so.
    pub usage: Option<Usage>,
    /// The model that the upstream says answered.
    pub model_served: String,
}

/// Why an answer ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FinishReason {
    /// The model was done or met a stop sequence.
    Stop,
    /// The token limit was reached.
    Length,
    /// The answer is one or more tool calls.
    ToolCalls,
    /// The upstream withheld (more of) the answer.
    ContentFilter,
}

impl FinishReason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Tokens read and written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// What a receipt may say about who answered.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The engine.
    pub engine: EngineClaim,
    /// What is really proven about the answer.
    pub truth: TruthLevel,
}

/// Why an upstream did not answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamError {
    /// What to tell the client.
    pub code: Code,
    /// The particulars; never credentials or prompts.
    pub message: String,
    /// The request field at fault, if the upstream named one.
    pub param: Option<String>,
}

impl UpstreamError {
    /// An error without a field.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None }
    }
}

impl From<UpstreamError> for ApiError {
    fn from(error: UpstreamError) -> Self {
        Self { param: error.param, ..Self::new(error.code, error.message) }
    }
}

/// Somebody who answers requests.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Whether the request can be served at all; cheap enough to run before any payment.
    ///
    /// # Errors
    /// A field that this upstream cannot honour.
    fn check(&self, call: &Call, model: &str) -> Result<(), ApiError>;

    /// The most prompt tokens that can be billed for the request.
    ///
    /// # Errors
    /// When the prompt cannot be served.
    async fn prompt_tokens_max(&self, call: &Call, model: &str) -> Result<u64, ApiError>;

    /// Answers. Pieces go to `events`; when nobody listens any more, the work stops.
    ///
    /// # Errors
    /// When there is no complete answer; then nothing is billed.
    async fn answer(
        &self,
        call: &Call,
        model: &str,
        events: mpsc::Sender<Event>,
    ) -> Result<End, UpstreamError>;

    /// What a receipt may say about who answered.
    fn provenance(&self) -> Provenance;
}
