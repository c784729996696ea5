//! What can go wrong, split by whose fault it is.

use std::path::PathBuf;

/// Why a model could not be loaded or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine does not serve this name.
    #[error("unknown model `{model}`; served: {}", served.join(", "))]
    UnknownModel {
        /// The name as requested.
        model: String,
        /// The names that exist.
        served: Vec<String>,
    },
    /// The request asks for something that is malformed or that the engine cannot honour.
    #[error("invalid `{param}`: {message}")]
    InvalidRequest {
        /// The field at fault, in the wire format's spelling.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Prompt and answer together do not fit.
    #[error(
        "the prompt has {prompt_tokens} tokens and up to {max_tokens} are asked for, but this model's context holds {limit}"
    )]
    ContextLength {
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Answer tokens asked for (at least 1).
        max_tokens: u32,
        /// The context's size in tokens.
        limit: u32,
    },
    /// All conversations are taken and the queue is full; nothing was computed.
    #[error("the model is busy: {conversations} conversations run and {waiting} wait; try again")]
    Busy {
        /// Conversations that ran.
        conversations: usize,
        /// Requests that waited.
        waiting: usize,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not the one that was promised.
    #[error("{} has SHA-256 {found}, but {expected} was promised", path.display())]
    WeightsHash {
        /// The file.
        path: PathBuf,
        /// Its real hash, hex.
        found: String,
        /// The promised hash, hex.
        expected: String,
    },
    /// The file is not a model that this engine can run.
    #[error("unsupported model file: {0}")]
    Format(String),
    /// The CPU lacks what this build was compiled for.
    #[error(transparent)]
    Cpu(#[from] crate::cpu::CpuError),
    /// The engine itself failed; not the caller's fault.
    #[error("the engine failed: {0}")]
    Engine(String),
}

impl Error {
    /// Whether the request is at fault (an HTTP 4xx that must not be retried unchanged).
    #[must_use]
    pub const fn is_callers_fault(&self) -> bool {
        matches!(
            self,
            Self::UnknownModel { .. } | Self::InvalidRequest { .. } | Self::ContextLength { .. }
        )
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// The request field at fault, in the wire format's spelling.
    #[must_use]
    pub const fn param(&self) -> Option<&'static str> {
        match self {
            Self::UnknownModel { .. } => Some("model"),
            Self::InvalidRequest { param, .. } => Some(param),
            Self::ContextLength { .. } => Some("messages"),
            _ => None,
        }
    }

    pub(crate) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidRequest { param, message: message.into() }
    }
}
