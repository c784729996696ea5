use alloy_primitives::{Address, B256};

/// Why something was not accepted. Every variant names the check that failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A validator's entry is not 176 bytes of hexadecimal.
    #[error("validator entry: {0}")]
    ValidatorEncoding(&'static str),
    /// There is no validator, or more than [`crate::validators::VALIDATORS_MAX`].
    #[error("validator set: {count} validators, allowed are 1 to {max}")]
    ValidatorCount {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two validators share an identity or a BLS key.
    #[error("validator set: seats {first} and {second} share a key")]
    ValidatorDuplicate {
        /// Seat of one of them.
        first: usize,
        /// Seat of the other.
        second: usize,
    },
    /// A validator's BLS key is not a point of the right subgroup.
    #[error("validator set: seat {seat} has no valid BLS public key")]
    ValidatorKey {
        /// The seat.
        seat: usize,
    },
    /// A validator has not proven that it owns its BLS key (rogue-key defence).
    #[error("validator set: seat {seat} has no valid proof of possession")]
    ValidatorPossession {
        /// The seat.
        seat: usize,
    },
    /// The certificate's bytes are not the canonical encoding of a certificate.
    #[error("finality certificate: {0}")]
    CertificateEncoding(&'static str),
    /// The certificate is for a set of another size.
    #[error("finality certificate: made for {found} validators, the set has {expected}")]
    CertificateSetSize {
        /// Size the certificate names.
        found: u64,
        /// Size of the verifier's set.
        expected: usize,
    },
    /// Fewer validators signed than a quorum.
    #[error("finality certificate: {signers} validators signed, the quorum is {quorum}")]
    CertificateQuorum {
        /// How many signed.
        signers: usize,
        /// How many must sign.
        quorum: usize,
    },
    /// The aggregate signature is not a point of the right subgroup.
    #[error("finality certificate: signature is not a valid curve point")]
    CertificateSignatureEncoding,
    /// The aggregate signature does not verify under the signers' keys.
    #[error("finality certificate: signature does not verify")]
    CertificateSignature,
    /// A header's bytes are not the canonical RLP of a header.
    #[error("header: {0}")]
    HeaderEncoding(String),
    /// No header was given, or more than [`crate::finality::HEADERS_MAX`].
    #[error("header chain: {count} headers, allowed are 1 to {max}")]
    HeaderCount {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A header is not the one that the certificate or the child before it names.
    #[error("header chain: header {index} hashes to {found}, expected {expected}")]
    HeaderHash {
        /// Position in the given chain; 0 is the certified block.
        index: usize,
        /// Its hash.
        found: B256,
        /// The hash named by the certificate or by the child.
        expected: B256,
    },
    /// A header's number is not its child's number less one.
    #[error("header chain: header {index} has number {found}, expected {expected}")]
    HeaderNumber {
        /// Position in the given chain; 0 is the certified block.
        index: usize,
        /// Its number.
        found: u64,
        /// The child's number less one.
        expected: u64,
    },
    /// A proof is longer than any honest one.
    #[error("{what} proof: too large")]
    ProofSize {
        /// What was to be proven.
        what: &'static str,
    },
    /// A proof does not lead from the root to the key.
    #[error("{what} proof: does not verify: {reason}")]
    Proof {
        /// What was to be proven.
        what: &'static str,
        /// What the trie verifier said.
        reason: String,
    },
    /// A proven value is not the canonical encoding of what it should be.
    #[error("{what}: proven value is malformed: {reason}")]
    ProvenValue {
        /// What was proven.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The proof is sound and says that the thing is not there.
    #[error("{what}: proven to be absent")]
    Absent {
        /// What was looked for.
        what: &'static str,
    },
    /// The proven receipt has no such log.
    #[error("log: receipt has {count} logs, none at index {index}")]
    LogIndex {
        /// Index asked for.
        index: usize,
        /// How many logs the receipt has.
        count: usize,
    },
    /// A log was emitted by another contract than expected.
    #[error("log: emitted by {found}, expected {expected}")]
    LogAddress {
        /// Who emitted it.
        found: Address,
        /// Who should have.
        expected: Address,
    },
}
