//! The facilitator over HTTP, in the shapes that x402 clients and the official gateways use.
//!
//! | Route | Does |
//! |---|---|
//! | `POST /verify` | checks a payment as it stands |
//! | `POST /settle` | takes a settlement (see [`crate::HttpSettle`]) |
//! | `GET /settle/{job}` | says where any job stands |
//! | `POST /settle_data` | takes a statement of an enclave |
//! | `POST /heartbeat` | relays a sign of life |
//! | `GET /supported` | says what is settled, and by whom |
//! | `GET /health` | says that the outbox can be read, and how much waits |

use alloy_primitives::{Address, B256, Bytes};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use og_primitives::{ReceiptDigest, TeeId, networks};
use og_x402::extensions::EIP2612_GAS_SPONSORING;
use og_x402::wire::{SchemePayload, parse_address, parse_decimal};
use og_x402::{PaymentPayload, PaymentRequirements, VerifyResponse};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::HttpSettle;
use crate::error::{Error, EvidenceError, HeartbeatError};
use crate::evidence::EvidenceItem;
use crate::heartbeats::Heartbeat;
use crate::payments::{SettleRequest, malformed};
use crate::service::Facilitator;

/// Largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Routes over a facilitator.
pub fn router(facilitator: Facilitator) -> Router {
    Router::new()
        .route("/verify", post(verify))
        .route("/settle", post(settle))
        .route("/settle/{job}", get(job))
        .route("/settle_data", post(settle_data))
        .route("/heartbeat", post(heartbeat))
        .route("/supported", get(supported))
        .route("/health", get(health))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "not_found", "no such route") })
        .method_not_allowed_fallback(|| async {
            refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "the route does not take this method",
            )
        })
        .with_state(facilitator)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifyRequest {
    payment_payload: PaymentPayload,
    payment_requirements: PaymentRequirements,
}

async fn verify(State(facilitator): State<Facilitator>, body: Body) -> Result<Response, Error> {
    let request: VerifyRequest = read_json(body).await?;
    let payer = match &request.payment_payload.payload {
        SchemePayload::Permit2(signed) => Some(signed.permit2_authorization.from),
        SchemePayload::Eip3009(signed) => Some(signed.authorization.from),
        SchemePayload::Other(_) => None,
    };
    let payer = payer.map(|payer| payer.to_checksum(None));
    let checked = facilitator.check(&request.payment_payload, &request.payment_requirements).await;
    let response = match checked {
        Ok(_) => {
            VerifyResponse { is_valid: true, invalid_reason: None, invalid_message: None, payer }
        }
        Err(Error::Payment(reason)) => VerifyResponse {
            is_valid: false,
            invalid_reason: Some(reason.code().to_owned()),
            invalid_message: Some(Error::Payment(reason).next().to_owned()),
            payer,
        },
        Err(error) => return Err(error),
    };
    Ok(Json(response).into_response())
}

async fn settle(
    State(facilitator): State<Facilitator>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    if !may_settle(&facilitator.config().http_settle, &headers) {
        return Err(Error::Forbidden);
    }
    let request: SettleRequest = read_json(body).await?;
    let job = facilitator.settle(&request).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "paymentJob": job }))).into_response())
}

async fn job(
    State(facilitator): State<Facilitator>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let job = facilitator.job(&id).await?.ok_or(Error::UnknownJob)?;
    Ok(Json(job).into_response())
}

