//! Enclaves after registration: heartbeats, switching off and on, revocations.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use og_contracts::{ITEERegistry, addresses};

use crate::enclave::Enclave;
use crate::network::{HEARTBEAT_MAX_AGE, Network, START};

const REGISTRY: Address = addresses::TEE_REGISTRY;

fn standing(network: &Network, enclave: &Enclave) -> (bool, bool) {
    let teeId = enclave.id().0;
    let enabled = network.view(REGISTRY, &ITEERegistry::isTEEEnabledCall { teeId });
    let active = network.view(REGISTRY, &ITEERegistry::isTEEActiveCall { teeId });
    let listed =
        network.view(REGISTRY, &ITEERegistry::getEnabledTEEsCall { teeType: 0 }).contains(&teeId);
    let shown = network.view(REGISTRY, &ITEERegistry::getTEECall { teeId }).enabled;
    assert_eq!((enabled, enabled), (listed, shown), "views agree");
    let infos = network.view(REGISTRY, &ITEERegistry::getActiveTEEsCall { teeType: 0 });
    assert_eq!(infos.iter().any(|info| info.publicKey == enclave.signing_key), active);
    (enabled, active)
}

fn was_valid(network: &Network, enclave: &Enclave, timestamp: u64) -> bool {
    let timestamp = U256::from(timestamp);
    network.view(REGISTRY, &ITEERegistry::wasValidAtCall { teeId: enclave.id().0, timestamp })
}

#[test]
fn heartbeats_keep_an_enclave_active_and_silence_does_not() {
    let mut network = Network::opengradient();
    let (live, dead) = (Enclave::new(0), Enclave::new(1));
    live.register(&mut network);
    dead.register(&mut network);
    let anyone = network.people.alice.clone();
    // Six hours; the gateway signs every 600 s for 30 s ago.
    for _ in 0..36 {
        network.advance(600);
        let timestamp = network.now() - 30;
        let sent = network.sent(&anyone, REGISTRY, &live.heartbeat(timestamp));
        let received = ITEERegistry::HeartbeatReceived {
            teeId: live.id().0,
            timestamp: U256::from(timestamp),
        };
        assert_eq!(sent.events::<ITEERegistry::HeartbeatReceived>(), [received]);
        assert!(sent.outcome().gas_used < 500_000, "the official relayer sends 500,000 gas");
        assert_eq!(standing(&network, &live), (true, true));
        let alive_until = START + HEARTBEAT_MAX_AGE;
        assert_eq!(standing(&network, &dead), (true, network.now() <= alive_until));
    }
    let info = network.view(REGISTRY, &ITEERegistry::getTEECall { teeId: live.id().0 });
    assert_eq!(info.lastHeartbeatAt, U256::from(network.now() - 30));
    network.advance(HEARTBEAT_MAX_AGE - 30);
    assert_eq!(standing(&network, &live), (true, true));
    network.advance(1);
    assert_eq!(standing(&network, &live), (true, false));
}

#[test]
fn heartbeats_are_refused_in_the_legacy_order() {
    let mut network = Network::opengradient();
    let enclave = Enclave::new(0);
    let anyone = network.people.alice.clone();
    let now = network.now();
    network.reverts(
        anyone.address(),
        REGISTRY,
        &enclave.heartbeat(now),
        &ITEERegistry::TEENotFound {},
    );
    enclave.register(&mut network);
    network.advance(4000);
    let now = network.now();
    let bad = |timestamp: u64| ITEERegistry::heartbeatCall {
        signature: Bytes::from_static(&[1]),
        ..enclave.heartbeat(timestamp)
    };
    network.reverts(
        anyone.address(),
        REGISTRY,
        &bad(now + 1),
        &ITEERegistry::HeartbeatTimestampInFuture {},
    );
    let too_old = now - HEARTBEAT_MAX_AGE - 1;
    network.reverts(
        anyone.address(),
        REGISTRY,
        &bad(too_old),
        &ITEERegistry::HeartbeatTimestampTooOld {},
    );
    network.reverts(
        anyone.address(),
        REGISTRY,
        &bad(now),
        &ITEERegistry::HeartbeatSignatureInvalid {},
    );
    // Another enclave's key, and another time than the signed one.
    let foreign =
        ITEERegistry::heartbeatCall { teeId: enclave.id().0, ..Enclave::new(1).heartbeat(now) };
    network.reverts(
        anyone.address(),
        REGISTRY,
        &foreign,
        &ITEERegistry::HeartbeatSignatureInvalid {},
    );
    let moved =
        ITEERegistry::heartbeatCall { timestamp: U256::from(now), ..enclave.heartbeat(now - 1) };
    network.reverts(
        anyone.address(),
        REGISTRY,
        &moved,
        &ITEERegistry::HeartbeatSignatureInvalid {},
    );
    // The oldest that counts, then a newer one; a replay of either does not.
    network.sent(&anyone, REGISTRY, &enclave.heartbeat(now - HEARTBEAT_MAX_AGE));
    network.sent(&anyone, REGISTRY, &enclave.heartbeat(now - 10));
    for replayed in [now - HEARTBEAT_MAX_AGE, now - 11, now - 10] {
        network.reverts(
            anyone.address(),
            REGISTRY,
            &enclave.heartbeat(replayed),
            &ITEERegistry::HeartbeatNotNewer {},
        );
    }
    let operator = network.people.operator.clone();
    network.sent(&operator, REGISTRY, &ITEERegistry::disableTEECall { teeId: enclave.id().0 });
    network.reverts(anyone.address(), REGISTRY, &bad(now + 1), &ITEERegistry::TEENotEnabled {});
}

