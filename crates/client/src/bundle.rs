//! Put everything that checks an answer offline into one file.
//!
//! All of it comes from ordinary RPC answers and none of it is trusted here: whoever opens the bundle checks it
//! against anchors of their own. A bundle is checked once before it is handed out, so that a missing or wrong
//! piece is noticed while it can still be fetched.

use std::time::{Duration, Instant};

use alloy_eips::BlockId;
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rpc_types_eth::{Filter, TransactionReceipt};
use alloy_sol_types::{SolCall as _, SolEvent as _, SolValue as _};
use og_contracts::IInferenceSettlementRelay::ReceiptSettled;
use og_contracts::ITEERegistry;
use og_contracts::registry::{record_slot, standing_slot};
use og_primitives::merkle::MerkleTree;
use og_receipt::assemble::receipt_proof;
use og_receipt::{Bundle, ChainProof, SettlementMode, SettlementProof};
use serde::Deserialize;

use crate::settlement::{self, Settlement};
use crate::{Answer, Chain, Client, Error, tls};

/// How often the gateway is asked for the payment transaction.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The answer of `og_getFinalityCertificate`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finality {
    certificate: Bytes,
    headers: Vec<Bytes>,
}

/// The gateway's account of a paid answer.
#[derive(Clone, Debug, Deserialize)]
struct PaidAnswer {
    payment: PaidState,
}

#[derive(Clone, Debug, Deserialize)]
struct PaidState {
    transaction: Option<B256>,
}

impl Client {
    /// Waits until the answer is settled and final, collects the proofs, and returns them with when each was there.
    ///
    /// An answer of mode `private` is not settled; its bundle proves the enclave's registration only.
    ///
    /// # Errors
    /// [`Error::NotSettled`] when it takes longer than `timeout`; [`Error::Chain`] or [`Error::Bundle`] when a
    /// piece cannot be had.
    pub async fn bundle(&self, answer: &Answer, timeout: Duration) -> Result<Bundle, Error> {
        let claims = answer.receipt.claims();
        let deadline = Instant::now() + timeout;
        let relay = self.network().contracts.settlement_relay;
        let settlement = if claims.mode == SettlementMode::Private {
            None
        } else {
            let digest = answer.receipt.digest();
            Some(settlement::wait(self.opengradient(), relay, digest, timeout).await?)
        };
        let block = match &settlement {
            Some(settlement) => settlement.block_number,
            None => self.opengradient().block_number().await?,
        };
        let chain = self.chain_proof(answer, block).await?;
        let settlement = match &settlement {
            Some(settled) => Some(
                settlement_proof(self.opengradient(), relay, settled, claims.leaf.hash()).await?,
            ),
            None => None,
        };
        let payment = if claims.total.is_zero() {
            None
        } else {
            Some(self.payment_transaction(answer, timeout, deadline).await?)
        };
        Ok(Bundle {
            receipt: answer.receipt.to_bytes().to_vec().into(),
            evidence: self.evidence(answer).await?,
            signing_key: answer.gateway.signing_key.clone().into(),
            tls_certificate: answer.gateway.tls_certificate.clone().into(),
            chain: Some(chain),
            settlement,
            payment,
        })
    }

    /// What the state of a final block says about the enclave.
    async fn chain_proof(&self, answer: &Answer, block: u64) -> Result<ChainProof, Error> {
        let registry = self.network().contracts.tee_registry;
        let tee_id = answer.gateway.tee_id;
        let finality: Option<Finality> = self
            .opengradient()
            .raw("og_getFinalityCertificate", serde_json::json!([format!("{block:#x}")]))
            .await?;
        let finality =
            finality.ok_or_else(|| Error::Bundle(format!("block {block} has no certificate")))?;
        let slots = vec![record_slot(tee_id), standing_slot(tee_id)];
        let proof = self.opengradient().proof(registry, slots, BlockId::number(block)).await?;
        let [record_proof, standing_proof] = proof.storage_proof.as_slice() else {
            return Err(Error::Bundle("eth_getProof answered another number of slots".to_owned()));
        };
        let record = self
            .opengradient()
            .call_at(registry, &ITEERegistry::getRecordCall { teeId: tee_id.0 }, block)
            .await?;
        Ok(ChainProof {
            headers: finality.headers,
            certificate: finality.certificate,
            record: record.abi_encode().into(),
            account_proof: proof.account_proof,
            record_proof: record_proof.proof.clone(),
            standing_proof: standing_proof.proof.clone(),
        })
    }

