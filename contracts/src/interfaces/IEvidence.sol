// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// What the chain's native verifier says about one attestation document, under the default policy.
/// Every field is zero or empty when `valid` is false.
struct Appraisal {
    /// The document is genuine, fresh at block time, and binds the signing key and the TLS certificate.
    bool valid;
    /// The document chains to the published development root: no hardware stands behind it.
    bool simulated;
    /// keccak256(PCR0 || PCR1 || PCR2), each exactly 48 bytes, PCR0 not all zero.
    bytes32 pcrHash;
    /// keccak256 of the COSE payload bytes: the identity of the statement (never of the signed envelope,
    /// because an ECDSA signature has a second valid form).
    bytes32 payloadHash;
    /// The document's own time, in milliseconds since the epoch.
    uint64 timestampMs;
    /// The document's `nonce`, as attested; empty when absent.
    bytes nonce;
    /// The enclave's receipt key (raw public key), from the attested `public_key` map; empty when absent.
    bytes receiptKey;
    /// The enclave's HPKE key (raw X25519), from the attested `public_key` map; zero when absent.
    bytes32 hpkeKey;
}

/// The native evidence verifier at 0x0000000000000000000000000000000000000901.
///
/// It trusts only the roots listed in genesis; callers cannot bring their own. A document that does not pass is
/// answered with `valid == false`, never with a revert; a call that does not decode fails as a whole.
interface IEvidence {
    /// Appraises a document at block time under the default policy.
    /// @param document untagged or tag-18 COSE_Sign1, at most 16384 bytes
    /// @param signingKey DER SubjectPublicKeyInfo of the enclave's RSA key (2048 to 4096 bits, e = 65537)
    /// @param tlsCertificate DER X.509 certificate the enclave serves TLS with
    function appraise(bytes calldata document, bytes calldata signingKey, bytes calldata tlsCertificate)
        external
        view
        returns (Appraisal memory appraisal);

    /// The hash of block 0 of this chain. A contract cannot know it otherwise: it is in no storage that genesis
    /// could write (the hash covers the state), and BLOCKHASH forgets it.
    function genesisHash() external view returns (bytes32);
}
