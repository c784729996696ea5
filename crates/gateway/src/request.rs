//! Reading a request: every field is honoured, forwarded, or refused by name. None is dropped silently.

use alloy_primitives::B256;

use crate::config::{Limits, Model, normalized};
use crate::error::{ApiError, Code};
use crate::legacy::canonical::{ShapeError, chat_subset, completion_subset, request_hash};
use crate::legacy::json::{self, Value};

/// Longest model name, in bytes; a receipt must hold it.
pub const NAME_BYTES_MAX: usize = 256;

/// Which route a request came by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
}

impl Route {
    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completion => "/v1/completions",
        }
    }
}

/// A request that can be answered if it is paid.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which route it came by.
    pub route: Route,
    /// The body, numbers as written.
    pub body: Value,
    /// Length of the body as it was sent.
    pub body_bytes: usize,
    /// The model's name as sent; what the client hashed.
    pub model_requested: String,
    /// The model's place in the table.
    pub model: usize,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// The legacy request hash.
    pub input_hash: B256,
}

/// Reads and checks a body.
///
/// # Errors
/// 400, 404 or 413, naming the field at fault.
pub fn read(
    route: Route,
    body: &[u8],
    models: &[Model],
    limits: &Limits,
) -> Result<Call, ApiError> {
    let body_bytes = body.len();
    let json_limits = json::Limits { bytes_max: limits.body_bytes, ..json::Limits::REQUEST };
    let body = json::parse(body, &json_limits)
        .map_err(|e| ApiError::new(Code::MalformedJson, format!("the body is not JSON: {e}")))?;
    let fields = body
        .as_object()
        .ok_or_else(|| ApiError::new(Code::MalformedJson, "the body must be a JSON object"))?;
    for (name, value) in fields {
        check_field(route, name, value)?;
    }
    let subset = match route {
        Route::Chat => chat_subset(&body),
        Route::Completion => completion_subset(&body),
    }
    .map_err(|ShapeError { param, reason }| {
        ApiError::new(Code::InvalidRequest, format!("{param} {reason}")).with_param(param)
    })?;
    let model_requested = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    if model_requested.len() > NAME_BYTES_MAX {
        return Err(invalid("model", "is longer than any model's name"));
    }
    let place = find_model(models, &model_requested).ok_or_else(|| {
        let message = format!("the model {model_requested:.200?} is not served here");
        ApiError::new(Code::UnknownModel, message).with_param("model")
    })?;
    let max_output = models.get(place).map_or(0, |model| model.max_output_tokens);
    let max_tokens = max_tokens(&body, max_output)?;
    let stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    let input_hash = request_hash(&subset);
    Ok(Call {
        route,
        body_bytes,
        model_requested,
        model: place,
        stream,
        max_tokens,
        input_hash,
        body,
    })
}

/// The model that a name means: itself in any letter case, or `TEE_LLM.<NAME>` as a faulty client writes it.
pub fn find_model(models: &[Model], name: &str) -> Option<usize> {
    let name = name.trim();
    if let Some(member) = name.strip_prefix("TEE_LLM.") {
        let member = normalized(member);
        return models.iter().position(|model| normalized(&model.name) == member);
    }
    models.iter().position(|model| model.name.eq_ignore_ascii_case(name))
}

fn max_tokens(body: &Value, max_output: u32) -> Result<u32, ApiError> {
    let mut limit = None;
    for field in ["max_tokens", "max_completion_tokens"] {
        let Some(value) = body.get_some(field) else { continue };
        let n = value
            .as_number()
            .and_then(|number| number.as_u64())
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| invalid(field, "must be an integer from 1 to 4294967295"))?;
        if n > max_output {
            return Err(invalid(
                field,
                &format!("is above the {max_output} that this model may answer with"),
            ));
        }
        if limit.is_some_and(|earlier| earlier != n) {
            return Err(invalid(field, "contradicts max_tokens"));
        }
        limit = Some(n);
    }
    Ok(limit.unwrap_or(max_output))
}

