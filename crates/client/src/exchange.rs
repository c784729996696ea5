//! Ask, be asked to pay, pay within limits, ask again.

use alloy_primitives::{Address, U256};
use og_contracts::IERC20Permit3009;
use og_x402::client::{Fresh, SpendLimits, choose, pay};
use og_x402::wire::EvmTerms;
use og_x402::{PAYMENT_REQUIRED, PAYMENT_SIGNATURE, PERMIT2, PaymentRequired, Wallet, header};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::registry::Gateway;
use crate::{Chain, Error};

/// Most bytes of an error body that are read.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// What was signed to pay for one answer. Nothing above `terms.amount` can ever be charged for it.
#[derive(Clone, Copy, Debug)]
pub struct Payment {
    /// Chain, token, cap and payee.
    pub terms: EvmTerms,
    /// The Permit2 nonce: what makes this payment one payment.
    pub nonce: U256,
}

/// One request as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// Absolute URL.
    pub(crate) url: String,
    /// Exact body bytes: the receipt signs their digest.
    pub(crate) body: &'a [u8],
    /// `batch` or `private`.
    pub(crate) settlement: &'static str,
}

/// The payer.
#[derive(Debug)]
pub(crate) struct Payer<'a> {
    pub(crate) wallet: &'a Wallet,
    pub(crate) limits: &'a SpendLimits,
    pub(crate) chain: &'a Chain,
    /// Whether a missing allowance is granted on the way; only on a devnet.
    pub(crate) may_approve: bool,
}

/// Sends `ask`, pays when asked to, and returns the open response.
///
/// # Errors
/// Every refusal before the payment is signed costs nothing; a refusal after it names the gateway's reason.
pub(crate) async fn exchange(
    http: &reqwest::Client,
    gateway: &Gateway,
    ask: &Ask<'_>,
    payer: &Payer<'_>,
    fresh: Fresh,
) -> Result<(Response, Payment), Error> {
    let first = send(http, ask, None).await?;
    if first.status() != StatusCode::PAYMENT_REQUIRED {
        return Err(refusal(first).await);
    }
    let required = challenge(&first)?;
    let offer = choose(&required, payer.limits)?;
    let terms = offer.evm().map_err(og_x402::client::PayError::from)?;
    if terms.pay_to != gateway.payment_address {
        return Err(Error::WrongPayee { asked: terms.pay_to, registered: gateway.payment_address });
    }
    ensure_funds(payer, &terms).await?;
    let payload = pay(&required, offer, payer.wallet, fresh)?;
    let encoded = header::encode(&payload).map_err(|error| Error::Unreachable {
        url: ask.url.clone(),
        reason: format!("payment header: {error}"),
    })?;
    let second = send(http, ask, Some(&encoded)).await?;
    if !second.status().is_success() {
        return Err(refusal(second).await);
    }
    Ok((second, Payment { terms, nonce: fresh.nonce }))
}

async fn send(
    http: &reqwest::Client,
    ask: &Ask<'_>,
    payment: Option<&str>,
) -> Result<Response, Error> {
    let mut request = http
        .post(&ask.url)
        .header("content-type", "application/json")
        .header("x-settlement-type", ask.settlement)
        .body(ask.body.to_vec());
    if let Some(payment) = payment {
        request = request.header(PAYMENT_SIGNATURE, payment);
    }
    request
        .send()
        .await
        .map_err(|error| Error::Unreachable { url: ask.url.clone(), reason: causes(&error) })
}

fn challenge(response: &Response) -> Result<PaymentRequired, Error> {
    let refuse = |message: String| Error::Refused {
        status: StatusCode::PAYMENT_REQUIRED.as_u16(),
        code: "unreadable_challenge".to_owned(),
        message,
        retryable: false,
    };
    let value = response
        .headers()
        .get(PAYMENT_REQUIRED)
        .ok_or_else(|| refuse(format!("no {PAYMENT_REQUIRED} header")))?;
    header::decode(value.as_bytes()).map_err(|error| refuse(error.to_string()))
}

/// Checks balance and allowance before anything is signed.
async fn ensure_funds(payer: &Payer<'_>, terms: &EvmTerms) -> Result<(), Error> {
    let owner = payer.wallet.address();
    let balance =
        payer.chain.call(terms.asset, &IERC20Permit3009::balanceOfCall { account: owner }).await?;
    if balance < terms.amount {
        return Err(Error::Funds {
            account: owner,
            token: terms.asset,
            balance,
            needed: terms.amount,
        });
    }
    let allowance = allowance(payer.chain, terms.asset, owner).await?;
    if allowance < terms.amount && payer.may_approve {
        // Bounded: enough for ten answers at their cap, never unlimited.
        let value = terms.amount.saturating_mul(U256::from(10));
        let approve = IERC20Permit3009::approveCall { spender: PERMIT2, value };
        payer.chain.send(terms.asset, &approve).await?;
    }
    Ok(())
}

/// What Permit2 may move of `owner`'s tokens, in base units.
///
/// # Errors
/// [`Error::Chain`] when the payment chain does not answer.
pub async fn allowance(chain: &Chain, token: Address, owner: Address) -> Result<U256, Error> {
    chain.call(token, &IERC20Permit3009::allowanceCall { owner, spender: PERMIT2 }).await
}

/// The gateway's JSON error.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    code: Option<String>,
    message: String,
    #[serde(default)]
    retryable: bool,
}

async fn refusal(response: Response) -> Error {
    let status = response.status().as_u16();
    // A second 402 names its reason in the challenge.
    let reason = challenge(&response).ok().and_then(|challenge| challenge.error);
    let body = response.bytes().await.unwrap_or_default();
    let body = body.get(..body.len().min(ERROR_BYTES_MAX)).unwrap_or_default();
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => Error::Refused {
            status,
            code: error.code.or(reason).unwrap_or_else(|| "unnamed".to_owned()),
            message: error.message,
            retryable: error.retryable,
        },
        Err(_) => Error::Refused {
            status,
            code: reason.unwrap_or_else(|| "unnamed".to_owned()),
            message: String::from_utf8_lossy(body).into_owned(),
            retryable: false,
        },
    }
}

/// An error and its causes on one line; reqwest hides the TLS reason in a cause.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}
