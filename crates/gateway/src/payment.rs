//! The gateway's side of the payment exchange: what it asks for, and whether what comes pays for it.

use alloy_primitives::{Address, B256, keccak256};
use http::header::HeaderValue;
use og_receipt::SettlementMode;
use og_x402::verify::{InvalidReason, Policy, VerifiedPayment, verify};
use og_x402::wire::{EvmTerms, SchemePayload, TokenDomain, find_matching};
use og_x402::{
    PaymentId, PaymentIdentity, PaymentPayload, PaymentRequired, PaymentRequirements, Resource,
    header,
};

use crate::config;
use crate::error::{ApiError, Code, PaymentState};
use crate::request::Route;

/// Header in which clients choose what is published.
pub const SETTLEMENT_TYPE: &str = "x-settlement-type";

/// What is asked for on one route, made once.
#[derive(Debug)]
pub struct Offers {
    required: PaymentRequired,
    policy: Policy,
    challenge: HeaderValue,
}

/// A payment that is good in form, for one of the offers.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The payment.
    pub verified: VerifiedPayment,
    /// As the client sent it.
    pub payload: PaymentPayload,
    /// The offer it answers.
    pub requirements: PaymentRequirements,
}

impl Presented {
    /// The payment's id.
    pub fn id(&self) -> PaymentId {
        self.verified.identity.id()
    }

    /// The token it is made in.
    pub fn asset(&self) -> Address {
        self.verified.terms.asset
    }
}

impl Offers {
    /// The offers of a route under `public_url`: one per accepted token.
    pub fn new(settings: &config::Payment, route: Route, public_url: &str) -> Self {
        let offers = settings.assets.iter().map(|asset| {
            let terms = EvmTerms {
                chain_id: settings.chain_id,
                asset: asset.address,
                amount: asset.cap,
                pay_to: settings.pay_to,
            };
            let token = TokenDomain { name: &asset.name, version: &asset.version };
            PaymentRequirements::upto(
                &terms,
                token,
                settings.facilitator,
                settings.max_timeout_secs,
            )
        });
        let description = match route {
            Route::Chat => "Chat completion",
            Route::Completion => "Text completion",
        };
        let resource = Resource {
            url: format!("{public_url}{}", route.path()),
            description: Some(description.to_owned()),
            mime_type: Some("application/json".to_owned()),
            ..Resource::default()
        };
        let required = PaymentRequired::new(resource, offers.collect(), "Payment required");
        let challenge = challenge_of(&required);
        Self { required, policy: Policy { facilitators: vec![settings.facilitator] }, challenge }
    }

    /// The answer to a request without payment.
    pub fn ask(&self) -> ApiError {
        ApiError::new(Code::PaymentRequired, "this route is paid per request through x402")
            .with_challenge(self.challenge.clone())
    }

    /// The answer to a payment that is not good; `reason` is the protocol's code.
    pub fn refuse(&self, reason: &str, why: &str) -> ApiError {
        let mut required = self.required.clone();
        required.error = Some(reason.to_owned());
        let (code, payment) = if reason == InvalidReason::PaymentAlreadyUsed.code() {
            (Code::PaymentAlreadyUsed, PaymentState::AlreadyUsed)
        } else {
            (Code::PaymentInvalid, PaymentState::NotCharged)
        };
        let message = if why.is_empty() { reason.to_owned() } else { format!("{reason}: {why}") };
        ApiError::new(code, message).with_payment(payment).with_challenge(challenge_of(&required))
    }

    /// Reads a `PAYMENT-SIGNATURE` header as far as its identity; its validity is [`Self::verify`]'s to say.
    ///
    /// # Errors
    /// 402 with the reason.
    pub fn read(&self, value: &HeaderValue) -> Result<PaymentPayload, ApiError> {
        header::decode::<PaymentPayload>(value.as_bytes())
            .map_err(|e| self.refuse("invalid_payload", &e.to_string()))
    }

    /// Checks a payment at `now_secs`.
    ///
    /// # Errors
    /// 402 with the protocol's reason code.
    pub fn verify(&self, payload: PaymentPayload, now_secs: u64) -> Result<Presented, ApiError> {
        let offer = find_matching(&self.required.accepts, &payload.accepted)
            .ok_or_else(|| self.refuse(InvalidReason::NoMatchingRequirements.code(), ""))?;
        let verified = verify(&payload, offer, &self.policy, now_secs)
            .map_err(|reason| self.refuse(reason.code(), ""))?;
        Ok(Presented { verified, payload, requirements: offer.clone() })
    }
}

/// The identity that an unverified Permit2 payload claims, to look it up among known payments.
pub fn claimed_identity(payload: &PaymentPayload, chain_id: u64) -> Option<PaymentIdentity> {
    let SchemePayload::Permit2(signed) = &payload.payload else { return None };
    let authorization = &signed.permit2_authorization;
    Some(PaymentIdentity {
        chain_id,
        nonce_keeper: og_x402::PERMIT2,
        owner: authorization.from,
        nonce: authorization.nonce,
    })
}

/// What one payment pays for: the exact body, on this route, published in this way.
pub fn request_key(route: Route, mode: SettlementMode, request_digest: B256) -> B256 {
    keccak256(
        [
            route.path().as_bytes(),
            b"\n",
            mode.as_str().as_bytes(),
            b"\n",
            request_digest.as_slice(),
        ]
        .concat(),
    )
}

/// Reads the settlement mode; letter case, spaces, `-` and `_` make no difference.
///
/// # Errors
/// 400 for a word that is none: what would be published must not be guessed.
pub fn settlement_mode(value: Option<&HeaderValue>) -> Result<SettlementMode, ApiError> {
    let Some(value) = value else { return Ok(SettlementMode::Batch) };
    let word: String = value
        .to_str()
        .unwrap_or("?")
        .chars()
        .filter(|c| !matches!(c, ' ' | '-' | '_'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    match word.as_str() {
        "private" | "pivate" => Ok(SettlementMode::Private),
        "" | "batch" => Ok(SettlementMode::Batch),
        "individual" | "inidvidual" => Ok(SettlementMode::Individual),
        _ => Err(ApiError::new(
            Code::InvalidRequest,
            "x-settlement-type must be private, batch or individual",
        )
        .with_param(SETTLEMENT_TYPE)),
    }
}

fn challenge_of(required: &PaymentRequired) -> HeaderValue {
    // Base64 is a header value always; only an absurdly long offer list fails, and then the body still says why.
    header::encode(required)
        .ok()
        .and_then(|text| HeaderValue::from_str(&text).ok())
        .unwrap_or_else(|| HeaderValue::from_static(""))
}