#[test]
fn the_first_heartbeat_may_be_signed_for_a_time_before_the_registration() {
    let mut network = Network::opengradient();
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let anyone = network.people.alice.clone();
    network.sent(&anyone, REGISTRY, &enclave.heartbeat(START - 30));
    let info = network.view(REGISTRY, &ITEERegistry::getTEECall { teeId: enclave.id().0 });
    assert_eq!(info.lastHeartbeatAt, U256::from(START), "liveness never runs backwards");
}

#[test]
fn the_heartbeat_age_has_bounds_and_an_event() {
    let mut network = Network::opengradient();
    let admin = network.people.admin.clone();
    for age in [0, 59, 86_401] {
        let call = ITEERegistry::setHeartbeatMaxAgeCall { maxAge: U256::from(age) };
        network.reverts(
            admin.address(),
            REGISTRY,
            &call,
            &ITEERegistry::HeartbeatMaxAgeOutOfRange {},
        );
    }
    let call = ITEERegistry::setHeartbeatMaxAgeCall { maxAge: U256::from(600) };
    let sent = network.sent(&admin, REGISTRY, &call);
    let updated =
        ITEERegistry::HeartbeatMaxAgeUpdated { oldAge: U256::from(1800), newAge: U256::from(600) };
    assert_eq!(sent.events::<ITEERegistry::HeartbeatMaxAgeUpdated>(), [updated]);
}

#[test]
fn an_owner_pauses_and_resumes() {
    let mut network = Network::opengradient();
    let (operator, bob) = (network.people.operator.clone(), network.people.bob.clone());
    let (first, second) = (Enclave::new(0), Enclave::new(1));
    first.register(&mut network);
    second.register(&mut network);
    let disable = ITEERegistry::disableTEECall { teeId: first.id().0 };
    let enable = ITEERegistry::enableTEECall { teeId: first.id().0 };
    let unknown = ITEERegistry::disableTEECall { teeId: B256::ZERO };
    network.reverts(bob.address(), REGISTRY, &unknown, &ITEERegistry::TEENotFound {});
    network.reverts(bob.address(), REGISTRY, &disable, &ITEERegistry::NotTEEOwner {});
    network.reverts(bob.address(), REGISTRY, &enable, &ITEERegistry::NotTEEOwner {});

    network.advance(100);
    let sent = network.sent(&operator, REGISTRY, &disable);
    assert_eq!(
        sent.events::<ITEERegistry::TEEDisabled>(),
        [ITEERegistry::TEEDisabled { teeId: first.id().0 }]
    );
    assert!(sent.events::<ITEERegistry::TEEBanned>().is_empty());
    assert_eq!(
        (standing(&network, &first), standing(&network, &second)),
        ((false, false), (true, true))
    );
    network.reverts(operator.address(), REGISTRY, &disable, &ITEERegistry::TEENotEnabled {});
    network.advance(1000);
    let sent = network.sent(&operator, REGISTRY, &enable);
    assert_eq!(
        sent.events::<ITEERegistry::TEEEnabled>(),
        [ITEERegistry::TEEEnabled { teeId: first.id().0 }]
    );
    assert_eq!(standing(&network, &first), (true, true));
    // Enabling what is enabled says nothing.
    assert!(
        network.sent(&operator, REGISTRY, &enable).events::<ITEERegistry::TEEEnabled>().is_empty()
    );

    let validity = network.view(REGISTRY, &ITEERegistry::getValidityCall { teeId: first.id().0 });
    assert_eq!(
        validity,
        [
            ITEERegistry::Interval { from: START, until: START + 100 },
            ITEERegistry::Interval { from: START + 1100, until: u64::MAX },
        ]
    );
    for (time, valid) in [
        (START - 61, false),
        (START - 60, true),
        (START + 100, true),
        (START + 160, true),
        (START + 161, false),
        (START + 1039, false),
        (START + 1040, true),
        (u64::MAX, true),
    ] {
        assert_eq!(was_valid(&network, &first, time), valid, "{time}");
    }
    assert!(!was_valid(&network, &Enclave::new(1), START - 61));
}

