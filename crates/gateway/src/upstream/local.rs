//! The engine inside the enclave, on a bounded blocking pool.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use og_infer::{
    ChatRequest, Delta, Engine, Message, ResponseFormat, Role, Sampling, Tool, ToolCall, ToolChoice,
};
use og_receipt::{Engine as EngineClaim, TruthLevel};
use tokio::sync::{Semaphore, mpsc};

use super::{End, Event, FinishReason, Provenance, Upstream, UpstreamError, Usage};
use crate::error::{ApiError, Code};
use crate::legacy::json::Value;
use crate::request::{Call, Route};

/// Most requests on the blocking pool at once; the engine queues and refuses on its own beyond its capacity.
const CONCURRENT: usize = 32;

/// The engine inside the enclave as an upstream.
pub struct LocalUpstream {
    engine: Arc<dyn Engine>,
    places: Arc<Semaphore>,
}

impl LocalUpstream {
    /// Serves `engine`'s models.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, places: Arc::new(Semaphore::new(CONCURRENT)) }
    }
}

#[async_trait]
impl Upstream for LocalUpstream {
    fn check(&self, call: &Call, model: &str) -> Result<(), ApiError> {
        chat_request(call, model, 0).map(drop)
    }

    async fn prompt_tokens_max(&self, call: &Call, model: &str) -> Result<u64, ApiError> {
        let request = chat_request(call, model, 0)?;
        let engine = Arc::clone(&self.engine);
        let place = self.place()?;
        let count = tokio::task::spawn_blocking(move || {
            let _place = place;
            engine.count_tokens(&request)
        });
        match count.await {
            Ok(Ok(tokens)) => Ok(u64::from(tokens)),
            Ok(Err(error)) => Err(engine_error(&error).into()),
            Err(_) => Err(ApiError::new(Code::Internal, "the engine stopped unexpectedly")),
        }
    }

    async fn answer(
        &self,
        call: &Call,
        model: &str,
        events: mpsc::Sender<Event>,
    ) -> Result<End, UpstreamError> {
        let mut seed = [0; 8];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| UpstreamError::new(Code::Internal, "the random source failed"))?;
        let request = chat_request(call, model, u64::from_le_bytes(seed))
            .map_err(|e| UpstreamError { code: e.code, message: e.message, param: e.param })?;
        let place = self.place().map_err(|e| UpstreamError::new(e.code, e.message))?;
        let engine = Arc::clone(&self.engine);
        let model_served = request.model.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            engine.chat(&request, &mut |delta| forward(&delta, &events))
        });
        let completion = match work.await {
            Ok(Ok(completion)) => completion,
            Ok(Err(error)) => return Err(engine_error(&error)),
            Err(_) => {
                return Err(UpstreamError::new(Code::Internal, "the engine stopped unexpectedly"));
            }
        };
        let finish_reason = match completion.finish_reason {
            og_infer::FinishReason::Stop => FinishReason::Stop,
            og_infer::FinishReason::Length => FinishReason::Length,
            og_infer::FinishReason::ToolCalls => FinishReason::ToolCalls,
            og_infer::FinishReason::Cancelled => {
                return Err(UpstreamError::new(Code::UpstreamCut, "the answer was cancelled"));
            }
        };
        let usage = Usage {
            prompt_tokens: completion.usage.prompt_tokens.into(),
            completion_tokens: completion.usage.completion_tokens.into(),
        };
        Ok(End { finish_reason, usage: Some(usage), model_served })
    }

    fn provenance(&self) -> Provenance {
        let identity = self.engine.identity();
        Provenance {
            engine: EngineClaim {
                name: identity.name.clone(),
                version: identity.version.clone(),
                isa: identity.isa.clone(),
                quantisation: identity.quantisation.clone(),
                weights_sha256: Some(identity.weights_sha256.into()),
            },
            truth: TruthLevel::WeightsMeasured,
        }
    }
}

