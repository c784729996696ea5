//! The HTTP surface: which path does what, and the order in which a paid request is let in.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{
    ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, EXPECT,
};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt as _;
use og_meter::{Input, Refused};
use og_primitives::ReceiptDigest;
use og_receipt::digest;
use og_x402::verify::InvalidReason;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::answers::SealingKey;
use crate::books::{Admission, Context, Ending};
use crate::error::{ApiError, Code, PaymentState};
use crate::gateway::{LLM_PROXY, Shared};
use crate::inference::{self, Frame, Job};
use crate::payment::{
    Offers, Presented, SETTLEMENT_TYPE, claimed_identity, request_key, settlement_mode,
};
use crate::request::{self, Call, Route};
use crate::response::{self, json_response};
use crate::settlement::{FundsError, Spendable};

/// Bodies longer than this are read on the blocking pool, in bytes.
const INLINE_PARSE_BYTES: usize = 64 << 10;

/// How much of a body that is refused is read all the same, and for how long.
const DRAIN_BYTES_MAX: usize = 256 << 20;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/receipts/{id}", get(receipt))
        .route("/health", get(health))
        .route("/signing-key", get(signing_key))
        .route("/heartbeat/status", get(heartbeat_status))
        .route("/enclave", get(banner))
        .route("/enclave/attestation", get(attestation))
        .route("/enclave/registration", get(registration))
        .fallback(|| async { ApiError::new(Code::NotFound, "there is no such route") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(Code::MethodNotAllowed, "this route has another method")
        })
        .with_state(shared)
}

type SharedState = State<Arc<Shared>>;
type Answered = Result<Response<Body>, ApiError>;
type PathId = Result<Path<String>, PathRejection>;

async fn chat(state: SharedState, headers: HeaderMap, body: Body) -> Answered {
    serve(state, Route::Chat, headers, body).await
}

async fn completion(state: SharedState, headers: HeaderMap, body: Body) -> Answered {
    serve(state, Route::Completion, headers, body).await
}

async fn serve(
    State(shared): SharedState,
    route: Route,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    let received_at_ms = shared.clock.now_ms();
    check_headers(&headers)?;
    let mode = settlement_mode(headers.get(SETTLEMENT_TYPE))?;
    let body = read_body(&shared, &headers, body).await?;
    let call = read_call(&shared, route, &body).await?;
    let (upstream, upstream_model) = shared.upstream_of(&call)?;
    upstream.check(&call, &upstream_model)?;

    let offers = shared.offers(route);
    let Some(header) = headers.get(og_x402::PAYMENT_SIGNATURE) else { return Err(offers.ask()) };
    let payload = offers.read(header)?;
    let request_digest = digest::request(&body);
    let request = request_key(route, mode, request_digest);

    // A payment that is known for this very request is judged at the time it was taken: its permit may have run
    // out since, and the answer is paid for all the same.
    let known = claimed_identity(&payload, shared.config.payment.chain_id)
        .and_then(|identity| shared.books.entry(identity.id()))
        .filter(|entry| entry.request == request);
    let now_secs = known.as_ref().map_or(shared.clock.now_secs(), |entry| entry.changed_secs);
    let now_secs = known
        .as_ref()
        .map_or(now_secs, |entry| now_secs.min(entry.deadline_secs.saturating_sub(60)));
    let payment = offers.verify(payload, now_secs)?;
    let seal = SealingKey::derive(&body, &payment.verified.signature.to_bytes());
    let price = shared.price_of(&call, payment.asset()).ok_or_else(|| {
        offers.refuse(
            InvalidReason::NoMatchingRequirements.code(),
            "the model has no price in this token",
        )
    })?;

    let place = shared.place()?;
    let spendable = async {
        if known.is_some() {
            Ok(None)
        } else {
            spendable(&shared, offers, &payment).await.map(Some)
        }
    };
    let (spendable, prompt_tokens_max) =
        tokio::join!(spendable, upstream.prompt_tokens_max(&call, &upstream_model));
    let prompt_tokens_max = prompt_tokens_max.map_err(not_charged)?;
    let spendable = spendable?;
    let bound = price
        .worst_case(prompt_tokens_max, call.max_tokens.into())
        .map_err(|e| ApiError::new(Code::CostAboveLimit, e.to_string()))?;
    let context =
        Context { payload: payment.payload.clone(), requirements: payment.requirements.clone() };
    let reserve = Input::Reserve {
        payment: payment.id(),
        payer: payment.verified.payer,
        asset: og_meter::AssetId {
            chain_id: payment.verified.terms.chain_id,
            token: payment.verified.terms.asset,
        },
        request,
        bound,
        permitted: payment.verified.terms.amount,
        deadline_secs: payment.verified.deadline_secs,
        balance: spendable.map(|spendable| spendable.balance.min(spendable.allowance)),
        context: serde_json::to_vec(&context)
            .map_err(|_| ApiError::new(Code::Internal, "the payment cannot be written down"))?
            .into(),
    };
    let admission = shared
        .books
        .admit(reserve)
        .await
        .map_err(|_| ApiError::new(Code::Internal, "no payments are taken at present"))?
        .map_err(|refused| refusal(offers, &refused, spendable))?;
    let stream = call.stream;
    let keepalive = Duration::from_millis(shared.config.limits.keepalive_ms);
    match admission {
        Admission::Serve => {
            let (client, frames) = mpsc::channel(64);
            let job = Job {
                call,
                body,
                request_digest,
                upstream,
                upstream_model,
                price,
                prompt_tokens_max,
                payment,
                mode,
                received_at_ms,
                seal,
            };
            let tracker = shared.running.clone();
            tracker.spawn(async move {
                let _place = place;
                inference::run(shared, job, client).await;
            });
            response::from_frames(frames, stream, keepalive).await
        }
        Admission::Wait(ending) => {
            drop(place);
            let (client, frames) = mpsc::channel(4);
            tokio::spawn(replay(shared, payment, seal, Some(ending), client));
            response::from_frames(frames, stream, keepalive).await
        }
        Admission::Answered => {
            drop(place);
            let (client, frames) = mpsc::channel(4);
            tokio::spawn(replay(shared, payment, seal, None, client));
            response::from_frames(frames, stream, keepalive).await
        }
    }
}

