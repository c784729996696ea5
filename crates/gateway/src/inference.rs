//! One paid request from admission to its signed end.
//!
//! The work runs in a task of its own, so that a client that goes away loses its connection and nothing else: the
//! answer is finished, billed, journaled and kept. Frames to the client are a copy of what happens here.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, U256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use og_meter::UnitPrice;
use og_receipt::claims::message_hash;
use og_receipt::digest::{self, StreamDigest};
use og_receipt::{Claims, Leaf, Receipt, ResponseForm, SettlementMode, UnitPrices};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::answers::{Answer, SealingKey};
use crate::books::Leavings;
use crate::error::{ApiError, Code, PaymentState};
use crate::gateway::Shared;
use crate::legacy::canonical::{ToolCall, output_hash, tool_calls_text};
use crate::payment::Presented;
use crate::request::{Call, NAME_BYTES_MAX};
use crate::upstream::{End, Event, FinishReason, Upstream, UpstreamError, Usage};
use crate::wire::{Heading, Signed};

/// A client that takes nothing for this long has gone away.
const CLIENT_STALL: Duration = Duration::from_secs(20);

/// What goes to the client.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// Bytes of the body.
    Data(Bytes),
    /// The request failed; before any data this is an HTTP error, afterwards the body is broken off.
    Fail(ApiError),
    /// The body is complete.
    End,
}

/// A request whose payment is taken.
pub(crate) struct Job {
    pub(crate) call: Call,
    pub(crate) body: Bytes,
    pub(crate) request_digest: B256,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) upstream_model: String,
    pub(crate) price: UnitPrice,
    pub(crate) prompt_tokens_max: u64,
    pub(crate) payment: Presented,
    pub(crate) mode: SettlementMode,
    pub(crate) received_at_ms: u64,
    pub(crate) seal: SealingKey,
}

/// Answers a request whose payment is reserved, and settles its fate whatever happens.
pub(crate) async fn run(shared: Arc<Shared>, job: Job, client: mpsc::Sender<Frame>) {
    let payment = job.payment.id();
    let mut delivery = Delivery { client: Some(client), sent: BytesMut::new() };
    let inner = tokio::spawn({
        let shared = Arc::clone(&shared);
        async move {
            let end = answer(&shared, &job, &mut delivery).await;
            (end, delivery)
        }
    });
    let (end, delivery) = match inner.await {
        Ok((end, delivery)) => (end, Some(delivery)),
        Err(_) => (Err(ApiError::new(Code::Internal, "the request could not be finished")), None),
    };
    let end = match end {
        Ok(last) => {
            shared.wake_settlement.notify_one();
            shared.books.finish(payment);
            Ok(last)
        }
        Err(error) => {
            tracing::info!(%payment, code = error.code.as_str(), "a request failed and costs nothing");
            let error = error.with_payment(PaymentState::NotCharged);
            shared.books.release(payment, &error).await;
            if shared.books.is_stopped() {
                Err(error.with_payment(PaymentState::Unknown))
            } else {
                Err(error)
            }
        }
    };
    if let Some(mut delivery) = delivery {
        match end {
            Ok(last) => {
                delivery.data(last).await;
                delivery.frame(Frame::End).await;
            }
            Err(error) => delivery.frame(Frame::Fail(error)).await,
        }
    }
}

/// What the client gets, and a copy of it.
struct Delivery {
    client: Option<mpsc::Sender<Frame>>,
    sent: BytesMut,
}

impl Delivery {
    async fn event(&mut self, payload: &str) {
        let mut event = BytesMut::with_capacity(payload.len() + 8);
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(payload.as_bytes());
        event.extend_from_slice(b"\n\n");
        self.sent.extend_from_slice(&event);
        self.data(event.freeze()).await;
    }

    async fn data(&mut self, data: Bytes) {
        self.frame(Frame::Data(data)).await;
    }

