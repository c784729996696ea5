//! An OpenAI-compatible server with deterministic answers and failures on demand.
//!
//! Answers depend on the request alone, so a test can say beforehand what it must get, tokens and all: a token is a
//! word. The wire form follows OpenAI's to the details that break clients: a role-only first chunk, `usage: null` in every
//! chunk when usage is asked for, usage in a last chunk without choices, tool arguments in fragments, `[DONE]`.
//!
//! A failure is asked for by model name (`mock-500`) or by the header `x-mock-failure: 500`; see [`Failure`].

mod answer;
mod chat;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use answer::count_tokens;

/// Every body this server reads is smaller.
const REQUEST_BYTES_MAX: usize = 8 << 20;
/// `created` of every object: a fixed time, so that answers are equal byte for byte.
const CREATED: u64 = 1_750_000_000;
/// The model that answers as it should.
pub const MODEL: &str = "mock-chat";
/// Prefix of the models that fail as the rest of their name says.
const FAILING: &str = "mock-";
/// Time between two chunks of [`Failure::Slow`].
const SLOW_CHUNK: Duration = Duration::from_millis(20);

/// Ways to fail, each the name of a model (`mock-<name>`) and a value of the header `x-mock-failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `500`: an internal error.
    Internal,
    /// `503`: overloaded.
    Unavailable,
    /// `429`: rate limited, with `retry-after`.
    RateLimited,
    /// `401`: a bad key.
    Unauthorized,
    /// `timeout`: no answer ever.
    Timeout,
    /// `no-usage`: an answer without usage.
    NoUsage,
    /// `cut`: the connection breaks in the middle (of a stream: after some chunks).
    Cut,
    /// `no-done`: a stream that ends cleanly, but early: no finish reason, no usage, no `[DONE]`.
    NoDone,
    /// `malformed`: an event (or body) that is not JSON.
    Malformed,
    /// `not-json`: a 200 with an HTML page.
    NotJson,
    /// `huge`: an answer of 64 MiB.
    Huge,
    /// `slow`: a right answer with pauses; no failure, but a target for kills and cancellations.
    Slow,
}

impl Failure {
    /// Every failure with its name.
    pub const ALL: [(&'static str, Self); 12] = [
        ("500", Self::Internal),
        ("503", Self::Unavailable),
        ("429", Self::RateLimited),
        ("401", Self::Unauthorized),
        ("timeout", Self::Timeout),
        ("no-usage", Self::NoUsage),
        ("cut", Self::Cut),
        ("no-done", Self::NoDone),
        ("malformed", Self::Malformed),
        ("not-json", Self::NotJson),
        ("huge", Self::Huge),
        ("slow", Self::Slow),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, failure)| *failure)
    }

    /// The failure a request asks for.
    fn of(headers: &HeaderMap, model: &str) -> Option<Self> {
        let by_header = headers.get("x-mock-failure").and_then(|value| value.to_str().ok());
        by_header.or_else(|| model.strip_prefix(FAILING)).and_then(Self::named)
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Value,
    /// The body's very bytes.
    pub raw: Bytes,
}

/// The running server; stops when dropped.
#[derive(Debug)]
pub struct MockUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    key: Option<String>,
}

impl MockUpstream {
    /// Starts a server that accepts any key.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// Starts a server that accepts only `Authorization: Bearer <key>`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start_with_key(key: impl Into<String>) -> anyhow::Result<Self> {
        Self::start_with(Some(key.into())).await
    }

    async fn start_with(key: Option<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding a port")?;
        let address = listener.local_addr().context("asking for the port")?;
        let shared = Arc::new(Shared { seen: Mutex::default(), key });
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/models/{model}", get(model))
            .route("/v1/chat/completions", post(chat_completions))
            .route("/v1/completions", post(completions))
            .fallback(unknown_path)
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            // A server that fails shows in every test that uses it.
            let serve = axum::serve(listener, router);
            tokio::select! {
                _ = serve => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { address, shared, stop })
    }

    /// The base URL for `--upstream`, ending in `/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The names of all models it serves.
    #[must_use]
    pub fn models() -> Vec<String> {
        let failing = Failure::ALL.iter().map(|(name, _)| format!("{FAILING}{name}"));
        std::iter::once(MODEL.to_owned()).chain(failing).collect()
    }

    /// Every inference request that arrived, in order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().clone()
    }

    /// How many inference requests arrived.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.lock().len()
    }

    /// Forgets what arrived.
    pub fn forget(&self) {
        self.shared.lock().clear();
    }
}

impl Drop for MockUpstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authorised(&self, headers: &HeaderMap) -> bool {
        self.key.as_ref().is_none_or(|key| {
            headers
                .get(header::AUTHORIZATION)
                .is_some_and(|given| given.as_bytes() == format!("Bearer {key}").as_bytes())
        })
    }
}

/// OpenAI's error envelope.
fn error(
    status: StatusCode,
    kind: &str,
    code: Option<&str>,
    param: Option<&str>,
    message: &str,
) -> Response {
    let body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    (status, axum::Json(body)).into_response()
}

fn invalid(param: Option<&str>, message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request_error", None, param, message)
}

fn unknown_model(model: &str) -> Response {
    let message = format!("The model `{model}` does not exist or you do not have access to it.");
    let code = Some("model_not_found");
    error(StatusCode::NOT_FOUND, "invalid_request_error", code, None, &message)
}

fn bad_key() -> Response {
    let message = "Incorrect API key provided.";
    let code = Some("invalid_api_key");
    error(StatusCode::UNAUTHORIZED, "invalid_request_error", code, None, message)
}

async fn unknown_path(request: Request) -> Response {
    let message = format!("Invalid URL ({} {})", request.method(), request.uri().path());
    error(StatusCode::NOT_FOUND, "invalid_request_error", None, None, &message)
}

