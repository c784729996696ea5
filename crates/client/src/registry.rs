//! Find the gateways that the registry vouches for.

use alloy_primitives::{Address, B256};
use og_contracts::ITEERegistry;
use og_primitives::TeeId;

use crate::{Chain, Error};

/// The registry's type of a gateway in front of language models.
pub const LLM_PROXY: u8 = 0;

/// An active enclave, as the registry describes it. Every key in here was in its evidence when it registered.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Keccak-256 of the legacy RSA key.
    pub tee_id: TeeId,
    /// Who registered it.
    pub owner: Address,
    /// Where it serves.
    pub endpoint: String,
    /// Who is paid for its answers.
    pub payment_address: Address,
    /// Legacy RSA key, DER SubjectPublicKeyInfo.
    pub signing_key: Vec<u8>,
    /// The certificate it serves with, DER.
    pub tls_certificate: Vec<u8>,
    /// Ed25519 key that signs receipts.
    pub receipt_key: [u8; 32],
    /// Keccak-256 of its first three measurements.
    pub pcr_hash: B256,
    /// Unix seconds.
    pub registered_at: u64,
    /// Unix seconds.
    pub last_heartbeat_at: u64,
    /// Whether its evidence is a simulated enclave's, and so proves nothing about hardware.
    pub simulated: bool,
}

/// Lists the active gateways that can be used: with an endpoint, a certificate and a receipt key.
///
/// # Errors
/// [`Error::Chain`] when the registry does not answer; [`Error::NoGateway`] when none is usable.
pub async fn active_gateways(chain: &Chain, registry: Address) -> Result<Vec<Gateway>, Error> {
    let listed =
        chain.call(registry, &ITEERegistry::getActiveTEEsCall { teeType: LLM_PROXY }).await?;
    let mut usable = Vec::with_capacity(listed.len());
    for tee in &listed {
        let tee_id = TeeId::from_signing_key_der(&tee.publicKey);
        let record = chain.call(registry, &ITEERegistry::getRecordCall { teeId: tee_id.0 }).await?;
        let Ok(receipt_key) = <[u8; 32]>::try_from(record.receiptKey.as_ref()) else { continue };
        if tee.endpoint.is_empty() || tee.tlsCertificate.is_empty() {
            continue;
        }
        usable.push(Gateway {
            tee_id,
            owner: tee.owner,
            endpoint: tee.endpoint.trim_end_matches('/').to_owned(),
            payment_address: tee.paymentAddress,
            signing_key: tee.publicKey.to_vec(),
            tls_certificate: tee.tlsCertificate.to_vec(),
            receipt_key,
            pcr_hash: tee.pcrHash,
            registered_at: record.registeredAt,
            last_heartbeat_at: tee.lastHeartbeatAt.saturating_to(),
            simulated: record.simulated,
        });
    }
    if usable.is_empty() {
        return Err(Error::NoGateway { listed: listed.len() });
    }
    Ok(usable)
}
