//! A paying HTTP client that can also pay wrongly.
//!
//! Discovery and the pinned connection are the client library's; the payment exchange is spelled out here, because the
//! tests repeat, alter and replay its steps.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::U256;
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use og_client::registry::{Gateway, active_gateways};
use og_client::{Chain, tls};
use og_testkit::devnet::Devnet;
use og_x402::{Fresh, PAYMENT_REQUIRED, PAYMENT_SIGNATURE, PaymentRequired, Wallet, header};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;

/// An account that pays a gateway.
#[derive(Debug)]
pub struct Payer {
    /// The connection, pinned to the gateway's certificate.
    pub http: reqwest::Client,
    /// The gateway, as the registry describes it.
    pub gateway: Gateway,
    wallet: Wallet,
}

/// A gateway's answer, read whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// The body; its reading may have broken off.
    pub body: Result<String, String>,
    /// The challenge, on 402.
    pub challenge: Option<PaymentRequired>,
}

impl Reply {
    /// Reads a response to its end.
    pub async fn read(response: Response) -> Self {
        let status = response.status();
        let challenge = response
            .headers()
            .get(PAYMENT_REQUIRED)
            .and_then(|value| header::decode(value.as_bytes()).ok());
        let body = response.text().await.map_err(|error| error.to_string());
        Self { status, body, challenge }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        let text =
            self.body.as_ref().map_err(|error| anyhow::anyhow!("the body broke off: {error}"))?;
        serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))
    }

    /// The code of the error, after checking that it has the documented shape.
    ///
    /// # Errors
    /// When the body is no such error.
    pub fn error_code(&self) -> anyhow::Result<String> {
        let body = self.json()?;
        let error = &body["error"];
        for text in ["code", "message", "type", "next", "payment"] {
            let given = error[text].as_str().is_some_and(|text| !text.is_empty());
            ensure!(given, "the error has no `{text}`: {body}");
        }
        ensure!(error["retryable"].is_boolean(), "the error has no `retryable`: {body}");
        Ok(error["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Payer {
    /// Finds the gateway and takes `account`'s key.
    ///
    /// # Errors
    /// When the registry does not answer or lists other than one gateway.
    pub async fn connect(devnet: &Devnet, account: &str) -> anyhow::Result<Self> {
        let chain = Chain::connect("the OpenGradient chain", &devnet.network.rpc_url)?;
        let registry = devnet.contracts.tee_registry.parse().context("the registry's address")?;
        let mut gateways = active_gateways(&chain, registry).await?;
        ensure!(gateways.len() == 1, "one gateway is active, not {}", gateways.len());
        let gateway = gateways.remove(0);
        let http = tls::pinned_http_client(&gateway.tls_certificate)?;
        let key =
            devnet.account(account)?.private_key.parse::<U256>().context("the account's key")?;
        let wallet = Wallet::from_key(&key.to_be_bytes()).context("the account's key is no key")?;
        Ok(Self { http, gateway, wallet })
    }

    /// A request to a path of the gateway.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http
            .post(format!("{}{path}", self.gateway.endpoint))
            .header("content-type", "application/json")
    }

    /// Asks without paying; the challenge.
    ///
    /// # Errors
    /// When the gateway does not ask for payment.
    pub async fn challenge(&self, path: &str, body: &Value) -> anyhow::Result<PaymentRequired> {
        let reply = Reply::read(self.post(path).body(body.to_string()).send().await?).await;
        ensure!(
            reply.status == StatusCode::PAYMENT_REQUIRED,
            "{:?} {:?}",
            reply.status,
            reply.body
        );
        reply.challenge.context("a 402 without a challenge")
    }

    /// Signs a payment of the first offer, altered by `alter` before signing. What goes into `accepted` is the offer as it
    /// was, so that the gateway recognises it and judges the signed part.
    ///
    /// # Errors
    /// When the altered offer cannot be signed.
    pub fn sign(
        &self,
        challenge: &PaymentRequired,
        alter: impl FnOnce(&mut og_x402::wire::PaymentRequirements, &mut Fresh),
    ) -> anyhow::Result<Value> {
        let offer = challenge.accepts.first().context("a challenge without offers")?;
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let mut fresh = Fresh { nonce: U256::from_be_bytes(nonce), now_secs: now_secs() };
        let mut altered = offer.clone();
        alter(&mut altered, &mut fresh);
        let mut payment = og_x402::client::pay(challenge, &altered, &self.wallet, fresh)?;
        payment.accepted = offer.clone();
        Ok(serde_json::to_value(&payment)?)
    }

    /// A good payment.
    ///
    /// # Errors
    /// When the offer cannot be signed.
    pub fn pay(&self, challenge: &PaymentRequired) -> anyhow::Result<Value> {
        self.sign(challenge, |_, _| {})
    }

    /// Sends a request with a payment.
    ///
    /// # Errors
    /// When the gateway cannot be reached.
    pub async fn send(&self, path: &str, body: &Value, payment: &Value) -> anyhow::Result<Reply> {
        let request = self.post(path).header(PAYMENT_SIGNATURE, encode(payment));
        let request = request.body(body.to_string());
        Ok(Reply::read(request.send().await?).await)
    }

    /// Asks, pays, asks again.
    ///
    /// # Errors
    /// When the gateway cannot be reached or does not ask for payment.
    pub async fn ask(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        let challenge = self.challenge(path, body).await?;
        self.send(path, body, &self.pay(&challenge)?).await
    }
}

/// A payment as its header carries it, good or bad.
#[must_use]
pub fn encode(payment: &Value) -> String {
    STANDARD.encode(payment.to_string())
}

/// Unix time in seconds.
#[must_use]
pub fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