#[test]
fn an_owner_cannot_undo_an_admin() {
    let mut network = Network::opengradient();
    let (operator, admin) = (network.people.operator.clone(), network.people.admin.clone());
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let teeId = enclave.id().0;
    network.advance(50);
    let sent = network.sent(&admin, REGISTRY, &ITEERegistry::disableTEECall { teeId });
    assert_eq!(
        sent.events::<ITEERegistry::TEEBanned>(),
        [ITEERegistry::TEEBanned { teeId, compromisedSince: 0 }]
    );
    let enable = ITEERegistry::enableTEECall { teeId };
    network.reverts(operator.address(), REGISTRY, &enable, &ITEERegistry::TEEBannedByAdmin {});
    network.sent(&admin, REGISTRY, &enable);
    assert_eq!(standing(&network, &enclave), (true, true));

    // A paused enclave can be banned too, and what a stolen key signed is void.
    network.sent(&operator, REGISTRY, &ITEERegistry::disableTEECall { teeId });
    let ban = ITEERegistry::banTEECall {
        teeId,
        compromisedSince: alloy_primitives::Uint::from(START + 20),
    };
    let denied = ITEERegistry::AccessControlUnauthorizedAccount {
        account: operator.address(),
        neededRole: B256::ZERO,
    };
    network.reverts(operator.address(), REGISTRY, &ban, &denied);
    network.sent(&admin, REGISTRY, &ban);
    network.reverts(operator.address(), REGISTRY, &enable, &ITEERegistry::TEEBannedByAdmin {});
    assert!(was_valid(&network, &enclave, START + 19));
    assert!(!was_valid(&network, &enclave, START + 20));
}

#[test]
fn a_revoked_measurement_switches_off_every_enclave_at_a_fixed_price() {
    let mut network = Network::opengradient();
    let (operator, admin) = (network.people.operator.clone(), network.people.admin.clone());
    let (first, second) = (Enclave::new(0), Enclave::new(1));
    first.register(&mut network);
    second.register(&mut network);
    network.advance(100);
    let pcrHash = first.measurements.pcr_hash();
    let revoke = ITEERegistry::revokePCRCall { pcrHash, teeType: 0 };
    let sent = network.sent(&admin, REGISTRY, &revoke);
    assert_eq!(
        sent.events::<ITEERegistry::PCRRevoked>(),
        [ITEERegistry::PCRRevoked { pcrHash, teeType: 0 }]
    );
    assert!(sent.outcome().gas_used < 110_000, "{} gas", sent.outcome().gas_used);
    for enclave in [&first, &second] {
        assert_eq!(standing(&network, enclave), (false, false));
        assert!(
            was_valid(&network, enclave, START + 100) && !was_valid(&network, enclave, START + 161)
        );
    }
    network.reverts(admin.address(), REGISTRY, &revoke, &ITEERegistry::PCRNotApproved {});
    let enable = ITEERegistry::enableTEECall { teeId: first.id().0 };
    network.reverts(operator.address(), REGISTRY, &enable, &ITEERegistry::PCRNotApproved {});
    let disable = ITEERegistry::disableTEECall { teeId: first.id().0 };
    network.reverts(operator.address(), REGISTRY, &disable, &ITEERegistry::TEENotEnabled {});

    // Approving it again revives nobody; an owner must ask.
    network.advance(1000);
    let pcrs = &first.measurements.pcrs;
    let pcr = |index: usize| Bytes::copy_from_slice(&pcrs[index]);
    let approve = ITEERegistry::approvePCRCall {
        pcrs: ITEERegistry::PCRMeasurements { pcr0: pcr(0), pcr1: pcr(1), pcr2: pcr(2) },
        version: "again".to_owned(),
        teeType: 0,
    };
    network.sent(&admin, REGISTRY, &approve);
    assert_eq!(
        network.view(REGISTRY, &ITEERegistry::getApprovedPCRsCall {}).len(),
        1,
        "listed once"
    );
    assert_eq!(standing(&network, &first), (false, false));
    network.sent(&operator, REGISTRY, &enable);
    assert_eq!(
        (standing(&network, &first), standing(&network, &second)),
        ((true, true), (false, false))
    );
    assert!(!was_valid(&network, &first, START + 600) && was_valid(&network, &first, START + 1100));

    // Anyone may tidy the list; only what is revoked leaves it.
    let anyone = network.people.alice.clone();
    let sweep =
        ITEERegistry::sweepRevokedCall { teeIds: vec![first.id().0, second.id().0, B256::ZERO] };
    let sent = network.sent(&anyone, REGISTRY, &sweep);
    assert_eq!(
        sent.events::<ITEERegistry::TEEDisabled>(),
        [ITEERegistry::TEEDisabled { teeId: second.id().0 }]
    );
    let page = network.view(
        REGISTRY,
        &ITEERegistry::getActiveTEEPageCall {
            teeType: 0,
            offset: U256::ZERO,
            limit: U256::from(10),
        },
    );
    assert_eq!((page.teeIds, page.total), (vec![first.id().0], U256::from(1)));
    assert_eq!(page.infos[0].publicKey, first.signing_key);
    for (offset, limit) in
        [(U256::from(1), U256::MAX), (U256::MAX, U256::MAX), (U256::ZERO, U256::ZERO)]
    {
        let call = ITEERegistry::getActiveTEEPageCall { teeType: 0, offset, limit };
        assert!(network.view(REGISTRY, &call).teeIds.is_empty());
    }
}

