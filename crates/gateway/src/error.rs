//! Everything a client can be told went wrong: one list of codes, one JSON shape.
//!
//! ```json
//! {"error": {"code": "unknown_model", "type": "invalid_request_error", "message": "…", "param": "model",
//!            "retryable": false, "payment": "not_charged", "next": "…"}}
//! ```
//!
//! The shape is OpenAI's (`message`, `type`, `code`, `param`) plus what a paying client must know: where its money
//! is and what to do next.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Map, Value};

/// Where the client's money is after a failed request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PaymentState {
    /// Nothing was asked for or sent.
    None,
    /// A payment was sent and is untouched; it can be sent again.
    NotCharged,
    /// The payment's nonce belongs to another request.
    AlreadyUsed,
    /// The payment is taken for this very request.
    Charged,
    /// The gateway cannot tell; it will not collect, but what it wrote may outlive it.
    Unknown,
}

impl PaymentState {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NotCharged => "not_charged",
            Self::AlreadyUsed => "already_used",
            Self::Charged => "charged",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = ($code:literal, $status:ident, $retryable:literal, $next:literal)),+ $(,)?) => {
        /// What went wrong, as clients can tell it apart.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status it travels under.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// Whether the same request may succeed later, unchanged.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)+ }
            }

            /// The next safe step for a client.
            pub const fn next(self) -> &'static str {
                match self { $(Self::$variant => $next,)+ }
            }
        }
    };
}

codes! {
    /// The body is no JSON object within the limits.
    MalformedJson = ("malformed_json", BAD_REQUEST, false, "send one JSON object"),
    /// A field has a value that cannot be honoured.
    InvalidRequest = ("invalid_request", BAD_REQUEST, false, "correct the field named in param"),
    /// A field asks for something that this gateway does not do; it is never dropped silently.
    UnsupportedParameter = ("unsupported_parameter", BAD_REQUEST, false, "remove the field named in param"),
    /// The model is not in the table.
    UnknownModel = ("unknown_model", NOT_FOUND, false, "choose a model from GET /v1/models"),
    /// Prompt and answer together do not fit the model's context.
    ContextLength = ("context_length_exceeded", BAD_REQUEST, false, "shorten the messages or lower max_tokens"),
    /// The worst-case cost is above what may be authorised.
    CostAboveLimit = ("cost_above_limit", BAD_REQUEST, false, "lower max_tokens or shorten the messages"),
    /// There is no such route, model or receipt.
    NotFound = ("not_found", NOT_FOUND, false, "check the path"),
    /// The route exists under another method.
    MethodNotAllowed = ("method_not_allowed", METHOD_NOT_ALLOWED, false, "use the method named in the allow header"),
    /// The body is not declared to be JSON.
    UnsupportedMediaType = ("unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, false, "send content-type: application/json"),
    /// The body is compressed.
    UnsupportedEncoding = ("unsupported_encoding", UNSUPPORTED_MEDIA_TYPE, false, "send the body without content-encoding"),
    /// The body is larger than allowed.
    BodyTooLarge = ("body_too_large", PAYLOAD_TOO_LARGE, false, "send a smaller body"),
    /// The body did not arrive in time or broke off.
    BodyIncomplete = ("body_incomplete", REQUEST_TIMEOUT, true, "send the request again"),
    /// The resource is paid for and no valid payment came.
    PaymentRequired = ("payment_required", PAYMENT_REQUIRED, false, "pay one of the offers in the payment-required header"),
    /// A payment came and is not good; `message` starts with the protocol's reason code.
    PaymentInvalid = ("payment_invalid", PAYMENT_REQUIRED, false, "sign a new payment for one of the offers"),
    /// The payment's nonce has paid for another request.
    PaymentAlreadyUsed = ("payment_already_used", PAYMENT_REQUIRED, false, "sign a new payment with a fresh nonce"),
    /// The answer was paid for and delivered, but is no longer kept.
    AnswerExpired = ("answer_expired", GONE, false, "fetch the receipt named in the message; a new answer needs a new payment"),
    /// The payer has too many requests running.
    TooManyInFlight = ("too_many_in_flight", TOO_MANY_REQUESTS, true, "wait for a running request to finish"),
    /// The gateway or the model is at its limit.
    Busy = ("busy", SERVICE_UNAVAILABLE, true, "try again in a few seconds; nothing was charged"),
    /// The payer's funds could not be looked up.
    FundsUnavailable = ("funds_unavailable", SERVICE_UNAVAILABLE, true, "try again in a few seconds with the same payment"),
    /// The upstream refused the gateway's own credentials.
    UpstreamRefused = ("upstream_refused", BAD_GATEWAY, false, "report it to the operator; the payment was not charged"),
    /// The upstream refused the request.
    UpstreamRejected = ("upstream_rejected", BAD_REQUEST, false, "correct the request and pay anew; this payment was not charged"),
    /// The upstream is at its limit.
    UpstreamBusy = ("upstream_busy", TOO_MANY_REQUESTS, true, "try again in a few seconds, with the same payment or a new one; nothing was charged"),
    /// The upstream failed or cannot be reached.
    UpstreamFailed = ("upstream_failed", BAD_GATEWAY, true, "send the request again, with the same payment or a new one; nothing was charged"),
    /// The upstream took too long.
    UpstreamTimeout = ("upstream_timeout", GATEWAY_TIMEOUT, true, "send the request again, with the same payment or a new one; nothing was charged"),
    /// The upstream broke off inside an answer.
    UpstreamCut = ("upstream_cut", BAD_GATEWAY, true, "send the request again, with the same payment or a new one; nothing was charged"),
    /// The upstream answered without saying what it used, so nothing can be billed or signed.
    UpstreamUsageMissing = ("upstream_usage_missing", BAD_GATEWAY, true, "choose another model, or send the request again, with the same payment or a new one; nothing was charged"),
    /// The upstream's answer cannot be understood.
    UpstreamMalformed = ("upstream_malformed", BAD_GATEWAY, true, "send the request again, with the same payment or a new one; nothing was charged"),
    /// The gateway is stopping.
    ShuttingDown = ("shutting_down", SERVICE_UNAVAILABLE, true, "use another gateway with the same payment"),
    /// A fault of the gateway itself.
    Internal = ("internal", INTERNAL_SERVER_ERROR, true, "send the request again, with the same payment or a new one; nothing was charged"),
}

/// A failed request, ready to be told.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// What went wrong.
    pub code: Code,
    /// The particulars, in one line.
    pub message: String,
    /// Path of the request field at fault.
    pub param: Option<String>,
    /// Where the money is.
    pub payment: PaymentState,
    /// Value of the `payment-required` header, on 402.
    pub challenge: Option<HeaderValue>,
}

