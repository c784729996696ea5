//! The bodies that clients read: OpenAI's shapes, plus the legacy `tee_*` fields and the receipt.

use alloy_primitives::B256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use og_receipt::Receipt;
use serde_json::{Map, Value, json};

use crate::legacy::canonical::ToolCall;
use crate::request::Route;
use crate::upstream::{Event, FinishReason, Usage};

/// What is the same in every event and document of one answer.
#[derive(Clone, Debug)]
pub struct Heading {
    /// Which route.
    pub route: Route,
    /// `chatcmpl-…` or `cmpl-…`.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// The model as the client named it.
    pub model: String,
}

/// The signed end of an answer.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Standard base64 of the RSA-PSS signature.
    pub signature: String,
    /// Legacy request hash.
    pub request_hash: B256,
    /// Legacy output hash.
    pub output_hash: B256,
    /// Signed time, Unix seconds.
    pub timestamp: u64,
    /// The enclave, `0x…`.
    pub tee_id: String,
    /// The receipt.
    pub receipt: Receipt,
}

impl Heading {
    fn object(&self, stream: bool) -> &'static str {
        match (self.route, stream) {
            (Route::Chat, true) => "chat.completion.chunk",
            (Route::Chat, false) => "chat.completion",
            (Route::Completion, _) => "text_completion",
        }
    }

    fn document(&self, stream: bool, choice: Value) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("id".into(), self.id.as_str().into());
        document.insert("object".into(), self.object(stream).into());
        document.insert("created".into(), self.created.into());
        document.insert("model".into(), self.model.as_str().into());
        document.insert("choices".into(), Value::Array(vec![choice]));
        document
    }

    /// The first chunk of a chat stream, which carries only the role; other streams have none.
    pub fn role_chunk(&self) -> Option<String> {
        let delta = json!({"role": "assistant", "content": ""});
        (self.route == Route::Chat).then(|| self.chunk(&delta, ""))
    }

    /// The chunk for a piece of the answer.
    pub fn piece_chunk(&self, piece: &Event) -> String {
        match piece {
            Event::Text(text) => self.chunk(&json!({"content": text}), text),
            Event::Tool { index, id, name, arguments } => {
                let mut function = Map::new();
                if let Some(name) = name {
                    function.insert("name".into(), name.as_str().into());
                }
                function.insert("arguments".into(), arguments.as_str().into());
                let mut call = Map::new();
                call.insert("index".into(), (*index).into());
                if let Some(id) = id {
                    call.insert("id".into(), id.as_str().into());
                    call.insert("type".into(), "function".into());
                }
                call.insert("function".into(), Value::Object(function));
                self.chunk(&json!({"tool_calls": [call]}), "")
            }
        }
    }

    fn chunk(&self, delta: &Value, text: &str) -> String {
        let choice = match self.route {
            Route::Chat => json!({"index": 0, "delta": delta, "finish_reason": null}),
            Route::Completion => json!({"index": 0, "text": text, "finish_reason": null}),
        };
        Value::Object(self.document(true, choice)).to_string()
    }

    /// The one final event of a stream.
    pub fn final_chunk(
        &self,
        reason: FinishReason,
        usage: Usage,
        cost: &Value,
        signed: &Signed,
    ) -> String {
        let choice = match self.route {
            Route::Chat => json!({"index": 0, "delta": {}, "finish_reason": reason.as_str()}),
            Route::Completion => json!({"index": 0, "text": "", "finish_reason": reason.as_str()}),
        };
        let mut document = self.document(true, choice);
        document.insert("usage".into(), usage_json(usage));
        document.insert("opengradient".into(), cost.clone());
        signed.add_to(&mut document);
        Value::Object(document).to_string()
    }

    /// The document of an answer that is not streamed, before it is signed.
    pub fn whole(
        &self,
        text: &str,
        tool_calls: &[ToolCall],
        reason: FinishReason,
        usage: Usage,
        cost: &Value,
    ) -> Map<String, Value> {
        let mut document = match self.route {
            Route::Chat => {
                let mut message = Map::new();
                message.insert("role".into(), "assistant".into());
                let content = if text.is_empty() && !tool_calls.is_empty() {
                    Value::Null
                } else {
                    text.into()
                };
                message.insert("content".into(), content);
                if !tool_calls.is_empty() {
                    let calls = tool_calls.iter().map(|call| {
                        json!({
                            "id": call.id,
                            "type": "function",
                            "function": {"name": call.name, "arguments": call.arguments},
                        })
                    });
                    message.insert("tool_calls".into(), calls.collect());
                }
                let choice =
                    json!({"index": 0, "message": message, "finish_reason": reason.as_str()});
                self.document(false, choice)
            }
            Route::Completion => {
                let choice = json!({"index": 0, "text": text, "finish_reason": reason.as_str()});
                let mut document = self.document(false, choice);
                document.insert("completion".into(), text.into());
                document
            }
        };
        document.insert("usage".into(), usage_json(usage));
        document.insert("opengradient".into(), cost.clone());
        document
    }
}

impl Signed {
    /// Adds what is signed; none of it is covered by the response digest.
    pub fn add_to(&self, document: &mut Map<String, Value>) {
        document.insert("tee_signature".into(), self.signature.as_str().into());
        document.insert("tee_request_hash".into(), hex::encode(self.request_hash).into());
        document.insert("tee_output_hash".into(), hex::encode(self.output_hash).into());
        document.insert("tee_timestamp".into(), self.timestamp.into());
        document.insert("tee_id".into(), self.tee_id.as_str().into());
        document.insert("tee_receipt_id".into(), self.receipt.digest().to_string().into());
        document.insert("receipt".into(), STANDARD.encode(self.receipt.to_bytes()).into());
    }
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    })
}
