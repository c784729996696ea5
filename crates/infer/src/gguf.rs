//! GGUF models in pure Rust (candle, quantised llama).
//!
//! Weights are loaded once and shared. Each conversation has its own key/value cache, bounded by [`Limits`]. Prompts
//! are read in chunks of fixed size, so that memory for attention stays small; the chunk size changes the order of
//! arithmetic and is therefore part of the engine's identity.

mod decode;
mod output;
mod sampler;
mod slots;
mod template;
mod tokenizer;

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::PathBuf;

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use sha2::{Digest, Sha256};

pub use slots::Limits;

use crate::constrain::Grammar;
use crate::{
    ChatRequest, Completion, Delta, Engine, EngineIdentity, Error, FinishReason, ModelInfo,
    ResponseFormat, Role, ToolChoice, Usage, cpu,
};
use decode::Decoder;
use sampler::Sampler;
use slots::Slots;
use template::Template;
use tokenizer::Tokenizer;

/// Version of the candle crates this is built with (checked against the lock file by a test).
const CANDLE_VERSION: &str = "0.11.1";
/// Prompt tokens read at a time.
const PREFILL_CHUNK: usize = 64;
/// Messages in one request.
const MESSAGES_MAX: usize = 1024;
/// Bytes of all messages of one request together: far more than any context holds.
const PROMPT_BYTES_MAX: usize = 1 << 20;
/// Stop sequences in one request, and bytes of one.
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;
/// Functions in one request.
const TOOLS_MAX: usize = 128;
/// Largest model file that is read into memory.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// What to load, and how much of the machine it may use.
#[derive(Clone, Debug)]
pub struct GgufConfig {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256; anything else is refused.
    pub sha256: [u8; 32],
    /// The model as clients see it; `context_tokens` is lowered to what is really available.
    pub model: ModelInfo,
    /// Bounds on concurrent use.
    pub limits: Limits,
}

/// A GGUF model of the llama architecture with its tokenizer and chat template.
pub struct GgufEngine {
    identity: EngineIdentity,
    model: [ModelInfo; 1],
    weights: ModelWeights,
    tokenizer: Tokenizer,
    template: Template,
    slots: Slots,
    cache_bytes_per_token: u64,
}

impl std::fmt::Debug for GgufEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufEngine")
            .field("identity", &self.identity)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// A request that has been checked and turned into tokens.
struct Prepared {
    prompt: Vec<u32>,
    prompt_len: u32,
    max_new: u32,
    /// The shape the answer must have from its first byte on.
    answer: Option<Grammar>,
    /// The shape of a function call, where one may or must be made.
    call: Option<Grammar>,
    call_is_required: bool,
}

impl GgufEngine {
    /// Reads the file once, checks those very bytes against the promised hash, and loads the model from them.
    ///
    /// # Errors
    /// [`Error::Cpu`], [`Error::Io`], [`Error::WeightsHash`], or [`Error::Format`] when the file is no model that
    /// this engine runs.
    pub fn open(config: &GgufConfig) -> Result<Self, Error> {
        cpu::require()?;
        let io = |source| Error::Io { path: config.path.clone(), source };
        let len = std::fs::metadata(&config.path).map_err(io)?.len();
        if len > FILE_BYTES_MAX {
            return Err(Error::Format(format!("{len} bytes; at most {FILE_BYTES_MAX} are read")));
        }
        let bytes = std::fs::read(&config.path).map_err(io)?;
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        if sha256 != config.sha256 {
            return Err(Error::WeightsHash {
                path: config.path.clone(),
                found: hex::encode(sha256),
                expected: hex::encode(config.sha256),
            });
        }
        Self::load(config, &bytes, sha256)
    }

    fn load(config: &GgufConfig, bytes: &[u8], sha256: [u8; 32]) -> Result<Self, Error> {
        let mut reader = Cursor::new(bytes);
        let content = Content::read(&mut reader).map_err(format_error)?;
        let metadata = &content.metadata;
        let architecture = metadata_str(metadata, "general.architecture")?;
        if architecture != "llama" {
            return Err(Error::Format(format!("architecture `{architecture}` is not supported")));
        }
        let tokenizer = Tokenizer::from_metadata(metadata)?;
        let template = Template::compile(metadata_str(metadata, "tokenizer.chat_template")?)?;
        let quantisation = quantisation(metadata_u32(metadata, "general.file_type")?)?;
        let cache_bytes_per_token = cache_bytes_per_token(metadata)?;
        let context = metadata_u32(metadata, "llama.context_length")?
            .min(u32::try_from(MAX_SEQ_LEN).unwrap_or(u32::MAX))
            .min(config.limits.context_tokens)
            .min(config.model.context_tokens);
        let weights =
            ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).map_err(format_error)?;