async fn settle_data(
    State(facilitator): State<Facilitator>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let kind = match headers.get("x-settlement-type").map(|value| value.to_str()) {
        Some(Ok(kind)) => settlement_type(kind),
        Some(Err(_)) => return Err(malformed("x-settlement-type", "not text")),
        None => return Err(malformed("x-settlement-type", "missing")),
    };
    if kind == "private" {
        let answer = json!({ "settlementJob": null, "notes": "private: nothing is settled" });
        return Ok((StatusCode::ACCEPTED, Json(answer)).into_response());
    }
    let data = match headers.get("x-settlement-data") {
        Some(value) => {
            let data = STANDARD
                .decode(value.as_bytes())
                .map_err(|_| malformed("x-settlement-data", "not base64"))?;
            serde_json::from_slice(&data)
                .map_err(|error| malformed("x-settlement-data", &error.to_string()))?
        }
        // Prompts and answers do not fit into a header.
        None => read_json::<Value>(body).await?,
    };
    let item = evidence_item(&data)?;
    let mut job = facilitator.settle_data(item.clone()).await?;
    if kind == "individual" {
        let content = json!({
            "input": data.get("input"),
            "output": data.get("output"),
            "teeSignature": data.get("tee_signature"),
            "teeId": item.tee_id,
            "timestamp": item.timestamp,
            "ethAddress": data.get("eth_address"),
        });
        let blob = facilitator.blobs().put(content.to_string().into()).await?;
        job.walrus_blob_id = Some(blob.id.to_string());
        job.settlement_type = Some("individual".to_owned());
    }
    Ok((StatusCode::ACCEPTED, Json(json!({ "settlementJob": job }))).into_response())
}

async fn heartbeat(State(facilitator): State<Facilitator>, body: Body) -> Result<Response, Error> {
    let data: Value = read_json(body).await?;
    let either = |names: [&'static str; 2]| {
        let field = names.iter().find_map(|name| data.get(*name)).filter(|field| !field.is_null());
        (names[0], field)
    };
    let (_, registry) = either(["contractAddress", "registry"]);
    let registry = match registry {
        None => None,
        Some(text) => Some(
            text.as_str()
                .and_then(parse_address)
                .ok_or_else(|| malformed("contractAddress", "not an address"))?,
        ),
    };
    let heartbeat = Heartbeat {
        tee_id: TeeId(hash_field(either(["teeId", "tee_id"]))?),
        timestamp: time_field(either(["timestamp", "timeStamp"]))?,
        signature: signature_field(either(["signature", "teeSignature"]))?,
        registry,
    };
    let (tee_id, timestamp) = (heartbeat.tee_id, heartbeat.timestamp);
    let relayed = facilitator.heartbeat(heartbeat).await?;
    Ok(Json(json!({
        "success": true,
        "txHash": relayed.transaction,
        "teeId": tee_id,
        "timestamp": timestamp.to_string(),
        "relayer": checksummed(relayed.relayer),
        "contract": checksummed(relayed.registry),
    }))
    .into_response())
}

async fn supported(State(facilitator): State<Facilitator>) -> Response {
    Json(supported_kinds(&facilitator)).into_response()
}

async fn health(State(facilitator): State<Facilitator>) -> Result<Response, Error> {
    let [payments, evidence, quarantined]: [i64; 3] = facilitator
        .outbox()
        .run(|tx| {
            Ok(tx.query_row(
                "SELECT (SELECT COUNT(*) FROM payments WHERE state IN ('queued','sent')),
                        (SELECT COUNT(*) FROM evidence WHERE state IN ('queued','batched')),
                        (SELECT COUNT(*) FROM evidence WHERE state = 'quarantined')",
                [],
                |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]),
            )?)
        })
        .await?;
    let mut answer = supported_kinds(&facilitator);
    let kinds = answer.get_mut("kinds").map(Value::take);
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("kinds");
        answer.insert("supportedKinds".to_owned(), kinds.unwrap_or_default());
        answer.insert("status".to_owned(), json!("ok"));
        answer.insert(
            "waiting".to_owned(),
            json!({ "payments": payments, "evidence": evidence, "quarantined": quarantined }),
        );
    }
    Ok(Json(answer).into_response())
}

fn supported_kinds(facilitator: &Facilitator) -> Value {
    let network = networks::caip2(facilitator.config().payment.chain_id);
    let address = checksummed(facilitator.address());
    json!({
        "kinds": [
            {
                "x402Version": 2, "scheme": "upto", "network": network,
                "extra": { "facilitatorAddress": address },
            },
            { "x402Version": 2, "scheme": "exact", "network": network },
        ],
        "extensions": [EIP2612_GAS_SPONSORING],
        "signers": { "eip155:*": [address] },
    })
}

