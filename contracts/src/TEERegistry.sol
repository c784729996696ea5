// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";

import {Appraisal, IEvidence} from "./interfaces/IEvidence.sol";
import {ITEEVerifier} from "./interfaces/ITEEVerifier.sol";

/// Directory of attested enclaves: type, approved measurement, instance, liveness.
///
/// The ABI (selectors, events, errors, order of checks) is the one the official clients use. What differs is
/// behind it:
///
/// - A registration is bound by the attested nonce to its owner, chain, registry, payment address, endpoint and
///   type, so an attestation seen on the wire is of no use to anybody else.
/// - The receipt key and the HPKE key come out of the attestation too; nobody can type them in.
/// - An enclave switched off by an admin stays off until an admin switches it on.
/// - Revoking a measurement or an operator costs the same whatever the number of enclaves: enclaves carry the
///   epoch they were enabled in, and every reader compares.
/// - Heartbeats strictly increase, and liveness is counted from the signed time.
/// - Every enclave has validity intervals, so that what it signed in good standing stays valid after it retires.
contract TEERegistry is AccessControl {
    // ---------------------------------------------------------------- types

    struct PCRMeasurements {
        bytes pcr0;
        bytes pcr1;
        bytes pcr2;
    }

    struct ApprovedPCR {
        bool approved;
        uint8 teeType;
        uint256 approvedAt;
        string version;
    }

    struct TEETypeInfo {
        string name;
        uint256 addedAt;
    }

    struct PCRKey {
        bytes32 pcrHash;
        uint8 teeType;
    }

    /// The ten fields kept per enclave; slot 7, in the order of the legacy layout.
    struct StoredTEE {
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
    }

    /// An Oblivious HTTP key configuration (RFC 9458).
    struct OhttpConfig {
        uint8 keyId;
        uint16 kemId;
        uint16 kdfId;
        uint16 aeadId;
        bytes publicKey;
        bytes keyConfig;
        uint256 registeredAt;
    }

    /// What clients read: the ten fields and, last, the OHTTP configuration. A decoder of ten fields skips it.
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

    /// Everything about an enclave that never changes. Its hash sits in one storage slot (`recordHash`), so one
    /// storage proof proves all of it.
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

    /// A period of good standing, in seconds, both ends included. `until` is 2^64 - 1 while it lasts.
    struct Interval {
        uint64 from;
        uint64 until;
    }

    /// What changes, in one slot: `recordHash` and this word are all a verifier has to prove.
    struct Standing {
        uint40 enabledAt;
        uint40 lastSignedHeartbeat;
        uint40 compromisedSince;
        uint32 pcrEpoch;
        uint32 operatorEpoch;
        bool banned;
    }

    struct AttestedKeys {
        bytes32 payloadHash;
        bytes32 hpkeKey;
        uint64 attestedAtMs;
        bool simulated;
        bytes receiptKey;
    }

    // ------------------------------------------------------------ constants

    ITEEVerifier public constant VERIFIER = ITEEVerifier(0x0000000000000000000000000000000000000900);
    IEvidence public constant EVIDENCE = IEvidence(0x0000000000000000000000000000000000000901);
    bytes32 public constant TEE_OPERATOR = keccak256("TEE_OPERATOR");

    /// Prefix of the attested nonce.
    bytes public constant REGISTRATION_DOMAIN = "_OG_REGISTRATION_BIND";
    /// Domain of the hash under which an enclave endorses its OHTTP configuration.
    bytes32 public constant OHTTP_CONFIG_DOMAIN = keccak256("OPENGRADIENT_TEE_OHTTP_CONFIG_V1");

    uint256 public constant HEARTBEAT_MAX_AGE_FLOOR = 60;
    uint256 public constant HEARTBEAT_MAX_AGE_CEILING = 1 days;
    /// How far the clocks of an enclave and of the chain may differ, in seconds.
    uint64 public constant CLOCK_SKEW = 60;
    /// Bytes of a SHA-384 measurement.
    uint256 private constant PCR_BYTES = 48;
    uint256 private constant ENDPOINT_BYTES_MAX = 512;
    uint256 private constant ROOT_BYTES_MAX = 8192;

    // DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
    uint8 private constant OHTTP_KEY_ID = 1;
    uint16 private constant OHTTP_KEM = 0x0020;
    uint16 private constant OHTTP_KDF = 0x0001;
    uint16 private constant OHTTP_AEAD = 0x0003;

    // -------------------------------------------------------------- storage
    // Slot 0 is AccessControl's. Slots 1 to 11 are the legacy layout; ours follow.

    bytes public awsRootCertificate;
    uint256 public heartbeatMaxAge = 1800;
    mapping(uint8 teeType => TEETypeInfo) public teeTypes;
    uint8[] private _teeTypeList;
    mapping(uint8 teeType => mapping(bytes32 pcrHash => ApprovedPCR)) public pcrRecords;
    PCRKey[] private _pcrList;
    mapping(bytes32 teeId => StoredTEE) private _tees;
    mapping(uint8 teeType => bytes32[]) private _enabledTEEList;
    mapping(uint8 teeType => mapping(bytes32 teeId => uint256)) private _enabledTEEIndex;
    mapping(uint8 teeType => bytes32[]) private _teesByType;
    mapping(address owner => bytes32[]) private _teesByOwner;

    /// keccak256(abi.encode(TEERecord)), slot 12.
    mapping(bytes32 teeId => bytes32) public recordHash;
    /// Slot 13.
    mapping(bytes32 teeId => Standing) private _standing;
    mapping(bytes32 teeId => AttestedKeys) private _keys;
    mapping(bytes32 teeId => Interval[]) private _pastIntervals;
    /// Times at which a measurement was revoked; the length is its current epoch.
    mapping(uint8 teeType => mapping(bytes32 pcrHash => uint40[])) private _pcrRevocations;
    /// Times at which an account lost TEE_OPERATOR; the length is its current epoch.
    mapping(address operator => uint40[]) private _operatorRevocations;
    /// Enclave that a COSE payload registered.
    mapping(bytes32 payloadHash => bytes32) public registeredPayload;

    // --------------------------------------------------------------- events

    event TEETypeAdded(uint8 indexed typeId, string name);
    event PCRApproved(bytes32 indexed pcrHash, uint8 indexed teeType, string version);
    event PCRRevoked(bytes32 indexed pcrHash, uint8 indexed teeType);
    event TEERegistered(bytes32 indexed teeId, address indexed owner, uint8 teeType);
    event TEEDisabled(bytes32 indexed teeId);
    event TEEEnabled(bytes32 indexed teeId);
    event AWSCertificateUpdated(bytes32 indexed certHash);
    event HeartbeatReceived(bytes32 indexed teeId, uint256 timestamp);

    /// Beside `TEERegistered`: what the record says, and the hash that commits to all of it.
    event TEERecorded(
        bytes32 indexed teeId,
        address indexed paymentAddress,
        bytes32 indexed pcrHash,
        string endpoint,
        bytes32 recordHash,
        bool simulated
    );
    event HeartbeatMaxAgeUpdated(uint256 oldAge, uint256 newAge);
    /// An admin switched the enclave off; what it signed at or after `compromisedSince` (0: never) is void.
    event TEEBanned(bytes32 indexed teeId, uint64 compromisedSince);
    event TEEUnbanned(bytes32 indexed teeId);

    // --------------------------------------------------------------- errors

    error TEETypeExists();
    error TEETypeNotFound();
    error InvalidTEEType();
    error PCRNotApproved();
    error PCRAlreadyExists();
    error TEEAlreadyExists();
    error TEENotFound();
    error TEENotEnabled();
    error NotTEEOwner();
    error AttestationInvalid(string reason);
    error KeyBindingFailed(string reason);
    error HeartbeatSignatureInvalid();
    error HeartbeatTimestampTooOld();
    error HeartbeatTimestampInFuture();

    /// A signed heartbeat must be newer than the last one accepted.
    error HeartbeatNotNewer();
    error HeartbeatMaxAgeOutOfRange();
    /// Each measurement is 48 bytes (SHA-384) and PCR0 is not zero: zeros are an enclave in debug mode.
    error InvalidPCR();
    error InvalidPaymentAddress();
    error InvalidEndpoint();
    /// The document's nonce is not `registrationNonce(...)` of this very registration.
    error RegistrationNotBound(bytes32 expectedNonce);
    /// The document carries no receipt key or no HPKE key.
    error KeysNotAttested();
    error AttestationAlreadyUsed(bytes32 teeId);
    error TEEBannedByAdmin();
    /// An enclave is on only while its owner holds TEE_OPERATOR, whoever asks.
    error OwnerNotOperator();
    error RootCertificateTooLarge();

    constructor() {
        _setRoleAdmin(TEE_OPERATOR, DEFAULT_ADMIN_ROLE);
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(TEE_OPERATOR, msg.sender);
    }

    // -------------------------------------------------------- administration

    /// Pins registrations to one of the roots that genesis trusts (PEM text); empty lifts the pin. It can only
    /// narrow: a root unknown to the chain makes every registration fail, it never adds trust.
    function setAWSRootCertificate(bytes calldata certificate) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (certificate.length > ROOT_BYTES_MAX) revert RootCertificateTooLarge();
        awsRootCertificate = certificate;
        emit AWSCertificateUpdated(keccak256(certificate));
    }

    function addTEEType(uint8 typeId, string calldata name) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (teeTypes[typeId].addedAt != 0) revert TEETypeExists();
        teeTypes[typeId] = TEETypeInfo({name: name, addedAt: block.timestamp});
        _teeTypeList.push(typeId);
        emit TEETypeAdded(typeId, name);
    }

    /// Approves a measurement for a type. Approving one again after a revocation revives no enclave.
    function approvePCR(PCRMeasurements calldata pcrs, string calldata version, uint8 teeType)
        external
        onlyRole(DEFAULT_ADMIN_ROLE)
    {
        if (!isValidTEEType(teeType)) revert InvalidTEEType();
        if (
            pcrs.pcr0.length != PCR_BYTES || pcrs.pcr1.length != PCR_BYTES || pcrs.pcr2.length != PCR_BYTES
                || keccak256(pcrs.pcr0) == keccak256(new bytes(PCR_BYTES))
        ) revert InvalidPCR();
        bytes32 pcrHash = keccak256(abi.encodePacked(pcrs.pcr0, pcrs.pcr1, pcrs.pcr2));
        if (pcrRecords[teeType][pcrHash].approvedAt == 0) {
            _pcrList.push(PCRKey({pcrHash: pcrHash, teeType: teeType}));
        }
        pcrRecords[teeType][pcrHash] =
            ApprovedPCR({approved: true, teeType: teeType, approvedAt: block.timestamp, version: version});
        emit PCRApproved(pcrHash, teeType, version);
    }

    /// Revokes a measurement. Every enclave that runs it is off from this moment, without being visited.
    function revokePCR(bytes32 pcrHash, uint8 teeType) external onlyRole(DEFAULT_ADMIN_ROLE) {
        ApprovedPCR storage record = pcrRecords[teeType][pcrHash];
        if (!record.approved) revert PCRNotApproved();
        record.approved = false;
        _pcrRevocations[teeType][pcrHash].push(uint40(block.timestamp));
        emit PCRRevoked(pcrHash, teeType);
    }

    function setHeartbeatMaxAge(uint256 maxAge) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (maxAge < HEARTBEAT_MAX_AGE_FLOOR || maxAge > HEARTBEAT_MAX_AGE_CEILING) {
            revert HeartbeatMaxAgeOutOfRange();
        }
        emit HeartbeatMaxAgeUpdated(heartbeatMaxAge, maxAge);
        heartbeatMaxAge = maxAge;
    }

    // ---------------------------------------------------------- registration

    /// Registers an enclave for the caller.
    /// @param attestation document whose nonce is `registrationNonce(msg.sender, paymentAddress, endpoint, teeType)`
    /// @param signingKey DER SubjectPublicKeyInfo of the enclave's RSA key
    /// @param tlsCertificate DER certificate that clients pin
    /// @return teeId keccak256(signingKey)
    function registerTEEWithAttestation(
        bytes calldata attestation,
        bytes calldata signingKey,
        bytes calldata tlsCertificate,
        address paymentAddress,
        string calldata endpoint,
        uint8 teeType
    ) external onlyRole(TEE_OPERATOR) returns (bytes32 teeId) {
        if (!isValidTEEType(teeType)) revert InvalidTEEType();
        teeId = keccak256(signingKey);
        StoredTEE storage tee = _tees[teeId];
        if (tee.registeredAt != 0) revert TEEAlreadyExists();

        Appraisal memory appraisal = _appraise(attestation, signingKey, tlsCertificate);
        if (!isPCRApproved(teeType, appraisal.pcrHash)) revert PCRNotApproved();
        if (paymentAddress == address(0)) revert InvalidPaymentAddress();
        if (bytes(endpoint).length == 0 || bytes(endpoint).length > ENDPOINT_BYTES_MAX) revert InvalidEndpoint();

        bytes32 expected = registrationNonce(msg.sender, paymentAddress, endpoint, teeType);
        if (appraisal.nonce.length != 32 || bytes32(appraisal.nonce) != expected) {
            revert RegistrationNotBound(expected);
        }
        if (appraisal.receiptKey.length == 0 || appraisal.hpkeKey == bytes32(0)) revert KeysNotAttested();
        if (registeredPayload[appraisal.payloadHash] != bytes32(0)) {
            revert AttestationAlreadyUsed(registeredPayload[appraisal.payloadHash]);
        }
        registeredPayload[appraisal.payloadHash] = teeId;

        tee.owner = msg.sender;
        tee.paymentAddress = paymentAddress;
        tee.endpoint = endpoint;
        tee.publicKey = signingKey;
        tee.tlsCertificate = tlsCertificate;
        tee.pcrHash = appraisal.pcrHash;
        tee.teeType = teeType;
        tee.registeredAt = block.timestamp;
        tee.lastHeartbeatAt = block.timestamp;
        _keys[teeId] = AttestedKeys({
            payloadHash: appraisal.payloadHash,
            hpkeKey: appraisal.hpkeKey,
            attestedAtMs: appraisal.timestampMs,
            simulated: appraisal.simulated,
            receiptKey: appraisal.receiptKey
        });
        _teesByType[teeType].push(teeId);
        _teesByOwner[msg.sender].push(teeId);
        _open(teeId, tee);

        bytes32 committed = keccak256(abi.encode(getRecord(teeId)));
        recordHash[teeId] = committed;
        emit TEERegistered(teeId, msg.sender, teeType);
        emit TEERecorded(teeId, paymentAddress, appraisal.pcrHash, endpoint, committed, appraisal.simulated);
    }

    /// The nonce that an enclave must put into its attestation to be registered with these terms:
    /// keccak256(abi.encode("_OG_REGISTRATION_BIND", owner, chain id, genesis hash, registry, payment address,
    /// endpoint, type)).
    function registrationNonce(address owner, address paymentAddress, string calldata endpoint, uint8 teeType)
        public
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                REGISTRATION_DOMAIN,
                owner,
                block.chainid,
                EVIDENCE.genesisHash(),
                address(this),
                paymentAddress,
                endpoint,
                teeType
            )
        );
    }

    function _appraise(bytes calldata attestation, bytes calldata signingKey, bytes calldata tlsCertificate)
        private
        view
        returns (Appraisal memory appraisal)
    {
        appraisal = EVIDENCE.appraise(attestation, signingKey, tlsCertificate);
        bool valid = appraisal.valid;
        if (valid && awsRootCertificate.length != 0) {
            (valid,) = VERIFIER.verifyAttestation(attestation, signingKey, tlsCertificate, awsRootCertificate);
        }
        if (!valid) revert AttestationInvalid("Attestation document verification failed");
    }

    // -------------------------------------------------------------- lifecycle

    /// Switches an enclave off: its owner pauses it, an admin who is not its owner bans it.
    function disableTEE(bytes32 teeId) external {
        StoredTEE storage tee = _existing(teeId);
        _requireOwnerOrAdmin(tee);
        if (!isTEEEnabled(teeId)) revert TEENotEnabled();
        _close(teeId, tee, uint64(block.timestamp));
        if (msg.sender != tee.owner) {
            _standing[teeId].banned = true;
            emit TEEBanned(teeId, 0);
        }
    }

    /// Switches an enclave on again. No-op when it is on; an owner cannot lift an admin's ban.
    function enableTEE(bytes32 teeId) external {
        StoredTEE storage tee = _existing(teeId);
        _requireOwnerOrAdmin(tee);
        if (isTEEEnabled(teeId)) return;
        if (!isPCRApproved(tee.teeType, tee.pcrHash)) revert PCRNotApproved();
        if (_standing[teeId].banned) {
            if (!hasRole(DEFAULT_ADMIN_ROLE, msg.sender)) revert TEEBannedByAdmin();
            _standing[teeId].banned = false;
            emit TEEUnbanned(teeId);
        }
        if (!hasRole(TEE_OPERATOR, tee.owner)) revert OwnerNotOperator();
        if (tee.enabled) _close(teeId, tee, _endOfStanding(teeId, tee));
        _open(teeId, tee);
        emit TEEEnabled(teeId);
    }

    /// Bans an enclave whatever its state.
    /// @param compromisedSince time (seconds) from which its signatures are void; 0 when its key is not in doubt
    function banTEE(bytes32 teeId, uint40 compromisedSince) external onlyRole(DEFAULT_ADMIN_ROLE) {
        StoredTEE storage tee = _existing(teeId);
        if (tee.enabled) {
            uint64 end = _endOfStanding(teeId, tee);
            _close(teeId, tee, end < block.timestamp ? end : uint64(block.timestamp));
        }
        _standing[teeId].banned = true;
        _standing[teeId].compromisedSince = compromisedSince;
        emit TEEBanned(teeId, compromisedSince);
    }

    /// Takes enclaves off the enabled list whose measurement or operator was revoked. It changes nothing that a
    /// reader sees; anyone may call it, to keep the list short.
    function sweepRevoked(bytes32[] calldata teeIds) external returns (uint256 swept) {
        for (uint256 i = 0; i < teeIds.length; ++i) {
            StoredTEE storage tee = _tees[teeIds[i]];
            if (!tee.enabled) continue;
            uint64 end = _endOfStanding(teeIds[i], tee);
            if (end == type(uint64).max) continue;
            _close(teeIds[i], tee, end);
            ++swept;
        }
    }

    /// Records that an enclave was alive at `timestamp`. Anyone may deliver it; the enclave's signature counts.
    /// @param signature RSA-PSS over keccak256(teeId || uint256 timestamp)
    function heartbeat(bytes32 teeId, uint256 timestamp, bytes calldata signature) external {
        StoredTEE storage tee = _existing(teeId);
        if (!isTEEEnabled(teeId)) revert TEENotEnabled();
        if (timestamp > block.timestamp) revert HeartbeatTimestampInFuture();
        if (block.timestamp - timestamp > heartbeatMaxAge) revert HeartbeatTimestampTooOld();
        if (timestamp <= _standing[teeId].lastSignedHeartbeat) revert HeartbeatNotNewer();
        if (!VERIFIER.verifyRSAPSS(tee.publicKey, keccak256(abi.encodePacked(teeId, timestamp)), signature)) {
            revert HeartbeatSignatureInvalid();
        }
        _standing[teeId].lastSignedHeartbeat = uint40(timestamp);
        // The first heartbeats may be signed for a time before the registration was mined.
        if (timestamp > tee.lastHeartbeatAt) tee.lastHeartbeatAt = timestamp;
        emit HeartbeatReceived(teeId, timestamp);
    }

    // ------------------------------------------------------ types and measurements

    function isValidTEEType(uint8 typeId) public view returns (bool) {
        return teeTypes[typeId].addedAt != 0;
    }

    function getTEETypes() external view returns (uint8[] memory typeIds, TEETypeInfo[] memory infos) {
        typeIds = _teeTypeList;
        infos = new TEETypeInfo[](typeIds.length);
        for (uint256 i = 0; i < typeIds.length; ++i) {
            infos[i] = teeTypes[typeIds[i]];
        }
    }

    function isPCRApproved(uint8 teeType, bytes32 pcrHash) public view returns (bool) {
        return pcrRecords[teeType][pcrHash].approved;
    }

    function computePCRHash(PCRMeasurements calldata pcrs) external pure returns (bytes32) {
        return keccak256(abi.encodePacked(pcrs.pcr0, pcrs.pcr1, pcrs.pcr2));
    }

    function getApprovedPCRs() external view returns (PCRKey[] memory approved) {
        uint256 count = 0;
        uint256 length = _pcrList.length;
        approved = new PCRKey[](length);
        for (uint256 i = 0; i < length; ++i) {
            PCRKey memory key = _pcrList[i];
            if (isPCRApproved(key.teeType, key.pcrHash)) approved[count++] = key;
        }
        assembly ("memory-safe") {
            mstore(approved, count)
        }
    }

    // ------------------------------------------------------------------ enclaves

    function getTEE(bytes32 teeId) external view returns (TEEInfo memory) {
        _existing(teeId);
        return _info(teeId);
    }

    /// The ten flat values; zeros for an unknown id.
    function tees(bytes32 teeId)
        external
        view
        returns (
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
        )
    {
        StoredTEE storage tee = _tees[teeId];
        return (
            tee.owner,
            tee.paymentAddress,
            tee.endpoint,
            tee.publicKey,
            tee.tlsCertificate,
            tee.pcrHash,
            tee.teeType,
            isTEEEnabled(teeId),
            tee.registeredAt,
            tee.lastHeartbeatAt
        );
    }

    function getEnabledTEEs(uint8 teeType) external view returns (bytes32[] memory) {
        return _filter(teeType, false);
    }

    function getActiveTEEs(uint8 teeType) external view returns (TEEInfo[] memory active) {
        bytes32[] memory ids = _filter(teeType, true);
        active = new TEEInfo[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            active[i] = _info(ids[i]);
        }
    }

    /// A page of the active enclaves with their ids; `total` is the number of entries to page through.
    function getActiveTEEPage(uint8 teeType, uint256 offset, uint256 limit)
        external
        view
        returns (bytes32[] memory teeIds, TEEInfo[] memory infos, uint256 total)
    {
        bytes32[] storage list = _enabledTEEList[teeType];
        total = list.length;
        uint256 end = offset < total ? (limit < total - offset ? offset + limit : total) : offset;
        teeIds = new bytes32[](end - offset);
        uint256 count = 0;
        for (uint256 i = offset; i < end; ++i) {
            if (isTEEActive(list[i])) teeIds[count++] = list[i];
        }
        infos = new TEEInfo[](count);
        for (uint256 i = 0; i < count; ++i) {
            infos[i] = _info(teeIds[i]);
        }
        assembly ("memory-safe") {
            mstore(teeIds, count)
        }
    }

    function getTEEsByType(uint8 teeType) external view returns (bytes32[] memory) {
        return _teesByType[teeType];
    }

    function getTEEsByOwner(address owner) external view returns (bytes32[] memory) {
        return _teesByOwner[owner];
    }

    /// Registered, not switched off, measurement approved, owner still an operator.
    function isTEEEnabled(bytes32 teeId) public view returns (bool) {
        StoredTEE storage tee = _tees[teeId];
        return tee.enabled && _endOfStanding(teeId, tee) == type(uint64).max;
    }

    /// Enabled and heard of within `heartbeatMaxAge`.
    function isTEEActive(bytes32 teeId) public view returns (bool) {
        return isTEEEnabled(teeId) && block.timestamp - _tees[teeId].lastHeartbeatAt <= heartbeatMaxAge;
    }

    function getTEEPublicKey(bytes32 teeId) external view returns (bytes memory) {
        return _tees[teeId].publicKey;
    }

    /// The attested key that signs receipts; empty for an unknown id.
    function getReceiptKey(bytes32 teeId) external view returns (bytes memory) {
        return _keys[teeId].receiptKey;
    }

    function getOHTTPConfig(bytes32 teeId) external view returns (OhttpConfig memory) {
        _existing(teeId);
        return _ohttpConfig(teeId);
    }

    /// The hash that the enclave's RSA key signs to endorse its OHTTP configuration.
    function ohttpConfigHash(bytes32 teeId) external view returns (bytes32) {
        _existing(teeId);
        OhttpConfig memory config = _ohttpConfig(teeId);
        return keccak256(
            abi.encodePacked(
                OHTTP_CONFIG_DOMAIN,
                teeId,
                uint256(config.keyId),
                uint256(config.kemId),
                uint256(config.kdfId),
                uint256(config.aeadId),
                keccak256(config.publicKey),
                keccak256(config.keyConfig)
            )
        );
    }

    function isSimulated(bytes32 teeId) external view returns (bool) {
        return _keys[teeId].simulated;
    }

    function getStanding(bytes32 teeId) external view returns (Standing memory) {
        _existing(teeId);
        return _standing[teeId];
    }

    /// Everything about an enclave that never changes; `recordHash` commits to it.
    function getRecord(bytes32 teeId) public view returns (TEERecord memory) {
        StoredTEE storage tee = _existing(teeId);
        AttestedKeys storage keys = _keys[teeId];
        return TEERecord({
            teeId: teeId,
            owner: tee.owner,
            paymentAddress: tee.paymentAddress,
            endpoint: tee.endpoint,
            publicKeyHash: teeId,
            tlsCertificateHash: keccak256(tee.tlsCertificate),
            pcrHash: tee.pcrHash,
            teeType: tee.teeType,
            registeredAt: uint64(tee.registeredAt),
            attestedAtMs: keys.attestedAtMs,
            payloadHash: keys.payloadHash,
            receiptKey: keys.receiptKey,
            hpkeKey: keys.hpkeKey,
            simulated: keys.simulated
        });
    }

    /// The periods in which the enclave was in good standing, oldest first.
    function getValidity(bytes32 teeId) external view returns (Interval[] memory intervals) {
        StoredTEE storage tee = _existing(teeId);
        Interval[] storage past = _pastIntervals[teeId];
        uint256 count = past.length;
        intervals = new Interval[](tee.enabled ? count + 1 : count);
        for (uint256 i = 0; i < count; ++i) {
            intervals[i] = past[i];
        }
        if (tee.enabled) {
            intervals[count] = Interval({from: _standing[teeId].enabledAt, until: _endOfStanding(teeId, tee)});
        }
    }

    /// Whether what the enclave signed at `timestamp` (seconds) counts: it was in good standing then, give or
    /// take `CLOCK_SKEW`, and its key was not known to be compromised.
    function wasValidAt(bytes32 teeId, uint256 timestamp) external view returns (bool) {
        StoredTEE storage tee = _tees[teeId];
        Standing storage standing = _standing[teeId];
        if (tee.registeredAt == 0) return false;
        if (standing.compromisedSince != 0 && timestamp >= standing.compromisedSince) return false;
        if (
            tee.enabled
                && _covers(Interval({from: standing.enabledAt, until: _endOfStanding(teeId, tee)}), timestamp)
        ) return true;
        Interval[] storage past = _pastIntervals[teeId];
        for (uint256 i = past.length; i > 0; --i) {
            if (_covers(past[i - 1], timestamp)) return true;
        }
        return false;
    }

    function computeTEEId(bytes calldata publicKey) external pure returns (bytes32) {
        return keccak256(publicKey);
    }

    // ------------------------------------------------------------------- inside

    function _revokeRole(bytes32 role, address account) internal override returns (bool revoked) {
        revoked = super._revokeRole(role, account);
        if (revoked && role == TEE_OPERATOR) _operatorRevocations[account].push(uint40(block.timestamp));
    }

    function _existing(bytes32 teeId) private view returns (StoredTEE storage tee) {
        tee = _tees[teeId];
        if (tee.registeredAt == 0) revert TEENotFound();
    }

    function _requireOwnerOrAdmin(StoredTEE storage tee) private view {
        if (hasRole(DEFAULT_ADMIN_ROLE, msg.sender)) return;
        if (tee.owner != msg.sender || !hasRole(TEE_OPERATOR, msg.sender)) revert NotTEEOwner();
    }

    /// When the current period of an enclave that is switched on ended by a revocation; 2^64 - 1 when it did not.
    function _endOfStanding(bytes32 teeId, StoredTEE storage tee) private view returns (uint64 end) {
        Standing storage standing = _standing[teeId];
        end = type(uint64).max;
        uint40[] storage revocations = _pcrRevocations[tee.teeType][tee.pcrHash];
        if (revocations.length > standing.pcrEpoch) end = revocations[standing.pcrEpoch];
        revocations = _operatorRevocations[tee.owner];
        if (revocations.length > standing.operatorEpoch && revocations[standing.operatorEpoch] < end) {
            end = revocations[standing.operatorEpoch];
        }
    }

    function _open(bytes32 teeId, StoredTEE storage tee) private {
        Standing storage standing = _standing[teeId];
        standing.enabledAt = uint40(block.timestamp);
        standing.pcrEpoch = uint32(_pcrRevocations[tee.teeType][tee.pcrHash].length);
        standing.operatorEpoch = uint32(_operatorRevocations[tee.owner].length);
        tee.enabled = true;
        _enabledTEEIndex[tee.teeType][teeId] = _enabledTEEList[tee.teeType].length;
        _enabledTEEList[tee.teeType].push(teeId);
    }

    function _close(bytes32 teeId, StoredTEE storage tee, uint64 end) private {
        _pastIntervals[teeId].push(Interval({from: _standing[teeId].enabledAt, until: end}));
        tee.enabled = false;
        bytes32[] storage list = _enabledTEEList[tee.teeType];
        mapping(bytes32 => uint256) storage indexOf = _enabledTEEIndex[tee.teeType];
        uint256 index = indexOf[teeId];
        bytes32 last = list[list.length - 1];
        list[index] = last;
        indexOf[last] = index;
        list.pop();
        delete indexOf[teeId];
        emit TEEDisabled(teeId);
    }

    function _filter(uint8 teeType, bool onlyActive) private view returns (bytes32[] memory ids) {
        ids = _enabledTEEList[teeType];
        uint256 count = 0;
        for (uint256 i = 0; i < ids.length; ++i) {
            bytes32 id = ids[i];
            if (onlyActive ? isTEEActive(id) : isTEEEnabled(id)) ids[count++] = id;
        }
        assembly ("memory-safe") {
            mstore(ids, count)
        }
    }

    function _info(bytes32 teeId) private view returns (TEEInfo memory info) {
        StoredTEE storage tee = _tees[teeId];
        info.owner = tee.owner;
        info.paymentAddress = tee.paymentAddress;
        info.endpoint = tee.endpoint;
        info.publicKey = tee.publicKey;
        info.tlsCertificate = tee.tlsCertificate;
        info.pcrHash = tee.pcrHash;
        info.teeType = tee.teeType;
        info.enabled = isTEEEnabled(teeId);
        info.registeredAt = tee.registeredAt;
        info.lastHeartbeatAt = tee.lastHeartbeatAt;
        info.ohttpConfig = _ohttpConfig(teeId);
    }

    function _ohttpConfig(bytes32 teeId) private view returns (OhttpConfig memory config) {
        bytes32 key = _keys[teeId].hpkeKey;
        config.keyId = OHTTP_KEY_ID;
        config.kemId = OHTTP_KEM;
        config.kdfId = OHTTP_KDF;
        config.aeadId = OHTTP_AEAD;
        config.publicKey = abi.encodePacked(key);
        // RFC 9458 section 3: key id, KEM, public key, length of the suite list, KDF, AEAD.
        config.keyConfig = abi.encodePacked(OHTTP_KEY_ID, OHTTP_KEM, key, uint16(4), OHTTP_KDF, OHTTP_AEAD);
        config.registeredAt = _tees[teeId].registeredAt;
    }

    function _covers(Interval memory interval, uint256 timestamp) private pure returns (bool) {
        uint256 until =
            interval.until == type(uint64).max ? type(uint256).max : uint256(interval.until) + CLOCK_SKEW;
        uint256 from = interval.from > CLOCK_SKEW ? interval.from - CLOCK_SKEW : 0;
        return from <= timestamp && timestamp <= until;
    }
}