/// Sends a stored answer, after its end has been waited for.
async fn replay(
    shared: Arc<Shared>,
    payment: Presented,
    seal: SealingKey,
    ending: Option<Ending>,
    client: mpsc::Sender<Frame>,
) {
    let payment = payment.id();
    let mut end = Ok(());
    if let Some(mut ending) = ending {
        end = match ending.wait_for(Option::is_some).await {
            Ok(end) => (*end).clone().unwrap_or(Ok(())),
            Err(_) => Err(ApiError::new(Code::Internal, "the request could not be finished")),
        };
    }
    if let Err(error) = end {
        let _ = client.send(Frame::Fail(error)).await;
        return;
    }
    let found = tokio::task::spawn_blocking({
        let shared = Arc::clone(&shared);
        move || shared.books.answers.find(payment, &seal)
    })
    .await;
    let Ok(Some(answer)) = found else {
        let receipt =
            shared.books.entry(payment).and_then(|entry| Some(entry.state.bill()?.receipt));
        let message = format!(
            "the answer was paid for and is no longer kept; its receipt is /v1/receipts/{}",
            receipt.map(|digest| digest.to_string()).unwrap_or_default()
        );
        let error = ApiError::new(Code::AnswerExpired, message).with_payment(PaymentState::Charged);
        let _ = client.send(Frame::Fail(error)).await;
        return;
    };
    let _ = client.send(Frame::Data(answer.body)).await;
    let _ = client.send(Frame::End).await;
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let essence = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if essence.is_none_or(|essence| essence != "application/json") {
        return Err(ApiError::new(
            Code::UnsupportedMediaType,
            "the body must be declared application/json",
        ));
    }
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity");
    if encoded {
        return Err(ApiError::new(Code::UnsupportedEncoding, "the body must not be compressed"));
    }
    Ok(())
}

async fn read_body(
    shared: &Shared,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Bytes, ApiError> {
    let limits = &shared.config.limits;
    let too_large = || {
        let message = format!("the body is larger than {} bytes", limits.body_bytes);
        ApiError::new(Code::BodyTooLarge, message)
    };
    let declared = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    let declared_too_large = declared.is_some_and(|bytes| {
        usize::try_from(bytes).map_or(true, |bytes| bytes > limits.body_bytes)
    });
    if declared_too_large {
        // A client that asked first is told at once; the others would lose the answer to a reset connection.
        if !headers.contains_key(EXPECT) {
            drain(body).await;
        }
        return Err(too_large());
    }
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let incomplete = |_| ApiError::new(Code::BodyIncomplete, "the body broke off");
            let Ok(data) = frame.map_err(incomplete)?.into_data() else { continue };
            if bytes.len().saturating_add(data.len()) > limits.body_bytes {
                return Ok(None);
            }
            bytes.extend_from_slice(&data);
        }
        Ok::<_, ApiError>(Some(bytes.freeze()))
    };
    let read = tokio::time::timeout(Duration::from_secs(limits.body_secs), read)
        .await
        .map_err(|_| ApiError::new(Code::BodyIncomplete, "the body did not arrive in time"))??;
    match read {
        Some(bytes) => Ok(bytes),
        None => {
            drain(body).await;
            Err(too_large())
        }
    }
}

