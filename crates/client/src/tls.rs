//! Speak TLS with exactly the certificate that the registry holds.
//!
//! The registry's certificate is the only trust anchor, and it is no authority: the server must present that very
//! certificate, it must be an end-entity certificate within its dates, and the handshake must be signed with its
//! key. Names do not matter, since nobody vouches for them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::BasicConstraints;

use crate::Error;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client that talks to nobody but the owner of `certificate` (DER).
///
/// # Errors
/// [`Error::Certificate`] when the certificate is not one that a gateway may use.
pub fn pinned_http_client(certificate: &[u8]) -> Result<reqwest::Client, Error> {
    http_client(Arc::new(Pin::new(certificate)?))
}

/// An HTTP client that talks to anyone and leaves the certificate it saw (DER) in `seen`. Only for evidence, which
/// vouches for itself.
pub(crate) fn unpinned_http_client(
    seen: Arc<Mutex<Option<Vec<u8>>>>,
) -> Result<reqwest::Client, Error> {
    http_client(Arc::new(Witness { seen, provider: provider() }))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn http_client(verifier: Arc<dyn ServerCertVerifier>) -> Result<reqwest::Client, Error> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Certificate { reason: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| Error::Certificate { reason: error.to_string() })
}

/// The handshake must be signed with the certificate's key, whatever is thought of the certificate.
macro_rules! handshake_checks {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Accepts one certificate and nothing else.
#[derive(Debug)]
struct Pin {
    certificate: CertificateDer<'static>,
    not_before_secs: u64,
    not_after_secs: u64,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    fn new(certificate: &[u8]) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Certificate { reason };
        let parsed = Certificate::from_der(certificate)
            .map_err(|error| refuse(format!("not a DER certificate: {error}")))?;
        let body = parsed.tbs_certificate();
        let constraints = body
            .get_extension::<BasicConstraints>()
            .map_err(|error| refuse(format!("basic constraints: {error}")))?;
        if constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(refuse("it is an authority's, not an end entity's".to_owned()));
        }
        let validity = body.validity();
        Ok(Self {
            certificate: CertificateDer::from(certificate.to_vec()),
            not_before_secs: validity.not_before.to_unix_duration().as_secs(),
            not_after_secs: validity.not_after.to_unix_duration().as_secs(),
            provider: provider(),
        })
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if end_entity != &self.certificate {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        if now.as_secs() < self.not_before_secs {
            return Err(CertificateError::NotValidYet.into());
        }
        if now.as_secs() > self.not_after_secs {
            return Err(CertificateError::Expired.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    handshake_checks!();
}

/// Accepts any certificate, checks that the peer holds its key, and remembers it.
#[derive(Debug)]
struct Witness {
    seen: Arc<Mutex<Option<Vec<u8>>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Some(end_entity.to_vec());
        }
        Ok(ServerCertVerified::assertion())
    }

    handshake_checks!();
}
