//! Any service that speaks OpenAI's chat-completions format, over HTTP(S).
//!
//! Streams are read event by event and re-framed; of usage the last figure counts, since some services send
//! running totals. An answer that breaks off, or that does not say what it used, is no answer.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use og_receipt::{Engine as EngineClaim, TruthLevel};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::{End, Event, FinishReason, Provenance, Upstream, UpstreamError, Usage};
use crate::config::OpenAiUpstream as Settings;
use crate::error::{ApiError, Code};
use crate::legacy::json::{Number, Value};
use crate::request::{Call, Route};

/// Longest line of a stream, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Most tool calls in one answer.
const TOOL_CALLS_MAX: u32 = 128;

/// Longest part of an upstream's message that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// An OpenAI-compatible service as an upstream.
pub struct OpenAiUpstream {
    client: Client,
    url: Url,
    api_key: Option<String>,
    answer_bytes_max: usize,
    max_tokens_field: &'static str,
}

impl OpenAiUpstream {
    /// Prepares a client; connects to nobody yet.
    ///
    /// # Errors
    /// When the URL is none or the TLS library cannot start.
    pub fn new(settings: &Settings, answer_bytes_max: usize) -> Result<Self, UpstreamError> {
        let fault = |message: String| UpstreamError::new(Code::Internal, message);
        let base = settings.base_url.trim_end_matches('/');
        let url =
            Url::parse(&format!("{base}/chat/completions")).map_err(|e| fault(e.to_string()))?;
        // Proxies and redirects would send prompts where the configuration does not say.
        let client = Client::builder()
            .tcp_nodelay(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(settings.connect_secs))
            .read_timeout(Duration::from_secs(settings.read_secs))
            .build()
            .map_err(|e| fault(e.to_string()))?;
        let max_tokens_field = settings.max_tokens_field.as_str();
        Ok(Self {
            client,
            url,
            api_key: settings.api_key.clone(),
            answer_bytes_max,
            max_tokens_field,
        })
    }

    async fn send(&self, body: String) -> Result<Response, UpstreamError> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("accept-encoding", "identity")
            .body(body);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|e| transport_error(&e, false))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = read_limited(response, 64 << 10).await.unwrap_or_default();
        Err(status_error(status, &body))
    }
}

#[async_trait]
impl Upstream for OpenAiUpstream {
    fn check(&self, _call: &Call, _model: &str) -> Result<(), ApiError> {
        Ok(())
    }

    /// No tokenizer is at hand, but a token never covers less than a byte of the request.
    async fn prompt_tokens_max(&self, call: &Call, _model: &str) -> Result<u64, ApiError> {
        let messages = call.body.get("messages").and_then(Value::as_array).map_or(1, <[_]>::len);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Ok(og_meter::prompt_token_bound(count(call.body_bytes), count(messages)))
    }

    async fn answer(
        &self,
        call: &Call,
        model: &str,
        events: mpsc::Sender<Event>,
    ) -> Result<End, UpstreamError> {
        let response = self.send(upstream_body(call, model, self.max_tokens_field)).await?;
        if call.stream {
            return read_stream(response, self.answer_bytes_max, &events).await;
        }
        let body = read_limited(response, self.answer_bytes_max).await?;
        let json: Json = serde_json::from_slice(&body).map_err(|_| malformed("is not JSON"))?;
        let (pieces, end) = read_whole(&json)?;
        for piece in pieces {
            if events.send(piece).await.is_err() {
                return Err(UpstreamError::new(Code::UpstreamCut, "nobody waits for the answer"));
            }
        }
        Ok(end)
    }

    fn provenance(&self) -> Provenance {
        Provenance {
            engine: EngineClaim {
                name: format!("openai-compatible {}", self.url.host_str().unwrap_or_default()),
                version: String::new(),
                isa: String::new(),
                quantisation: String::new(),
                weights_sha256: None,
            },
            truth: TruthLevel::Handoff,
        }
    }
}

