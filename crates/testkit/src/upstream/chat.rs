//! The wire form of answers: objects and chunks.

use serde_json::{Value, json};

use super::answer::{Answer, answer, content_text, count_tokens, limited, words};
use super::{CREATED, Refusal, Reply};

/// Bytes of a tool's arguments in one fragment.
const ARGUMENT_FRAGMENT: usize = 8;

/// Answers `/v1/chat/completions`.
pub(super) fn chat(body: &Value) -> Result<Reply, Refusal> {
    let messages = checked_messages(body)?;
    let answer = answer(body, messages);
    let prompt: u64 =
        messages.iter().map(|message| count_tokens(&content_text(&message["content"]))).sum();
    let usage = usage(prompt, answer.completion_tokens());
    let head = |object: &str| {
        json!({
            "id": "chatcmpl-mock", "object": object, "created": CREATED, "model": body["model"],
            "system_fingerprint": "fp_mock",
        })
    };
    if body["stream"] == true {
        let mut events = chunks(&answer, &head("chat.completion.chunk"));
        if body["stream_options"]["include_usage"] == true {
            for event in &mut events {
                event["usage"] = Value::Null;
            }
            let mut last = head("chat.completion.chunk");
            last["choices"] = json!([]);
            last["usage"] = usage;
            events.push(last);
        }
        return Ok(Reply::Events(events));
    }
    let mut object = head("chat.completion");
    let message = match &answer {
        Answer::Text { text, .. } => json!({"role": "assistant", "content": text, "refusal": null}),
        Answer::Call { id, name, arguments } => json!({
            "role": "assistant", "content": null, "refusal": null,
            "tool_calls": [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}],
        }),
    };
    object["choices"] = json!([{
        "index": 0, "message": message, "logprobs": null, "finish_reason": answer.finish_reason(),
    }]);
    object["usage"] = usage;
    Ok(Reply::Json(object))
}

/// Answers `/v1/completions`.
pub(super) fn completion(body: &Value) -> Result<Reply, Refusal> {
    let Some(prompt) = body["prompt"].as_str() else {
        return Err(Refusal::new(Some("prompt"), "you must provide a prompt"));
    };
    let answer = limited(&format!("You wrote: {prompt}"), body);
    let usage = usage(count_tokens(prompt), answer.completion_tokens());
    let finish_reason = answer.finish_reason();
    let Answer::Text { text, .. } = answer else { return Err(Refusal::new(None, "no text")) };
    let object = |text: &str, finish_reason: Option<&str>| {
        json!({
            "id": "cmpl-mock", "object": "text_completion", "created": CREATED, "model": body["model"],
            "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish_reason}],
        })
    };
    if body["stream"] == true {
        let mut events: Vec<Value> = words(&text).iter().map(|word| object(word, None)).collect();
        events.push(object("", Some(finish_reason)));
        if body["stream_options"]["include_usage"] == true {
            let mut last = object("", None);
            last["choices"] = json!([]);
            last["usage"] = usage;
            events.push(last);
        }
        return Ok(Reply::Events(events));
    }
    let mut whole = object(&text, Some(finish_reason));
    whole["usage"] = usage;
    Ok(Reply::Json(whole))
}

fn chunks(answer: &Answer, head: &Value) -> Vec<Value> {
    let chunk = |delta: Value, finish_reason: Option<&str>| {
        let mut chunk = head.clone();
        chunk["choices"] = json!([{
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
        }]);
        chunk
    };
    let mut chunks = Vec::new();
    match answer {
        Answer::Text { text, .. } => {
            chunks.push(chunk(json!({"role": "assistant", "content": "", "refusal": null}), None));
            chunks
                .extend(words(text).into_iter().map(|word| chunk(json!({"content": word}), None)));
        }
        Answer::Call { id, name, arguments } => {
            chunks.push(chunk(
                json!({"role": "assistant", "content": null, "tool_calls": [{
                    "index": 0, "id": id, "type": "function",
                    "function": {"name": name, "arguments": ""},
                }]}),
                None,
            ));
            let characters: Vec<char> = arguments.chars().collect();
            chunks.extend(characters.chunks(ARGUMENT_FRAGMENT).map(|fragment| {
                let fragment: String = fragment.iter().collect();
                let call = json!({"index": 0, "function": {"arguments": fragment}});
                chunk(json!({"tool_calls": [call]}), None)
            }));
        }
    }
    chunks.push(chunk(json!({}), Some(answer.finish_reason())));
    chunks
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}

fn checked_messages(body: &Value) -> Result<&[Value], Refusal> {
    let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
    let Some(messages) = messages else {
        return Err(Refusal::new(Some("messages"), "Missing required parameter: 'messages'."));
    };
    let known = ["system", "developer", "user", "assistant", "tool", "function"];
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        if !known.contains(&role) {
            return Err(Refusal::new(Some("messages"), format!("Invalid value: '{role}'.")));
        }
        let silent = message["content"].is_null() && message["tool_calls"].is_null();
        if silent {
            return Err(Refusal::new(
                Some("messages"),
                "Invalid value for 'content': expected a string, got null.",
            ));
        }
    }
    Ok(messages)
}
