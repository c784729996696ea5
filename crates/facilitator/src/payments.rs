//! Payments: taken into the outbox once, settled once.
//!
//! ```text
//! settle ─▶ queued ──send (slot on disk)──▶ sent ──receipt──▶ settled
//!             ▲  └── amount 0, or found settled ──────────────▲
//!             └── reverted, nonce lost, chain away ── sent     └─▶ failed: nothing was charged, nothing will be
//! ```

use alloy_primitives::{B256, U256};
use og_x402::wire::{SchemePayload, parse_decimal};
use og_x402::{
    DEADLINE_MARGIN_SECS, InvalidReason, PERMIT2, PaymentId, PaymentIdentity, PaymentPayload,
    PaymentRequirements, Policy, Scheme, SettleResponse, VerifiedPayment, verify,
};
use rusqlite::{OptionalExtension as _, Row, Transaction};
use serde::{Deserialize, Serialize};

use crate::calls;
use crate::clock::{now_ms, now_secs};
use crate::error::Error;
use crate::funds;
use crate::job::{Job, JobError, Status};
use crate::lane::{Purpose, SlotState, slot_state};
use crate::outbox::{Blob, int, uint};
use crate::rpc::RpcError;
use crate::service::Facilitator;

/// A settlement as it is asked for: the amount of `payment_requirements` is what is charged.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettleRequest {
    /// The client's payment.
    pub payment_payload: PaymentPayload,
    /// The accepted offer; for `upto` its amount is the cost, at most the permitted amount.
    pub payment_requirements: PaymentRequirements,
}

/// How many open payments are looked at in one round.
const ROUND_MAX: i64 = 256;

const COLUMNS: &str = "id, state, payload, requirements, amount, deadline_secs, created_ms, updated_ms, attempts, \
    next_ms, tx_hash, code, message";

struct PaymentRow {
    id: String,
    state: String,
    payload: String,
    requirements: String,
    amount: U256,
    deadline_secs: u64,
    created_ms: u64,
    updated_ms: u64,
    attempts: u32,
    next_ms: u64,
    transaction: Option<B256>,
    code: Option<String>,
    message: Option<String>,
}

