//! Turning frames and values into HTTP answers.

use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::error::{ApiError, Code};
use crate::inference::Frame;

/// An answer made of frames. What fails before the first byte is an HTTP error; a silence longer than `keepalive`
/// before or between frames is filled with what clients skip: a comment in a stream, a space before a document.
pub(crate) async fn from_frames(
    mut frames: mpsc::Receiver<Frame>,
    stream: bool,
    keepalive: Duration,
) -> Result<Response<Body>, ApiError> {
    let filler = Bytes::from_static(if stream { b": ping\n\n" } else { b" " });
    let first = match tokio::time::timeout(keepalive, frames.recv()).await {
        Ok(Some(Frame::Data(data))) => data,
        Ok(Some(Frame::Fail(error))) => return Err(error),
        Ok(Some(Frame::End) | None) => {
            return Err(ApiError::new(Code::Internal, "the request came to no end"));
        }
        Err(_) => filler.clone(),
    };
    let pieces = futures::stream::unfold(Progress::First(first, frames), move |progress| {
        next_piece(progress, stream, keepalive, filler.clone())
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    if stream {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        headers
            .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}

enum Progress {
    First(Bytes, mpsc::Receiver<Frame>),
    Open(mpsc::Receiver<Frame>),
    Broken(ApiError),
    Over,
}

type Piece = Result<Bytes, BrokenOff>;

/// The body ends without its terminating chunk, which is how clients notice.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
struct BrokenOff(&'static str);

async fn next_piece(
    progress: Progress,
    stream: bool,
    keepalive: Duration,
    filler: Bytes,
) -> Option<(Piece, Progress)> {
    let mut frames = match progress {
        Progress::First(first, frames) => return Some((Ok(first), Progress::Open(frames))),
        Progress::Open(frames) => frames,
        Progress::Broken(error) => {
            // The connection flushes what it has when the body has to be waited for, and drops it on an error.
            tokio::task::yield_now().await;
            return Some((Err(BrokenOff(error.code.as_str())), Progress::Over));
        }
        Progress::Over => return None,
    };
    match tokio::time::timeout(keepalive, frames.recv()).await {
        Err(_) => Some((Ok(filler), Progress::Open(frames))),
        Ok(Some(Frame::Data(data))) => Some((Ok(data), Progress::Open(frames))),
        Ok(Some(Frame::End)) => None,
        Ok(Some(Frame::Fail(error))) => {
            // Those who read events are told; everybody notices the missing end.
            let event = format!("data: {}\n\n", error.to_json());
            let told = if stream { Bytes::from(event) } else { filler };
            Some((Ok(told), Progress::Broken(error)))
        }
        Ok(None) => Some((Err(BrokenOff("internal")), Progress::Over)),
    }
}

/// A JSON answer with status 200.
pub(crate) fn json_response(value: &Value) -> Response<Body> {
    with_type("application/json", value.to_string())
}

/// A text answer with status 200.
pub(crate) fn text(text: String) -> Response<Body> {
    with_type("text/plain; charset=utf-8", text)
}

fn with_type(kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// PEM (RFC 7468) of DER bytes.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// `2026-11-24T12:00:00Z` of Unix seconds.
pub(crate) fn iso_time(secs: u64) -> String {
    let time = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(secs.min(100_000_000_000));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_pem_take_their_standard_shapes() {
        assert_eq!(iso_time(1_764_000_000), "2025-11-24T16:00:00Z");
        let pem = pem("PUBLIC KEY", &[7; 100]);
        assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        assert!(pem.ends_with("\n-----END PUBLIC KEY-----\n"));
        assert!(pem.lines().all(|line| line.len() <= 64));
    }
}