/// Reads on for a moment without keeping anything: closing a connection on unread bytes resets it, and the client
/// would never see why.
async fn drain(mut body: Body) {
    let read_on = async {
        let mut bytes = 0_usize;
        while let Some(Ok(frame)) = body.frame().await {
            bytes = bytes.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if bytes > DRAIN_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, read_on).await;
}

async fn read_call(shared: &Arc<Shared>, route: Route, body: &Bytes) -> Result<Call, ApiError> {
    let config = &shared.config;
    if body.len() <= INLINE_PARSE_BYTES {
        return request::read(route, body, &config.models, &config.limits);
    }
    let (shared, body) = (Arc::clone(shared), body.clone());
    tokio::task::spawn_blocking(move || {
        request::read(route, &body, &shared.config.models, &shared.config.limits)
    })
    .await
    .map_err(|_| ApiError::new(Code::Internal, "the request could not be read"))?
}

async fn spendable(
    shared: &Shared,
    offers: &Offers,
    payment: &Presented,
) -> Result<Spendable, ApiError> {
    shared.funds.spendable(&payment.verified).await.map_err(|error| match error {
        FundsError::Refused(reason) => offers.refuse(reason.code(), ""),
        FundsError::Unavailable(_) => not_charged(ApiError::new(
            Code::FundsUnavailable,
            "the payment chain cannot be asked at present",
        )),
    })
}

fn not_charged(error: ApiError) -> ApiError {
    error.with_payment(PaymentState::NotCharged)
}

fn refusal(offers: &Offers, refused: &Refused, spendable: Option<Spendable>) -> ApiError {
    match refused {
        Refused::AlreadyUsed { money } => offers.refuse(
            InvalidReason::PaymentAlreadyUsed.code(),
            &format!("the nonce was taken for another request, whose payment is {money}"),
        ),
        Refused::BalanceTooLow { .. } => {
            let short_of_allowance =
                spendable.is_some_and(|spendable| spendable.allowance < spendable.balance);
            let reason = if short_of_allowance {
                InvalidReason::Permit2AllowanceRequired
            } else {
                InvalidReason::Permit2InsufficientBalance
            };
            offers.refuse(reason.code(), &refused.to_string())
        }
        Refused::DeadlineTooClose { .. } => {
            offers.refuse(InvalidReason::Permit2DeadlineExpired.code(), &refused.to_string())
        }
        Refused::DeadlineTooFar { .. } => {
            offers.refuse("permit2_deadline_too_far", &refused.to_string())
        }
        Refused::AbovePermitted { .. } => {
            not_charged(ApiError::new(Code::CostAboveLimit, refused.to_string()))
        }
        Refused::TooManyInFlight { .. } => {
            not_charged(ApiError::new(Code::TooManyInFlight, refused.to_string()))
        }
        _ => not_charged(ApiError::new(Code::Internal, "the payment could not be taken")),
    }
}

async fn models(State(shared): SharedState) -> Response<Body> {
    let list: Vec<Value> =
        (0..shared.config.models.len()).filter_map(|i| shared.model_json(i)).collect();
    json_response(&json!({"object": "list", "data": list}))
}

async fn model(State(shared): SharedState, id: PathId) -> Answered {
    id.ok()
        .and_then(|Path(id)| request::find_model(&shared.config.models, &id))
        .and_then(|place| shared.model_json(place))
        .map(|model| json_response(&model))
        .ok_or_else(|| {
            ApiError::new(Code::UnknownModel, "the model is not served here").with_param("model")
        })
}

async fn receipt(State(shared): SharedState, id: PathId) -> Answered {
    let digest = id.ok().and_then(|Path(id)| id.parse::<ReceiptDigest>().ok());
    let (digest, finished) =
        digest.and_then(|digest| Some((digest, shared.books.finished(digest)?))).ok_or_else(
            || ApiError::new(Code::NotFound, "there is no such receipt, or it is no longer kept"),
        )?;
    Ok(json_response(&json!({
        "tee_receipt_id": digest.to_string(),
        "receipt": STANDARD.encode(&finished.receipt),
        "payment": {
            "id": finished.payment.to_string(),
            "state": finished.state,
            "network": og_primitives::networks::caip2(shared.config.payment.chain_id),
            "transaction": finished.transaction.map(|hash| hash.to_string()),
        },
        "simulated": shared.enclave.identity().simulated,
    })))
}

async fn health(State(shared): SharedState) -> Response<Body> {
    let identity = shared.enclave.identity();
    let heartbeat = shared.heartbeat.to_json();
    let alarm = heartbeat.get("alarm").cloned().unwrap_or(Value::Null);
    json_response(&json!({
        "status": if shared.books.is_stopped() { "JOURNAL_FAILED" } else { "OK" },
        "version": env!("CARGO_PKG_VERSION"),
        "tee_enabled": true,
        "simulated": identity.simulated,
        "tee_id": identity.tee_id.to_string(),
        "open_settlements": shared.books.open_settlements(),
        "requests": shared.running.len(),
        "models": shared.config.models.len(),
        "heartbeat": heartbeat,
        "alarm": alarm,
    }))
}

async fn signing_key(State(shared): SharedState) -> Response<Body> {
    let identity = shared.enclave.identity();
    let platform = if identity.simulated { "simulated" } else { "aws-nitro" };
    json_response(&json!({
        "public_key": response::pem("PUBLIC KEY", &identity.signing_key_der),
        "tee_id": identity.tee_id.to_string(),
        "wallet_address": shared.config.payment.pay_to.to_checksum(None),
        "timestamp": response::iso_time(shared.clock.now_secs()),
        "enclave_info": {
            "platform": platform,
            "instance_type": "tee-enabled",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "measurements": null,
        "receipt_key": hex::encode(identity.receipt_key),
        "hpke_key": hex::encode(identity.hpke_key),
        "simulated": identity.simulated,
    }))
}

async fn heartbeat_status(State(shared): SharedState) -> Response<Body> {
    json_response(&shared.heartbeat.to_json())
}

async fn banner(State(shared): SharedState) -> Response<Body> {
    let kind =
        if shared.enclave.identity().simulated { "a simulated enclave" } else { "an enclave" };
    response::text(format!("This is an OpenGradient gateway inside {kind}.\n"))
}

/// Evidence for registering the enclave. Anybody may fetch it: its nonce binds the owner, the payee and the endpoint
/// of the configuration, so it registers the enclave for its owner or not at all.
async fn registration(State(shared): SharedState) -> Answered {
    let missing = || ApiError::new(Code::NotFound, "this gateway was not told who registers it");
    let owner = shared.config.owner.ok_or_else(missing)?;
    let nonce = shared.registration_nonce().ok_or_else(missing)?;
    let body = json!({
        "owner": owner,
        "pay_to": shared.config.payment.pay_to,
        "endpoint": shared.public_url,
        "tee_type": LLM_PROXY,
        "document": attest(&shared, nonce.to_vec()).await?,
        "signing_key": STANDARD.encode(&shared.enclave.identity().signing_key_der),
        "simulated": shared.enclave.identity().simulated,
    });
    Ok(json_response(&body))
}

/// Evidence for anybody, over a nonce of exactly 20 bytes. Nonces of registrations have 32 bytes and are computed
/// by the enclave itself, so that nobody but its owner can register it.
async fn attestation(State(shared): SharedState, RawQuery(query): RawQuery) -> Answered {
    let query = query.unwrap_or_default();
    let nonce = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("nonce="))
        .filter(|nonce| nonce.len() == 40)
        .and_then(|nonce| hex::decode(nonce).ok())
        .ok_or_else(|| {
            ApiError::new(Code::InvalidRequest, "nonce must be 40 hexadecimal digits")
                .with_param("nonce")
        })?;
    Ok(response::text(format!("{}\n", attest(&shared, nonce).await?)))
}

/// A fresh attestation document over `nonce`, in base64.
async fn attest(shared: &Arc<Shared>, nonce: Vec<u8>) -> Result<String, ApiError> {
    let device = Arc::clone(shared);
    let document =
        tokio::task::spawn_blocking(move || device.enclave.evidence(&nonce, device.clock.now_ms()));
    match document.await {
        Ok(Ok(document)) => Ok(STANDARD.encode(document)),
        _ => Err(ApiError::new(Code::Internal, "the attestation device failed")),
    }
}

/// Headers of every answer that browsers may need to read.
pub(crate) fn expose(headers: &mut HeaderMap) {
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-Upto-Session"),
    );
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
