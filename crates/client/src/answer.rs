//! Check an answer against its receipt before anyone sees it.

use alloy_primitives::{B256, keccak256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt as _;
use og_receipt::digest::{self, StreamDigest};
use og_receipt::{Claims, Receipt, ResponseForm, SettlementMode};
use reqwest::Response;
use serde::Deserialize;

use crate::Error;
use crate::exchange::{Payment, causes};
use crate::network::NetworkFile;
use crate::registry::Gateway;

/// Most bytes of a streamed answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// An answer that its receipt vouches for.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the model said.
    pub text: String,
    /// Why it stopped: `stop`, `length` or `tool_calls`.
    pub finish_reason: String,
    /// The signed receipt.
    pub receipt: Receipt,
    /// The gateway that answered.
    pub gateway: Gateway,
    /// What was signed to pay for it.
    pub payment: Payment,
}

/// What the answer must agree with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) network: &'a NetworkFile,
    pub(crate) gateway: &'a Gateway,
    pub(crate) payment: &'a Payment,
    pub(crate) payer: alloy_primitives::Address,
    pub(crate) body: &'a [u8],
    pub(crate) model: &'a str,
    pub(crate) mode: SettlementMode,
}

/// Reads the stream to its end and checks the answer.
///
/// # Errors
/// [`Error::BrokenOff`] when the stream ends early, [`Error::Unverified`] with the check that failed.
pub(crate) async fn read(response: Response, expected: &Expected<'_>) -> Result<Answer, Error> {
    let streamed = collect(response).await?;
    let receipt = BASE64
        .decode(&streamed.last.receipt)
        .map_err(|error| unverified("receipt.decode", error))?;
    let receipt = Receipt::decode(&receipt).map_err(|error| unverified("receipt.decode", error))?;
    receipt
        .verify(&expected.gateway.receipt_key)
        .map_err(|error| unverified("receipt.signature", error))?;
    check(&streamed, receipt.claims(), expected)?;
    Ok(Answer {
        text: streamed.text,
        finish_reason: streamed.finish_reason,
        receipt,
        gateway: expected.gateway.clone(),
        payment: *expected.payment,
    })
}

fn check(streamed: &Streamed, claims: &Claims, expected: &Expected<'_>) -> Result<(), Error> {
    let Expected { network, gateway, payment, payer, body, model, mode } = *expected;
    require("receipt.tee_id", claims.tee_id == gateway.tee_id)?;
    require("receipt.chain_id", claims.chain_id == network.network.chain_id)?;
    require("receipt.genesis_hash", claims.genesis_hash == network.trust.genesis_hash)?;
    require("receipt.registry", claims.registry == network.contracts.tee_registry)?;
    require("receipt.mode", claims.mode == mode)?;
    require("receipt.request_digest", claims.request_digest == digest::request(body))?;
    require("receipt.response_form", claims.response_form == ResponseForm::Stream)?;
    require("receipt.response_digest", claims.response_digest == streamed.digest)?;
    require("receipt.model_requested", claims.model_requested == model)?;
    require("receipt.payer", claims.payer == payer)?;
    require("receipt.pay_to", claims.pay_to == payment.terms.pay_to)?;
    require("receipt.asset", claims.asset == payment.terms.asset)?;
    require("receipt.payment_chain_id", claims.payment_chain_id == payment.terms.chain_id)?;
    require("receipt.permit_nonce", claims.permit_nonce == payment.nonce)?;
    require("receipt.total", Some(claims.total) == claims.prices.total(&claims.usage))?;
    require("receipt.cap", claims.total <= payment.terms.amount)?;
    require("receipt.simulated", claims.simulated == gateway.simulated)?;
    let usage = &streamed.last.usage;
    require("usage.prompt_tokens", usage.prompt_tokens == claims.usage.prompt_tokens)?;
    require("usage.completion_tokens", usage.completion_tokens == claims.usage.completion_tokens)?;
    let leaf = &claims.leaf;
    require("legacy.output_hash", leaf.output_hash == keccak256(&streamed.output))?;
    let signed = og_attest::legacy::verify_rsa_pss(
        &gateway.signing_key,
        leaf.message_hash(),
        &leaf.signature,
    );
    require("legacy.signature", signed)
}

fn require(check: &'static str, holds: bool) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(unverified(check, "it differs from what was sent or promised")) }
}

fn unverified(check: &'static str, reason: impl std::fmt::Display) -> Error {
    Error::Unverified { check, reason: reason.to_string() }
}

/// A stream, taken apart.
struct Streamed {
    text: String,
    /// What the legacy hash covers: the text, or the tool calls in the legacy canonical form.
    output: Vec<u8>,
    finish_reason: String,
    digest: B256,
    last: LastEvent,
}

/// What the final event carries beside the choice.
#[derive(Debug, Deserialize)]
struct LastEvent {
    receipt: String,
    usage: Usage,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

async fn collect(response: Response) -> Result<Streamed, Error> {
    let broken = |reason: String| Error::BrokenOff { reason };
    let mut body = response.bytes_stream();
    let mut lines = Lines::default();
    let mut text = String::new();
    let mut running = StreamDigest::new();
    let mut ended = None;
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| broken(causes(&error)))?;
        for line in lines.push(&part).map_err(broken)? {
            let Some(data) = line.strip_prefix(b"data: ".as_slice()) else { continue };
            if data == b"[DONE]" {
                return ended.ok_or_else(|| broken("no final event".to_owned()));
            }
            if ended.is_some() {
                return Err(unverified("stream.order", "an event follows the final one"));
            }
            let event: Event = serde_json::from_slice(data)
                .map_err(|error| broken(format!("unreadable event: {error}")))?;
            let finish_reason =
                event.choices.iter().find_map(|choice| choice.finish_reason.clone());
            if let Some(finish_reason) = finish_reason {
                let last: LastEvent = serde_json::from_slice(data)
                    .map_err(|error| unverified("stream.final_event", error))?;
                ended = Some(Streamed {
                    output: text.clone().into_bytes(),
                    text: std::mem::take(&mut text),
                    finish_reason,
                    digest: running.finish(),
                    last,
                });
                continue;
            }
            running.push(data);
            for choice in event.choices {
                text.push_str(&choice.delta.content.unwrap_or_default());
            }
        }
    }
    ended.ok_or_else(|| broken("the stream ended before its final event".to_owned()))
}

/// Cuts a byte stream into lines, within a limit.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    seen: usize,
}

impl Lines {
    fn push(&mut self, part: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.seen += part.len();
        if self.seen > ANSWER_BYTES_MAX {
            return Err(format!("more than {ANSWER_BYTES_MAX} bytes"));
        }
        self.rest.extend_from_slice(part);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = self.rest.drain(..=end).collect();
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            lines.push(line);
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_any_cut() {
        let stream = b"data: a\r\n\ndata: bc\n: ping\n";
        for cut in 0..stream.len() {
            let mut lines = Lines::default();
            let mut got = lines.push(&stream[..cut]).unwrap();
            got.extend(lines.push(&stream[cut..]).unwrap());
            assert_eq!(got, [&b"data: a"[..], b"", b"data: bc", b": ping"]);
        }
    }

    #[test]
    fn endless_streams_are_cut_off() {
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; ANSWER_BYTES_MAX]).is_ok());
        assert!(lines.push(b"x").is_err());
    }
}
