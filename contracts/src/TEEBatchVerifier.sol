// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {TEEInferenceVerifier} from "./TEEInferenceVerifier.sol";

/// Says also whether an enclave signed an inference at any time.
contract TEEBatchVerifier is TEEInferenceVerifier {
    constructor(address registryAddress) TEEInferenceVerifier(registryAddress) {}

    /// True when the enclave was in good standing at the signed time and the signature is the enclave's. An
    /// enclave that retired since keeps what it signed before.
    function verifySignatureNoTimestamp(
        bytes32 teeId,
        bytes32 inputHash,
        bytes32 outputHash,
        uint256 timestamp,
        bytes calldata signature
    ) external view returns (bool) {
        if (timestamp > block.timestamp + FUTURE_TOLERANCE) return false;
        if (!registry.wasValidAt(teeId, timestamp)) return false;
        return _signed(teeId, inputHash, outputHash, timestamp, signature);
    }
}