impl LocalUpstream {
    fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| ApiError::new(Code::Busy, "the local model has no free place"))
    }
}

fn forward(delta: &Delta<'_>, events: &mpsc::Sender<Event>) -> ControlFlow<()> {
    let event = match delta {
        Delta::Text(text) => Event::Text((*text).to_owned()),
        Delta::ToolCall { index, call } => Event::Tool {
            index: *index,
            id: Some(call.id.clone()),
            name: Some(call.name.clone()),
            arguments: call.arguments.clone(),
        },
        // Nothing to show yet; still a moment to notice that nobody listens.
        _ => {
            return if events.is_closed() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            };
        }
    };
    match events.blocking_send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

fn engine_error(error: &og_infer::Error) -> UpstreamError {
    let code = match error {
        og_infer::Error::UnknownModel { .. } => Code::UnknownModel,
        og_infer::Error::ContextLength { .. } => Code::ContextLength,
        error if error.is_callers_fault() => Code::InvalidRequest,
        error if error.is_busy() => Code::Busy,
        _ => Code::UpstreamFailed,
    };
    UpstreamError { code, message: error.to_string(), param: error.param().map(str::to_owned) }
}

/// Translates the wire's request; `fresh_seed` is used when sampling is asked for without a seed.
fn chat_request(call: &Call, model: &str, fresh_seed: u64) -> Result<ChatRequest, ApiError> {
    let body = &call.body;
    for field in ["presence_penalty", "frequency_penalty"] {
        if body.get_some(field).and_then(Value::as_number).is_some_and(|n| n.as_f64() != 0.0) {
            return Err(unsupported(field));
        }
    }
    for field in ["logit_bias", "reasoning_effort", "verbosity"] {
        if body.get(field).is_some_and(Value::is_truthy) {
            return Err(unsupported(field));
        }
    }
    if body.get("parallel_tool_calls").and_then(Value::as_bool) == Some(false) {
        return Err(unsupported("parallel_tool_calls"));
    }
    let messages = match call.route {
        Route::Chat => {
            let messages = body.get("messages").and_then(Value::as_array).unwrap_or_default();
            messages.iter().enumerate().map(|(i, m)| message(i, m)).collect::<Result<_, _>>()?
        }
        Route::Completion => {
            vec![Message::user(body.get("prompt").and_then(Value::as_str).unwrap_or_default())]
        }
    };
    Ok(ChatRequest {
        model: model.to_owned(),
        messages,
        max_tokens: Some(call.max_tokens),
        stop: stops(body),
        sampling: sampling(body, fresh_seed)?,
        tools: tools(body)?,
        tool_choice: tool_choice(body)?,
        response_format: response_format(body)?,
    })
}

fn message(i: usize, message: &Value) -> Result<Message, ApiError> {
    let role = match message.get("role").and_then(Value::as_str).unwrap_or_default() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(unsupported(&format!("messages[{i}].role"))),
    };
    let content = match message.get("content") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().enumerate().map(|(j, part)| {
                let text = part.get("text").and_then(Value::as_str);
                text.filter(|_| part.get("type").and_then(Value::as_str) == Some("text"))
                    .ok_or_else(|| unsupported(&format!("messages[{i}].content[{j}]")))
            });
            texts.collect::<Result<String, _>>()?
        }
        Some(_) => return Err(unsupported(&format!("messages[{i}].content"))),
    };
    let calls = message.get_some("tool_calls").and_then(Value::as_array).unwrap_or_default();
    let text = |holder: &Value, key: &str| {
        holder.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let tool_calls = calls
        .iter()
        .map(|call| {
            let function = call.get("function").unwrap_or(&Value::Null);
            ToolCall {
                id: text(call, "id"),
                name: text(function, "name"),
                arguments: text(function, "arguments"),
            }
        })
        .collect();
    let tool_call_id = message.get_some("tool_call_id").and_then(Value::as_str).map(str::to_owned);
    Ok(Message { role, content, tool_calls, tool_call_id })
}

