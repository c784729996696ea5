//! Every reason for which evidence is refused.

use alloy_primitives::B256;
use og_primitives::cbor;
use thiserror::Error;

use crate::der::DerError;

/// Why evidence is refused. The first failing check is reported, in the order in which they are made.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Error {
    /// An input is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which input.
        what: &'static str,
    },
    /// An input is larger than its limit.
    #[error("{what} of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Which input.
        what: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Bytes are not in the accepted subset of CBOR.
    #[error("{what}: {source}")]
    Cbor {
        /// Which bytes.
        what: &'static str,
        /// The rule they break.
        source: cbor::Error,
    },
    /// The item is not a COSE_Sign1 (untagged or tag 18, four elements; RFC 9052 §4.2).
    #[error("not a COSE_Sign1 structure: {0}")]
    NotSign1(&'static str),
    /// The protected header is not exactly `{1: alg}` with the algorithm required.
    #[error("protected header does not name the required algorithm")]
    Algorithm,
    /// The unprotected header, which nothing signs, is not empty.
    #[error("unprotected header is not empty")]
    UnprotectedHeader,
    /// A field of a map is missing or breaks its rules.
    #[error("field {field}: {problem}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A measurement that must be present is not.
    #[error("PCR{0} is missing")]
    MissingPcr(u64),
    /// PCR0, PCR1 or PCR2 is all zero: the enclave runs in debug mode and its memory can be read.
    #[error("PCR{0} is all zero, which marks a debug-mode enclave")]
    ZeroPcr(u64),
    /// The document is older than the policy allows.
    #[error("document is {age_secs} s old, the policy allows {max_secs} s")]
    Stale {
        /// Its age in seconds.
        age_secs: u64,
        /// The greatest age allowed.
        max_secs: u64,
    },
    /// The document is from the future.
    #[error("document is {ahead_secs} s ahead of the clock, the policy allows {max_secs} s")]
    Future {
        /// How far ahead it is, in seconds.
        ahead_secs: u64,
        /// The most that is allowed.
        max_secs: u64,
    },
    /// The document's time lies before the first moment at which a genuine one can have been made.
    #[error("document time {0} ms is before 2025-01-31T00:00:00Z")]
    BeforeEpoch(u64),
    /// A certificate of the chain is refused. Index 0 is the root, the last one is the leaf.
    #[error("certificate {index} of the chain: {problem}")]
    Certificate {
        /// Its place in the chain.
        index: usize,
        /// What is wrong with it.
        problem: CertificateError,
    },
    /// The chain does not start at a root that the policy trusts.
    #[error("chain starts at the untrusted root {0}")]
    UntrustedRoot(B256),
    /// The signature over the document is not the leaf key's.
    #[error("document signature does not verify under the leaf certificate's key")]
    Signature,
    /// The signature has the wrong length.
    #[error("signature of {0} bytes where {expected} must stand", expected = crate::cose::ES384_SIGNATURE_BYTES)]
    SignatureLength(usize),
    /// `user_data` does not bind the TLS certificate given.
    #[error("document does not bind this TLS certificate")]
    TlsCertificateNotBound,
    /// `user_data` does not bind the signing key given.
    #[error("document does not bind this signing key")]
    SigningKeyNotBound,
    /// The nonce is not the one asked for.
    #[error("nonce is missing or not the one expected")]
    Nonce,
    /// The measurements are not among those that the policy lists.
    #[error("measurements {0} are not approved by the policy")]
    Measurements(B256),
}

/// Why a certificate is refused (RFC 5280, restricted to what AWS Nitro issues).
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CertificateError {
    /// Its bytes are not strict DER.
    #[error(transparent)]
    Der(#[from] DerError),
    /// It is not an X.509 version 3 certificate.
    #[error("not an X.509 v3 certificate")]
    Version,
    /// It is signed with another algorithm than ecdsa-with-SHA384.
    #[error("signature algorithm is not ecdsa-with-SHA384")]
    Algorithm,
    /// Its key is not an uncompressed point of P-384.
    #[error("key is not an uncompressed P-384 point")]
    NotP384,
    /// A date is malformed.
    #[error("malformed validity date")]
    Date,
    /// It is not yet valid at the time given.
    #[error("not yet valid")]
    NotYetValid,
    /// It is no longer valid at the time given.
    #[error("expired")]
    Expired,
    /// An extension stands twice.
    #[error("an extension stands twice")]
    DuplicateExtension,
    /// A critical extension that is not understood.
    #[error("unknown critical extension")]
    UnknownCriticalExtension,
    /// An extension that restricts use in ways that are not evaluated here (name, policy or extended-use constraints).
    #[error("an extension restricts the certificate in a way that is not supported")]
    UnsupportedConstraint,
    /// It issues certificates without being a CA (basicConstraints or keyUsage).
    #[error("not a CA that may sign certificates")]
    NotCa,
    /// It is a CA where the leaf must stand.
    #[error("a CA certificate stands in the leaf's place")]
    LeafIsCa,
    /// The leaf may not sign.
    #[error("keyUsage does not allow digital signatures")]
    NotForSigning,
    /// More intermediate certificates follow than pathLenConstraint allows.
    #[error("pathLenConstraint exceeded")]
    PathLength,
    /// Its issuer is not the subject of the certificate above, or a name is empty.
    #[error("issuer is not the subject of the certificate above")]
    Issuer,
    /// Its signature is not made by the certificate above.
    #[error("signature does not verify under the certificate above")]
    Signature,
}

impl Error {
    pub(crate) fn field(field: &'static str, problem: &'static str) -> Self {
        Self::Field { field, problem }
    }
}
