//! Registering simulated enclaves: what is accepted, what is recorded, and every refusal in its order.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolCall;
use og_attest::keys::BoundKeys;
use og_attest::simulated::{Authority, Measurements};
use og_chain::At;
use og_contracts::registry::{Standing, record_hash, record_slot, standing_slot};
use og_contracts::{ITEERegistry, addresses};

use crate::enclave::{ENDPOINT, Enclave, Twist};
use crate::network::{Network, START};

const REGISTRY: Address = addresses::TEE_REGISTRY;

fn invalid() -> ITEERegistry::AttestationInvalid {
    ITEERegistry::AttestationInvalid {
        reason: "Attestation document verification failed".to_owned(),
    }
}

#[test]
fn an_attested_enclave_is_registered_with_every_key() {
    let mut network = Network::opengradient();
    network.advance(10);
    let enclave = Enclave::new(0);
    let operator = network.people.operator.clone();
    let sent = enclave.register(&mut network);
    let id = enclave.id().0;

    let registered = sent.events::<ITEERegistry::TEERegistered>();
    assert_eq!(
        registered,
        [ITEERegistry::TEERegistered { teeId: id, owner: operator.address(), teeType: 0 }]
    );
    assert!(sent.events::<ITEERegistry::TEEEnabled>().is_empty());
    // The official tool sends 5 M gas; the native verification is 500,000 of what is used.
    let gas = sent.outcome().gas_used;
    assert!(gas < 4_000_000, "{gas} gas");
    println!("registration: {gas} gas");

    let active = network.view(REGISTRY, &ITEERegistry::getActiveTEEsCall { teeType: 0 });
    let [info] = active.as_slice() else { panic!("{} active", active.len()) };
    assert_eq!(info.owner, operator.address());
    assert_eq!(info.paymentAddress, enclave.pay_to);
    assert_eq!(info.endpoint, ENDPOINT);
    assert_eq!(info.publicKey, enclave.signing_key);
    assert_eq!(info.tlsCertificate, enclave.tls_certificate);
    assert_eq!(info.pcrHash, enclave.measurements.pcr_hash());
    assert!(info.enabled && info.teeType == 0);
    assert_eq!(
        (info.registeredAt, info.lastHeartbeatAt),
        (U256::from(START + 10), U256::from(START + 10))
    );
    assert_eq!(network.view(REGISTRY, &ITEERegistry::getTEECall { teeId: id }), *info);

    let flat = network.view(REGISTRY, &ITEERegistry::teesCall { teeId: id });
    assert_eq!((flat.owner, flat.endpoint.as_str(), flat.enabled), (info.owner, ENDPOINT, true));
    assert_eq!(
        (flat.publicKey, flat.lastHeartbeatAt),
        (info.publicKey.clone(), info.lastHeartbeatAt)
    );

    // The attested keys: HPKE in the OHTTP configuration (RFC 9458), and the receipt key.
    let hpke = enclave.keys.hpke_key;
    let config = &info.ohttpConfig;
    assert_eq!((config.keyId, config.kemId, config.kdfId, config.aeadId), (1, 0x20, 1, 3));
    assert_eq!(config.publicKey, Bytes::copy_from_slice(&hpke));
    assert_eq!(
        config.keyConfig,
        Bytes::from([&[1, 0, 0x20][..], &hpke, &[0, 4, 0, 1, 0, 3]].concat())
    );
    assert_eq!(network.view(REGISTRY, &ITEERegistry::getOHTTPConfigCall { teeId: id }), *config);
    let word = |number: u64| U256::from(number).to_be_bytes::<32>();
    let endorsed = [
        keccak256("OPENGRADIENT_TEE_OHTTP_CONFIG_V1").as_slice(),
        id.as_slice(),
        &word(1),
        &word(0x20),
        &word(1),
        &word(3),
        keccak256(&config.publicKey).as_slice(),
        keccak256(&config.keyConfig).as_slice(),
    ]
    .concat();
    assert_eq!(
        network.view(REGISTRY, &ITEERegistry::ohttpConfigHashCall { teeId: id }),
        keccak256(endorsed)
    );
    let receipt_key = network.view(REGISTRY, &ITEERegistry::getReceiptKeyCall { teeId: id });
    assert_eq!(receipt_key, Bytes::copy_from_slice(&enclave.keys.receipt_key));
    assert_eq!(
        network.view(REGISTRY, &ITEERegistry::getTEEPublicKeyCall { teeId: id }),
        enclave.signing_key
    );
    assert!(network.view(REGISTRY, &ITEERegistry::isSimulatedCall { teeId: id }));
    let owned =
        network.view(REGISTRY, &ITEERegistry::getTEEsByOwnerCall { owner: operator.address() });
    assert_eq!(
        (owned, network.view(REGISTRY, &ITEERegistry::getTEEsByTypeCall { teeType: 0 })),
        (vec![id], vec![id])
    );

    // What a storage proof shows.
    let record = network.view(REGISTRY, &ITEERegistry::getRecordCall { teeId: id });
    let word =
        network.chain.storage(REGISTRY, record_slot(enclave.id()), At::Latest).expect("readable");
    assert_eq!(word, record_hash(&record));
    assert_eq!(record.tlsCertificateHash, keccak256(&enclave.tls_certificate));
    assert_eq!((record.registeredAt, record.attestedAtMs), (START + 10, (START + 10) * 1000));
    let word =
        network.chain.storage(REGISTRY, standing_slot(enclave.id()), At::Latest).expect("readable");
    assert_eq!(
        Standing::from_word(word),
        Standing { enabled_at: START + 10, ..Standing::default() }
    );
    let recorded = sent.events::<ITEERegistry::TEERecorded>();
    assert_eq!((recorded[0].recordHash, recorded[0].simulated), (record_hash(&record), true));
    let validity = network.view(REGISTRY, &ITEERegistry::getValidityCall { teeId: id });
    assert_eq!(validity, [ITEERegistry::Interval { from: START + 10, until: u64::MAX }]);
}

