//! The trait every engine implements, and what an engine says about itself.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::{ChatRequest, Completion, Delta, Error};

/// One or more models behind one interface.
///
/// Calls block the calling thread for as long as the model computes; services run them on a blocking pool.
pub trait Engine: Send + Sync {
    /// Which engine answers, so that a receipt can name it.
    fn identity(&self) -> &EngineIdentity;

    /// The models served, in order of preference.
    fn models(&self) -> &[ModelInfo];

    /// Counts the prompt tokens of `request` exactly as [`Engine::chat`] will report them.
    ///
    /// # Errors
    /// The request's own faults ([`Error::is_callers_fault`]).
    fn count_tokens(&self, request: &ChatRequest) -> Result<u32, Error>;

    /// Answers `request`, reporting through `on_delta` as it goes.
    ///
    /// The callback sees [`Delta::Waiting`] and [`Delta::Prefill`] while there is nothing to show yet (good moments
    /// for a keep-alive), then text in pieces that are whole UTF-8. When it returns `Break`, the engine stops at once
    /// and the completion says [`FinishReason::Cancelled`](crate::FinishReason::Cancelled).
    ///
    /// # Errors
    /// The request's faults, [`Error::Busy`] when the queue is full, [`Error::Engine`] when computing failed.
    fn chat(
        &self,
        request: &ChatRequest,
        on_delta: &mut dyn FnMut(Delta<'_>) -> ControlFlow<()>,
    ) -> Result<Completion, Error>;
}

/// Everything that decides an engine's output bits: two engines of equal identity are expected to give equal tokens.
///
/// Equality across CPU makers is untested; nothing more is claimed than "same build, same answer".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineIdentity {
    /// The program that computes.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Settings that change the order of arithmetic.
    pub flags: String,
    /// Instruction set the build was compiled for.
    pub isa: String,
    /// How weights are stored.
    pub quantisation: String,
    /// SHA-256 of the weights file that was loaded (computed from the bytes in use).
    #[serde(serialize_with = "hex::serde::serialize")]
    pub weights_sha256: [u8; 32],
}

/// A model as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// The name requests use.
    pub id: String,
    /// Tokens that prompt and answer share.
    pub context_tokens: u32,
    /// Who made it.
    pub owned_by: String,
    /// SPDX identifier of its licence.
    pub licence: String,
    /// What a user should know before trusting an answer.
    pub notice: String,
}
