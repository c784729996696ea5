//! Gateway and facilitator, hand in hand: the gateway's two traits, answered by the facilitator's library.

use alloy_primitives::{B256, U256};
use async_trait::async_trait;
use og_facilitator::{EvidenceItem, Facilitator, Job, SettleRequest, Status};
use og_gateway::settlement::{
    EvidenceJob, Funds, FundsError, Heartbeat, PaymentJob, Settled, Settlement, SettlementError,
    Spendable,
};
use og_x402::{InvalidReason, PaymentId, VerifiedPayment};

/// The facilitator as the gateway sees it.
#[derive(Clone, Debug)]
pub(crate) struct Bridge {
    facilitator: Facilitator,
}

impl Bridge {
    pub(crate) fn new(facilitator: Facilitator) -> Self {
        Self { facilitator }
    }
}

#[async_trait]
impl Funds for Bridge {
    async fn spendable(&self, payment: &VerifiedPayment) -> Result<Spendable, FundsError> {
        let funds = self.facilitator.funds(payment).await;
        let funds = funds.map_err(|error| FundsError::Unavailable(error.to_string()))?;
        if funds.nonce_used {
            return Err(FundsError::Refused(InvalidReason::Permit2InvalidNonce));
        }
        let sponsored = payment.sponsored_permit.is_some();
        let allowance = if sponsored { U256::MAX } else { funds.allowance };
        Ok(Spendable { balance: funds.balance, allowance })
    }
}

#[async_trait]
impl Settlement for Bridge {
    async fn settle(&self, job: &PaymentJob) -> Result<Settled, SettlementError> {
        let mut requirements = job.requirements.clone();
        requirements.amount = job.amount.to_string();
        let request = SettleRequest {
            payment_payload: job.payload.clone(),
            payment_requirements: requirements,
        };
        let taken = self.facilitator.settle(&request).await.map_err(|error| refusal(&error))?;
        Ok(standing(&taken))
    }

    async fn settled(&self, payment: PaymentId) -> Result<Settled, SettlementError> {
        let id = og_facilitator::payments::job_id(payment);
        let job = self.facilitator.job(&id).await.map_err(|error| refusal(&error))?;
        Ok(job.as_ref().map_or(Settled::Unknown, standing))
    }

    async fn settle_data(&self, job: &EvidenceJob) -> Result<(), SettlementError> {
        let leaf = &job.receipt.claims().leaf;
        let item = EvidenceItem {
            tee_id: leaf.tee_id,
            input_hash: leaf.input_hash,
            output_hash: leaf.output_hash,
            timestamp: leaf.timestamp,
            signature: leaf.signature.clone(),
            receipt_digest: Some(job.receipt.digest()),
        };
        self.facilitator.settle_data(item).await.map(drop).map_err(|error| refusal(&error))
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<B256, SettlementError> {
        let relayed = self.facilitator.heartbeat(og_facilitator::Heartbeat {
            tee_id: heartbeat.tee_id,
            timestamp: heartbeat.timestamp,
            signature: heartbeat.signature.clone().into(),
            registry: Some(heartbeat.registry),
        });
        relayed.await.map(|relayed| relayed.transaction).map_err(|error| refusal(&error))
    }
}

fn standing(job: &Job) -> Settled {
    match job.status {
        Status::Queued | Status::Processing => Settled::Pending,
        Status::Succeeded => {
            Settled::Done { transaction: job.tx_hash.as_deref().and_then(|hash| hash.parse().ok()) }
        }
        Status::Failed => Settled::Failed {
            reason: job.error.as_ref().map_or_else(|| "unknown".to_owned(), |e| e.code.clone()),
        },
    }
}

fn refusal(error: &og_facilitator::Error) -> SettlementError {
    if error.retryable() {
        SettlementError::Unavailable(error.to_string())
    } else {
        SettlementError::Refused(error.to_string())
    }
}
