// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";

import {TEERegistry} from "./TEERegistry.sol";
import {ITEEVerifier} from "./interfaces/ITEEVerifier.sol";

/// Says whether an enclave signed an inference lately.
contract TEEInferenceVerifier is AccessControl {
    ITEEVerifier public constant VERIFIER = ITEEVerifier(0x0000000000000000000000000000000000000900);
    /// Oldest accepted signature, in seconds.
    uint256 public constant MAX_INFERENCE_AGE = 3600;
    /// How far an enclave's clock may run ahead of the chain's, in seconds.
    uint256 public constant FUTURE_TOLERANCE = 300;

    TEERegistry public registry;

    event RegistryUpdated(address indexed oldRegistry, address indexed newRegistry);

    error InvalidRegistryAddress();

    constructor(address registryAddress) {
        if (registryAddress == address(0)) revert InvalidRegistryAddress();
        registry = TEERegistry(registryAddress);
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
    }

    function setRegistry(address newRegistry) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (newRegistry == address(0)) revert InvalidRegistryAddress();
        emit RegistryUpdated(address(registry), newRegistry);
        registry = TEERegistry(newRegistry);
    }

    /// The 32 bytes that an enclave signs: keccak256(inputHash || outputHash || uint256 timestamp).
    function computeMessageHash(bytes32 inputHash, bytes32 outputHash, uint256 timestamp)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(inputHash, outputHash, timestamp));
    }

    /// True when the enclave is enabled now, the timestamp is within the window around now, and the signature
    /// is the enclave's.
    function verifySignature(
        bytes32 teeId,
        bytes32 inputHash,
        bytes32 outputHash,
        uint256 timestamp,
        bytes calldata signature
    ) external view returns (bool) {
        if (!registry.isTEEEnabled(teeId)) return false;
        uint256 oldest = block.timestamp > MAX_INFERENCE_AGE ? block.timestamp - MAX_INFERENCE_AGE : 0;
        if (timestamp < oldest || timestamp > block.timestamp + FUTURE_TOLERANCE) return false;
        return _signed(teeId, inputHash, outputHash, timestamp, signature);
    }

    function _signed(
        bytes32 teeId,
        bytes32 inputHash,
        bytes32 outputHash,
        uint256 timestamp,
        bytes calldata signature
    ) internal view returns (bool) {
        return VERIFIER.verifyRSAPSS(
            registry.getTEEPublicKey(teeId), computeMessageHash(inputHash, outputHash, timestamp), signature
        );
    }
}
