// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// The legacy native TEE verifier at 0x0000000000000000000000000000000000000900.
///
/// Semantic failures are answered with `false`; a call that does not decode fails as a whole.
interface ITEEVerifier {
    /// Verifies a Nitro attestation document under the legacy policy, at block time.
    /// @param rootCertificate PEM text naming the root; empty for the built-in one. Only roots listed in
    /// genesis are ever trusted, whatever is passed here.
    /// @return valid whether the document is genuine and binds the key and the certificate
    /// @return pcrHash keccak256(PCR0 || PCR1 || PCR2)
    function verifyAttestation(
        bytes calldata attestationDocument,
        bytes calldata signingPublicKey,
        bytes calldata tlsCertificate,
        bytes calldata rootCertificate
    ) external view returns (bool valid, bytes32 pcrHash);

    /// Verifies RSASSA-PSS (SHA-256, MGF1-SHA-256, salt of 32 bytes) over the 32-byte message `messageHash`.
    function verifyRSAPSS(bytes calldata publicKeyDER, bytes32 messageHash, bytes calldata signature)
        external
        view
        returns (bool valid);
}
