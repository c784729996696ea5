//! The engine inside the enclave, faked: what reaches it, and what it says comes out.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use og_infer::{
    ChatRequest, Completion, Delta, Engine, EngineIdentity, Error, FinishReason, ModelInfo,
    ResponseFormat, Role, Sampling, ToolCall, ToolChoice, Usage,
};
use og_receipt::{Receipt, TruthLevel};
use serde_json::{Value, json};

use crate::support::{World, events};

const CHAT: &str = "/v1/chat/completions";

struct FakeEngine {
    identity: EngineIdentity,
    models: Vec<ModelInfo>,
    seen: Mutex<Vec<ChatRequest>>,
    busy: AtomicBool,
    cancelled: AtomicBool,
}

impl FakeEngine {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            identity: EngineIdentity {
                name: "fake".into(),
                version: "1".into(),
                flags: String::new(),
                isa: "none".into(),
                quantisation: "q".into(),
                weights_sha256: [3; 32],
            },
            models: vec![ModelInfo {
                id: "tiny".into(),
                context_tokens: 100,
                owned_by: "tests".into(),
                licence: "MIT".into(),
                notice: String::new(),
            }],
            seen: Mutex::default(),
            busy: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        })
    }
}

impl Engine for FakeEngine {
    fn identity(&self) -> &EngineIdentity {
        &self.identity
    }

    fn models(&self) -> &[ModelInfo] {
        &self.models
    }

    fn count_tokens(&self, request: &ChatRequest) -> Result<u32, Error> {
        let words: usize = request.messages.iter().map(|m| m.content.split(' ').count()).sum();
        let prompt_tokens = u32::try_from(words).unwrap();
        if prompt_tokens > 100 {
            return Err(Error::ContextLength { prompt_tokens, max_tokens: 1, limit: 100 });
        }
        Ok(prompt_tokens)
    }

    fn chat(
        &self,
        request: &ChatRequest,
        on_delta: &mut dyn FnMut(Delta<'_>) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        if self.busy.load(Ordering::SeqCst) {
            return Err(Error::Busy { conversations: 1, waiting: 1 });
        }
        self.seen.lock().unwrap().push(request.clone());
        let prompt_tokens = self.count_tokens(request)?;
        let mut tool_calls = Vec::new();
        let mut text = String::new();
        let mut finish_reason = FinishReason::Stop;
        if request.tools.is_empty() {
            for word in ["to ", "be ", "or ", "not"] {
                if on_delta(Delta::Text(word)).is_break() {
                    finish_reason = FinishReason::Cancelled;
                    break;
                }
                text.push_str(word);
            }
            // Some prompts never end by themselves.
            while request.messages[0].content == "forever"
                && finish_reason != FinishReason::Cancelled
            {
                if on_delta(Delta::Waiting).is_break() {
                    self.cancelled.store(true, Ordering::SeqCst);
                    finish_reason = FinishReason::Cancelled;
                }
                std::thread::yield_now();
            }
        } else {
            let call = ToolCall { id: "call_0".into(), name: "get".into(), arguments: "{}".into() };
            let _ = on_delta(Delta::ToolCall { index: 0, call: &call });
            tool_calls.push(call);
            finish_reason = FinishReason::ToolCalls;
        }
        let usage = Usage { prompt_tokens, completion_tokens: 4 };
        Ok(Completion { text, tool_calls, finish_reason, usage })
    }
}

async fn world(engine: &Arc<FakeEngine>) -> World {
    World::with_engine(engine.clone(), |config| {
        let mut model = config.models[0].clone();
        model.name = "tiny".into();
        model.upstream = "local".into();
        model.max_output_tokens = 50;
        config.models.push(model);
        config.limits.answer_secs = 1;
    })
    .await
}

fn body(change: &Value) -> String {
    let mut body =
        json!({"model": "tiny", "messages": [{"role": "user", "content": "one two three"}]});
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body.to_string()
}

#[tokio::test]
async fn the_engine_gets_the_whole_request_and_its_weights_are_named() {
    let engine = FakeEngine::new();
    let world = world(&engine).await;
    let request = body(&json!({
        "messages": [{"role": "developer", "content": "s"},
                     {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        "temperature": 0.5, "top_p": 0.9, "seed": 42, "stop": "END", "max_tokens": 9,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    }));
    let answer: Value = world.paid(CHAT, request).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "to be or not");
    let receipt =
        Receipt::decode(&STANDARD.decode(answer["receipt"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(receipt.claims().truth, TruthLevel::WeightsMeasured);
    assert_eq!(receipt.claims().engine.weights_sha256.unwrap().0, [3; 32]);
    let seen = engine.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.messages[0].role, Role::System);
    assert_eq!(seen.messages[1].content, "ab");
    assert_eq!((seen.max_tokens, seen.stop), (Some(9), vec!["END".to_owned()]));
    assert_eq!(seen.sampling, Sampling::Seeded { temperature: 0.5, top_p: 0.9, seed: 42 });
    assert_eq!(seen.response_format, ResponseFormat::JsonSchema(json!({"type": "object"})));

    let tools = json!([{"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}]);
    let text = world
        .paid(CHAT, body(&json!({"tools": tools, "tool_choice": "required", "stream": true})))
        .await
        .text()
        .await
        .unwrap();
    let payloads = events(&text);
    let last: Value = serde_json::from_str(&payloads[payloads.len() - 2]).unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
    let seen = engine.seen.lock().unwrap()[1].clone();
    assert_eq!((seen.sampling, seen.tool_choice), (Sampling::Greedy, ToolChoice::Required));
    assert_eq!(world.settled().await.len(), 2);
    assert_eq!(world.get("/v1/models/tiny").await.1["truth"], "weights-measured");
}

#[tokio::test]
async fn what_the_engine_cannot_do_is_refused_and_costs_nothing() {
    let engine = FakeEngine::new();
    let world = world(&engine).await;
    let image =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    for (change, param) in [
        (json!({"presence_penalty": 1}), "presence_penalty"),
        (json!({"logit_bias": {"1": 2}}), "logit_bias"),
        (json!({"messages": image}), "messages[0].content[0]"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"response_format": {"type": "xml"}}), "response_format"),
    ] {
        let response = world.post(CHAT, body(&change)).send().await.unwrap();
        assert_eq!(response.status(), 400);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "unsupported_parameter");
        assert_eq!(error["error"]["param"], param);
    }
    let long = json!({"messages": [{"role": "user", "content": "w ".repeat(200)}]});
    let response = world.paid(CHAT, body(&long)).await;
    assert_eq!(response.status(), 400);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["code"], "context_length_exceeded");
    assert_eq!(error["error"]["payment"], "not_charged");
    engine.busy.store(true, Ordering::SeqCst);
    let response = world.paid(CHAT, body(&json!({}))).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "busy");
    engine.busy.store(false, Ordering::SeqCst);
    let forever = json!({"messages": [{"role": "user", "content": "forever"}]});
    assert_eq!(world.paid(CHAT, body(&forever)).await.status(), 504);
    while !engine.cancelled.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    assert!(world.settled().await.is_empty());
}
