//! The generation loop of one conversation.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::output::Output;
use super::{GgufEngine, PREFILL_CHUNK, Prepared};
use crate::constrain::Machine;
use crate::{Completion, Delta, Error, FinishReason, ToolCall, Usage};

/// What a model writes before a function call, and after it.
const CALL_OPENS: &str = "<tool_call>";

type OnDelta<'d> = dyn FnMut(Delta<'_>) -> ControlFlow<()> + 'd;

/// Runs one request on a copy of the model that shares its weights.
pub(super) struct Decoder<'e, 'd> {
    engine: &'e GgufEngine,
    model: ModelWeights,
    position: usize,
    output: Output,
    on_delta: &'d mut OnDelta<'d>,
    cancelled: bool,
}

/// What the bytes being generated are.
enum Phase<'g> {
    /// Text, of the shape of a grammar where there is one.
    Answer(Option<Machine<'g>>),
    /// The beginning, which may yet turn out to open a function call.
    Undecided(Vec<u8>),
    /// A function call.
    Call { machine: Machine<'g>, json: Vec<u8> },
}

impl<'e, 'd> Decoder<'e, 'd> {
    pub(super) fn new(
        engine: &'e GgufEngine,
        stop: Vec<String>,
        on_delta: &'d mut OnDelta<'d>,
    ) -> Self {
        // A clone shares the weights and starts with an empty cache of its own.
        let model = engine.weights.clone();
        Self { engine, model, position: 0, output: Output::new(stop), on_delta, cancelled: false }
    }

    pub(super) fn run(
        mut self,
        request: &Prepared,
        mut sampler: super::Sampler,
    ) -> Result<Completion, Error> {
        let mut usage = Usage { prompt_tokens: request.prompt_len, completion_tokens: 0 };
        let Some(mut logits) = self.prefill(&request.prompt)? else {
            return Ok(self.finish(FinishReason::Cancelled, Vec::new(), usage));
        };
        let mut phase = match (&request.call, &request.answer) {
            (Some(call), _) if request.call_is_required => {
                Phase::Call { machine: Machine::new(call), json: Vec::new() }
            }
            (Some(_), None) => Phase::Undecided(Vec::new()),
            (_, answer) => Phase::Answer(answer.as_ref().map(Machine::new)),
        };
        let reason = loop {
            let left = request.max_new - usage.completion_tokens;
            if let Some(reason) = self.reason_to_end(&phase, left) {
                break reason;
            }
            let token = choose(self.engine, &mut sampler, &mut logits, phase.machine(), left)?;
            if self.engine.tokenizer.is_control(token) {
                break FinishReason::Stop;
            }
            usage.completion_tokens += 1;
            phase = self.take(phase, token, request)?;
            if self.reason_to_end(&phase, 1).is_none() && usage.completion_tokens < request.max_new
            {
                logits = self.forward(&[token])?;
            }
        };
        let calls = self.settle(phase, reason, &request.prompt);
        let reason = if calls.is_empty() { reason } else { FinishReason::ToolCalls };
        Ok(self.finish(reason, calls, usage))
    }

    /// Reads the prompt; `None` when cancelled.
    fn prefill(&mut self, prompt: &[u32]) -> Result<Option<Vec<f32>>, Error> {
        let total = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let mut logits = Vec::new();
        for chunk in prompt.chunks(PREFILL_CHUNK) {
            let done = u32::try_from(self.position).unwrap_or(u32::MAX);
            if (self.on_delta)(Delta::Prefill { done, total }).is_break() {
                return Ok(None);
            }
            logits = self.forward(chunk)?;
        }
        Ok(Some(logits))
    }

    /// Reads `tokens` and returns the next token's logits.
    fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let failed = |error: candle_core::Error| Error::Engine(error.to_string());
        let input = Tensor::new(tokens, &Device::Cpu)
            .and_then(|tokens| tokens.unsqueeze(0))
            .map_err(failed)?;
        let logits = self
            .model
            .forward(&input, self.position)
            .and_then(|logits| logits.squeeze(0))
            .and_then(|logits| logits.to_vec1::<f32>())
            .map_err(failed)?;
        self.position += tokens.len();
        Ok(logits)
    }

    fn reason_to_end(&self, phase: &Phase<'_>, left: u32) -> Option<FinishReason> {
        if self.cancelled {
            return Some(FinishReason::Cancelled);
        }
        if self.output.is_stopped() || phase.is_finished() {
            return Some(FinishReason::Stop);
        }
        (left == 0).then_some(FinishReason::Length)
    }

    /// Adds a token to what is being generated.
    fn take<'g>(
        &mut self,
        phase: Phase<'g>,
        token: u32,
        request: &'g Prepared,
    ) -> Result<Phase<'g>, Error>
    where
        'e: 'g,
    {
        let bytes = self.engine.tokenizer.bytes_of(token);
        Ok(match phase {
            Phase::Answer(machine) => {
                let machine = machine.map(|machine| advance(machine, bytes)).transpose()?;
                self.say(bytes);
                Phase::Answer(machine)
            }
            Phase::Call { machine, mut json } => {
                json.extend_from_slice(bytes);
                Phase::Call { machine: advance(machine, bytes)?, json }
            }
            Phase::Undecided(mut begun) => {
                begun.extend_from_slice(bytes);
                self.decide(begun, request)
            }
        })
    }

    fn decide<'g>(&mut self, begun: Vec<u8>, request: &'g Prepared) -> Phase<'g> {
        let opens = CALL_OPENS.as_bytes();
        let spoken = begun.trim_ascii_start();
        if let (Some(after), Some(call)) = (spoken.strip_prefix(opens), &request.call) {
            let mut machine = Machine::new(call);
            let json = after.trim_ascii_start().to_vec();
            if machine.accept(&json) {
                return Phase::Call { machine, json };
            }
        } else if opens.starts_with(spoken) {
            return Phase::Undecided(begun);
        }
        self.say(&begun);
        Phase::Answer(None)
    }

    /// Streams what is certain of the answer so far.
    fn say(&mut self, bytes: &[u8]) {
        let text = self.output.push(bytes);
        self.emit(&text);
    }

    fn emit(&mut self, text: &str) {
        if !text.is_empty() && (self.on_delta)(Delta::Text(text)).is_break() {
            self.cancelled = true;
        }
    }

    /// Turns what was generated last into its final form.
    fn settle(&mut self, phase: Phase<'_>, reason: FinishReason, prompt: &[u32]) -> Vec<ToolCall> {
        let mut calls = Vec::new();
        match phase {
            Phase::Answer(_) => {}
            Phase::Undecided(begun) => self.say(&begun),
            // A call that was cut off is no call, and its beginning is not an answer.
            Phase::Call { json, .. } => calls.extend(parse_call(&json, prompt)),
        }
        if reason != FinishReason::Cancelled {
            for (index, call) in (0u32..).zip(&calls) {
                if (self.on_delta)(Delta::ToolCall { index, call }).is_break() {
                    self.cancelled = true;
                }
            }
        }
        calls
    }

    fn finish(mut self, reason: FinishReason, calls: Vec<ToolCall>, usage: Usage) -> Completion {
        let rest = self.output.finish();
        if reason != FinishReason::Cancelled {
            self.emit(&rest);
        }
        let finish_reason = if self.cancelled { FinishReason::Cancelled } else { reason };
        Completion { text: self.output.into_text(), tool_calls: calls, finish_reason, usage }
    }
}

