//! Why bytes are not a receipt, a bundle or a signable document.

use og_primitives::cbor;
use thiserror::Error;

/// Why bytes are refused before anything they claim is looked at.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Error {
    /// Bytes are not deterministic CBOR within the limits.
    #[error("{what}: {source}")]
    Cbor {
        /// Which bytes.
        what: &'static str,
        /// The rule they break.
        source: cbor::Error,
    },
    /// The envelope is not the COSE_Sign1 of a receipt.
    #[error("receipt envelope: {0}")]
    Envelope(og_attest::Error),
    /// The envelope is not in its one accepted form: untagged, nothing unsigned in it.
    #[error("receipt envelope is not in its canonical form")]
    EnvelopeForm,
    /// A field is missing or breaks its rules.
    #[error("{what}: {problem}")]
    Field {
        /// The field's name.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The signature is not the receipt key's.
    #[error("receipt signature does not verify under the key")]
    Signature,
    /// The key is not a usable Ed25519 public key.
    #[error("receipt key is not a valid Ed25519 key")]
    Key,
    /// The bytes do not begin with the magic bytes of a bundle.
    #[error("not an .ogp bundle")]
    NotABundle,
    /// The bytes are larger than allowed.
    #[error("{what} of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Which bytes.
        what: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A document is not JSON that all readers understand alike (I-JSON, RFC 7493).
    #[error("not interoperable JSON: {0}")]
    Json(String),
}

impl Error {
    pub(crate) fn field(what: &'static str, problem: &'static str) -> Self {
        Self::Field { what, problem }
    }
}