/// What a round decides about one payment.
enum Verdict {
    Settled { transaction: Option<B256> },
    Failed { code: &'static str, message: String },
    Later { code: &'static str, message: String },
}

impl Facilitator {
    /// Checks a payment as it stands: form, signature, funds, and whether the chain would take it.
    ///
    /// # Errors
    /// The reason, or that the chain does not answer.
    pub async fn check(
        &self,
        payload: &PaymentPayload,
        requirements: &PaymentRequirements,
    ) -> Result<VerifiedPayment, Error> {
        let payment = self.verify_form(payload, requirements, now_secs())?;
        let amount = payment.terms.amount;
        let (to, input) =
            calls::settlement(&payment, amount).ok_or(InvalidReason::UnsupportedPayloadType)?;
        let lane = self.payment_lane();
        let (funds, estimate) =
            tokio::join!(funds::of(&lane.rpc, &payment), lane.estimate(to, input));
        if let Some(reason) = funds?.shortfall(&payment, amount) {
            return Err(reason.into());
        }
        match estimate {
            Ok(_) => Ok(payment),
            Err(RpcError::Reverted { data, .. }) => {
                let unknown = match payment.scheme {
                    Scheme::ExactEip3009 => InvalidReason::ExactSimulationFailed,
                    _ => InvalidReason::Permit2SimulationFailed,
                };
                Err(calls::reason_of_revert(&data).unwrap_or(unknown).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the payment chain says about the payer of a verified payment.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub async fn funds(&self, payment: &VerifiedPayment) -> Result<funds::Funds, Error> {
        Ok(funds::of(&self.payment_lane().rpc, payment).await?)
    }

    /// Takes a settlement into the outbox. When this returns a job, the settlement survives any crash; asking
    /// again for the same payment and amount returns the same job.
    ///
    /// # Errors
    /// The payment is refused, or was taken with another amount, or the outbox failed.
    pub async fn settle(&self, request: &SettleRequest) -> Result<Job, Error> {
        let amount = parse_decimal(&request.payment_requirements.amount).ok_or_else(|| {
            malformed("paymentRequirements.amount", "not a decimal number of base units")
        })?;
        let identity =
            identity_of(&request.payment_payload).ok_or(InvalidReason::UnsupportedPayloadType)?;
        let id = job_id(identity.id());
        // First what is known: a settlement that was taken needs no second check, and its permit may be over by now.
        if let Some(row) = self.payment_row(id.clone()).await? {
            return known(&row, amount);
        }
        let now = now_ms();
        let payment = self.verify_settlement(request, amount, now / 1_000)?;
        if payment.identity != identity {
            return Err(InvalidReason::UnsupportedPayloadType.into());
        }
        let (payload, requirements) =
            (json(&request.payment_payload)?, json(&request.payment_requirements)?);
        let deadline_secs = payment.deadline_secs;
        let row = self
            .outbox()
            .run(move |tx| {
                if let Some(row) = select(tx, &id)? {
                    return Ok(row);
                }
                tx.execute(
                    "INSERT INTO payments(id, state, payload, requirements, amount, deadline_secs, created_ms,
                       updated_ms, next_ms) VALUES(?1, 'queued', ?2, ?3, ?4, ?5, ?6, ?6, ?6)",
                    (&id, payload, requirements, Blob(amount), int(deadline_secs), int(now)),
                )?;
                select(tx, &id)?.ok_or(Error::Damaged("payment"))
            })
            .await?;
        self.wake_payments();
        known(&row, amount)
    }

    pub(crate) async fn payment_job(&self, id: String) -> Result<Option<Job>, Error> {
        self.payment_row(id).await?.map(|row| row.job()).transpose()
    }

    /// One round over the open payments. Returns whether any is left.
    pub(crate) async fn payments_round(&self) -> Result<bool, Error> {
        let rows = self.open_payments().await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let lane = self.payment_lane();
        lane.look_after().await?;
        let mut room = self.sending().in_flight_max.saturating_sub(lane.open_count().await?);
        for row in rows {
            let verdict = if row.state == "sent" {
                self.conclude(&row).await
            } else if row.next_ms <= now_ms() && room > 0 {
                let verdict = self.advance(&row).await;
                room -= usize::from(matches!(verdict, Ok(None)));
                verdict
            } else {
                Ok(None)
            };
            let verdict = match verdict {
                Ok(verdict) => verdict,
                // What stops everything stops the round; what is wrong with one payment is noted there.
                Err(error @ (Error::Chain(_) | Error::Outbox(_) | Error::Stopping)) => {
                    return Err(error);
                }
                Err(error) => {
                    Some(Verdict::Later { code: error.code(), message: error.to_string() })
                }
            };
            if let Some(verdict) = verdict {
                self.note(row, verdict).await?;
            }
        }
        Ok(!self.open_payments().await?.is_empty())
    }

    /// Reads the end of a sent settlement.
    async fn conclude(&self, row: &PaymentRow) -> Result<Option<Verdict>, Error> {
        let id = row.id.clone();
        let slot = self.outbox().run(move |tx| slot_state(tx, Purpose::Payment, &id)).await?;
        Ok(match slot {
            Some(SlotState::Open) => None,
            Some(SlotState::Mined { success: true, transaction }) => {
                Some(Verdict::Settled { transaction: Some(transaction) })
            }
            Some(SlotState::Mined { success: false, transaction }) => Some(Verdict::Later {
                code: InvalidReason::InvalidTransactionState.code(),
                message: format!("transaction {transaction} reverted"),
            }),
            Some(SlotState::Lost) | None => Some(Verdict::Later {
                code: InvalidReason::InvalidTransactionState.code(),
                message: "the transaction's nonce was spent by another one".to_owned(),
            }),
        })
    }

    /// Takes a queued settlement a step further; `None` when it was sent.
    async fn advance(&self, row: &PaymentRow) -> Result<Option<Verdict>, Error> {
        if row.amount.is_zero() {
            return Ok(Some(Verdict::Settled { transaction: None }));
        }
        let payment = row.payment(&self.payment_policy())?;
        let (to, input) =
            calls::settlement(&payment, row.amount).ok_or(Error::Damaged("payment"))?;
        let lane = self.payment_lane();
        match lane.estimate(to, input.clone()).await {
            Ok(gas) => {
                let (id, now) = (row.id.clone(), now_ms());
                let mark = move |tx: &Transaction<'_>| {
                    tx.execute(
                        "UPDATE payments SET state = 'sent', updated_ms = ?2 WHERE id = ?1 AND state = 'queued'",
                        (&id, int(now)),
                    )?;
                    Ok(())
                };
                lane.send(Purpose::Payment, row.id.clone(), to, input, gas, mark).await?;
                Ok(None)
            }
            Err(RpcError::Reverted { data, message }) => {
                self.diagnose(row, &payment, &data, &message).await.map(Some)
            }
            Err(RpcError::Refused { message, .. }) => {
                Ok(Some(Verdict::Later { code: "chain_refused", message }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The chain would not take the settlement: why, and does it stay that way?
    async fn diagnose(
        &self,
        row: &PaymentRow,
        payment: &VerifiedPayment,
        data: &[u8],
        message: &str,
    ) -> Result<Verdict, Error> {
        let rpc = &self.payment_lane().rpc;
        let funds = funds::of(rpc, payment).await?;
        let message = calls::revert_text(data, message);
        if funds.nonce_used {
            let used =
                funds.shortfall(payment, row.amount).unwrap_or(InvalidReason::Permit2InvalidNonce);
            return Ok(match funds::find_settlement(rpc, payment).await? {
                Some(found) if found.amount == row.amount => {
                    Verdict::Settled { transaction: Some(found.transaction) }
                }
                Some(found) => Verdict::Failed {
                    code: used.code(),
                    message: format!(
                        "the payment was settled for {} base units in transaction {}",
                        found.amount, found.transaction
                    ),
                },
                None => Verdict::Failed {
                    code: used.code(),
                    message: "the payer spent or invalidated the nonce".to_owned(),
                },
            });
        }
        if row.deadline_secs < now_secs() {
            let expired = match payment.scheme {
                Scheme::ExactEip3009 => InvalidReason::ExactValidBefore,
                _ => InvalidReason::Permit2DeadlineExpired,
            };
            return Ok(Verdict::Failed { code: expired.code(), message });
        }
        if let Some(reason) = funds.shortfall(payment, row.amount) {
            return Ok(Verdict::Later { code: reason.code(), message });
        }
        Ok(match calls::reason_of_revert(data) {
            Some(
                reason @ (InvalidReason::InvalidPermit2Signature
                | InvalidReason::UptoUnauthorizedFacilitator
                | InvalidReason::UptoAmountExceedsPermitted
                | InvalidReason::Permit2InvalidAmount
                | InvalidReason::Permit2InvalidDestination
                | InvalidReason::Permit2InvalidOwner
                | InvalidReason::Permit2612AmountMismatch),
            ) => Verdict::Failed { code: reason.code(), message },
            reason => Verdict::Later {
                code: reason.unwrap_or(InvalidReason::Permit2SimulationFailed).code(),
                message,
            },
        })
    }

    async fn note(&self, row: PaymentRow, verdict: Verdict) -> Result<(), Error> {
        let now = now_ms();
        let retry_ms =
            self.sending().retry_ms_max.min(100_u64.saturating_mul(1 << row.attempts.min(10)));
        self.outbox()
            .run(move |tx| {
                match verdict {
                    Verdict::Settled { transaction } => tx.execute(
                        "UPDATE payments SET state = 'settled', tx_hash = ?2, code = NULL, message = NULL,
                           updated_ms = ?3 WHERE id = ?1",
                        (&row.id, transaction.map(Blob), int(now)),
                    )?,
                    Verdict::Failed { code, message } => tx.execute(
                        "UPDATE payments SET state = 'failed', code = ?2, message = ?3, updated_ms = ?4 WHERE id = ?1",
                        (&row.id, code, message, int(now)),
                    )?,
                    Verdict::Later { code, message } => tx.execute(
                        "UPDATE payments SET state = 'queued', code = ?2, message = ?3, updated_ms = ?4,
                           attempts = attempts + 1, next_ms = ?5 WHERE id = ?1",
                        (&row.id, code, message, int(now), int(now.saturating_add(retry_ms))),
                    )?,
                };
                Ok(())
            })
            .await?;
        self.announce();
        Ok(())
    }

    fn verify_form(
        &self,
        payload: &PaymentPayload,
        requirements: &PaymentRequirements,
        now_secs: u64,
    ) -> Result<VerifiedPayment, Error> {
        let payment = verify(payload, requirements, &self.payment_policy(), now_secs)?;
        let chain = &self.config().payment;
        if payment.terms.chain_id != chain.chain_id {
            return Err(InvalidReason::UnsupportedNetwork.into());
        }
        if !chain.assets.is_empty() && !chain.assets.contains(&payment.terms.asset) {
            return Err(InvalidReason::Permit2TokenMismatch.into());
        }
        if !chain.payees.is_empty() && !chain.payees.contains(&payment.terms.pay_to) {
            return Err(InvalidReason::PayToNotAllowed.into());
        }
        Ok(payment)
    }

    /// Verifies against the permitted amount, then compares the amount to settle with it.
    ///
    /// An authorisation that is over is taken all the same: only the chain knows whether it was settled while it
    /// lived, and what was not fails then with its reason.
    fn verify_settlement(
        &self,
        request: &SettleRequest,
        amount: U256,
        now_secs: u64,
    ) -> Result<VerifiedPayment, Error> {
        let requirements = at_permitted_amount(request);
        let then = while_alive(&request.payment_payload.payload, now_secs);
        let payment = self.verify_form(&request.payment_payload, &requirements, then)?;
        let fits = match payment.scheme {
            Scheme::UptoPermit2 => amount <= payment.terms.amount,
            Scheme::ExactPermit2 | Scheme::ExactEip3009 => amount == payment.terms.amount,
        };
        if fits { Ok(payment) } else { Err(InvalidReason::SettlementExceedsAmount.into()) }
    }

    async fn payment_row(&self, id: String) -> Result<Option<PaymentRow>, Error> {
        self.outbox().run(move |tx| select(tx, &id)).await
    }

    async fn open_payments(&self) -> Result<Vec<PaymentRow>, Error> {
        self.outbox()
            .run(|tx| {
                let mut statement = tx.prepare(&format!(
                    "SELECT {COLUMNS} FROM payments WHERE state IN ('queued','sent') ORDER BY next_ms LIMIT {ROUND_MAX}"
                ))?;
                let rows = statement.query_map([], PaymentRow::read)?.collect::<Result<_, _>>()?;
                Ok(rows)
            })
            .await
    }
}

impl PaymentRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            state: row.get(1)?,
            payload: row.get(2)?,
            requirements: row.get(3)?,
            amount: row.get::<_, Blob<U256>>(4)?.0,
            deadline_secs: uint(row.get(5)?),
            created_ms: uint(row.get(6)?),
            updated_ms: uint(row.get(7)?),
            attempts: row.get(8)?,
            next_ms: uint(row.get(9)?),
            transaction: row.get::<_, Option<Blob<B256>>>(10)?.map(|blob| blob.0),
            code: row.get(11)?,
            message: row.get(12)?,
        })
    }

    fn request(&self) -> Result<SettleRequest, Error> {
        let damaged = |_| Error::Damaged("payment");
        Ok(SettleRequest {
            payment_payload: serde_json::from_str(&self.payload).map_err(damaged)?,
            payment_requirements: serde_json::from_str(&self.requirements).map_err(damaged)?,
        })
    }

    /// The payment as it was verified when it was taken; time no longer matters to its form.
    fn payment(&self, policy: &Policy) -> Result<VerifiedPayment, Error> {
        let request = self.request()?;
        let requirements = at_permitted_amount(&request);
        let then = while_alive(&request.payment_payload.payload, self.created_ms / 1_000);
        // A changed key makes the witness another facilitator's: the chain will say so.
        let mut policy = policy.clone();
        if let SchemePayload::Permit2(signed) = &request.payment_payload.payload {
            policy.facilitators.extend(signed.permit2_authorization.witness.facilitator);
        }
        Ok(verify(&request.payment_payload, &requirements, &policy, then)?)
    }

    fn job(&self) -> Result<Job, Error> {
        let request = self.request()?;
        let status = match self.state.as_str() {
            "queued" => Status::Queued,
            "sent" => Status::Processing,
            "settled" => Status::Succeeded,
            _ => Status::Failed,
        };
        let error = self.code.as_ref().map(|code| JobError {
            code: code.clone(),
            message: self.message.clone().unwrap_or_default(),
            retryable: !status.is_final(),
            payment: if status.is_final() { "not_charged" } else { "pending" }.to_owned(),
            next: if status.is_final() { "sign a new authorisation" } else { "wait" }.to_owned(),
        });
        let transaction = self.transaction.map(|hash| hash.to_string());
        let payer = match &request.payment_payload.payload {
            SchemePayload::Permit2(signed) => Some(signed.permit2_authorization.from),
            SchemePayload::Eip3009(signed) => Some(signed.authorization.from),
            SchemePayload::Other(_) => None,
        };
        let success = status == Status::Succeeded;
        let result = status.is_final().then(|| SettleResponse {
            success,
            transaction: transaction.clone().unwrap_or_default(),
            network: request.payment_requirements.network.clone(),
            payer: payer.map(|payer| payer.to_checksum(None)),
            amount: success.then(|| self.amount.to_string()),
            error_reason: self.code.clone(),
            error_message: self.message.clone(),
            ..SettleResponse::default()
        });
        Ok(Job {
            job_id: self.id.clone(),
            queue: "payments".to_owned(),
            status,
            created_at: self.created_ms,
            updated_at: self.updated_ms,
            result,
            error,
            merkle_root: None,
            walrus_blob_id: None,
            tx_hash: transaction,
            settlement_type: None,
        })
    }
}

/// The job id of the settlement of a payment.
pub fn job_id(payment: PaymentId) -> String {
    format!("payment-{:x}", payment.0)
}

/// The identity that a payload claims, before anything is checked.
fn identity_of(payload: &PaymentPayload) -> Option<PaymentIdentity> {
    let chain_id = og_primitives::networks::chain_id_of(&payload.accepted.network)?;
    match &payload.payload {
        SchemePayload::Permit2(signed) => Some(PaymentIdentity {
            chain_id,
            nonce_keeper: PERMIT2,
            owner: signed.permit2_authorization.from,
            nonce: signed.permit2_authorization.nonce,
        }),
        SchemePayload::Eip3009(signed) => Some(PaymentIdentity {
            chain_id,
            nonce_keeper: payload.accepted.evm().ok()?.asset,
            owner: signed.authorization.from,
            nonce: U256::from_be_bytes(signed.authorization.nonce.0),
        }),
        SchemePayload::Other(_) => None,
    }
}

/// Now, or the last moment at which the authorisation still passed.
fn while_alive(payload: &SchemePayload, now_secs: u64) -> u64 {
    let deadline = match payload {
        SchemePayload::Permit2(signed) => signed.permit2_authorization.deadline,
        SchemePayload::Eip3009(signed) => signed.authorization.valid_before,
        SchemePayload::Other(_) => U256::MAX,
    };
    now_secs.min(deadline.saturating_to::<u64>().saturating_sub(DEADLINE_MARGIN_SECS))
}

/// The requirements with the amount that the payer signed: what a payment is verified against when less is settled.
fn at_permitted_amount(request: &SettleRequest) -> PaymentRequirements {
    let mut requirements = request.payment_requirements.clone();
    if let SchemePayload::Permit2(signed) = &request.payment_payload.payload
        && requirements.scheme == "upto"
    {
        requirements.amount = signed.permit2_authorization.permitted.amount.to_string();
    }
    requirements
}

fn known(row: &PaymentRow, amount: U256) -> Result<Job, Error> {
    if row.amount != amount {
        return Err(Error::OtherAmount {
            state: match row.state.as_str() {
                "settled" => "settled",
                "failed" => "not_charged",
                _ => "pending",
            },
            settled: row.amount.to_string(),
            asked: amount.to_string(),
        });
    }
    row.job()
}

fn select(tx: &Transaction<'_>, id: &str) -> Result<Option<PaymentRow>, Error> {
    Ok(tx
        .prepare(&format!("SELECT {COLUMNS} FROM payments WHERE id = ?1"))?
        .query_row([id], PaymentRow::read)
        .optional()?)
}

fn json(document: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(document).map_err(|error| malformed("paymentPayload", &error.to_string()))
}

pub(crate) fn malformed(param: &'static str, message: &str) -> Error {
    Error::Malformed { param, message: message.to_owned() }
}