fn stops(body: &Value) -> Vec<String> {
    match body.get("stop") {
        Some(Value::String(stop)) if !stop.is_empty() => vec![stop.clone()],
        Some(Value::Array(stops)) => {
            stops.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn sampling(body: &Value, fresh_seed: u64) -> Result<Sampling, ApiError> {
    let number = |field: &str| body.get_some(field).and_then(Value::as_number).map(|n| n.as_f64());
    let temperature = number("temperature").unwrap_or(0.0);
    let top_p = number("top_p").unwrap_or(1.0);
    if top_p <= 0.0 {
        return Err(
            ApiError::new(Code::InvalidRequest, "top_p must be above 0").with_param("top_p")
        );
    }
    if temperature <= 0.0 {
        return Ok(Sampling::Greedy);
    }
    let seed = body.get_some("seed").and_then(Value::as_number).and_then(|n| n.as_i64());
    Ok(Sampling::Seeded {
        temperature: narrow(temperature),
        top_p: narrow(top_p),
        seed: seed.map_or(fresh_seed, |seed| u64::from_le_bytes(seed.to_le_bytes())),
    })
}

/// A sampling parameter, already known to lie within a small range, in the engine's precision.
#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding a parameter in [0, 2] to f32 is meant"
)]
fn narrow(x: f64) -> f32 {
    (x as f32).max(f32::MIN_POSITIVE)
}

fn tools(body: &Value) -> Result<Vec<Tool>, ApiError> {
    let tools = body.get_some("tools").and_then(Value::as_array).unwrap_or_default();
    tools
        .iter()
        .enumerate()
        .map(|(i, tool)| {
            let function = tool
                .get("function")
                .filter(|_| tool.get("type").and_then(Value::as_str) == Some("function"))
                .ok_or_else(|| unsupported(&format!("tools[{i}]")))?;
            let text = |key: &str| function.get(key).and_then(Value::as_str).unwrap_or_default();
            Ok(Tool {
                name: text("name").to_owned(),
                description: text("description").to_owned(),
                parameters: function
                    .get("parameters")
                    .map_or(Ok(serde_json::Value::Null), plain)?,
            })
        })
        .collect()
}

fn tool_choice(body: &Value) -> Result<ToolChoice, ApiError> {
    match body.get("tool_choice") {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(unsupported("tool_choice")),
        },
        Some(choice) => choice
            .get("function")
            .and_then(|function| function.get("name"))
            .and_then(Value::as_str)
            .map(|name| ToolChoice::Function(name.to_owned()))
            .ok_or_else(|| unsupported("tool_choice")),
    }
}

fn response_format(body: &Value) -> Result<ResponseFormat, ApiError> {
    let Some(format) = body.get_some("response_format") else { return Ok(ResponseFormat::Text) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object") => Ok(ResponseFormat::JsonObject),
        Some("json_schema") => {
            let schema = format.get("json_schema").and_then(|wrapper| wrapper.get("schema"));
            Ok(ResponseFormat::JsonSchema(schema.map_or(Ok(serde_json::json!({})), plain)?))
        }
        _ if format.as_object().is_some_and(<[_]>::is_empty) => Ok(ResponseFormat::Text),
        _ => Err(unsupported("response_format")),
    }
}

/// The value in the engine's terms; its numbers are schema bounds there, not hashed material.
fn plain(value: &Value) -> Result<serde_json::Value, ApiError> {
    serde_json::from_str(&value.to_json())
        .map_err(|e| ApiError::new(Code::InvalidRequest, format!("a schema cannot be read: {e}")))
}

fn unsupported(param: &str) -> ApiError {
    let message = format!("the local model does not support this value of {param}");
    ApiError::new(Code::UnsupportedParameter, message).with_param(param)
}
