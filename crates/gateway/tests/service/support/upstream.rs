//! A mock of an OpenAI-compatible service, whose behaviour is chosen by the model's name.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub struct Mock {
    addr: SocketAddr,
    pub state: Arc<MockState>,
    task: tokio::task::JoinHandle<()>,
}

pub struct MockState {
    /// Bodies received.
    pub requests: Mutex<Vec<String>>,
    /// Model `gate` answers once per permit added here.
    pub gate: Semaphore,
}

impl Mock {
    pub async fn start() -> Self {
        let state = Arc::new(MockState { requests: Mutex::default(), gate: Semaphore::new(0) });
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let listener =
            axum::serve::ListenerExt::tap_io(listener, |stream: &mut tokio::net::TcpStream| {
                stream.set_nodelay(true).unwrap();
            });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, state, task }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub const WORDS: usize = 18;

async fn answer(State(state): State<Arc<MockState>>, body: Bytes) -> Response {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let request: Value = serde_json::from_str(&text).unwrap();
    state.requests.lock().unwrap().push(text);
    let model = request["model"].as_str().unwrap().to_owned();
    let stream = request["stream"] == true;
    if let Some(status) = model.strip_prefix("status-") {
        let status = StatusCode::from_u16(status.parse().unwrap()).unwrap();
        let error = json!({"error": {"message": "mock says no sk-secret", "param": "messages"}});
        return (status, error.to_string()).into_response();
    }
    match model.as_str() {
        "not-json" => return "<html>".into_response(),
        "silent" => std::future::pending::<()>().await,
        "slow" => tokio::time::sleep(Duration::from_millis(400)).await,
        "gate" => state.gate.acquire().await.unwrap().forget(),
        _ => {}
    }
    if stream { streamed(&model) } else { whole(&model) }
}

fn whole(model: &str) -> Response {
    let mut message = json!({"role": "assistant", "content": "Hello! How can I help?"});
    let mut reason = "stop";
    if model == "tools" {
        message = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": "{\"x\": 1}"}}]});
        reason = "tool_calls";
    }
    let mut answer = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": format!("{model}-2026"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": null}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
    });
    match model {
        "no-usage" => drop(answer.as_object_mut().unwrap().remove("usage")),
        "huge" => {
            answer["usage"] =
                json!({"prompt_tokens": 1_000_000_000, "completion_tokens": 1_000_000_000});
        }
        "cut" => {
            let text = answer.to_string();
            let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
            return cut_after(vec![half]);
        }
        _ => {}
    }
    ([("content-type", "application/json")], answer.to_string()).into_response()
}

fn streamed(model: &str) -> Response {
    let event = |delta: Value, reason: Value| {
        json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": format!("{model}-2026"),
               "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": null})
    };
    let mut events = vec![event(json!({"role": "assistant", "content": ""}), Value::Null)];
    if model == "tools" {
        for (index, id, name) in [(0, "call_1", "get"), (1, "call_2", "put")] {
            let call = json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
            events.push(event(json!({"tool_calls": [call]}), Value::Null));
            for piece in ["{\"x\":", " 1}"] {
                let call = json!({"index": index, "function": {"arguments": piece}});
                events.push(event(json!({"tool_calls": [call]}), Value::Null));
            }
        }
        events.push(event(json!({}), "tool_calls".into()));
    } else {
        for i in 0..WORDS {
            events.push(event(json!({"content": format!("word{i} ")}), Value::Null));
        }
        events.push(event(json!({}), "stop".into()));
    }
    if model != "no-usage" {
        events.push(json!({"id": "x", "choices": [],
            "usage": {"prompt_tokens": 12, "completion_tokens": WORDS, "total_tokens": 12 + WORDS}}));
    }
    if model == "error-event" {
        events.truncate(5);
        events.push(json!({"error": {"message": "mock broke"}}));
    }
    let mut frames: Vec<Bytes> =
        events.iter().map(|event| Bytes::from(format!("data: {event}\n\n"))).collect();
    if model == "cut" {
        frames.truncate(5);
        return cut_after(frames);
    }
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let pieces = frames.into_iter().map(Ok::<_, std::io::Error>);
    let body = Body::from_stream(futures::stream::iter(pieces));
    ([("content-type", "text/event-stream")], body).into_response()
}

/// A body that breaks off after these bytes.
fn cut_after(frames: Vec<Bytes>) -> Response {
    let frames = frames.into_iter().map(Ok).chain([Err(std::io::Error::other("cut"))]);
    // Each frame goes out before the connection breaks, or nothing of it would be seen.
    let body =
        Body::from_stream(futures::StreamExt::then(futures::stream::iter(frames), |frame| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            frame
        }));
    ([("content-type", "text/event-stream")], body).into_response()
}