/// What a field may hold.
enum Rule {
    /// Part of every request; its shape is checked where it is used.
    Own,
    Bool,
    Float(f64, f64),
    Integer,
    Text,
    Object,
    Array,
    /// One of two JSON kinds, told by the upstream if it is wrong.
    TextOrObject,
    Stop,
    One,
    StreamOptions,
    /// Not done here: only a value that asks for nothing passes.
    Unsupported,
}

fn rule(route: Route, name: &str) -> Option<Rule> {
    let both = match name {
        "model" | "max_tokens" => Rule::Own,
        "temperature" => Rule::Float(0.0, 2.0),
        "top_p" => Rule::Float(0.0, 1.0),
        "presence_penalty" | "frequency_penalty" => Rule::Float(-2.0, 2.0),
        "stream" => Rule::Bool,
        "stream_options" => Rule::StreamOptions,
        "stop" => Rule::Stop,
        "n" => Rule::One,
        "seed" => Rule::Integer,
        "logit_bias" => Rule::Object,
        "user" => Rule::Text,
        "web_search" | "logprobs" | "top_logprobs" | "store" | "metadata" => Rule::Unsupported,
        _ => {
            return match (route, name) {
                (Route::Chat, "messages" | "max_completion_tokens") => Some(Rule::Own),
                (Route::Chat, "tools") => Some(Rule::Array),
                (Route::Chat, "tool_choice") => Some(Rule::TextOrObject),
                (Route::Chat, "response_format") => Some(Rule::Object),
                (Route::Chat, "parallel_tool_calls") => Some(Rule::Bool),
                (Route::Chat, "reasoning_effort" | "verbosity") => Some(Rule::Text),
                (Route::Completion, "prompt") => Some(Rule::Own),
                (Route::Completion, "best_of") => Some(Rule::One),
                (Route::Completion, "echo" | "suffix") => Some(Rule::Unsupported),
                _ => None,
            };
        }
    };
    Some(both)
}

fn check_field(route: Route, name: &str, value: &Value) -> Result<(), ApiError> {
    if matches!(value, Value::Null) {
        return Ok(());
    }
    let unsupported = || {
        let message =
            format!("the field {name:.100?} is not supported and is never ignored silently");
        Err(ApiError::new(Code::UnsupportedParameter, message).with_param(name))
    };
    let Some(rule) = rule(route, name) else { return unsupported() };
    let number = value.as_number();
    let (fits, reason) = match rule {
        Rule::Own => (true, ""),
        Rule::Unsupported => return if value.is_truthy() { unsupported() } else { Ok(()) },
        Rule::Bool => (value.as_bool().is_some(), "must be true or false"),
        Rule::Float(least, most) => (
            number.is_some_and(|n| (least..=most).contains(&n.as_f64())),
            "must be a number within its range",
        ),
        Rule::Integer => (number.is_some_and(|n| n.as_i64().is_some()), "must be a 64-bit integer"),
        Rule::Text => (value.as_str().is_some(), "must be a string"),
        Rule::Object => (value.as_object().is_some(), "must be an object"),
        Rule::Array => (value.as_array().is_some(), "must be an array"),
        Rule::TextOrObject => (
            value.as_str().is_some() || value.as_object().is_some(),
            "must be a string or an object",
        ),
        Rule::Stop => {
            (is_stop(value), "must be a string or an array of at most 4 non-empty strings")
        }
        Rule::One => {
            (number.is_some_and(|n| n.as_u64() == Some(1)), "must be 1: one request, one answer")
        }
        Rule::StreamOptions => (
            value.as_object().is_some_and(|options| {
                options.iter().all(|(key, value)| {
                    matches!(key.as_str(), "include_usage" | "include_obfuscation")
                        && value.as_bool().is_some()
                })
            }),
            "may hold only include_usage; usage is always in the final event",
        ),
    };
    if fits { Ok(()) } else { Err(invalid(name, reason)) }
}