        let identity = EngineIdentity {
            name: "candle".into(),
            version: CANDLE_VERSION.into(),
            flags: format!("quantized_llama prefill={PREFILL_CHUNK} kv=f32"),
            isa: cpu::build_isa().into(),
            quantisation: quantisation.into(),
            weights_sha256: sha256,
        };
        let mut model = config.model.clone();
        model.context_tokens = context;
        let slots = Slots::new(config.limits);
        Ok(Self {
            identity,
            model: [model],
            weights,
            tokenizer,
            template,
            slots,
            cache_bytes_per_token,
        })
    }

    fn prepare(&self, request: &ChatRequest) -> Result<Prepared, Error> {
        let [model] = &self.model;
        if request.model != model.id {
            return Err(Error::UnknownModel {
                model: request.model.chars().take(100).collect(),
                served: vec![model.id.clone()],
            });
        }
        check_bounds(request)?;
        Sampler::new(request.sampling)?;
        let (call, call_is_required) = call_grammar(request)?;
        let answer = match &request.response_format {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(Grammar::json_object()),
            ResponseFormat::JsonSchema(schema) => Some(
                Grammar::schema(schema)
                    .map_err(|error| Error::invalid("response_format", error.to_string()))?,
            ),
        };
        let offered = if call.is_some() { request.tools.as_slice() } else { &[] };
        let prompt = self.template.tokens(&self.tokenizer, &request.messages, offered)?;
        let prompt_len = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let left = model.context_tokens.saturating_sub(prompt_len);
        let max_new = request.max_tokens.unwrap_or(left);
        if max_new > left || left == 0 {
            return Err(Error::ContextLength {
                prompt_tokens: prompt_len,
                max_tokens: max_new.max(1),
                limit: model.context_tokens,
            });
        }
        Ok(Prepared { prompt, prompt_len, max_new, answer, call, call_is_required })
    }
}

impl Engine for GgufEngine {
    fn identity(&self) -> &EngineIdentity {
        &self.identity
    }

    fn models(&self) -> &[ModelInfo] {
        &self.model
    }

    fn count_tokens(&self, request: &ChatRequest) -> Result<u32, Error> {
        Ok(self.prepare(request)?.prompt_len)
    }

    fn chat(
        &self,
        request: &ChatRequest,
        on_delta: &mut dyn FnMut(Delta<'_>) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        let prepared = self.prepare(request)?;
        let worst_case = u64::from(prepared.prompt_len) + u64::from(prepared.max_new);
        let cache_bytes = worst_case.saturating_mul(self.cache_bytes_per_token);
        let place = self.slots.acquire(cache_bytes, &mut || on_delta(Delta::Waiting))?;
        if place.is_none() {
            return Ok(Completion {
                text: String::new(),
                tool_calls: Vec::new(),
                finish_reason: FinishReason::Cancelled,
                usage: Usage::default(),
            });
        }
        let sampler = Sampler::new(request.sampling)?;
        Decoder::new(self, request.stop.clone(), on_delta).run(&prepared, sampler)
    }
}

fn check_bounds(request: &ChatRequest) -> Result<(), Error> {
    if request.messages.is_empty() || request.messages.len() > MESSAGES_MAX {
        return Err(Error::invalid("messages", format!("1 to {MESSAGES_MAX} messages are needed")));
    }
    let bytes: usize = request
        .messages
        .iter()
        .map(|message| {
            let calls: usize =
                message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
            message.content.len() + calls
        })
        .sum();
    if bytes > PROMPT_BYTES_MAX {
        return Err(Error::invalid("messages", format!("more than {PROMPT_BYTES_MAX} bytes")));
    }
    if request.messages.iter().all(|message| message.role == Role::System) {
        return Err(Error::invalid("messages", "there is no message to answer"));
    }
    if request.max_tokens == Some(0) {
        return Err(Error::invalid("max_tokens", "must be at least 1"));
    }
    let stops = &request.stop;
    if stops.len() > STOPS_MAX
        || stops.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX)
    {
        return Err(Error::invalid(
            "stop",
            format!("at most {STOPS_MAX} sequences of 1 to {STOP_BYTES_MAX} bytes"),
        ));
    }
    let named = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    if request.tools.len() > TOOLS_MAX || !request.tools.iter().all(|tool| named(&tool.name)) {
        return Err(Error::invalid(
            "tools",
            format!(
                "at most {TOOLS_MAX} functions with names of 1 to 64 letters, digits, `_`, `-` or `.`"
            ),
        ));
    }
    Ok(())
}