/// The client's own fields in their order, with what the gateway decides put in their place.
fn upstream_body(call: &Call, model: &str, max_tokens_field: &str) -> String {
    let mut fields: Vec<(String, Value)> = vec![("model".into(), model.into())];
    if call.route == Route::Completion {
        let prompt = call.body.get("prompt").cloned().unwrap_or(Value::Null);
        let message =
            Value::Object(vec![("role".into(), "user".into()), ("content".into(), prompt)]);
        fields.push(("messages".into(), Value::Array(vec![message])));
    }
    for (name, value) in call.body.as_object().unwrap_or_default() {
        let decided_here = matches!(
            name.as_str(),
            "model"
                | "prompt"
                | "stream"
                | "stream_options"
                | "max_tokens"
                | "max_completion_tokens"
                | "best_of"
        );
        // What passed the reader with nothing to ask for is not worth an upstream's objection.
        let asks_nothing = matches!(name.as_str(), "web_search" | "logprobs" | "top_logprobs")
            || matches!(name.as_str(), "store" | "metadata" | "echo" | "suffix")
            || matches!(name.as_str(), "tools" | "stop" | "response_format") && !value.is_truthy();
        if !decided_here && !asks_nothing && !matches!(value, Value::Null) {
            fields.push((name.clone(), value.clone()));
        }
    }
    let limit = Value::Number(Number::from_u64(call.max_tokens.into()));
    fields.push((max_tokens_field.into(), limit));
    if call.body.get_some("temperature").is_none() {
        // The legacy request hash says 0.0 when the client says nothing, so that is what is asked for.
        fields.push(("temperature".into(), Value::Number(Number::from_u64(0))));
    }
    if call.stream {
        fields.push(("stream".into(), Value::Bool(true)));
        let usage = vec![("include_usage".into(), Value::Bool(true))];
        fields.push(("stream_options".into(), Value::Object(usage)));
    }
    Value::Object(fields).to_json()
}

async fn read_limited(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, UpstreamError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| transport_error(&e, true))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(malformed("is larger than allowed"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn read_stream(
    mut response: Response,
    bytes_max: usize,
    events: &mpsc::Sender<Event>,
) -> Result<End, UpstreamError> {
    let mut lines = Lines::default();
    let mut progress = Progress::default();
    let mut bytes = 0_usize;
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // The end of an answer that is complete already does not depend on how the connection ends.
            Err(_) if progress.is_complete() => break,
            Err(error) => return Err(transport_error(&error, true)),
        };
        bytes = bytes.saturating_add(chunk.len());
        if bytes > bytes_max {
            return Err(malformed("is larger than allowed"));
        }
        lines.push(&chunk)?;
        while let Some(line) = lines.next() {
            let Some(data) = line.strip_prefix("data:") else { continue };
            let data = data.trim();
            if data == "[DONE]" {
                return progress.end();
            }
            let json: Json = serde_json::from_str(data)
                .map_err(|_| malformed("holds an event that is not JSON"))?;
            for piece in progress.take(&json)? {
                if events.send(piece).await.is_err() {
                    return Err(UpstreamError::new(
                        Code::UpstreamCut,
                        "nobody waits for the answer",
                    ));
                }
            }
        }
    }
    progress.end()
}

/// Splits bytes into lines; a line may come in many pieces.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    at: usize,
}

impl Lines {
    fn push(&mut self, chunk: &Bytes) -> Result<(), UpstreamError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(malformed("holds an overlong line"));
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    fn next(&mut self) -> Option<String> {
        let rest = self.buffer.get(self.at..)?;
        let end = rest.iter().position(|b| *b == b'\n')?;
        let line = String::from_utf8_lossy(rest.get(..end)?).trim_end_matches('\r').to_owned();
        self.at += end + 1;
        Some(line)
    }
}

/// What a stream has said so far beyond its pieces.
#[derive(Default)]
struct Progress {
    finish_reason: Option<FinishReason>,
    usage: Option<Usage>,
    model: String,
}

impl Progress {
    fn is_complete(&self) -> bool {
        self.finish_reason.is_some() && self.usage.is_some()
    }