#[test]
fn an_operator_who_loses_the_role_loses_the_enclaves() {
    let mut network = Network::opengradient();
    let (operator, admin) = (network.people.operator.clone(), network.people.admin.clone());
    let enclave = Enclave::new(0);
    enclave.register(&mut network);
    let (role, account, teeId) = (keccak256("TEE_OPERATOR"), operator.address(), enclave.id().0);
    network.advance(100);
    network.sent(&admin, REGISTRY, &ITEERegistry::revokeRoleCall { role, account });
    assert_eq!(standing(&network, &enclave), (false, false));
    let enable = ITEERegistry::enableTEECall { teeId };
    network.reverts(account, REGISTRY, &enable, &ITEERegistry::NotTEEOwner {});
    network.reverts(admin.address(), REGISTRY, &enable, &ITEERegistry::OwnerNotOperator {});
    network.sent(&admin, REGISTRY, &ITEERegistry::grantRoleCall { role, account });
    assert_eq!(
        standing(&network, &enclave),
        (false, false),
        "the role alone does not bring it back"
    );
    network.sent(&operator, REGISTRY, &enable);
    assert_eq!(standing(&network, &enclave), (true, true));
    assert!(was_valid(&network, &enclave, START + 100));
}

#[test]
fn types_and_measurements_are_checked() {
    let mut network = Network::opengradient();
    let (admin, bob) = (network.people.admin.clone(), network.people.bob.clone());
    let add = |typeId| ITEERegistry::addTEETypeCall { typeId, name: "Validator".to_owned() };
    network.reverts(admin.address(), REGISTRY, &add(0), &ITEERegistry::TEETypeExists {});
    let denied = ITEERegistry::AccessControlUnauthorizedAccount {
        account: bob.address(),
        neededRole: B256::ZERO,
    };
    network.reverts(bob.address(), REGISTRY, &add(1), &denied);
    let sent = network.sent(&admin, REGISTRY, &add(1));
    assert_eq!(sent.events::<ITEERegistry::TEETypeAdded>()[0].typeId, 1);
    assert_eq!(network.view(REGISTRY, &ITEERegistry::getTEETypesCall {}).typeIds, [0, 1]);

    let approve = |pcr0: &[u8], teeType| ITEERegistry::approvePCRCall {
        pcrs: ITEERegistry::PCRMeasurements {
            pcr0: Bytes::copy_from_slice(pcr0),
            pcr1: vec![2; 48].into(),
            pcr2: vec![3; 48].into(),
        },
        version: "x".to_owned(),
        teeType,
    };
    network.reverts(
        admin.address(),
        REGISTRY,
        &approve(&[1; 48], 9),
        &ITEERegistry::InvalidTEEType {},
    );
    for wrong in [&[0; 48][..], &[1; 47], &[1; 49], &[]] {
        network.reverts(
            admin.address(),
            REGISTRY,
            &approve(wrong, 1),
            &ITEERegistry::InvalidPCR {},
        );
    }
    let call = approve(&[1; 48], 1);
    let expected = keccak256([[1; 48], [2; 48], [3; 48]].concat());
    let computed =
        network.view(REGISTRY, &ITEERegistry::computePCRHashCall { pcrs: call.pcrs.clone() });
    assert_eq!(computed, expected);
    let sent = network.sent(&admin, REGISTRY, &call);
    assert_eq!(sent.events::<ITEERegistry::PCRApproved>()[0].pcrHash, expected);
    assert!(
        network.view(REGISTRY, &ITEERegistry::isPCRApprovedCall { teeType: 1, pcrHash: expected })
    );
    assert!(
        !network.view(REGISTRY, &ITEERegistry::isPCRApprovedCall { teeType: 0, pcrHash: expected })
    );
}
