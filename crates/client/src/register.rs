//! Register the enclave that serves at a URL: fetch its evidence, bound to the registrant, and send it.

use std::sync::{Arc, Mutex};

use alloy_primitives::Address;
use alloy_signer_local::PrivateKeySigner;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use og_contracts::ITEERegistry;
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

/// The enclave's answer to `GET /enclave/registration`.
#[derive(Debug, Deserialize)]
struct Offered {
    owner: Address,
    pay_to: Address,
    endpoint: String,
    document: String,
    signing_key: String,
}

/// Registers the enclave at `url` for `owner`, who needs the operator role and must be the one whom the enclave was
/// told. Returns its id and where its answers are paid.
///
/// The connection is not trusted: what makes the registration safe is that the evidence names the certificate,
/// the keys and, in its nonce, the owner, the payee and the endpoint; the registry checks all of it.
///
/// # Errors
/// [`Error::Unreachable`] when the enclave does not show its evidence or names another owner, [`Error::Chain`] when
/// the registry refuses.
pub async fn register(
    network: &NetworkFile,
    owner: &Account,
    url: &str,
) -> Result<(TeeId, Address), Error> {
    let url = url.trim_end_matches('/');
    let (offered, evidence) = fetch(url).await?;
    if offered.owner != owner.address {
        return Err(Error::Unreachable {
            url: url.to_owned(),
            reason: format!("it is to be registered by {}, not {}", offered.owner, owner.address),
        });
    }
    let signer = PrivateKeySigner::from_bytes(&owner.private_key)
        .map_err(|_| Error::UnknownAccount { name: owner.name.clone(), known: Vec::new() })?;
    let chain = Chain::connect_with_wallet("OpenGradient", &network.network.rpc_url, signer)?;
    let registry = network.contracts.tee_registry;
    let tee_id = submit(&chain, registry, &evidence, offered.pay_to, &offered.endpoint).await?;
    Ok((tee_id, offered.pay_to))
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

/// Asks the enclave for its registration, and remembers the certificate it answers with.
async fn fetch(url: &str) -> Result<(Offered, EnclaveEvidence), Error> {
    let fail = |reason: String| Error::Unreachable { url: url.to_owned(), reason };
    let seen = Arc::new(Mutex::new(None));
    let http = tls::unpinned_http_client(Arc::clone(&seen))?;
    let response = http.get(format!("{url}/enclave/registration")).send().await;
    let offered = match response.and_then(reqwest::Response::error_for_status) {
        Ok(response) => response.json::<Offered>().await,
        Err(error) => Err(error),
    };
    let offered = offered.map_err(|error| fail(causes(&error)))?;
    let bytes = |name: &str, text: &str| {
        BASE64.decode(text).map_err(|error| fail(format!("{name} is not base64: {error}")))
    };
    let tls_certificate = seen.lock().ok().and_then(|mut seen| seen.take());
    let evidence = EnclaveEvidence {
        document: bytes("document", &offered.document)?,
        signing_key: bytes("signing_key", &offered.signing_key)?,
        tls_certificate: tls_certificate.ok_or_else(|| fail("it does not speak TLS".to_owned()))?,
    };
    Ok((offered, evidence))
}
