//! The store's HTTP face, in the shape of Walrus: `PUT /v1/blobs` as a publisher, `GET /v1/blobs/{id}` as an
//! aggregator.
//!
//! Blobs here are kept until their folder is removed, so `epochs` and the other parameters of a publisher are
//! taken and change nothing; the answer's `endEpoch` is the greatest there is.

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use serde_json::json;

use crate::id::BlobId;
use crate::local::{Error, LocalStore, Put};

/// Routes over a store.
pub fn router(store: LocalStore) -> Router {
    Router::new()
        .route("/v1/blobs", put(put_blob))
        .route("/v1/blobs/{id}", get(get_blob))
        .route("/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .fallback(|| async {
            refusal(StatusCode::NOT_FOUND, "not_found", "no such route", "check the path")
        })
        .method_not_allowed_fallback(|| async {
            refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "the route does not take this method",
                "PUT /v1/blobs stores, GET /v1/blobs/{id} fetches",
            )
        })
        .with_state(store)
}

async fn put_blob(State(store): State<LocalStore>, body: Body) -> Response {
    let max = store.limits().blob_bytes_max;
    let Ok(content) = axum::body::to_bytes(body, max).await else {
        return too_large(max);
    };
    let size = content.len();
    match store.put(content).await {
        Ok(Put { id, newly_created: true }) => Json(json!({
            "newlyCreated": {
                "blobObject": { "blobId": id, "size": size, "deletable": false },
                "cost": 0,
            }
        }))
        .into_response(),
        Ok(Put { id, newly_created: false }) => {
            Json(json!({ "alreadyCertified": { "blobId": id, "endEpoch": u32::MAX } }))
                .into_response()
        }
        Err(Error::TooLarge { max, .. }) => too_large(max),
        Err(Error::Full { .. }) => refusal(
            StatusCode::INSUFFICIENT_STORAGE,
            "store_full",
            "the store holds as much as it may",
            "use another store, or raise the limit of this one",
        ),
        Err(error) => internal(&error),
    }
}

async fn get_blob(State(store): State<LocalStore>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<BlobId>() else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "invalid_blob_id",
            "a blob id is 32 bytes in unpadded base64url",
            "use the blobId that storing returned",
        );
    };
    match store.get(id).await {
        Ok(Some(content)) => (
            [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
                (
                    header::CACHE_CONTROL,
                    HeaderValue::from_static("public, max-age=31536000, immutable"),
                ),
            ],
            content,
        )
            .into_response(),
        Ok(None) => refusal(
            StatusCode::NOT_FOUND,
            "blob_not_found",
            "no blob is stored under this id",
            "try another store",
        ),
        Err(error) => internal(&error),
    }
}

fn too_large(max: usize) -> Response {
    refusal(
        StatusCode::PAYLOAD_TOO_LARGE,
        "blob_too_large",
        &format!("a blob has at most {max} bytes"),
        "split the content",
    )
}

fn internal(error: &Error) -> Response {
    tracing::error!(%error, "blob store");
    let mut response = refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        "store_failed",
        "the store could not read or write",
        "try again, or use another store",
    );
    if matches!(error, Error::Corrupt { .. }) {
        response = refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "blob_corrupt",
            "what is stored under this id does not match it",
            "fetch it from another store; storing it again heals this one",
        );
    }
    response
}

fn refusal(status: StatusCode, code: &str, message: &str, next: &str) -> Response {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let body = json!({ "error": {
        "code": code,
        "message": message,
        "type": kind,
        "retryable": status.is_server_error(),
        "next": next,
    }});
    (status, Json(body)).into_response()
}
