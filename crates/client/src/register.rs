//! Register the enclave that serves at a URL: fetch its evidence, bound to the registrant, and send it.

use std::sync::{Arc, Mutex};

use alloy_primitives::Address;
use alloy_signer_local::PrivateKeySigner;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use og_contracts::ITEERegistry;
use og_contracts::registry::{Registration, registration_nonce};
use og_primitives::TeeId;
use serde::Deserialize;

use crate::exchange::causes;
use crate::network::{Account, NetworkFile};
use crate::registry::LLM_PROXY;
use crate::{Chain, Error, tls};

/// What an enclave shows of itself: enough to register it.
#[derive(Clone, Debug)]
pub struct EnclaveEvidence {
    /// The attestation document.
    pub document: Vec<u8>,
    /// Legacy RSA key, DER SubjectPublicKeyInfo.
    pub signing_key: Vec<u8>,
    /// The certificate it serves with, DER.
    pub tls_certificate: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct SigningKey {
    public_key: String,
}

/// Registers the enclave at `url` for `owner`, who needs the operator role, with answers paid to `pay_to`.
///
/// The connection is not trusted: what makes the registration safe is that the evidence names the certificate,
/// the keys and, in its nonce, the owner, the payee and the endpoint; the registry checks all of it.
///
/// # Errors
/// [`Error::Unreachable`] when the enclave does not show its evidence, [`Error::Chain`] when the registry refuses.
pub async fn register(
    network: &NetworkFile,
    owner: &Account,
    url: &str,
    pay_to: Address,
) -> Result<TeeId, Error> {
    let endpoint = url.trim_end_matches('/');
    let nonce = registration_nonce(&Registration {
        owner: owner.address,
        chain_id: network.network.chain_id,
        genesis_hash: network.trust.genesis_hash,
        registry: network.contracts.tee_registry,
        pay_to,
        endpoint,
        tee_type: LLM_PROXY,
    });
    let evidence = fetch_evidence(endpoint, nonce.as_slice()).await?;
    let signer = PrivateKeySigner::from_bytes(&owner.private_key).map_err(|_| {
        Error::UnknownAccount { name: owner.name.clone(), known: Vec::new() }
    })?;
    let chain = Chain::connect_with_wallet("OpenGradient", &network.network.rpc_url, signer)?;
    submit(&chain, network.contracts.tee_registry, &evidence, pay_to, endpoint).await
}

/// Sends a registration and returns the enclave's id.
///
/// # Errors
/// [`Error::Chain`] when the registry refuses.
pub async fn submit(
    chain: &Chain,
    registry: Address,
    evidence: &EnclaveEvidence,
    pay_to: Address,
    endpoint: &str,
) -> Result<TeeId, Error> {
    let call = ITEERegistry::registerTEEWithAttestationCall {
        attestation: evidence.document.clone().into(),
        signingKey: evidence.signing_key.clone().into(),
        tlsCertificate: evidence.tls_certificate.clone().into(),
        paymentAddress: pay_to,
        endpoint: endpoint.to_owned(),
        teeType: LLM_PROXY,
    };
    chain.send(registry, &call).await?;
    Ok(TeeId::from_signing_key_der(&evidence.signing_key))
}

/// Asks the enclave at `endpoint` for evidence over `nonce`, and for what that evidence binds.
///
/// # Errors
/// [`Error::Unreachable`] when it does not answer as it should.
pub async fn fetch_evidence(endpoint: &str, nonce: &[u8]) -> Result<EnclaveEvidence, Error> {
    let fail = |reason: String| Error::Unreachable { url: endpoint.to_owned(), reason };
    let seen = Arc::new(Mutex::new(None));
    let http = tls::unpinned_http_client(Arc::clone(&seen))?;
    let get = async |path: String| {
        let response = http.get(format!("{endpoint}{path}")).send().await;
        let response = response.and_then(reqwest::Response::error_for_status);
        let body = match response {
            Ok(response) => response.text().await,
            Err(error) => Err(error),
        };
        body.map_err(|error| fail(causes(&error)))
    };
    let document = get(format!("/enclave/attestation?nonce={}", hex::encode(nonce))).await?;
    let document = BASE64
        .decode(document.trim())
        .map_err(|error| fail(format!("attestation is not base64: {error}")))?;
    let signing_key: SigningKey = serde_json::from_str(&get("/signing-key".to_owned()).await?)
        .map_err(|error| fail(format!("signing key: {error}")))?;
    let tls_certificate = seen.lock().ok().and_then(|mut seen| seen.take());
    Ok(EnclaveEvidence {
        document,
        signing_key: pem_body(&signing_key.public_key)
            .ok_or_else(|| fail("signing key is not PEM".to_owned()))?,
        tls_certificate: tls_certificate.ok_or_else(|| fail("it does not speak TLS".to_owned()))?,
    })
}

/// The DER inside a PEM block.
fn pem_body(pem: &str) -> Option<Vec<u8>> {
    let lines = pem.lines().map(str::trim).filter(|line| !line.is_empty());
    let body: String = lines.filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(body).ok().filter(|der| !der.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_bodies_are_read_and_junk_is_not() {
        let pem = "-----BEGIN PUBLIC KEY-----\nAQID\nBAU=\n-----END PUBLIC KEY-----\n";
        assert_eq!(pem_body(pem), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(pem_body("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"), None);
        assert_eq!(pem_body("%%%"), None);
    }
}
