//! The enclave's identity: keys born at start, the certificate it serves, and the evidence that binds them.
//!
//! Nothing here is ever written to a disk or taken from outside. A restart is a new identity, which its owner
//! registers anew.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use ed25519_dalek::SigningKey;
use og_attest::driver::{Attester, DriverError};
use og_attest::keys::{BoundKeys, KeyBinding};
use og_attest::simulated;
use og_primitives::TeeId;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use x25519_dalek::{PublicKey as HpkePublicKey, StaticSecret};

use crate::legacy::signing::{LegacyKey, SigningError};

/// Days that the TLS certificate is valid from the enclave's start; a day before it absorbs slow clocks.
const CERTIFICATE_DAYS: u64 = 397;

const DAY_SECS: u64 = 86_400;

/// Why an enclave could not be born.
#[derive(Debug, Error)]
pub enum EnclaveError {
    /// The RSA key could not be made.
    #[error(transparent)]
    Legacy(#[from] SigningError),
    /// No randomness.
    #[error("the random source failed")]
    Random,
    /// The TLS certificate could not be made.
    #[error("TLS certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// No evidence could be made.
    #[error(transparent)]
    Evidence(#[from] DriverError),
}

/// What the enclave publishes about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Keccak-256 of [`Self::signing_key_der`].
    pub tee_id: TeeId,
    /// DER SubjectPublicKeyInfo of the legacy RSA key.
    pub signing_key_der: Vec<u8>,
    /// DER of the self-signed certificate that the TLS listener serves.
    pub tls_certificate_der: Vec<u8>,
    /// Ed25519 key that signs receipts.
    pub receipt_key: [u8; 32],
    /// X25519 key to which requests may be encrypted.
    pub hpke_key: [u8; 32],
    /// Whether the enclave is only simulated.
    pub simulated: bool,
}

/// The enclave: its keys and the device that attests them.
pub struct Enclave {
    identity: Identity,
    legacy: LegacyKey,
    receipt: SigningKey,
    hpke: StaticSecret,
    tls_key_pkcs8: Vec<u8>,
    attester: Arc<dyn Attester>,
}

impl Enclave {
    /// Makes all keys and the certificate, at `now_secs`.
    ///
    /// # Errors
    /// When a library cannot make a key; nothing may be served then.
    pub fn born(attester: Arc<dyn Attester>, now_secs: u64) -> Result<Self, EnclaveError> {
        let legacy = LegacyKey::generate()?;
        let receipt = SigningKey::from_bytes(&random()?);
        let hpke = StaticSecret::from(random()?);
        let simulated = attester.is_simulated();
        let (tls_certificate_der, tls_key_pkcs8) = certificate(now_secs, simulated)?;
        let identity = Identity {
            tee_id: legacy.tee_id(),
            signing_key_der: legacy.spki_der().to_vec(),
            tls_certificate_der,
            receipt_key: receipt.verifying_key().to_bytes(),
            hpke_key: HpkePublicKey::from(&hpke).to_bytes(),
            simulated,
        };
        Ok(Self { identity, legacy, receipt, hpke, tls_key_pkcs8, attester })
    }

    /// What the enclave publishes about itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key of the legacy signatures.
    pub fn legacy_key(&self) -> &LegacyKey {
        &self.legacy
    }

    /// The key that signs receipts.
    pub fn receipt_key(&self) -> &SigningKey {
        &self.receipt
    }

    /// The key that opens encrypted requests.
    pub fn hpke_secret(&self) -> &StaticSecret {
        &self.hpke
    }

    /// Evidence over all keys and `nonce`, made now.
    ///
    /// # Errors
    /// When the attestation device fails.
    pub fn evidence(&self, nonce: &[u8], now_ms: u64) -> Result<Vec<u8>, EnclaveError> {
        let binding =
            KeyBinding::of(&self.identity.tls_certificate_der, &self.identity.signing_key_der);
        let keys = BoundKeys::new(self.identity.receipt_key, self.identity.hpke_key);
        Ok(self.attester.evidence(nonce, &binding.to_user_data(), &keys.encode(), now_ms)?)
    }

    /// Certificate and key for the TLS listener.
    pub(crate) fn tls(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (
            CertificateDer::from(self.identity.tls_certificate_der.clone()),
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.tls_key_pkcs8.clone())),
        )
    }
}

impl core::fmt::Debug for Enclave {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Enclave").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A **simulated** enclave under the published development root: same formats as a real one, refused by every
/// default policy. `image` names the measured image; the devnet approves the measurements of `og-gateway`.
pub fn simulated_attester(image: &str) -> Arc<dyn Attester> {
    Arc::new(simulated::Enclave::new(
        simulated::Authority::development(),
        "simulated-enclave",
        simulated::Measurements::of_image(image),
    ))
}

fn random() -> Result<[u8; 32], EnclaveError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| EnclaveError::Random)?;
    Ok(bytes)
}

/// A self-signed end-entity certificate. Clients pin it whole, so names and issuers carry no trust; it must not be
/// a CA, or whoever holds its key could mint certificates that the official client accepts in its place.
fn certificate(now_secs: u64, simulated: bool) -> Result<(Vec<u8>, Vec<u8>), EnclaveError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let mut name = DistinguishedName::new();
    name.push(
        DnType::OrganizationName,
        if simulated { "OpenGradient gateway (simulated enclave)" } else { "OpenGradient gateway" },
    );
    name.push(DnType::CommonName, "localhost");
    params.distinguished_name = name;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |secs: u64| epoch + core::time::Duration::from_secs(secs);
    params.not_before = at(now_secs.saturating_sub(DAY_SECS));
    params.not_after = at(now_secs.saturating_add(CERTIFICATE_DAYS * DAY_SECS));
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}