impl ApiError {
    /// An error before any payment was looked at.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            payment: PaymentState::None,
            challenge: None,
        }
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says where the money is.
    #[must_use]
    pub fn with_payment(mut self, payment: PaymentState) -> Self {
        self.payment = payment;
        self
    }

    /// Adds the `payment-required` header.
    #[must_use]
    pub fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// The JSON document.
    pub fn to_json(&self) -> Value {
        let kind = match self.code.status() {
            StatusCode::PAYMENT_REQUIRED => "payment_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let mut error = Map::new();
        error.insert("code".into(), self.code.as_str().into());
        error.insert("type".into(), kind.into());
        error.insert("message".into(), self.message.as_str().into());
        error.insert("param".into(), self.param.as_deref().map_or(Value::Null, Value::from));
        error.insert("retryable".into(), self.code.is_retryable().into());
        error.insert("payment".into(), self.payment.as_str().into());
        error.insert("next".into(), self.code.next().into());
        Value::Object(Map::from_iter([("error".to_owned(), Value::Object(error))]))
    }

    /// The whole HTTP answer.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.code.is_retryable() && self.code.status() != StatusCode::INTERNAL_SERVER_ERROR {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(og_x402::PAYMENT_REQUIRED, challenge);
        }
        response
    }
}

impl axum::response::IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        Self::into_response(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words() {
        for (i, code) in Code::ALL.iter().enumerate() {
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(code.status().is_client_error() || code.status().is_server_error());
            assert!(Code::ALL.iter().skip(i + 1).all(|other| other.as_str() != code.as_str()));
        }
    }
}