    async fn frame(&mut self, frame: Frame) {
        let Some(client) = &self.client else { return };
        let sent = tokio::time::timeout(CLIENT_STALL, client.send(frame)).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.client = None;
        }
    }
}

/// Everything of an answer that is hashed or counted.
#[derive(Default)]
struct Gathered {
    text: String,
    calls: Vec<Option<ToolCall>>,
    bytes: usize,
}

impl Gathered {
    fn take(&mut self, piece: &Event, bytes_max: usize) -> Result<(), ApiError> {
        match piece {
            Event::Text(text) => {
                self.text.push_str(text);
                self.bytes += text.len();
            }
            Event::Tool { index, id, name, arguments } => {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                if index >= 128 {
                    return Err(ApiError::new(Code::UpstreamMalformed, "too many tool calls"));
                }
                if self.calls.len() <= index {
                    self.calls.resize(index + 1, None);
                }
                if let Some(slot) = self.calls.get_mut(index) {
                    let call = slot.get_or_insert_default();
                    if let Some(id) = id {
                        call.id.clone_from(id);
                    }
                    if let Some(name) = name {
                        call.name.push_str(name);
                    }
                    call.arguments.push_str(arguments);
                }
                self.bytes += arguments.len() + 64;
            }
        }
        if self.bytes > bytes_max {
            return Err(ApiError::new(
                Code::UpstreamMalformed,
                "the answer is larger than allowed",
            ));
        }
        Ok(())
    }
}

/// Answers; on success the last bytes are returned unsent, because they may go out only after the journal is durable.
async fn answer(
    shared: &Arc<Shared>,
    job: &Job,
    delivery: &mut Delivery,
) -> Result<Bytes, ApiError> {
    let heading = shared.heading(&job.call);
    let mut chain = StreamDigest::new();
    let mut gathered = Gathered::default();
    let mut begun = false;
    let bytes_max = shared.config.limits.answer_bytes;

    let (sender, mut pieces) = mpsc::channel(64);
    let work = job.upstream.answer(&job.call, &job.upstream_model, sender);
    tokio::pin!(work);
    let time_up = tokio::time::sleep(Duration::from_secs(shared.config.limits.answer_secs));
    tokio::pin!(time_up);
    let mut end: Option<Result<End, UpstreamError>> = None;
    loop {
        let piece = tokio::select! {
            biased;
            piece = pieces.recv() => piece,
            ended = &mut work, if end.is_none() => {
                end = Some(ended);
                continue;
            }
            () = &mut time_up => {
                return Err(ApiError::new(Code::UpstreamTimeout, "the answer took too long"));
            }
        };
        let Some(piece) = piece else {
            // The sender is gone: the upstream is done or about to be.
            if end.is_none() {
                end = Some(work.await);
            }
            break;
        };
        gathered.take(&piece, bytes_max)?;
        if job.call.stream {
            if !begun && let Some(role) = heading.role_chunk() {
                chain.push(role.as_bytes());
                delivery.event(&role).await;
            }
            let chunk = heading.piece_chunk(&piece);
            chain.push(chunk.as_bytes());
            delivery.event(&chunk).await;
        }
        begun = true;
    }
    let end =
        end.unwrap_or_else(|| Err(UpstreamError::new(Code::Internal, "the upstream vanished")))?;
    let usage = end.usage.ok_or_else(|| {
        ApiError::new(
            Code::UpstreamUsageMissing,
            "the upstream did not say how many tokens it used",
        )
    })?;
    if job.call.stream
        && !begun
        && let Some(role) = heading.role_chunk()
    {
        chain.push(role.as_bytes());
        delivery.event(&role).await;
    }
    let outcome = Outcome::new(job, gathered, &end, usage);
    finish(shared, job, &heading, outcome, chain, delivery).await
}

/// What an answer came to.
struct Outcome {
    text: String,
    calls: Vec<ToolCall>,
    reason: FinishReason,
    usage: Usage,
    model_served: String,
}

