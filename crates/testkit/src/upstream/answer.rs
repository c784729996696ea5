//! What the mock says: a function of the request alone.

use serde_json::{Map, Value, json};

/// Tokens of a text, by the mock's measure: words, each with the space before it.
#[must_use]
pub fn count_tokens(text: &str) -> u64 {
    u64::try_from(text.split_whitespace().count()).unwrap_or(u64::MAX)
}

/// An answer to a request.
pub(super) enum Answer {
    Text { text: String, finish_reason: &'static str },
    Call { id: String, name: String, arguments: String },
}

impl Answer {
    pub(super) fn completion_tokens(&self) -> u64 {
        match self {
            Self::Text { text, .. } => count_tokens(text),
            Self::Call { name, arguments, .. } => count_tokens(name) + count_tokens(arguments),
        }
    }

    pub(super) const fn finish_reason(&self) -> &'static str {
        match self {
            Self::Text { finish_reason, .. } => finish_reason,
            Self::Call { .. } => "tool_calls",
        }
    }
}

/// The text of a message's content, parts joined.
pub(super) fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}

/// Answers a chat request whose messages have been checked.
pub(super) fn answer(body: &Value, messages: &[Value]) -> Answer {
    let last = messages.last().unwrap_or(&Value::Null);
    let said = content_text(&last["content"]);
    if last["role"] != "tool"
        && let Some(call) = call(body)
    {
        return call;
    }
    let format = &body["response_format"];
    let text = match format["type"].as_str() {
        Some("json_schema") => example(&format["json_schema"]["schema"]).to_string(),
        Some("json_object") => json!({"answer": said}).to_string(),
        _ if last["role"] == "tool" => format!("The tool says: {said}"),
        _ => format!("You said: {said}"),
    };
    limited(&text, body)
}

/// Applies stop sequences and the token limit, as a model would end.
pub(super) fn limited(text: &str, body: &Value) -> Answer {
    let stops: Vec<&str> = match &body["stop"] {
        Value::String(stop) => vec![stop],
        Value::Array(stops) => stops.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let end = stops.iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    let limit = ["max_completion_tokens", "max_tokens"].iter().find_map(|key| body[*key].as_u64());
    let words = words(text);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    if words.len() > limit {
        let text = words.into_iter().take(limit).collect();
        Answer::Text { text, finish_reason: "length" }
    } else {
        Answer::Text { text: text.to_owned(), finish_reason: "stop" }
    }
}

/// A text in pieces of one word and the space before it.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    for character in text.chars() {
        let space = character.is_whitespace();
        match words.last_mut() {
            Some(word) if !(space && in_word) => word.push(character),
            _ => words.push(character.to_string()),
        }
        in_word = !space;
    }
    words
}

/// A call of the function asked for, or of the first one.
fn call(body: &Value) -> Option<Answer> {
    let tools = body["tools"].as_array().filter(|tools| !tools.is_empty())?;
    if body["tool_choice"] == "none" {
        return None;
    }
    let wanted = body["tool_choice"]["function"]["name"].as_str();
    let function = tools
        .iter()
        .map(|tool| &tool["function"])
        .find(|function| wanted.is_none_or(|wanted| function["name"] == wanted))?;
    let name = function["name"].as_str()?.to_owned();
    let arguments = example(&function["parameters"]).to_string();
    Some(Answer::Call { id: format!("call_mock_{name}"), name, arguments })
}

/// A value of a schema: the first of every choice.
fn example(schema: &Value) -> Value {
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return example(first);
    }
    match schema["type"].as_str() {
        Some("string") => json!("text"),
        Some("integer") => json!(1),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("array") => json!([example(&schema["items"])]),
        Some("object") => {
            let none = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&none);
            properties.iter().map(|(name, schema)| (name.clone(), example(schema))).collect()
        }
        _ => Value::Null,
    }
}