fn model_object(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "mock"})
}

async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.authorised(&headers) {
        return bad_key();
    }
    let data: Vec<Value> = MockUpstream::models().iter().map(|id| model_object(id)).collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

async fn model(Path(model): Path<String>) -> Response {
    if MockUpstream::models().contains(&model) {
        axum::Json(model_object(&model)).into_response()
    } else {
        unknown_model(&model)
    }
}

async fn chat_completions(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    serve("/v1/chat/completions", &shared, &headers, raw, chat::chat).await
}

async fn completions(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    serve("/v1/completions", &shared, &headers, raw, chat::completion).await
}

/// An answer before a failure is applied to it.
enum Reply {
    Json(Value),
    /// The data of each event, `[DONE]` not among them.
    Events(Vec<Value>),
}

/// A request that OpenAI would refuse.
struct Refusal {
    param: Option<&'static str>,
    message: String,
}

impl Refusal {
    fn new(param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { param, message: message.into() }
    }
}

async fn serve(
    path: &str,
    shared: &Shared,
    headers: &HeaderMap,
    raw: Bytes,
    reply: fn(&Value) -> Result<Reply, Refusal>,
) -> Response {
    if !shared.authorised(headers) {
        return bad_key();
    }
    let Ok(body) = serde_json::from_slice::<Value>(&raw) else {
        return invalid(None, "We could not parse the JSON body of your request.");
    };
    let named = headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    let seen = Seen { path: path.into(), headers: named.collect(), body: body.clone(), raw };
    shared.lock().push(seen);
    if model.is_empty() {
        return invalid(None, "you must provide a model parameter");
    }
    if !MockUpstream::models().contains(&model) {
        return unknown_model(&model);
    }
    match reply(&body) {
        Ok(reply) => send(reply, Failure::of(headers, &model)).await,
        Err(refusal) => invalid(refusal.param, &refusal.message),
    }
}

async fn send(reply: Reply, failure: Option<Failure>) -> Response {
    match failure {
        Some(Failure::Internal) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            None,
            None,
            "The server had an error while processing your request. Sorry about that!",
        ),
        Some(Failure::Unavailable) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "server_error",
            None,
            None,
            "The engine is currently overloaded, please try again later.",
        ),
        Some(Failure::RateLimited) => {
            let code = Some("rate_limit_exceeded");
            let message = "Rate limit reached for requests.";
            let mut response =
                error(StatusCode::TOO_MANY_REQUESTS, "requests", code, None, message);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Some(Failure::Unauthorized) => bad_key(),
        Some(Failure::Timeout) => std::future::pending().await,
        Some(Failure::NotJson) => {
            ([(header::CONTENT_TYPE, "text/html")], "<html><body>It works!</body></html>")
                .into_response()
        }
        Some(Failure::Huge) => (
            [(header::CONTENT_TYPE, "application/json")],
            format!("{{\"padding\":\"{}\"}}", "x".repeat(64 << 20)),
        )
            .into_response(),
        failure => match reply {
            Reply::Json(value) => whole(value, failure),
            Reply::Events(events) => streamed(events, failure),
        },
    }
}

fn whole(mut value: Value, failure: Option<Failure>) -> Response {
    if failure == Some(Failure::NoUsage)
        && let Some(object) = value.as_object_mut()
    {
        object.remove("usage");
    }
    let text = value.to_string();
    let half = text.len() / 2;
    let body = match failure {
        Some(Failure::Malformed) => Body::from(text.get(..half).unwrap_or_default().to_owned()),
        // Fewer bytes than announced would be refused by the server itself; an error ends the chunked body hard.
        Some(Failure::Cut | Failure::NoDone) => {
            broken(vec![text.get(..half).unwrap_or_default().to_owned()])
        }
        _ => Body::from(text),
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn streamed(events: Vec<Value>, failure: Option<Failure>) -> Response {
    let half = events.len() / 2;
    let mut lines: Vec<String> = events
        .into_iter()
        .filter(|event| {
            // OpenAI's usage chunk is the one without choices.
            failure != Some(Failure::NoUsage) || event["choices"] != json!([])
        })
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    lines.push("data: [DONE]\n\n".to_owned());
    let body = match failure {
        Some(Failure::Cut) => {
            lines.truncate(half);
            broken(lines)
        }
        Some(Failure::NoDone) => {
            lines.truncate(half);
            Body::from_stream(futures::stream::iter(lines.into_iter().map(Ok::<_, std::io::Error>)))
        }
        Some(Failure::Malformed) => {
            lines.insert(half, "data: {\"choices\":[{\"delta\n\n".to_owned());
            Body::from(lines.concat())
        }
        Some(Failure::Slow) => {
            Body::from_stream(futures::stream::unfold(lines.into_iter(), |mut lines| async {
                let line = lines.next()?;
                tokio::time::sleep(SLOW_CHUNK).await;
                Some((Ok::<_, std::io::Error>(line), lines))
            }))
        }
        // One write per event, as upstreams do.
        _ => {
            Body::from_stream(futures::stream::iter(lines.into_iter().map(Ok::<_, std::io::Error>)))
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}

/// A body whose connection breaks after `pieces`.
fn broken(pieces: Vec<String>) -> Body {
    let cut = Err(std::io::Error::other("the mock breaks the connection"));
    let pieces = pieces.into_iter().map(Ok).chain(std::iter::once(cut));
    // The pause lets what was written leave before the reset overtakes it.
    Body::from_stream(futures::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.next()?;
        if piece.is_err() {
            tokio::time::sleep(SLOW_CHUNK).await;
        }
        Some((piece, pieces))
    }))
}

#[cfg(test)]
mod tests;