impl Outcome {
    fn new(job: &Job, gathered: Gathered, end: &End, reported: Usage) -> Self {
        let calls: Vec<ToolCall> = gathered.calls.into_iter().flatten().collect();
        // Clients decide by the reason which text the signature covers, so reason and content must agree.
        let reason = match (end.finish_reason, calls.is_empty()) {
            (FinishReason::Stop, false) => FinishReason::ToolCalls,
            (FinishReason::ToolCalls, true) => FinishReason::Stop,
            (reason, _) => reason,
        };
        // The payer agreed to a bound; an upstream that counts beyond it is not paid for the difference.
        let usage = Usage {
            prompt_tokens: reported.prompt_tokens.min(job.prompt_tokens_max),
            completion_tokens: reported.completion_tokens.min(job.call.max_tokens.into()),
        };
        if usage != reported {
            tracing::warn!(
                ?usage,
                ?reported,
                "the upstream reports more tokens than the request allowed"
            );
        }
        Self { text: gathered.text, calls, reason, usage, model_served: short(&end.model_served) }
    }

    /// The calls that the legacy hash covers instead of the text.
    fn hashed_calls(&self) -> &[ToolCall] {
        if self.reason == FinishReason::ToolCalls { &self.calls } else { &[] }
    }

    fn published(&self) -> String {
        match self.hashed_calls() {
            [] => self.text.clone(),
            calls => tool_calls_text(calls),
        }
    }
}