    fn take(&mut self, json: &Json) -> Result<Vec<Event>, UpstreamError> {
        if let Some(error) = json.get("error").filter(|error| !error.is_null()) {
            return Err(UpstreamError::new(Code::UpstreamCut, told(error)));
        }
        if let Some(model) = json.get("model").and_then(Json::as_str) {
            model.clone_into(&mut self.model);
        }
        if let Some(usage) = json.get("usage").and_then(read_usage) {
            self.usage = Some(usage);
        }
        let Some(choice) = json.get("choices").and_then(|choices| choices.get(0)) else {
            return Ok(Vec::new());
        };
        if let Some(reason) = choice.get("finish_reason").and_then(Json::as_str) {
            self.finish_reason = Some(read_finish_reason(reason));
        }
        match choice.get("delta") {
            Some(delta) => read_message(delta),
            None => Ok(Vec::new()),
        }
    }

    fn end(self) -> Result<End, UpstreamError> {
        let finish_reason = self.finish_reason.ok_or_else(|| {
            UpstreamError::new(Code::UpstreamCut, "the upstream broke off inside the answer")
        })?;
        Ok(End { finish_reason, usage: self.usage, model_served: self.model })
    }
}

fn read_whole(json: &Json) -> Result<(Vec<Event>, End), UpstreamError> {
    let choice = json
        .get("choices")
        .and_then(|choices| choices.get(0))
        .ok_or_else(|| malformed("holds no choice"))?;
    let message = choice.get("message").ok_or_else(|| malformed("holds no message"))?;
    let reason = choice.get("finish_reason").and_then(Json::as_str).unwrap_or("stop");
    let end = End {
        finish_reason: read_finish_reason(reason),
        usage: json.get("usage").and_then(read_usage),
        model_served: json.get("model").and_then(Json::as_str).unwrap_or_default().to_owned(),
    };
    Ok((read_message(message)?, end))
}

/// The pieces in a `delta` or `message`.
fn read_message(message: &Json) -> Result<Vec<Event>, UpstreamError> {
    let mut pieces = Vec::new();
    for field in ["content", "refusal"] {
        match message.get(field) {
            Some(Json::String(text)) if !text.is_empty() => pieces.push(Event::Text(text.clone())),
            // Some services send text as a list of parts.
            Some(Json::Array(parts)) => {
                let texts = parts.iter().filter_map(|part| part.get("text").and_then(Json::as_str));
                let text: String = texts.collect();
                if !text.is_empty() {
                    pieces.push(Event::Text(text));
                }
            }
            _ => {}
        }
    }
    let calls = message.get("tool_calls").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    for (place, call) in calls.iter().enumerate() {
        let index = call.get("index").and_then(Json::as_u64);
        let index = index.unwrap_or_else(|| u64::try_from(place).unwrap_or(u64::MAX));
        let index = u32::try_from(index)
            .ok()
            .filter(|index| *index < TOOL_CALLS_MAX)
            .ok_or_else(|| malformed("holds too many tool calls"))?;
        let function = call.get("function").unwrap_or(&Json::Null);
        let text =
            |holder: &Json, key: &str| holder.get(key).and_then(Json::as_str).map(str::to_owned);
        pieces.push(Event::Tool {
            index,
            id: text(call, "id").filter(|id| !id.is_empty()),
            name: text(function, "name").filter(|name| !name.is_empty()),
            arguments: text(function, "arguments").unwrap_or_default(),
        });
    }
    Ok(pieces)
}

fn read_usage(usage: &Json) -> Option<Usage> {
    Some(Usage {
        prompt_tokens: usage.get("prompt_tokens")?.as_u64()?,
        completion_tokens: usage.get("completion_tokens")?.as_u64()?,
    })
}

fn read_finish_reason(word: &str) -> FinishReason {
    match word {
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    }
}

fn malformed(what: &str) -> UpstreamError {
    UpstreamError::new(Code::UpstreamMalformed, format!("the upstream's answer {what}"))
}

fn transport_error(error: &reqwest::Error, inside_answer: bool) -> UpstreamError {
    if error.is_timeout() {
        UpstreamError::new(Code::UpstreamTimeout, "the upstream did not answer in time")
    } else if inside_answer {
        UpstreamError::new(Code::UpstreamCut, "the upstream broke off inside the answer")
    } else {
        UpstreamError::new(Code::UpstreamFailed, "the upstream cannot be reached")
    }
}