#[test]
fn a_client_of_ten_fields_reads_the_eleven() {
    alloy_sol_types::sol! {
        struct TenFields {
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
        function getActiveTEEs(uint8 teeType) external view returns (TenFields[] memory);
    }
    let mut network = Network::opengradient();
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let [tee] = &network.view(addresses::TEE_REGISTRY_ALIAS, &getActiveTEEsCall { teeType: 0 })[..]
    else {
        panic!("not one")
    };
    assert_eq!((tee.endpoint.as_str(), &tee.publicKey), (ENDPOINT, &enclave.signing_key));
    assert_eq!(&tee.tlsCertificate, &enclave.tls_certificate);
    assert!(tee.enabled && tee.registeredAt == tee.lastHeartbeatAt);
}

#[test]
fn listing_the_active_leaves_room_for_hundreds() {
    let mut network = Network::opengradient();
    let list = ITEERegistry::getActiveTEEsCall { teeType: 0 };
    Enclave::new(0).register(&mut network);
    let one = network.gas_of(REGISTRY, &list);
    Enclave::new(1).register(&mut network);
    let each = network.gas_of(REGISTRY, &list) - one;
    println!("each active enclave adds {each} gas to the list");
    assert!(each * 200 < og_chain::GAS_LIMIT, "{each} gas");
}

#[test]
fn rust_and_solidity_agree_on_the_attested_nonce() {
    let network = Network::opengradient();
    let enclave = Enclave::new(0);
    let owner = Address::repeat_byte(5);
    let call = ITEERegistry::registrationNonceCall {
        owner,
        paymentAddress: enclave.pay_to,
        endpoint: ENDPOINT.to_owned(),
        teeType: 0,
    };
    assert_eq!(network.view(REGISTRY, &call), enclave.nonce(&network, owner));
    assert_eq!(network.view(addresses::TEE_REGISTRY_ALIAS, &call), enclave.nonce(&network, owner));
}

/// The order of the checks is part of the ABI: each call here is wrong in everything from its own check on.
#[test]
fn refusals_come_in_the_legacy_order() {
    let mut network = Network::opengradient();
    let (operator, admin) = (network.people.operator.clone(), network.people.admin.clone());
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let again = enclave.registration(&network, operator.address(), &Twist::default());
    let garbage = Bytes::from_static(b"garbage");

    // 1 role, 2 type
    let wrong_type = ITEERegistry::registerTEEWithAttestationCall { teeType: 9, ..again.clone() };
    network.reverts(
        admin.address(),
        REGISTRY,
        &wrong_type,
        &ITEERegistry::AccessControlUnauthorizedAccount {
            account: admin.address(),
            neededRole: keccak256("TEE_OPERATOR"),
        },
    );
    network.reverts(operator.address(), REGISTRY, &wrong_type, &ITEERegistry::InvalidTEEType {});
    // 3 known key
    let known =
        ITEERegistry::registerTEEWithAttestationCall { attestation: garbage.clone(), ..again };
    network.reverts(operator.address(), REGISTRY, &known, &ITEERegistry::TEEAlreadyExists {});
    // 4 attestation
    let other = Enclave::new(1);
    let unapproved =
        Twist { measurements: Some(Measurements::of_image("another")), ..Twist::default() };
    let call = other.registration(&network, operator.address(), &unapproved);
    let bad = ITEERegistry::registerTEEWithAttestationCall { attestation: garbage, ..call.clone() };
    network.reverts(operator.address(), REGISTRY, &bad, &invalid());
    // 5 measurement
    let bad =
        ITEERegistry::registerTEEWithAttestationCall { paymentAddress: Address::ZERO, ..call };
    network.reverts(operator.address(), REGISTRY, &bad, &ITEERegistry::PCRNotApproved {});
    // 6 terms
    let good = other.registration(&network, operator.address(), &Twist::default());
    let bad = ITEERegistry::registerTEEWithAttestationCall {
        paymentAddress: Address::ZERO,
        endpoint: String::new(),
        ..good.clone()
    };
    network.reverts(operator.address(), REGISTRY, &bad, &ITEERegistry::InvalidPaymentAddress {});
    for endpoint in [String::new(), "x".repeat(513)] {
        let bad = ITEERegistry::registerTEEWithAttestationCall { endpoint, ..good.clone() };
        network.reverts(operator.address(), REGISTRY, &bad, &ITEERegistry::InvalidEndpoint {});
    }
    // 7 nonce, 8 keys
    let twist =
        Twist { nonce: Some(vec![]), public_key: Some(b"dummy".to_vec()), ..Twist::default() };
    let expected = other.nonce(&network, operator.address());
    let bad = other.registration(&network, operator.address(), &twist);
    let unbound = ITEERegistry::RegistrationNotBound { expectedNonce: expected };
    network.reverts(operator.address(), REGISTRY, &bad, &unbound);
    let twist = Twist { public_key: Some(b"dummy".to_vec()), ..Twist::default() };
    let bad = other.registration(&network, operator.address(), &twist);
    network.reverts(operator.address(), REGISTRY, &bad, &ITEERegistry::KeysNotAttested {});
    network.sent(&operator, REGISTRY, &good);
}

/// An attestation is public; only the registration it was made for may use it.
#[test]
fn a_registration_cannot_be_stolen_or_bent() {
    let mut network = Network::opengradient();
    let (operator, admin, bob) =
        (network.people.operator.clone(), network.people.admin.clone(), network.people.bob.clone());
    let operator_role = keccak256("TEE_OPERATOR");
    let grant = ITEERegistry::grantRoleCall { role: operator_role, account: bob.address() };
    network.sent(&admin, REGISTRY, &grant);

    let enclave = Enclave::new(0);
    let call = enclave.registration(&network, operator.address(), &Twist::default());
    // Another operator runs ahead with the same bytes, then with its own payment address.
    for paymentAddress in [enclave.pay_to, bob.address()] {
        let stolen =
            ITEERegistry::registerTEEWithAttestationCall { paymentAddress, ..call.clone() };
        let data = network.call(bob.address(), REGISTRY, &stolen).expect_err("stolen");
        assert_eq!(data[..4], alloy_primitives::keccak256("RegistrationNotBound(bytes32)")[..4]);
    }
    let bent = ITEERegistry::registerTEEWithAttestationCall {
        endpoint: "https://evil.example".into(),
        ..call.clone()
    };
    assert!(network.call(operator.address(), REGISTRY, &bent).is_err());
    let bent = ITEERegistry::registerTEEWithAttestationCall {
        paymentAddress: bob.address(),
        ..call.clone()
    };
    assert!(network.call(operator.address(), REGISTRY, &bent).is_err());
    // Keys that the document does not bind.
    let other = Enclave::new(1);
    let bent = ITEERegistry::registerTEEWithAttestationCall {
        signingKey: other.signing_key.clone(),
        ..call.clone()
    };
    network.reverts(operator.address(), REGISTRY, &bent, &invalid());
    let bent = ITEERegistry::registerTEEWithAttestationCall {
        tlsCertificate: other.tls_certificate.clone(),
        ..call.clone()
    };
    network.reverts(operator.address(), REGISTRY, &bent, &invalid());
    network.sent(&operator, REGISTRY, &call);
    let payload =
        network.view(REGISTRY, &ITEERegistry::getRecordCall { teeId: enclave.id().0 }).payloadHash;
    let user =
        network.view(REGISTRY, &ITEERegistry::registeredPayloadCall { payloadHash: payload });
    assert_eq!(user, enclave.id().0);
}

#[test]
fn a_nonce_of_another_genesis_is_refused() {
    let network = Network::opengradient();
    let operator = network.people.operator.address();
    let enclave = Enclave::new(0);
    let foreign = og_contracts::registration_nonce(&og_contracts::registry::Registration {
        owner: operator,
        chain_id: network.chain.chain_id(),
        genesis_hash: B256::repeat_byte(1),
        registry: REGISTRY,
        pay_to: enclave.pay_to,
        endpoint: ENDPOINT,
        tee_type: 0,
    });
    let twist = Twist { nonce: Some(foreign.to_vec()), ..Twist::default() };
    let call = enclave.registration(&network, operator, &twist);
    let expectedNonce = enclave.nonce(&network, operator);
    network.reverts(
        operator,
        REGISTRY,
        &call,
        &ITEERegistry::RegistrationNotBound { expectedNonce },
    );
    // A nonce with the right beginning is not the nonce.
    let longer = [expectedNonce.as_slice(), &[0]].concat();
    for nonce in [longer, expectedNonce[..31].to_vec()] {
        let call = enclave.registration(
            &network,
            operator,
            &Twist { nonce: Some(nonce), ..Twist::default() },
        );
        network.reverts(
            operator,
            REGISTRY,
            &call,
            &ITEERegistry::RegistrationNotBound { expectedNonce },
        );
    }
}

#[test]
fn evidence_must_be_fresh_trusted_and_not_of_a_debugged_enclave() {
    let mut network = Network::opengradient();
    let operator = network.people.operator.address();
    let enclave = Enclave::new(0);
    let zeros = Measurements { pcrs: [[0; 48]; 16] };
    for twist in [
        Twist { age_secs: 301, ..Twist::default() },
        Twist {
            authority: Some(Authority::from_seed(b"somebody else's root")),
            ..Twist::default()
        },
        Twist { measurements: Some(zeros), ..Twist::default() },
    ] {
        let call = enclave.registration(&network, operator, &twist);
        network.reverts(operator, REGISTRY, &call, &invalid());
    }
    let call =
        enclave.registration(&network, operator, &Twist { age_secs: 300, ..Twist::default() });
    network.call(operator, REGISTRY, &call).expect("the oldest that is fresh");
    // Time passes before the transaction is mined.
    network.advance(1);
    network.reverts(operator, REGISTRY, &call, &invalid());
}

/// `setAWSRootCertificate` can only narrow what the chain trusts.
#[test]
fn the_root_argument_pins_and_never_widens() {
    let mut network = Network::opengradient();
    let (admin, operator) = (network.people.admin.clone(), network.people.operator.clone());
    let enclave = Enclave::new(0);
    let call = enclave.registration(&network, operator.address(), &Twist::default());
    let stranger = Authority::from_seed(b"somebody else's root");
    for certificate in [stranger.root_pem().into_bytes(), vec![1, 2, 3]] {
        let certificate = Bytes::from(certificate);
        let set = ITEERegistry::setAWSRootCertificateCall { certificate: certificate.clone() };
        let sent = network.sent(&admin, REGISTRY, &set);
        let updated = ITEERegistry::AWSCertificateUpdated { certHash: keccak256(&certificate) };
        assert_eq!(sent.events::<ITEERegistry::AWSCertificateUpdated>(), [updated]);
        network.reverts(operator.address(), REGISTRY, &call, &invalid());
        let twist = Twist { authority: Some(stranger.clone()), ..Twist::default() };
        let foreign = enclave.registration(&network, operator.address(), &twist);
        network.reverts(operator.address(), REGISTRY, &foreign, &invalid());
    }
    let certificate = Authority::development().root_pem().into_bytes().into();
    network.sent(&admin, REGISTRY, &ITEERegistry::setAWSRootCertificateCall { certificate });
    network.call(operator.address(), REGISTRY, &call).expect("pinned to the right root");
    network.sent(
        &admin,
        REGISTRY,
        &ITEERegistry::setAWSRootCertificateCall { certificate: Bytes::new() },
    );
    network.sent(&operator, REGISTRY, &call);
    let large = ITEERegistry::setAWSRootCertificateCall { certificate: vec![0; 8193].into() };
    network.reverts(admin.address(), REGISTRY, &large, &ITEERegistry::RootCertificateTooLarge {});
}

#[test]
fn keys_come_out_of_the_document_only() {
    let mut network = Network::opengradient();
    let operator = network.people.operator.clone();
    let enclave = Enclave::new(0);
    // The HPKE key zero is no key.
    let twist =
        Twist { public_key: Some(BoundKeys::new([1; 32], [0; 32]).encode()), ..Twist::default() };
    let call = enclave.registration(&network, operator.address(), &twist);
    network.reverts(operator.address(), REGISTRY, &call, &ITEERegistry::KeysNotAttested {});
    let twist =
        Twist { public_key: Some(BoundKeys::new([7; 32], [8; 32]).encode()), ..Twist::default() };
    let call = enclave.registration(&network, operator.address(), &twist);
    network.sent(&operator, REGISTRY, &call);
    let key = network.view(REGISTRY, &ITEERegistry::getReceiptKeyCall { teeId: enclave.id().0 });
    assert_eq!(key, Bytes::from([7; 32]));
    assert_eq!(ITEERegistry::registerTEEWithAttestationCall::SELECTOR, [0x15, 0xc9, 0xbd, 0xb4]);
}