fn is_stop(value: &Value) -> bool {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    value.as_str().is_some()
        || value.as_array().is_some_and(|stops| stops.len() <= 4 && stops.iter().all(is_text))
}

fn invalid(param: &str, reason: &str) -> ApiError {
    ApiError::new(Code::InvalidRequest, format!("{param} {reason}")).with_param(param)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn models() -> Vec<Model> {
        ["gpt-5.2", "claude-haiku-4-5"]
            .map(|name| Model {
                name: name.into(),
                upstream: "local".into(),
                upstream_name: None,
                owned_by: "x".into(),
                max_output_tokens: 500,
                prices: BTreeMap::new(),
            })
            .into()
    }

    fn chat(extra: &str) -> Result<Call, ApiError> {
        let body =
            format!(r#"{{"model":"gpt-5.2","messages":[{{"role":"user","content":"x"}}]{extra}}}"#);
        read(Route::Chat, body.as_bytes(), &models(), &Limits::default())
    }

    #[test]
    fn fields_are_honoured_or_refused_by_name() {
        for good in [
            "",
            r#","n":1,"logprobs":false,"store":null,"web_search":false,"metadata":{}"#,
            r#","temperature":2,"top_p":0.5,"seed":-3,"stop":["a","b"],"max_tokens":500"#,
            r#","stream":true,"stream_options":{"include_usage":true}"#,
            r#","tools":[],"tool_choice":"auto","response_format":{"type":"text"}"#,
        ] {
            chat(good).unwrap();
        }
        for (bad, code, param) in [
            (r#","n":2"#, Code::InvalidRequest, "n"),
            (r#","logprobs":true"#, Code::UnsupportedParameter, "logprobs"),
            (r#","web_search":true"#, Code::UnsupportedParameter, "web_search"),
            (r#","surprise":1"#, Code::UnsupportedParameter, "surprise"),
            (r#","prompt":"x""#, Code::UnsupportedParameter, "prompt"),
            (r#","temperature":2.1"#, Code::InvalidRequest, "temperature"),
            (r#","temperature":1e999"#, Code::InvalidRequest, "temperature"),
            (r#","temperature":"0""#, Code::InvalidRequest, "temperature"),
            (r#","max_tokens":0"#, Code::InvalidRequest, "max_tokens"),
            (r#","max_tokens":1.0"#, Code::InvalidRequest, "max_tokens"),
            (r#","max_tokens":-1"#, Code::InvalidRequest, "max_tokens"),
            (r#","max_tokens":501"#, Code::InvalidRequest, "max_tokens"),
            (
                r#","max_tokens":5,"max_completion_tokens":6"#,
                Code::InvalidRequest,
                "max_completion_tokens",
            ),
            (r#","stop":["a","b","c","d","e"]"#, Code::InvalidRequest, "stop"),
            (r#","stop":[1]"#, Code::InvalidRequest, "stop"),
            (r#","stream":"yes""#, Code::InvalidRequest, "stream"),
            (r#","stream_options":{"x":1}"#, Code::InvalidRequest, "stream_options"),
        ] {
            let error = chat(bad).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (code, Some(param)), "{bad}");
        }
        for (body, code) in [
            ("", Code::MalformedJson),
            ("[]", Code::MalformedJson),
            ("{", Code::MalformedJson),
            (r#"{"model":"gpt-9","messages":[{"role":"user","content":"x"}]}"#, Code::UnknownModel),
        ] {
            let error =
                read(Route::Chat, body.as_bytes(), &models(), &Limits::default()).unwrap_err();
            assert_eq!(error.code, code);
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_by_enum_member() {
        assert_eq!(find_model(&models(), "GPT-5.2"), Some(0));
        assert_eq!(find_model(&models(), "TEE_LLM.CLAUDE_HAIKU_4_5"), Some(1));
        assert_eq!(find_model(&models(), "TEE_LLM.GPT_5_2"), Some(0));
        assert_eq!(find_model(&models(), "claude_haiku_4_5"), None);
        assert_eq!(find_model(&models(), ""), None);
    }
}
