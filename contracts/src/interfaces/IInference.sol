// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// The native verifier of inferences at 0x0000000000000000000000000000000000000903.
///
/// Models are programs of integers; a model id commits to program, weights and commitments. Inputs and outputs are
/// the integers of all tensors, one after another. What does not hold is answered with `false`, never with a revert;
/// a call that does not decode fails as a whole.
interface IInference {
    /// Whether `proof`, a proof file (.ogz), shows that the model with this id gives these outputs for these inputs.
    /// @param mode the protocol that the proof must follow; "T": accumulators in the clear; "S": committed to
    function verify(bytes32 modelId, bytes1 mode, int64[] calldata inputs, int64[] calldata outputs, bytes calldata proof)
        external
        view
        returns (bool valid);

    /// Executes a model again, bit for bit.
    /// @param model the compiled model (.qir)
    /// @param commitmentH digest of its commitment of backend H, which its id covers
    /// @param commitmentW digest of its commitment of backend W, which its id covers
    /// @return valid whether the model is the one with this id, and takes these inputs
    function reexecute(
        bytes32 modelId,
        bytes calldata model,
        bytes32 commitmentH,
        bytes32 commitmentW,
        int64[] calldata inputs
    ) external view returns (bool valid, int64[] memory outputs);
}