    /// The document with which the enclave registered, from the transaction that registered it.
    async fn evidence(&self, answer: &Answer) -> Result<Bytes, Error> {
        let filter = Filter::new()
            .address(self.network().contracts.tee_registry)
            .event_signature(ITEERegistry::TEERegistered::SIGNATURE_HASH)
            .topic1(answer.gateway.tee_id.0)
            .from_block(0_u64);
        let logs = self.opengradient().logs(&filter).await?;
        let hash = logs.first().and_then(|log| log.transaction_hash).ok_or_else(|| {
            Error::Bundle("the enclave's registration is not on chain".to_owned())
        })?;
        let input = self.opengradient().transaction_input(hash).await?;
        let call = ITEERegistry::registerTEEWithAttestationCall::abi_decode(&input)
            .map_err(|error| Error::Bundle(format!("registration transaction: {error}")))?;
        Ok(call.attestation)
    }

    /// The signed transaction that settled the payment, once the gateway knows it.
    async fn payment_transaction(
        &self,
        answer: &Answer,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Bytes, Error> {
        let http = tls::pinned_http_client(&answer.gateway.tls_certificate)?;
        let url = format!("{}/v1/receipts/{}", answer.gateway.endpoint, answer.receipt.digest());
        loop {
            let response = http.get(&url).send().await;
            let paid = match response.and_then(reqwest::Response::error_for_status) {
                Ok(response) => response.json::<PaidAnswer>().await,
                Err(error) => Err(error),
            };
            let paid = paid.map_err(|error| Error::Unreachable {
                url: url.clone(),
                reason: crate::exchange::causes(&error),
            })?;
            if let Some(transaction) = paid.payment.transaction {
                return self.payment_chain().raw_transaction(transaction).await;
            }
            if Instant::now() >= deadline {
                return Err(Error::NotSettled {
                    waited_secs: timeout.as_secs(),
                    waiting_for: "the payment transaction",
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// The relay's log, its place in the block, and the leaf's place in the batch.
async fn settlement_proof(
    chain: &Chain,
    relay: Address,
    settled: &Settlement,
    leaf: B256,
) -> Result<SettlementProof, Error> {
    let receipts = chain.block_receipts(settled.block_number).await?;
    let index = usize::try_from(settled.transaction_index)
        .map_err(|_| Error::Bundle("transaction index is too large".to_owned()))?;
    let receipt = receipts
        .get(index)
        .ok_or_else(|| Error::Bundle("the block has fewer receipts than it should".to_owned()))?;
    let logs = receipt.inner.logs();
    let first = logs.first().and_then(|log| log.log_index).unwrap_or_default();
    let leaves: Vec<B256> = logs
        .iter()
        .filter(|log| log.address() == relay)
        .filter_map(|log| ReceiptSettled::decode_log(&log.inner).ok())
        .filter(|event| event.merkleRoot == settled.merkle_root)
        .map(|event| event.leaf)
        .collect();
    let inclusion = MerkleTree::new(leaves)
        .ok()
        .and_then(|tree| tree.proof(&leaf))
        .ok_or_else(|| Error::Bundle("the answer's leaf is not in the settled batch".to_owned()))?;
    let encoded: Vec<Bytes> = receipts.iter().map(consensus_bytes).collect();
    let (_, receipt_proof) = receipt_proof(&encoded, index)
        .ok_or_else(|| Error::Bundle("no proof of the settlement's receipt".to_owned()))?;
    Ok(SettlementProof {
        transaction_index: settled.transaction_index,
        log_index: settled.log_index.saturating_sub(first),
        receipt_proof,
        inclusion,
    })
}

/// A receipt as the receipts trie holds it.
fn consensus_bytes(receipt: &TransactionReceipt) -> Bytes {
    receipt.clone().into_primitives_receipt().inner.encoded_2718().into()
}
