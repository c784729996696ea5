//! What callers encode and decode, as Solidity interfaces.
//!
//! A test compares every selector and topic here with the committed artifacts.

#![allow(
    missing_docs,
    reason = "the macro generates items that carry the Solidity documentation or none"
)]

use alloy_sol_types::sol;

sol! {
    /// What the native verifier says about one attestation document, under the default policy.
    /// Every field is zero or empty when `valid` is false.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Appraisal {
        bool valid;
        bool simulated;
        bytes32 pcrHash;
        bytes32 payloadHash;
        uint64 timestampMs;
        bytes nonce;
        bytes receiptKey;
        bytes32 hpkeKey;
    }

    /// The native evidence verifier at `0x…0901`.
    #[derive(Debug, PartialEq, Eq)]
    interface IEvidence {
        function appraise(bytes calldata document, bytes calldata signingKey, bytes calldata tlsCertificate)
            external view returns (Appraisal memory appraisal);
        function genesisHash() external view returns (bytes32);
    }

    /// The native verifier of inferences at `0x…0903`.
    #[derive(Debug, PartialEq, Eq)]
    interface IInference {
        function verify(bytes32 modelId, bytes1 mode, int64[] calldata inputs, int64[] calldata outputs, bytes calldata proof)
            external view returns (bool valid);
        function reexecute(bytes32 modelId, bytes calldata model, bytes32 commitmentH, bytes32 commitmentW, int64[] calldata inputs)
            external view returns (bool valid, int64[] memory outputs);
    }

    /// The legacy native TEE verifier at `0x…0900`.
    #[derive(Debug, PartialEq, Eq)]
    interface ITEEVerifier {
        function verifyAttestation(
            bytes calldata attestationDocument,
            bytes calldata signingPublicKey,
            bytes calldata tlsCertificate,
            bytes calldata rootCertificate
        ) external view returns (bool valid, bytes32 pcrHash);
        function verifyRSAPSS(bytes calldata publicKeyDER, bytes32 messageHash, bytes calldata signature)
            external view returns (bool valid);
    }

    /// The registry of attested enclaves.
    #[derive(Debug, Default, PartialEq, Eq)]
    interface ITEERegistry {
        struct PCRMeasurements { bytes pcr0; bytes pcr1; bytes pcr2; }
        struct TEETypeInfo { string name; uint256 addedAt; }
        struct PCRKey { bytes32 pcrHash; uint8 teeType; }
        struct OhttpConfig {
            uint8 keyId;
            uint16 kemId;
            uint16 kdfId;
            uint16 aeadId;
            bytes publicKey;
            bytes keyConfig;
            uint256 registeredAt;
        }
        struct TEEInfo {
            address owner;
            address paymentAddress;
            string endpoint;
            bytes publicKey;
            bytes tlsCertificate;
            bytes32 pcrHash;
            uint8 teeType;
            bool enabled;
            uint256 registeredAt;
            uint256 lastHeartbeatAt;
            OhttpConfig ohttpConfig;
        }
        struct TEERecord {
            bytes32 teeId;
            address owner;
            address paymentAddress;
            string endpoint;
            bytes32 publicKeyHash;
            bytes32 tlsCertificateHash;
            bytes32 pcrHash;
            uint8 teeType;
            uint64 registeredAt;
            uint64 attestedAtMs;
            bytes32 payloadHash;
            bytes receiptKey;
            bytes32 hpkeKey;
            bool simulated;
        }
        struct Interval { uint64 from; uint64 until; }
        struct Standing {
            uint40 enabledAt;
            uint40 lastSignedHeartbeat;
            uint40 compromisedSince;
            uint32 pcrEpoch;
            uint32 operatorEpoch;
            bool banned;
        }

        event TEETypeAdded(uint8 indexed typeId, string name);
        event PCRApproved(bytes32 indexed pcrHash, uint8 indexed teeType, string version);
        event PCRRevoked(bytes32 indexed pcrHash, uint8 indexed teeType);
        event TEERegistered(bytes32 indexed teeId, address indexed owner, uint8 teeType);
        event TEERecorded(
            bytes32 indexed teeId,
            address indexed paymentAddress,
            bytes32 indexed pcrHash,
            string endpoint,
            bytes32 recordHash,
            bool simulated
        );
        event TEEDisabled(bytes32 indexed teeId);
        event TEEEnabled(bytes32 indexed teeId);
        event TEEBanned(bytes32 indexed teeId, uint64 compromisedSince);
        event TEEUnbanned(bytes32 indexed teeId);
        event AWSCertificateUpdated(bytes32 indexed certHash);
        event HeartbeatReceived(bytes32 indexed teeId, uint256 timestamp);
        event HeartbeatMaxAgeUpdated(uint256 oldAge, uint256 newAge);
        event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender);
        event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender);

        error TEETypeExists();
        error InvalidTEEType();
        error PCRNotApproved();
        error TEEAlreadyExists();
        error TEENotFound();
        error TEENotEnabled();
        error NotTEEOwner();
        error AttestationInvalid(string reason);
        error HeartbeatSignatureInvalid();
        error HeartbeatTimestampTooOld();
        error HeartbeatTimestampInFuture();
        error HeartbeatNotNewer();
        error HeartbeatMaxAgeOutOfRange();
        error InvalidPCR();
        error InvalidPaymentAddress();
        error InvalidEndpoint();
        error RegistrationNotBound(bytes32 expectedNonce);
        error KeysNotAttested();
        error AttestationAlreadyUsed(bytes32 teeId);
        error TEEBannedByAdmin();
        error OwnerNotOperator();
        error RootCertificateTooLarge();
        error AccessControlUnauthorizedAccount(address account, bytes32 neededRole);
        error AccessControlBadConfirmation();

        function setAWSRootCertificate(bytes calldata certificate) external;
        function addTEEType(uint8 typeId, string calldata name) external;
        function approvePCR(PCRMeasurements calldata pcrs, string calldata version, uint8 teeType) external;
        function revokePCR(bytes32 pcrHash, uint8 teeType) external;
        function setHeartbeatMaxAge(uint256 maxAge) external;
        function registerTEEWithAttestation(
            bytes calldata attestation,
            bytes calldata signingKey,
            bytes calldata tlsCertificate,
            address paymentAddress,
            string calldata endpoint,
            uint8 teeType
        ) external returns (bytes32 teeId);
        function registrationNonce(address owner, address paymentAddress, string calldata endpoint, uint8 teeType)
            external view returns (bytes32);
        function disableTEE(bytes32 teeId) external;
        function enableTEE(bytes32 teeId) external;
        function banTEE(bytes32 teeId, uint40 compromisedSince) external;
        function sweepRevoked(bytes32[] calldata teeIds) external returns (uint256 swept);
        function heartbeat(bytes32 teeId, uint256 timestamp, bytes calldata signature) external;

        function isValidTEEType(uint8 typeId) external view returns (bool);
        function getTEETypes() external view returns (uint8[] memory typeIds, TEETypeInfo[] memory infos);
        function teeTypes(uint8 typeId) external view returns (string memory name, uint256 addedAt);
        function isPCRApproved(uint8 teeType, bytes32 pcrHash) external view returns (bool);
        function pcrRecords(uint8 teeType, bytes32 pcrHash)
            external view returns (bool approved, uint8 recordedType, uint256 approvedAt, string memory version);
        function computePCRHash(PCRMeasurements calldata pcrs) external pure returns (bytes32);
        function getApprovedPCRs() external view returns (PCRKey[] memory approved);
        function getTEE(bytes32 teeId) external view returns (TEEInfo memory);
        function tees(bytes32 teeId) external view returns (
            address owner,
            address paymentAddress,
            string memory endpoint,
            bytes memory publicKey,
            bytes memory tlsCertificate,
            bytes32 pcrHash,
            uint8 teeType,
            bool enabled,
            uint256 registeredAt,
            uint256 lastHeartbeatAt
        );
        function getEnabledTEEs(uint8 teeType) external view returns (bytes32[] memory);
        function getActiveTEEs(uint8 teeType) external view returns (TEEInfo[] memory active);
        function getActiveTEEPage(uint8 teeType, uint256 offset, uint256 limit)
            external view returns (bytes32[] memory teeIds, TEEInfo[] memory infos, uint256 total);
        function getTEEsByType(uint8 teeType) external view returns (bytes32[] memory);
        function getTEEsByOwner(address owner) external view returns (bytes32[] memory);
        function isTEEEnabled(bytes32 teeId) external view returns (bool);
        function isTEEActive(bytes32 teeId) external view returns (bool);
        function getTEEPublicKey(bytes32 teeId) external view returns (bytes memory);
        function computeTEEId(bytes calldata publicKey) external pure returns (bytes32);
        function getReceiptKey(bytes32 teeId) external view returns (bytes memory);
        function getOHTTPConfig(bytes32 teeId) external view returns (OhttpConfig memory);
        function ohttpConfigHash(bytes32 teeId) external view returns (bytes32);
        function isSimulated(bytes32 teeId) external view returns (bool);
        function getStanding(bytes32 teeId) external view returns (Standing memory);
        function getRecord(bytes32 teeId) external view returns (TEERecord memory);
        function recordHash(bytes32 teeId) external view returns (bytes32);
        function getValidity(bytes32 teeId) external view returns (Interval[] memory intervals);
        function wasValidAt(bytes32 teeId, uint256 timestamp) external view returns (bool);
        function registeredPayload(bytes32 payloadHash) external view returns (bytes32);

        function VERIFIER() external view returns (address);
        function EVIDENCE() external view returns (address);
        function TEE_OPERATOR() external view returns (bytes32);
        function DEFAULT_ADMIN_ROLE() external view returns (bytes32);
        function REGISTRATION_DOMAIN() external view returns (bytes memory);
        function OHTTP_CONFIG_DOMAIN() external view returns (bytes32);
        function CLOCK_SKEW() external view returns (uint64);
        function HEARTBEAT_MAX_AGE_FLOOR() external view returns (uint256);
        function HEARTBEAT_MAX_AGE_CEILING() external view returns (uint256);
        function heartbeatMaxAge() external view returns (uint256);
        function awsRootCertificate() external view returns (bytes memory);
        function hasRole(bytes32 role, address account) external view returns (bool);
        function getRoleAdmin(bytes32 role) external view returns (bytes32);
        function grantRole(bytes32 role, address account) external;
        function revokeRole(bytes32 role, address account) external;
        function renounceRole(bytes32 role, address callerConfirmation) external;
        function supportsInterface(bytes4 interfaceId) external view returns (bool);
    }

    /// The verifier of inference signatures, recent and of any time.
    #[derive(Debug, PartialEq, Eq)]
    interface ITEEInferenceVerifier {
        event RegistryUpdated(address indexed oldRegistry, address indexed newRegistry);

        error InvalidRegistryAddress();

        function registry() external view returns (address);
        function setRegistry(address newRegistry) external;
        function computeMessageHash(bytes32 inputHash, bytes32 outputHash, uint256 timestamp)
            external pure returns (bytes32);
        function verifySignature(
            bytes32 teeId, bytes32 inputHash, bytes32 outputHash, uint256 timestamp, bytes calldata signature
        ) external view returns (bool);
        function verifySignatureNoTimestamp(
            bytes32 teeId, bytes32 inputHash, bytes32 outputHash, uint256 timestamp, bytes calldata signature
        ) external view returns (bool);
        function MAX_INFERENCE_AGE() external view returns (uint256);
        function FUTURE_TOLERANCE() external view returns (uint256);
    }

    /// The settlement relay.
    #[derive(Debug, PartialEq, Eq)]
    interface IInferenceSettlementRelay {
        struct Leaf {
            bytes32 teeId;
            bytes32 inputHash;
            bytes32 outputHash;
            bytes signature;
            uint256 timestamp;
        }

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
        event VerifiedBatchSettlement(bytes32 indexed merkleRoot, uint256 batchSize, bytes blobId);
        event ReceiptSettled(
            bytes32 indexed receiptDigest, bytes32 indexed merkleRoot, bytes32 indexed teeId, bytes32 leaf
        );

        error EmptyBatch();
        error BatchTooLarge(uint256 size);
        error LengthMismatch(uint256 leaves, uint256 receiptDigests);
        error InvalidBlobId();
        error LeavesNotSorted(uint256 index);
        error DuplicateLeaf(uint256 index, bytes32 leaf);
        error MissingReceiptDigest(uint256 index);
        error DuplicateReceipt(uint256 index, bytes32 receiptDigest);
        error UnknownTEE(uint256 index, bytes32 teeId);
        error TEENotValidAt(uint256 index, bytes32 teeId, uint256 timestamp);
        error InvalidLeafSignature(uint256 index);
        error AccessControlUnauthorizedAccount(address account, bytes32 neededRole);

        function batchSettleVerified(Leaf[] calldata leaves, bytes32[] calldata receiptDigests, bytes calldata blobId)
            external returns (bytes32 merkleRoot);
        function isVerifiedRoot(bytes32 merkleRoot) external view returns (bool);
        function batches(bytes32 merkleRoot)
            external view returns (uint64 settledAt, uint32 size, address submitter, bytes32 blobIdHash);
        function settledLeaf(bytes32 leafHash) external view returns (bytes32);
        function settledReceipt(bytes32 receiptDigest) external view returns (bytes32);
        function verifyInclusion(Leaf calldata leaf, bytes32[] calldata proof, bytes32 merkleRoot)
            external view returns (bool);
        function leafHash(Leaf calldata leaf) external pure returns (bytes32);

        function batchSettle(bytes32 root, uint256 size, bytes calldata walrusBlobId) external;
        function settleIndividual(
            bytes32 teeId,
            bytes32 inputHash,
            bytes32 outputHash,
            uint256 timestamp,
            address ethAddress,
            bytes calldata walrusBlobId,
            bytes calldata signature
        ) external;
        function verifyProof(bytes32[] calldata proof, bytes32 root, bytes32 leaf) external pure returns (bool);

        function SETTLEMENT_RELAY_ROLE() external view returns (bytes32);
        function SETTLEMENT_CONTRACT() external view returns (address);
        function REGISTRY() external view returns (address);
        function BATCH_SIZE_MAX() external view returns (uint256);
        function hasRole(bytes32 role, address account) external view returns (bool);
        function grantRole(bytes32 role, address account) external;
        function revokeRole(bytes32 role, address account) external;
    }

    /// EIP-20, EIP-2612 and EIP-3009: what OPG (the first two) and USDC (all three) offer.
    #[derive(Debug, PartialEq, Eq)]
    interface IERC20Permit3009 {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event Approval(address indexed owner, address indexed spender, uint256 value);
        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);

        error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
        error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
        error ERC2612ExpiredSignature(uint256 deadline);
        error ERC2612InvalidSigner(address signer, address owner);

        function name() external view returns (string memory);
        function symbol() external view returns (string memory);
        function version() external view returns (string memory);
        function decimals() external view returns (uint8);
        function totalSupply() external view returns (uint256);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
        function transferFrom(address from, address to, uint256 value) external returns (bool);

        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function nonces(address owner) external view returns (uint256);
        function permit(
            address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s
        ) external;

        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        function transferWithAuthorization(
            address from,
            address to,
            uint256 value,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            uint8 v,
            bytes32 r,
            bytes32 s
        ) external;
        function transferWithAuthorization(
            address from,
            address to,
            uint256 value,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            bytes memory signature
        ) external;
        function receiveWithAuthorization(
            address from,
            address to,
            uint256 value,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            uint8 v,
            bytes32 r,
            bytes32 s
        ) external;
        function receiveWithAuthorization(
            address from,
            address to,
            uint256 value,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            bytes memory signature
        ) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, bytes memory signature) external;
    }

    /// The part of Permit2 that payments touch.
    #[derive(Debug, PartialEq, Eq)]
    interface IPermit2 {
        struct TokenPermissions { address token; uint256 amount; }
        struct PermitTransferFrom { TokenPermissions permitted; uint256 nonce; uint256 deadline; }

        error SignatureExpired(uint256 signatureDeadline);
        error InvalidNonce();
        error InvalidSigner();
        error InvalidSignature();
        error InvalidSignatureLength();
        error InvalidContractSignature();
        error InvalidAmount(uint256 maxAmount);

        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function nonceBitmap(address owner, uint256 wordPos) external view returns (uint256);
        function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
    }

    /// The x402 `exact` proxy.
    #[derive(Debug, PartialEq, Eq)]
    interface IX402ExactPermit2Proxy {
        struct EIP2612Permit { uint256 value; uint256 deadline; bytes32 r; bytes32 s; uint8 v; }
        struct TokenPermissions { address token; uint256 amount; }
        struct PermitTransferFrom { TokenPermissions permitted; uint256 nonce; uint256 deadline; }
        struct Witness { address to; uint256 validAfter; }

        event Settled();
        event SettledWithPermit();
        event EIP2612PermitFailed(address indexed token, address indexed owner, bytes reason);

        error InvalidPermit2Address();
        error InvalidDestination();
        error PaymentTooEarly();
        error InvalidOwner();
        error InvalidAmount();
        error Permit2612AmountMismatch();
        error ReentrancyGuardReentrantCall();

        function settle(
            PermitTransferFrom calldata permit, address owner, Witness calldata witness, bytes calldata signature
        ) external;
        function settleWithPermit(
            EIP2612Permit calldata permit2612,
            PermitTransferFrom calldata permit,
            address owner,
            Witness calldata witness,
            bytes calldata signature
        ) external;
        function PERMIT2() external view returns (address);
        function WITNESS_TYPE_STRING() external view returns (string memory);
        function WITNESS_TYPEHASH() external view returns (bytes32);
    }

    /// The x402 `upto` proxy.
    #[derive(Debug, PartialEq, Eq)]
    interface IX402UptoPermit2Proxy {
        struct EIP2612Permit { uint256 value; uint256 deadline; bytes32 r; bytes32 s; uint8 v; }
        struct TokenPermissions { address token; uint256 amount; }
        struct PermitTransferFrom { TokenPermissions permitted; uint256 nonce; uint256 deadline; }
        struct Witness { address to; address facilitator; uint256 validAfter; }

        event Settled();
        event SettledWithPermit();
        event EIP2612PermitFailed(address indexed token, address indexed owner, bytes reason);

        error AmountExceedsPermitted();
        error UnauthorizedFacilitator();
        error InvalidPermit2Address();
        error InvalidDestination();
        error PaymentTooEarly();
        error InvalidOwner();
        error InvalidAmount();
        error Permit2612AmountMismatch();
        error ReentrancyGuardReentrantCall();

        function settle(
            PermitTransferFrom calldata permit,
            uint256 amount,
            address owner,
            Witness calldata witness,
            bytes calldata signature
        ) external;
        function settleWithPermit(
            EIP2612Permit calldata permit2612,
            PermitTransferFrom calldata permit,
            uint256 amount,
            address owner,
            Witness calldata witness,
            bytes calldata signature
        ) external;
        function PERMIT2() external view returns (address);
        function WITNESS_TYPE_STRING() external view returns (string memory);
        function WITNESS_TYPEHASH() external view returns (bytes32);
    }

    /// Many calls in one.
    #[derive(Debug, PartialEq, Eq)]
    interface IMulticall3 {
        struct Call3 { address target; bool allowFailure; bytes callData; }
        struct Result { bool success; bytes returnData; }
        function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory returnData);
    }
}