/// A name that an upstream gives, cut to what a receipt can hold.
fn short(name: &str) -> String {
    let end = (0..=name.len().min(NAME_BYTES_MAX)).rev().find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

async fn finish(
    shared: &Arc<Shared>,
    job: &Job,
    heading: &Heading,
    outcome: Outcome,
    chain: StreamDigest,
    delivery: &mut Delivery,
) -> Result<Bytes, ApiError> {
    let internal = |why: &str| ApiError::new(Code::Internal, why);
    let metered = og_meter::Usage {
        input_tokens: outcome.usage.prompt_tokens,
        output_tokens: outcome.usage.completion_tokens,
    };
    let total = job.price.cost(metered).map_err(|_| internal("the cost cannot be computed"))?;
    let cost = cost_json(shared, job, total);

    let mut document = (!job.call.stream).then(|| {
        heading.whole(&outcome.text, &outcome.calls, outcome.reason, outcome.usage, &cost)
    });
    let response_digest = match &document {
        Some(document) => digest::json(Value::Object(document.clone()).to_string().as_bytes())
            .map_err(|_| internal("the answer has no canonical form"))?,
        None => chain.finish(),
    };
    let form = if job.call.stream { ResponseForm::Stream } else { ResponseForm::Json };
    let signed = sign(shared, job, &outcome, response_digest, form, total).await?;

    let last = match &mut document {
        Some(document) => {
            signed.add_to(document);
            let body = Bytes::from(Value::Object(std::mem::take(document)).to_string());
            delivery.sent.extend_from_slice(&body);
            body
        }
        None => {
            let payload = heading.final_chunk(outcome.reason, outcome.usage, &cost, &signed);
            let events = Bytes::from(format!("data: {payload}\n\ndata: [DONE]\n\n"));
            delivery.sent.extend_from_slice(&events);
            events
        }
    };
    keep(shared, job, &outcome, &signed, delivery.sent.clone().freeze()).await?;
    Ok(last)
}

/// Makes the bill durable. From here on the request is charged, whatever becomes of the connection.
async fn keep(
    shared: &Arc<Shared>,
    job: &Job,
    outcome: &Outcome,
    signed: &Signed,
    body: Bytes,
) -> Result<(), ApiError> {
    let payment = job.payment.id();
    let kept = Answer { stream: job.call.stream, body };
    shared.books.answers.remember(payment, kept.clone());
    if job.mode != SettlementMode::Private {
        let (shared, seal) = (Arc::clone(shared), job.seal.clone());
        let save =
            tokio::task::spawn_blocking(move || shared.books.answers.save(payment, &kept, &seal));
        let _ = save.await;
    }
    let published =
        (job.mode == SettlementMode::Individual).then(|| (job.body.to_vec(), outcome.published()));
    let leavings = Leavings { receipt: signed.receipt.to_bytes().to_vec(), published };
    shared
        .books
        .bill(payment, &signed.receipt, &leavings)
        .await
        .map_err(|_| ApiError::new(Code::Internal, "the bill could not be made durable"))
}

async fn sign(
    shared: &Arc<Shared>,
    job: &Job,
    outcome: &Outcome,
    response_digest: B256,
    response_form: ResponseForm,
    total: U256,
) -> Result<Signed, ApiError> {
    let finished_at_ms = shared.clock.now_ms();
    let timestamp = finished_at_ms / 1000;
    let input_hash = job.call.input_hash;
    let output_hash = output_hash(&outcome.text, outcome.hashed_calls());
    let hash = message_hash(input_hash, output_hash, timestamp);
    let provenance = job.upstream.provenance();
    let verification = &shared.config.verification;
    let identity = shared.enclave.identity();
    let verified = &job.payment.verified;
    let claims = move |signature: Vec<u8>| Claims {
        chain_id: verification.chain_id,
        genesis_hash: verification.genesis_hash,
        registry: verification.registry,
        tee_id: identity.tee_id,
        mode: job.mode,
        leaf: Leaf {
            tee_id: identity.tee_id,
            input_hash,
            output_hash,
            timestamp,
            signature: signature.into(),
        },
        request_digest: job.request_digest,
        response_digest,
        response_form,
        model_requested: job.call.model_requested.clone(),
        model_served: outcome.model_served.clone(),
        engine: provenance.engine,
        usage: og_receipt::Usage {
            prompt_tokens: outcome.usage.prompt_tokens,
            completion_tokens: outcome.usage.completion_tokens,
        },
        prices: UnitPrices {
            prompt_per_million: job.price.input_per_million,
            completion_per_million: job.price.output_per_million,
        },
        total,
        asset: job.payment.asset(),
        payment_chain_id: verified.terms.chain_id,
        payer: verified.payer,
        permit_nonce: verified.identity.nonce,
        pay_to: verified.terms.pay_to,
        facilitator: verified.facilitator.unwrap_or(shared.config.payment.facilitator),
        truth: provenance.truth,
        simulated: identity.simulated,
        received_at_ms: job.received_at_ms,
        finished_at_ms,
    };
    // An RSA signature takes longer than everything else on this path together.
    let signature = tokio::task::spawn_blocking({
        let shared = Arc::clone(shared);
        move || shared.enclave.legacy_key().sign(hash)
    })
    .await
    .ok()
    .and_then(Result::ok)
    .ok_or_else(|| ApiError::new(Code::Internal, "the answer could not be signed"))?;
    let receipt = Receipt::sign(claims(signature.clone()), shared.enclave.receipt_key()).map_err(
        |error| {
            tracing::error!(%error, "a receipt does not fit its own format");
            ApiError::new(Code::Internal, "the receipt could not be made")
        },
    )?;
    Ok(Signed {
        signature: STANDARD.encode(&signature),
        request_hash: input_hash,
        output_hash,
        timestamp,
        tee_id: identity.tee_id.to_string(),
        receipt,
    })
}

/// What a person wants to know about the bill at a glance; the receipt is what counts.
fn cost_json(shared: &Shared, job: &Job, total: U256) -> Value {
    let asset = job.payment.asset();
    let symbol =
        shared.config.payment.assets.iter().find(|a| a.address == asset).map(|a| a.symbol.as_str());
    json!({
        "cost": total.to_string(),
        "asset": asset.to_checksum(None),
        "symbol": symbol,
        "payer": job.payment.verified.payer.to_checksum(None),
        "settlement": job.mode.as_str(),
        "truth": job.upstream.provenance().truth.as_str(),
        "simulated": shared.enclave.identity().simulated,
    })
}