impl<'g> Phase<'g> {
    fn machine(&self) -> Option<&Machine<'g>> {
        match self {
            Self::Answer(machine) => machine.as_ref(),
            Self::Call { machine, .. } => Some(machine),
            Self::Undecided(_) => None,
        }
    }

    fn is_finished(&self) -> bool {
        self.machine().is_some_and(Machine::is_finished)
    }
}

/// The next token: one the machine accepts and after which it can still close within `left` tokens.
fn choose(
    engine: &GgufEngine,
    sampler: &mut super::Sampler,
    logits: &mut [f32],
    machine: Option<&Machine<'_>>,
    left: u32,
) -> Result<u32, Error> {
    let tokenizer = &engine.tokenizer;
    let token = match machine {
        None => sampler.next(logits, &mut |_| true),
        Some(machine) => {
            // Every byte of JSON syntax is a token, so bytes are an upper bound on tokens.
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let can_close = machine.bytes_to_close() <= left;
            sampler.next(logits, &mut |token| {
                if tokenizer.is_control(token) {
                    return machine.is_complete();
                }
                let bytes = tokenizer.bytes_of(token);
                let mut next = machine.clone();
                !bytes.is_empty()
                    && next.accept(bytes)
                    && (!can_close || next.bytes_to_close() < left)
            })
        }
    };
    token.ok_or_else(|| Error::Engine("no token is possible".into()))
}

fn advance<'g>(mut machine: Machine<'g>, bytes: &[u8]) -> Result<Machine<'g>, Error> {
    if machine.accept(bytes) {
        Ok(machine)
    } else {
        Err(Error::Engine("a token outside the grammar was chosen".into()))
    }
}

fn parse_call(json: &[u8], prompt: &[u32]) -> Option<ToolCall> {
    let call: Value = serde_json::from_slice(json).ok()?;
    let name = call.get("name")?.as_str()?.to_owned();
    let arguments = call.get("arguments")?.to_string();
    // Names and arguments repeat in a conversation; the prompt before them does not.
    let mut hash = Sha256::new();
    for token in prompt {
        hash.update(token.to_le_bytes());
    }
    hash.update(json);
    let id = hash.finalize();
    let id = format!("call_{}", hex::encode(id.get(..12).unwrap_or_default()));
    Some(ToolCall { id, name, arguments })
}