fn status_error(status: StatusCode, body: &[u8]) -> UpstreamError {
    let body: Json = serde_json::from_slice(body).unwrap_or_default();
    let error = body.get("error").unwrap_or(&body);
    let (code, message) = match status.as_u16() {
        // These are about the gateway's own account; what the upstream says may quote its key.
        401 | 402 | 403 | 407 => {
            (Code::UpstreamRefused, "the upstream refused the gateway's account".to_owned())
        }
        408 | 504 => (Code::UpstreamTimeout, "the upstream did not answer in time".to_owned()),
        429 => (Code::UpstreamBusy, format!("the upstream is at its limit: {}", told(error))),
        400..=499 => {
            (Code::UpstreamRejected, format!("the upstream refused the request: {}", told(error)))
        }
        other => (Code::UpstreamFailed, format!("the upstream failed with status {other}")),
    };
    let param = error.get("param").and_then(Json::as_str).map(str::to_owned);
    UpstreamError { code, message, param }
}

fn told(error: &Json) -> String {
    let text = error.get("message").and_then(Json::as_str).or_else(|| error.as_str());
    text.unwrap_or("no particulars").chars().take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::json::{Limits, parse};

    #[test]
    fn the_clients_fields_reach_the_upstream_as_written() {
        let body = r#"{"messages":[{"role":"user","content":"é","x":1.50}],"temperature":1E-1,"model":"A","stream":true,"stream_options":null,"max_tokens":7,"tool_choice":"auto","tools":[],"logprobs":false,"seed":12345678901234567890}"#;
        let call = Call {
            route: Route::Chat,
            body: parse(body.as_bytes(), &Limits::REQUEST).unwrap(),
            body_bytes: body.len(),
            model_requested: "A".into(),
            model: 0,
            stream: true,
            max_tokens: 7,
            input_hash: alloy_primitives::B256::ZERO,
        };
        assert_eq!(
            upstream_body(&call, "a-1", "max_tokens"),
            r#"{"model":"a-1","messages":[{"role":"user","content":"é","x":1.50}],"temperature":1E-1,"tool_choice":"auto","seed":12345678901234567890,"max_tokens":7,"stream":true,"stream_options":{"include_usage":true}}"#
        );
    }

    #[test]
    fn whatever_an_upstream_sends_is_read_or_refused_without_a_panic() {
        let mut seed = 5_u64;
        let mut random = move |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let samples = [
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"x","tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2},"model":"m"}"#,
            r#"{"choices":[{"message":{"content":[{"type":"text","text":"x"}],"refusal":null},"finish_reason":"tool_calls"}],"usage":null}"#,
            r#"{"error":{"message":"m","param":"p"}}"#,
        ];
        let words = ["null", "-1", "1e99", "[]", "{}", "\"\"", "true", "99999999999999999999"];
        let mut read = 0;
        for _ in 0..40_000 {
            let mut text = samples[random(samples.len())].to_owned();
            for _ in 0..=random(3) {
                // Replace one JSON value by another, or one byte.
                let at = random(text.len());
                let end = text[at..].find([',', '}', ']']).map_or(text.len(), |end| at + end);
                match text[..at].rfind(':') {
                    Some(colon) if colon < end && random(3) > 0 => {
                        text.replace_range(colon + 1..end, words[random(words.len())]);
                    }
                    _ => text.replace_range(at..=at, "]"),
                }
            }
            let Ok(json) = serde_json::from_str::<Json>(&text) else { continue };
            read += 1;
            let _ = Progress::default().take(&json);
            let _ = read_whole(&json);
            let _ = status_error(StatusCode::BAD_REQUEST, text.as_bytes());
        }
        assert!(read > 5_000, "{read}");
    }

    #[test]
    fn lines_may_come_in_any_pieces() {
        let text = "data: a\r\n\r\n: ping\ndata: b\n\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.push(&Bytes::copy_from_slice(piece)).unwrap();
                while let Some(line) = lines.next() {
                    seen.push(line);
                }
            }
            assert_eq!(seen, ["data: a", "", ": ping", "data: b", ""]);
        }
    }
}
