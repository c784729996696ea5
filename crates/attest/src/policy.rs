//! Appraisal policies (RFC 9334): what a verifier demands of evidence.

use std::collections::BTreeSet;

use alloy_primitives::B256;

use crate::keys::KeyBinding;
use crate::roots::Root;

/// How strictly the contents of a document are read. Its syntax, signature and chain are checked alike in both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strictness {
    /// Only what the precompile at `0x…0900` has always checked: header, digest name, measurements' lengths and
    /// `user_data` prefixes are not looked at, and debug-mode enclaves pass.
    Legacy,
    /// Everything AWS promises about a document holds, and debug-mode enclaves are refused.
    Full,
}

/// What a verifier demands of a document.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) roots: Vec<Root>,
    pub(crate) strictness: Strictness,
    /// Most seconds that a document may be older than the clock.
    pub(crate) age_secs_max: u64,
    /// Most seconds that it may be ahead of the clock.
    pub(crate) ahead_secs_max: u64,
    pub(crate) binding: Option<KeyBinding>,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) pcr_hashes: Option<BTreeSet<B256>>,
}

impl Policy {
    /// Greatest age of a document, in seconds, unless [`Self::with_window`] says otherwise.
    pub const AGE_SECS_MAX: u64 = 300;
    /// Greatest distance into the future, in seconds, unless [`Self::with_window`] says otherwise.
    pub const AHEAD_SECS_MAX: u64 = 60;

    /// The default policy under `roots`. It trusts a simulated root only if `roots` lists one.
    pub fn new(roots: impl Into<Vec<Root>>) -> Self {
        Self {
            roots: roots.into(),
            strictness: Strictness::Full,
            age_secs_max: Self::AGE_SECS_MAX,
            ahead_secs_max: Self::AHEAD_SECS_MAX,
            binding: None,
            nonce: None,
            pcr_hashes: None,
        }
    }

    /// The policy of the legacy precompile under `roots`. New code has no use for it.
    pub fn legacy(roots: impl Into<Vec<Root>>) -> Self {
        Self { strictness: Strictness::Legacy, ..Self::new(roots) }
    }

    /// Demands that `user_data` bind this TLS certificate and this signing key, each given as its whole DER.
    #[must_use]
    pub fn with_keys(self, tls_certificate_der: &[u8], signing_key_der: &[u8]) -> Self {
        Self { binding: Some(KeyBinding::of(tls_certificate_der, signing_key_der)), ..self }
    }

    /// Demands this nonce.
    #[must_use]
    pub fn with_nonce(self, nonce: &[u8]) -> Self {
        Self { nonce: Some(nonce.to_vec()), ..self }
    }

    /// Demands that the measurements hash ([`crate::Attestation::pcr_hash`]) to one of these.
    #[must_use]
    pub fn with_pcr_hashes(self, pcr_hashes: impl IntoIterator<Item = B256>) -> Self {
        Self { pcr_hashes: Some(pcr_hashes.into_iter().collect()), ..self }
    }

    /// Sets the freshness window around the document's own time, in seconds.
    #[must_use]
    pub fn with_window(self, age_secs_max: u64, ahead_secs_max: u64) -> Self {
        Self { age_secs_max, ahead_secs_max, ..self }
    }
}
