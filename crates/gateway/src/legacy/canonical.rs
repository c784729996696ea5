//! Which part of a request and which text of an answer the legacy signature covers, and in what shape.
//!
//! The shapes are those the official client builds before it verifies (its `build_inner_request`), so list
//! content keeps text parts and reduces every other part to its type and file name.

use alloy_primitives::{B256, keccak256};
use thiserror::Error;

use super::json::{Limits, Number, Value, parse};
use super::python::{dumps_sorted, float_repr};

/// A request that has no canonical form.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{param}: {reason}")]
pub struct ShapeError {
    /// Path of the field at fault, such as `messages[2].role`.
    pub param: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// One tool call of an assistant, as it is hashed and as it is sent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ToolCall {
    /// Id chosen by the model's host.
    pub id: String,
    /// Name of the function.
    pub name: String,
    /// Arguments as the model wrote them: JSON text.
    pub arguments: String,
}

/// The hashed part of a `/v1/chat/completions` request.
///
/// # Errors
/// When a hashed field has a type or role that the official client would refuse too.
pub fn chat_subset(body: &Value) -> Result<Value, ShapeError> {
    let mut subset = vec![("model".to_owned(), string(body, "model")?)];
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .filter(|messages| !messages.is_empty())
        .ok_or_else(|| fault("messages", "must be a non-empty array"))?;
    let messages = messages.iter().enumerate().map(|(i, message)| shaped_message(i, message));
    subset.push(("messages".to_owned(), Value::Array(messages.collect::<Result<_, _>>()?)));
    push_common(body, &mut subset)?;
    if let Some(tools) = body.get("tools").filter(|tools| tools.is_truthy()) {
        if tools.as_array().is_none() {
            return Err(fault("tools", "must be an array"));
        }
        subset.push(("tools".to_owned(), tools.clone()));
    }
    if let Some(format) = body.get("response_format").filter(|format| format.is_truthy()) {
        subset.push(("response_format".to_owned(), format.clone()));
    }
    if body.get("web_search").is_some_and(Value::is_truthy) {
        subset.push(("web_search".to_owned(), Value::Bool(true)));
    }
    Ok(Value::Object(subset))
}

/// The hashed part of a `/v1/completions` request.
///
/// # Errors
/// When `model` or `prompt` is no string or `temperature` no number.
pub fn completion_subset(body: &Value) -> Result<Value, ShapeError> {
    let mut subset = vec![
        ("model".to_owned(), string(body, "model")?),
        ("prompt".to_owned(), string(body, "prompt")?),
    ];
    push_common(body, &mut subset)?;
    Ok(Value::Object(subset))
}

/// `keccak(utf8(json.dumps(subset, sort_keys=True)))`.
pub fn request_hash(subset: &Value) -> B256 {
    keccak256(dumps_sorted(subset))
}

/// Keccak-256 of the text that stands for the answer: the tool calls when there are any, else the text.
pub fn output_hash(text: &str, tool_calls: &[ToolCall]) -> B256 {
    if tool_calls.is_empty() { keccak256(text) } else { keccak256(tool_calls_text(tool_calls)) }
}

/// `json.dumps(tool_calls, sort_keys=True)`.
pub fn tool_calls_text(tool_calls: &[ToolCall]) -> String {
    let calls = tool_calls.iter().map(|call| {
        shaped_tool_call(
            call.id.as_str().into(),
            "function".into(),
            call.name.as_str().into(),
            call.arguments.as_str().into(),
        )
    });
    dumps_sorted(&Value::Array(calls.collect()))
}

fn push_common(body: &Value, subset: &mut Vec<(String, Value)>) -> Result<(), ShapeError> {
    let temperature = match body.get_some("temperature") {
        None => 0.0,
        Some(value) => {
            value.as_number().ok_or_else(|| fault("temperature", "must be a number"))?.as_f64()
        }
    };
    subset.push(("temperature".to_owned(), float(temperature)));
    if let Some(max_tokens) = body.get_some("max_tokens") {
        subset.push(("max_tokens".to_owned(), max_tokens.clone()));
    }
    if let Some(stop) = body.get("stop").filter(|stop| stop.is_truthy()) {
        subset.push(("stop".to_owned(), stop.clone()));
    }
    Ok(())
}