/// Spelling of the type does not matter, two misspellings in use are known, and what is unknown is a batch.
fn settlement_type(text: &str) -> &'static str {
    let plain: String = text
        .chars()
        .filter(|character| !matches!(character, ' ' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect();
    match plain.as_str() {
        "private" | "pivate" => "private",
        "individual" | "inidvidual" => "individual",
        _ => "batch",
    }
}

fn evidence_item(data: &Value) -> Result<EvidenceItem, Error> {
    let field = |name: &'static str| (name, data.get(name));
    let receipt_digest = match field("receipt_digest") {
        (_, None | Some(Value::Null)) => None,
        given => Some(ReceiptDigest(hash_field(given)?)),
    };
    Ok(EvidenceItem {
        tee_id: TeeId(hash_field(field("tee_id"))?),
        input_hash: hash_field(field("input_hash"))?,
        output_hash: hash_field(field("output_hash"))?,
        timestamp: time_field(field("tee_timestamp"))?,
        signature: signature_field(field("tee_signature"))?,
        receipt_digest,
    })
}

/// 32 bytes of hexadecimal digits, with or without `0x`.
fn hash_field((name, field): (&'static str, Option<&Value>)) -> Result<B256, Error> {
    let text = field.and_then(Value::as_str).ok_or_else(|| malformed(name, "missing"))?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 64 {
        return Err(malformed(name, "not 32 bytes of hexadecimal digits"));
    }
    digits.parse().map_err(|_| malformed(name, "not 32 bytes of hexadecimal digits"))
}

/// A number, or a string of decimal or `0x` digits.
fn time_field((name, field): (&'static str, Option<&Value>)) -> Result<u64, Error> {
    let seconds = match field {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => match text.strip_prefix("0x") {
            Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
            Some(_) => None,
            None => parse_decimal(text).and_then(|number| u64::try_from(number).ok()),
        },
        _ => return Err(malformed(name, "missing")),
    };
    seconds.ok_or_else(|| malformed(name, "not a time in seconds"))
}

fn signature_field((name, field): (&'static str, Option<&Value>)) -> Result<Bytes, Error> {
    let text = field.and_then(Value::as_str).ok_or_else(|| malformed(name, "missing"))?;
    let signature = STANDARD.decode(text).map_err(|_| malformed(name, "not base64"))?;
    if signature.is_empty() || signature.len() > og_attest::legacy::SIGNATURE_BYTES_MAX {
        return Err(malformed(name, "not of the length of a signature"));
    }
    Ok(signature.into())
}

fn may_settle(policy: &HttpSettle, headers: &HeaderMap) -> bool {
    match policy {
        HttpSettle::Closed => false,
        HttpSettle::Open => true,
        HttpSettle::Token(token) => headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .is_some_and(|given| same(given, token.as_bytes())),
    }
}

/// Comparison whose time does not tell where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && difference == 0
}

fn checksummed(address: Address) -> String {
    address.to_checksum(None)
}

async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| malformed("body", "unreadable, or larger than 256 KiB"))?;
    serde_json::from_slice(&body).map_err(|error| malformed("body", &error.to_string()))
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Payment(_) | Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::OtherAmount { .. }
            | Self::Evidence(EvidenceError::Conflict)
            | Self::Heartbeat(HeartbeatError::NotNewer) => StatusCode::CONFLICT,
            Self::Evidence(_) | Self::Heartbeat(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::UnknownJob => StatusCode::NOT_FOUND,
            Self::WrongChain { .. } | Self::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Chain(_) | Self::Outbox(_) | Self::File(_) | Self::Blob(_) | Self::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        if status.is_server_error() {
            tracing::warn!(error = %self, "request failed");
        }
        let param = match &self {
            Self::Malformed { param, .. } => Some(*param),
            _ => None,
        };
        let mut error = json!({
            "code": self.code(),
            "message": self.to_string(),
            "type": kind(status),
            "retryable": self.retryable(),
            "next": self.next(),
        });
        if let Some(error) = error.as_object_mut() {
            error.extend(param.map(|param| ("param".to_owned(), json!(param))));
            error.extend(self.money().map(|money| ("payment".to_owned(), json!(money))));
        }
        (status, Json(json!({ "error": error }))).into_response()
    }
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({
        "code": code, "message": message, "type": kind(status), "retryable": false,
        "next": "check the path and the method",
    });
    (status, Json(json!({ "error": error }))).into_response()
}

fn kind(status: StatusCode) -> &'static str {
    if status.is_server_error() { "server_error" } else { "invalid_request_error" }
}
