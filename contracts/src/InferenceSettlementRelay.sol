// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {TEEInferenceVerifier} from "./TEEInferenceVerifier.sol";
import {TEERegistry} from "./TEERegistry.sol";
import {ITEEVerifier} from "./interfaces/ITEEVerifier.sol";

/// Settles evidence of inferences.
///
/// `batchSettle` and `settleIndividual` are the legacy calls; a root from `batchSettle` is a bare claim.
/// `batchSettleVerified` believes nothing: it rebuilds the Merkle root from the leaves and checks every
/// enclave signature before it stores the root.
contract InferenceSettlementRelay is AccessControl {
    /// One signed inference; a leaf of the Merkle tree in the encoding of OpenZeppelin's StandardMerkleTree.
    struct Leaf {
        bytes32 teeId;
        bytes32 inputHash;
        bytes32 outputHash;
        bytes signature;
        uint256 timestamp;
    }

    struct Batch {
        uint64 settledAt;
        uint32 size;
        address submitter;
        bytes32 blobIdHash;
    }

    bytes32 public constant SETTLEMENT_RELAY_ROLE = keccak256("SETTLEMENT_RELAY_ROLE");
    ITEEVerifier public constant VERIFIER = ITEEVerifier(0x0000000000000000000000000000000000000900);
    /// Leaves per verified batch; about 100 000 gas each.
    uint256 public constant BATCH_SIZE_MAX = 256;
    /// How far an enclave's clock may run ahead of the chain's, in seconds.
    uint256 public constant FUTURE_TOLERANCE = 300;
    uint256 private constant BLOB_ID_BYTES_MAX = 256;

    TEEInferenceVerifier public immutable SETTLEMENT_CONTRACT;
    /// The registry that verified batches are checked against. It is fixed: repointing the verifier of the
    /// legacy calls does not change what a verified root means.
    TEERegistry public immutable REGISTRY;

    /// Verified batches by root, slot 1.
    mapping(bytes32 merkleRoot => Batch) public batches;
    /// Verified root that settled a leaf, slot 2.
    mapping(bytes32 leafHash => bytes32) public settledLeaf;
    /// Verified root that settled a receipt, slot 3.
    mapping(bytes32 receiptDigest => bytes32) public settledReceipt;

    /// Every settled batch, verified or not; `isVerifiedRoot` tells which.
    event BatchSettlement(bytes32 indexed merkleRoot, uint256 batchSize, bytes walrusBlobId);
    event IndividualSettlement(
        bytes32 indexed teeId,
        address indexed ethAddress,
        bytes32 inputHash,
        bytes32 outputHash,
        uint256 timestamp,
        bytes walrusBlobId,
        bytes signature
    );
    /// A batch whose root was rebuilt and whose every signature was checked by the chain.
    event VerifiedBatchSettlement(bytes32 indexed merkleRoot, uint256 batchSize, bytes blobId);
    /// One per leaf of a verified batch, in leaf order: proves alone that a receipt is settled, and by which leaf.
    event ReceiptSettled(bytes32 indexed receiptDigest, bytes32 indexed merkleRoot, bytes32 indexed teeId, bytes32 leaf);

    error EmptyBatch();
    error BatchTooLarge(uint256 size);
    error LengthMismatch(uint256 leaves, uint256 receiptDigests);
    error InvalidBlobId();
    /// Leaves go in ascending order of their hashes, which is their order in the tree.
    error LeavesNotSorted(uint256 index);
    error DuplicateLeaf(uint256 index, bytes32 leaf);
    error MissingReceiptDigest(uint256 index);
    error DuplicateReceipt(uint256 index, bytes32 receiptDigest);
    error UnknownTEE(uint256 index, bytes32 teeId);
    /// The enclave was not in good standing at the signed time, or that time is in the future.
    error TEENotValidAt(uint256 index, bytes32 teeId, uint256 timestamp);
    error InvalidLeafSignature(uint256 index);

    constructor(address settlementContract) {
        require(settlementContract != address(0), "Invalid settlement contract");
        SETTLEMENT_CONTRACT = TEEInferenceVerifier(settlementContract);
        REGISTRY = TEEInferenceVerifier(settlementContract).registry();
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(SETTLEMENT_RELAY_ROLE, msg.sender);
    }

    // ---------------------------------------------------------------- verified

    /// Settles signed inferences after checking all of them; one bad leaf refuses the batch.
    /// @param leaves in ascending order of `leafHash`
    /// @param receiptDigests digest of the receipt that belongs to each leaf
    /// @param blobId content id under which the batch was published
    /// @return merkleRoot root of the StandardMerkleTree over the leaves
    function batchSettleVerified(
        Leaf[] calldata leaves,
        bytes32[] calldata receiptDigests,
        bytes calldata blobId
    ) external onlyRole(SETTLEMENT_RELAY_ROLE) returns (bytes32 merkleRoot) {
        uint256 size = leaves.length;
        if (size == 0) revert EmptyBatch();
        if (size > BATCH_SIZE_MAX) revert BatchTooLarge(size);
        if (receiptDigests.length != size) revert LengthMismatch(size, receiptDigests.length);
        if (blobId.length == 0 || blobId.length > BLOB_ID_BYTES_MAX) revert InvalidBlobId();

        bytes32[] memory hashes = _checkLeaves(leaves);
        merkleRoot = _merkleRoot(hashes);
        for (uint256 i = 0; i < size; ++i) {
            bytes32 digest = receiptDigests[i];
            if (digest == bytes32(0)) revert MissingReceiptDigest(i);
            if (settledReceipt[digest] != bytes32(0)) revert DuplicateReceipt(i, digest);
            settledReceipt[digest] = merkleRoot;
            settledLeaf[hashes[i]] = merkleRoot;
            emit ReceiptSettled(digest, merkleRoot, leaves[i].teeId, hashes[i]);
        }
        batches[merkleRoot] = Batch({
            settledAt: uint64(block.timestamp),
            size: uint32(size),
            submitter: msg.sender,
            blobIdHash: keccak256(blobId)
        });
        emit VerifiedBatchSettlement(merkleRoot, size, blobId);
        emit BatchSettlement(merkleRoot, size, blobId);
    }

    /// Whether the chain itself checked every leaf under this root.
    function isVerifiedRoot(bytes32 merkleRoot) public view returns (bool) {
        return batches[merkleRoot].settledAt != 0;
    }

    /// Whether a leaf was settled under a verified root.
    function verifyInclusion(Leaf calldata leaf, bytes32[] calldata proof, bytes32 merkleRoot)
        external
        view
        returns (bool)
    {
        return isVerifiedRoot(merkleRoot) && MerkleProof.verifyCalldata(proof, merkleRoot, leafHash(leaf));
    }

    /// keccak256(keccak256(abi.encode(teeId, inputHash, outputHash, signature, timestamp))).
    function leafHash(Leaf calldata leaf) public pure returns (bytes32) {
        bytes32 inner = keccak256(
            abi.encode(leaf.teeId, leaf.inputHash, leaf.outputHash, leaf.signature, leaf.timestamp)
        );
        return keccak256(abi.encodePacked(inner));
    }

    // ------------------------------------------------------------------ legacy

    /// Publishes a root that nobody checked.
    function batchSettle(bytes32 root, uint256 size, bytes calldata walrusBlobId)
        external
        onlyRole(SETTLEMENT_RELAY_ROLE)
    {
        emit BatchSettlement(root, size, walrusBlobId);
    }

    function settleIndividual(
        bytes32 teeId,
        bytes32 inputHash,
        bytes32 outputHash,
        uint256 timestamp,
        address ethAddress,
        bytes calldata walrusBlobId,
        bytes calldata signature
    ) external onlyRole(SETTLEMENT_RELAY_ROLE) {
        require(
            SETTLEMENT_CONTRACT.verifySignature(teeId, inputHash, outputHash, timestamp, signature),
            "Invalid signature"
        );
        emit IndividualSettlement(teeId, ethAddress, inputHash, outputHash, timestamp, walrusBlobId, signature);
    }

    function verifyProof(bytes32[] calldata proof, bytes32 root, bytes32 leaf) external pure returns (bool) {
        return MerkleProof.verifyCalldata(proof, root, leaf);
    }

    // ------------------------------------------------------------------ inside

    function _checkLeaves(Leaf[] calldata leaves) private view returns (bytes32[] memory hashes) {
        hashes = new bytes32[](leaves.length);
        bytes32 teeId;
        bytes memory publicKey;
        for (uint256 i = 0; i < leaves.length; ++i) {
            Leaf calldata leaf = leaves[i];
            bytes32 hash = leafHash(leaf);
            if (i > 0 && hash < hashes[i - 1]) revert LeavesNotSorted(i);
            if ((i > 0 && hash == hashes[i - 1]) || settledLeaf[hash] != bytes32(0)) revert DuplicateLeaf(i, hash);
            hashes[i] = hash;

            if (i == 0 || leaf.teeId != teeId) {
                teeId = leaf.teeId;
                publicKey = REGISTRY.getTEEPublicKey(teeId);
                if (publicKey.length == 0) revert UnknownTEE(i, teeId);
            }
            if (leaf.timestamp > block.timestamp + FUTURE_TOLERANCE || !REGISTRY.wasValidAt(teeId, leaf.timestamp)) {
                revert TEENotValidAt(i, teeId, leaf.timestamp);
            }
            bytes32 message = keccak256(abi.encodePacked(leaf.inputHash, leaf.outputHash, leaf.timestamp));
            if (!VERIFIER.verifyRSAPSS(publicKey, message, leaf.signature)) revert InvalidLeafSignature(i);
        }
    }

    /// Root of the StandardMerkleTree: an array of 2n - 1 nodes, leaf i at 2n - 2 - i, children of i at 2i + 1
    /// and 2i + 2.
    function _merkleRoot(bytes32[] memory leaves) private pure returns (bytes32) {
        uint256 size = leaves.length;
        bytes32[] memory nodes = new bytes32[](2 * size - 1);
        for (uint256 i = 0; i < size; ++i) {
            nodes[2 * size - 2 - i] = leaves[i];
        }
        for (uint256 i = size - 1; i > 0; --i) {
            nodes[i - 1] = Hashes.commutativeKeccak256(nodes[2 * i - 1], nodes[2 * i]);
        }
        return nodes[0];
    }
}