/// The grammar of a function call, and whether one must be made.
fn call_grammar(request: &ChatRequest) -> Result<(Option<Grammar>, bool), Error> {
    let (only, required) = match &request.tool_choice {
        ToolChoice::None => return Ok((None, false)),
        ToolChoice::Auto => (None, false),
        ToolChoice::Required => (None, true),
        ToolChoice::Function(name) => (Some(name), true),
    };
    let callable: Vec<_> = request
        .tools
        .iter()
        .filter(|tool| only.is_none_or(|only| *only == tool.name))
        .map(|tool| (tool.name.as_str(), &tool.parameters))
        .collect();
    if callable.is_empty() {
        return if required {
            Err(Error::invalid("tool_choice", "asks for a function that `tools` does not offer"))
        } else {
            Ok((None, false))
        };
    }
    let grammar = Grammar::function_call(callable)
        .map_err(|error| Error::invalid("tools", error.to_string()))?;
    Ok((Some(grammar), required))
}

/// Bytes one token takes in a conversation's cache: a key and a value per layer, four bytes a number.
fn cache_bytes_per_token(metadata: &HashMap<String, Value>) -> Result<u64, Error> {
    let get = |key| metadata_u32(metadata, key).map(u64::from);
    let heads = get("llama.attention.head_count")?;
    let embedding = get("llama.embedding_length")?;
    if heads == 0 || embedding % heads != 0 {
        return Err(Error::Format("the embedding does not divide into its heads".into()));
    }
    let numbers = get("llama.attention.head_count_kv")?.saturating_mul(embedding / heads);
    Ok(get("llama.block_count")?.saturating_mul(2 * 4).saturating_mul(numbers))
}

/// GGUF's name of the mixture of number formats in a file.
fn quantisation(file_type: u32) -> Result<&'static str, Error> {
    match file_type {
        0 => Ok("F32"),
        1 => Ok("F16"),
        2 => Ok("Q4_0"),
        3 => Ok("Q4_1"),
        7 => Ok("Q8_0"),
        8 => Ok("Q5_0"),
        9 => Ok("Q5_1"),
        14 => Ok("Q4_K_S"),
        15 => Ok("Q4_K_M"),
        17 => Ok("Q5_K_M"),
        18 => Ok("Q6_K"),
        other => Err(Error::Format(format!("quantisation {other} is not supported"))),
    }
}

fn metadata<'m>(metadata: &'m HashMap<String, Value>, key: &str) -> Result<&'m Value, Error> {
    metadata.get(key).ok_or_else(|| Error::Format(format!("`{key}` is missing")))
}

fn metadata_str<'m>(map: &'m HashMap<String, Value>, key: &str) -> Result<&'m str, Error> {
    metadata(map, key)?.to_string().map(String::as_str).map_err(format_error)
}

fn metadata_u32(map: &HashMap<String, Value>, key: &str) -> Result<u32, Error> {
    metadata(map, key)?.to_u32().map_err(format_error)
}

fn metadata_array<'m>(map: &'m HashMap<String, Value>, key: &str) -> Result<&'m [Value], Error> {
    metadata(map, key)?.to_vec().map(Vec::as_slice).map_err(format_error)
}

/// candle's errors name files and offsets and may quote values; the first line is enough.
#[expect(clippy::needless_pass_by_value, reason = "used as a function of `map_err`")]
fn format_error(error: candle_core::Error) -> Error {
    let text = error.to_string();
    Error::Format(text.lines().next().unwrap_or_default().chars().take(200).collect())
}

#[cfg(test)]
mod tests;