fn shaped_message(i: usize, message: &Value) -> Result<Value, ShapeError> {
    let at = |field: &str| format!("messages[{i}].{field}");
    if message.as_object().is_none() {
        return Err(fault(&format!("messages[{i}]"), "must be an object"));
    }
    let own = |key: &str| message.get(key).cloned().unwrap_or(Value::Null);
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    let entries: Vec<(&str, Value)> = match role {
        "system" | "developer" => vec![("role", "system".into()), ("content", own("content"))],
        "user" => {
            let content = message.get("content").unwrap_or(&Value::Null);
            vec![("role", role.into()), ("content", shaped_content(content, &at("content"))?)]
        }
        "assistant" => {
            let content = message.get("content").filter(|content| content.is_truthy());
            let mut entries = vec![
                ("role", role.into()),
                ("content", content.cloned().unwrap_or_else(|| "".into())),
            ];
            if let Some(calls) = message.get("tool_calls").filter(|calls| calls.is_truthy()) {
                let calls =
                    calls.as_array().ok_or_else(|| fault(&at("tool_calls"), "must be an array"))?;
                let calls = calls.iter().enumerate().map(|(j, call)| {
                    let path = format!("messages[{i}].tool_calls[{j}]");
                    reshaped_tool_call(call, &path)
                });
                entries.push(("tool_calls", Value::Array(calls.collect::<Result<_, _>>()?)));
            }
            entries
        }
        "tool" => vec![
            ("role", role.into()),
            ("content", own("content")),
            ("tool_call_id", own("tool_call_id")),
        ],
        "function" => {
            vec![("role", role.into()), ("content", own("content")), ("name", own("name"))]
        }
        _ => {
            return Err(fault(
                &at("role"),
                "must be one of system, developer, user, assistant, tool, function",
            ));
        }
    };
    Ok(object(entries))
}

/// User content: text as it is; of a list, text parts whole and every other part as `{type[, filename]}`.
fn shaped_content(content: &Value, path: &str) -> Result<Value, ShapeError> {
    if content.as_str().is_some() {
        return Ok(content.clone());
    }
    let parts =
        content.as_array().ok_or_else(|| fault(path, "must be a string or an array of parts"))?;
    let shaped = parts.iter().enumerate().map(|(i, part)| {
        let kind = part
            .get("type")
            .and_then(Value::as_str)
            .ok_or_else(|| fault(&format!("{path}[{i}].type"), "must be a string"))?;
        if kind == "text" {
            let text = part.get("text").filter(|text| text.is_truthy());
            return Ok(object(vec![
                ("type", kind.into()),
                ("text", text.cloned().unwrap_or_else(|| "".into())),
            ]));
        }
        let named =
            |holder: &Value| holder.get("filename").filter(|name| name.is_truthy()).cloned();
        let filename = part.get("file").and_then(named).or_else(|| named(part));
        let mut entries = vec![("type", kind.into())];
        entries.extend(filename.map(|name| ("filename", name)));
        Ok(object(entries))
    });
    Ok(Value::Array(shaped.collect::<Result<_, _>>()?))
}

fn reshaped_tool_call(call: &Value, path: &str) -> Result<Value, ShapeError> {
    if call.as_object().is_none() {
        return Err(fault(path, "must be an object"));
    }
    let function = call.get("function");
    if function.is_some_and(|function| function.as_object().is_none()) {
        return Err(fault(&format!("{path}.function"), "must be an object"));
    }
    let of = |holder: Option<&Value>, key: &str, default: &str| {
        holder.and_then(|holder| holder.get(key)).cloned().unwrap_or_else(|| default.into())
    };
    Ok(shaped_tool_call(
        of(Some(call), "id", ""),
        of(Some(call), "type", "function"),
        of(function, "name", ""),
        of(function, "arguments", ""),
    ))
}

fn shaped_tool_call(id: Value, kind: Value, name: Value, arguments: Value) -> Value {
    object(vec![
        ("id", id),
        ("type", kind),
        ("function", object(vec![("name", name), ("arguments", arguments)])),
    ])
}

fn object(entries: Vec<(&str, Value)>) -> Value {
    Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn string(body: &Value, key: &str) -> Result<Value, ShapeError> {
    body.get(key)
        .filter(|value| value.as_str().is_some_and(|text| key != "model" || !text.is_empty()))
        .cloned()
        .ok_or_else(|| fault(key, "must be a string"))
}

fn fault(param: &str, reason: &'static str) -> ShapeError {
    ShapeError { param: param.to_owned(), reason }
}

/// A float as Python writes it; read back so that a number is only ever made by the reader.
fn float(x: f64) -> Value {
    let limits = Limits { python_words: true, ..Limits::REQUEST };
    parse(float_repr(x).as_bytes(), &limits).unwrap_or(Value::Number(Number::from_u64(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(text: &str) -> Result<String, ShapeError> {
        chat_subset(&parse(text.as_bytes(), &Limits::REQUEST).unwrap())
            .map(|subset| dumps_sorted(&subset))
    }

    #[test]
    fn requests_take_the_published_canonical_form() {
        for (request, canonical, hash) in [
            (
                r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"hi","name":"n"}],"stream":true,"n":1,"tools":[],"stop":null,"max_tokens":null}"#,
                r#"{"messages": [{"content": "hi", "role": "user"}], "model": "gpt-4.1", "temperature": 0.0}"#,
                "625d9fe65df17a7ea5253a971d519b5b00f413a6853c54d2de569301dae744dc",
            ),
            (
                r#"{"model":"gpt-5-mini","messages":[{"role":"developer","content":"Répond 😀"},{"role":"user","content":"line1\nline2\t\"q\" \\ /"}],"temperature":0.7,"max_tokens":100,"stop":["END"],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"string"}}}}}]}"#,
                r#"{"max_tokens": 100, "messages": [{"content": "R\u00e9pond \ud83d\ude00", "role": "system"}, {"content": "line1\nline2\t\"q\" \\ /", "role": "user"}], "model": "gpt-5-mini", "stop": ["END"], "temperature": 0.7, "tools": [{"function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "type": "object"}}, "type": "function"}]}"#,
                "408adcfc2017ad1b72c842936d7e9471d434ee15cf1c7dfffb740610196a4cef",
            ),
            (
                r#"{"model":"gemini-2.5-pro","temperature":1,"messages":[{"role":"user","content":[{"type":"text","text":"describe"},{"type":"image_url","image_url":{"url":"data:x"}},{"type":"file","file":{"filename":"a.pdf","file_data":"x"}}]}]}"#,
                r#"{"messages": [{"content": [{"text": "describe", "type": "text"}, {"type": "image_url"}, {"filename": "a.pdf", "type": "file"}], "role": "user"}], "model": "gemini-2.5-pro", "temperature": 1.0}"#,
                "99afe8bc49377983d24a0a98f2d028ee606db97b6892a03ee04cd08ceda33768",
            ),
            (
                r#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"w?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","function":{"name":"get","arguments":"{\"x\": 1}"}}]},{"role":"tool","tool_call_id":"call_1","content":"42"}]}"#,
                r#"{"messages": [{"content": "w?", "role": "user"}, {"content": "", "role": "assistant", "tool_calls": [{"function": {"arguments": "{\"x\": 1}", "name": "get"}, "id": "call_1", "type": "function"}]}, {"content": "42", "role": "tool", "tool_call_id": "call_1"}], "model": "claude-sonnet-4-5", "temperature": 0.0}"#,
                "a3f15be74bd8de5f2317e47e9fc380e85f14af4259b97d2fc0719f3040d4a441",
            ),
        ] {
            assert_eq!(chat(request).unwrap(), canonical);
            let subset =
                chat_subset(&parse(request.as_bytes(), &Limits::REQUEST).unwrap()).unwrap();
            assert_eq!(hex::encode(request_hash(&subset)), hash);
        }
    }

    #[test]
    fn outputs_hash_as_published() {
        assert_eq!(
            hex::encode(output_hash("Hello!", &[])),
            "6cdba77591a790691c694fa0be937f835b8a589095e427022aa1035e579ee596"
        );
        let call =
            ToolCall { id: "call_1".into(), name: "get".into(), arguments: r#"{"x": 1}"#.into() };
        assert_eq!(
            hex::encode(output_hash("ignored", &[call])),
            "58a5492b6f458d575aa1d5082e92dc34e36c5bc289f1228e7ba15d090feadee8"
        );
    }

    #[test]
    fn shapes_without_a_canonical_form_name_the_field() {
        for (request, param) in [
            (r#"{"messages":[{"role":"user","content":"x"}]}"#, "model"),
            (r#"{"model":"","messages":[{"role":"user","content":"x"}]}"#, "model"),
            (r#"{"model":"m"}"#, "messages"),
            (r#"{"model":"m","messages":[]}"#, "messages"),
            (r#"{"model":"m","messages":["x"]}"#, "messages[0]"),
            (r#"{"model":"m","messages":[{"role":"wizard","content":"x"}]}"#, "messages[0].role"),
            (r#"{"model":"m","messages":[{"role":"user","content":1}]}"#, "messages[0].content"),
            (
                r#"{"model":"m","messages":[{"role":"user","content":[{"x":1}]}]}"#,
                "messages[0].content[0].type",
            ),
            (
                r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[1]}]}"#,
                "messages[0].tool_calls[0]",
            ),
            (
                r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":1}]}]}"#,
                "messages[0].tool_calls[0].function",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#,
                "temperature",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":{"a":1}}"#,
                "tools",
            ),
        ] {
            assert_eq!(chat(request).unwrap_err().param, param, "{request}");
        }
    }
}
