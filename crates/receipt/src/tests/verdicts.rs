//! What the verifier says about whole bundles: honest ones, dishonest ones, and ones it cannot judge.

use alloy_primitives::{Address, B256, U256};

use super::world::{ANSWERED_AT, ATTESTED_AT, Plan, REGISTERED_AT, World, world};
use crate::verify::name;
use crate::{Outcome, Report, SettlementMode, TruthLevel, Verdict, verify};

fn run(world: &World) -> Report {
    verify(&world.bundle.encode(), Some(&world.anchors))
}

#[track_caller]
fn rejected(plan: &Plan, check: &str, detail: &str) {
    let report = run(&world(plan));
    let failed = report.failed().unwrap_or_else(|| panic!("accepted: {report:?}"));
    assert_eq!(failed.name, check, "{failed:?}");
    assert!(failed.detail.contains(detail), "{failed:?}");
    assert_eq!(report.verdict(), Verdict::Rejected);
}

#[test]
fn an_honest_bundle_is_verified_and_says_what_is_not_proven() {
    let world = world(&Plan::default());
    let report = run(&world);
    assert_eq!(report.verdict(), Verdict::Verified, "{report:?}");
    assert!(report.anchored);
    assert!(report.simulated, "the enclave is simulated, and the report says so");
    assert_eq!(report.claims.as_ref(), Some(world.receipt.claims()));
    let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        names,
        [
            name::BUNDLE_FORMAT,
            name::RECEIPT_FORMAT,
            name::RECEIPT_TERMS,
            name::RECEIPT_TRUTH,
            name::RECEIPT_CHAIN,
            name::EVIDENCE_DOCUMENT,
            name::EVIDENCE_KEYS,
            name::RECEIPT_ENCLAVE,
            name::RECEIPT_SIGNATURE,
            name::LEAF_SIGNATURE,
            name::BUNDLE_PARTS,
            name::FINALITY,
            name::REGISTRY_ACCOUNT,
            name::REGISTRY_RECORD,
            name::REGISTRY_IDENTITY,
            name::REGISTRY_NONCE,
            name::REGISTRY_TIME,
            name::REGISTRY_STANDING,
            name::SETTLEMENT_LOG,
            name::SETTLEMENT_INCLUSION,
            name::PAYMENT_REFERENCE,
        ]
    );
    let payment = report.checks.last().unwrap();
    assert_eq!(payment.outcome, Outcome::NotProven);
    assert!(payment.detail.starts_with("referenced, not proven: transaction 0x"), "{payment:?}");
    assert!(report.checks.iter().rev().skip(1).all(|check| check.outcome == Outcome::Passed));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checks"][0]["outcome"], "passed");
    assert_eq!(json["claims"]["truth"], "weights-measured");
}

#[test]
fn a_private_bundle_says_that_it_is_not_anchored() {
    let plan = Plan { mode: SettlementMode::Private, ..Plan::default() };
    let mut world = world(&plan);
    let report = run(&world);
    assert_eq!(report.verdict(), Verdict::Verified, "{report:?}");
    assert!(!report.anchored);
    let unanchored = |report: &Report| {
        report
            .checks
            .iter()
            .filter(|check| {
                check.outcome == Outcome::NotProven && check.detail.starts_with("unanchored")
            })
            .map(|check| check.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(unanchored(&report), [name::SETTLEMENT_LOG]);
    world.bundle.chain = None;
    let report = run(&world);
    assert_eq!(report.verdict(), Verdict::Verified);
    assert_eq!(unanchored(&report), [name::REGISTRY_RECORD, name::SETTLEMENT_LOG]);
    // A settlement in a private bundle contradicts the signed mode.
    world.bundle.settlement = super::world::world(&Plan::default()).bundle.settlement;
    assert_eq!(run(&world).failed().unwrap().name, name::BUNDLE_PARTS);
}

#[test]
fn without_anchors_nothing_is_claimed_and_noise_is_unreadable() {
    let bytes = world(&Plan::default()).bundle.encode();
    let report = verify(&bytes, None);
    assert_eq!(report.verdict(), Verdict::NoTrustAnchor);
    assert!(report.claims.is_some() && !report.anchored && report.failed().is_none());
    for noise in [&b""[..], b"hello", &crate::bundle::MAGIC, &bytes[..bytes.len() - 1], &bytes[8..]]
    {
        assert_eq!(verify(noise, None).verdict(), Verdict::Unreadable);
    }
    let mut large = bytes;
    large.resize(crate::bundle::BUNDLE_BYTES_MAX + 1, 0);
    assert_eq!(verify(&large, None).verdict(), Verdict::Unreadable);
}

#[test]
fn every_anchor_counts() {
    let world = world(&Plan::default());
    let bytes = world.bundle.encode();
    let failed = |change: &dyn Fn(&mut crate::TrustAnchors)| {
        let mut anchors = world.anchors.clone();
        change(&mut anchors);
        let report = verify(&bytes, Some(&anchors));
        report.failed().unwrap().name
    };
    assert_eq!(failed(&|a| a.chain_id += 1), name::RECEIPT_CHAIN);
    assert_eq!(failed(&|a| a.genesis_hash.0[0] ^= 1), name::RECEIPT_CHAIN);
    assert_eq!(failed(&|a| a.registry.0[0] ^= 1), name::RECEIPT_CHAIN);
    assert_eq!(failed(&|a| a.relay.0[0] ^= 1), name::SETTLEMENT_LOG);
    assert_eq!(failed(&|a| a.tee_roots.clear()), name::EVIDENCE_DOCUMENT);
    // Nobody who trusts only real hardware accepts a simulated enclave.
    assert_eq!(
        failed(&|a| a.tee_roots = vec![og_attest::roots::AWS_NITRO_G1]),
        name::EVIDENCE_DOCUMENT
    );
    let others = super::world::world(&Plan { validators_seed: 2, ..Plan::default() });
    assert_eq!(failed(&|a| a.validators = others.anchors.validators.clone()), name::FINALITY);
}

#[test]
fn a_self_made_chain_is_rejected_whatever_it_calls_itself() {
    let trusted = world(&Plan::default());
    let own = world(&Plan {
        validators_seed: 9,
        genesis_hash: B256::repeat_byte(0x99),
        ..Plan::default()
    });
    assert_eq!(verify(&own.bundle.encode(), Some(&own.anchors)).verdict(), Verdict::Verified);
    let report = verify(&own.bundle.encode(), Some(&trusted.anchors));
    assert_eq!(report.failed().unwrap().name, name::RECEIPT_CHAIN);
    // It claims to be the trusted chain, and has validators of its own.
    let pretender = world(&Plan { validators_seed: 9, ..Plan::default() });
    let report = verify(&pretender.bundle.encode(), Some(&trusted.anchors));
    assert_eq!(report.failed().unwrap().name, name::FINALITY);
}

#[test]
fn only_the_attested_key_signs_receipts() {
    let plan = Plan { receipt_key: Some([9; 32]), ..Plan::default() };
    rejected(&plan, name::RECEIPT_SIGNATURE, "does not verify");
}

#[test]
fn a_receipt_that_contradicts_itself_is_rejected_even_when_it_is_signed() {
    let check = |claims, check, detail| {
        rejected(&Plan { claims, ..Plan::default() }, check, detail);
    };
    check(|c| c.total += U256::ONE, name::RECEIPT_TERMS, "total");
    check(|c| c.usage.prompt_tokens += 100, name::RECEIPT_TERMS, "total");
    check(|c| c.received_at_ms = c.finished_at_ms + 1, name::RECEIPT_TERMS, "older");
    check(|c| c.finished_at_ms += 61_000, name::RECEIPT_TERMS, "legacy statement");
    check(|c| c.engine.weights_sha256 = None, name::RECEIPT_TRUTH, "hash of the weights");
    check(|c| c.truth = TruthLevel::ZkProved, name::RECEIPT_TRUTH, "cannot carry");
    check(|c| c.truth = TruthLevel::Replayed, name::RECEIPT_TRUTH, "cannot carry");
    check(|c| c.truth = TruthLevel::UpstreamEvidenced, name::RECEIPT_TRUTH, "cannot carry");
    check(|c| c.chain_id = 1, name::RECEIPT_CHAIN, "chain id");
    check(|c| c.registry = Address::ZERO, name::RECEIPT_CHAIN, "registry");
    check(|c| c.simulated = false, name::RECEIPT_ENCLAVE, "simulated");
    check(
        |c| {
            c.tee_id.0.0[0] ^= 1;
            c.leaf.tee_id = c.tee_id;
        },
        name::RECEIPT_ENCLAVE,
        "signing key",
    );
    check(|c| c.leaf.timestamp += 1, name::LEAF_SIGNATURE, "does not verify");
    check(|c| c.leaf.input_hash.0[0] ^= 1, name::LEAF_SIGNATURE, "does not verify");
    check(
        |c| {
            c.received_at_ms = (ATTESTED_AT - 100) * 1_000;
        },
        name::RECEIPT_ENCLAVE,
        "younger",
    );
    check(|c| c.pay_to = Address::ZERO, name::REGISTRY_IDENTITY, "payment address");
}

#[test]
fn a_record_that_is_not_the_attested_enclave_s_is_rejected() {
    let check = |record, check, detail| {
        rejected(&Plan { record, ..Plan::default() }, check, detail);
    };
    let identity = name::REGISTRY_IDENTITY;
    check(|r| r.teeId.0[0] ^= 1, identity, "enclave id");
    check(|r| r.publicKeyHash.0[0] ^= 1, identity, "signing key");
    check(|r| r.tlsCertificateHash.0[0] ^= 1, identity, "TLS");
    check(|r| r.pcrHash.0[0] ^= 1, identity, "measurements");
    check(|r| r.payloadHash.0[0] ^= 1, identity, "registered one");
    check(|r| r.attestedAtMs += 1, identity, "time");
    check(|r| r.receiptKey = vec![1; 32].into(), identity, "receipt key");
    check(|r| r.hpkeKey.0[0] ^= 1, identity, "HPKE");
    check(|r| r.simulated = false, identity, "simulated");
    check(|r| r.owner.0[0] ^= 1, name::REGISTRY_NONCE, "another registration");
    check(|r| r.endpoint.push('/'), name::REGISTRY_NONCE, "another registration");
    check(|r| r.teeType = 1, name::REGISTRY_NONCE, "another registration");
}

#[test]
fn registration_must_follow_the_evidence_closely() {
    for (registered_at, good) in [
        (ATTESTED_AT - 61, false),
        (ATTESTED_AT - 60, true),
        (ATTESTED_AT + 300, true),
        (ATTESTED_AT + 301, false),
    ] {
        let plan = Plan { registered_at, ..Plan::default() };
        if good {
            assert_eq!(run(&world(&plan)).verdict(), Verdict::Verified);
        } else {
            rejected(&plan, name::REGISTRY_TIME, "registered outside");
        }
    }
}

#[test]
fn an_enclave_out_of_standing_is_rejected() {
    let enabled = U256::from(REGISTERED_AT);
    let check = |standing, detail| {
        rejected(&Plan { standing, ..Plan::default() }, name::REGISTRY_STANDING, detail);
    };
    check(enabled | U256::ONE << 184, "banned");
    check(enabled | U256::from(ANSWERED_AT) << 80, "void");
    check(U256::from(ANSWERED_AT + 61), "good standing");
    let later = Plan { standing: enabled | U256::from(ANSWERED_AT + 1) << 80, ..Plan::default() };
    assert_eq!(run(&world(&later)).verdict(), Verdict::Verified, "void only since later");
}

#[test]
fn the_payment_must_be_the_one_in_the_receipt() {
    let check = |payment, detail| {
        rejected(&Plan { payment, ..Plan::default() }, name::PAYMENT_REFERENCE, detail);
    };
    check(|p| p.amount += U256::ONE, "amount");
    check(|p| p.permit.permitted.token.0[0] ^= 1, "asset");
    check(|p| p.permit.nonce += U256::ONE, "nonce");
    check(|p| p.owner.0[0] ^= 1, "payer");
    check(|p| p.witness.to.0[0] ^= 1, "payee");
    check(|p| p.witness.facilitator.0[0] ^= 1, "facilitator");
    rejected(
        &Plan { payment_key: [0x61; 32], ..Plan::default() },
        name::PAYMENT_REFERENCE,
        "sender",
    );
    let mut world = world(&Plan::default());
    world.bundle.payment = None;
    assert_eq!(run(&world).failed().unwrap().name, name::BUNDLE_PARTS);
    // Nothing to pay, nothing to refer to.
    let mut free = super::world::world(&Plan {
        claims: |c| {
            c.prices = Default::default();
            c.total = U256::ZERO;
        },
        ..Plan::default()
    });
    free.bundle.payment = None;
    assert_eq!(run(&free).verdict(), Verdict::Verified);
}

#[test]
fn a_transaction_has_one_signature_and_one_hash() {
    use alloy_consensus::TxEnvelope;
    use alloy_eips::eip2718::Decodable2718;
    let raw = world(&Plan::default()).bundle.payment.unwrap();
    let payment = crate::payment::Payment::decode(&raw).unwrap();
    let envelope = TxEnvelope::decode_2718(&mut &raw[..]).unwrap();
    assert_eq!(payment.transaction_hash, *envelope.tx_hash());
    // The signature (r, n - s) with the other parity has the same signer; only the lower s is accepted.
    let TxEnvelope::Eip1559(signed) = envelope else { panic!("another type") };
    let signature = signed.signature();
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let other =
        alloy_primitives::Signature::new(signature.r(), order - signature.s(), !signature.v());
    let twin = alloy_consensus::Signed::new_unhashed(signed.tx().clone(), other);
    assert_eq!(twin.recover_signer().ok(), Some(payment.sender), "the same signer");
    let mut bytes = Vec::new();
    alloy_eips::eip2718::Encodable2718::encode_2718(&twin, &mut bytes);
    assert!(crate::payment::Payment::decode(&bytes).is_err());
    for end in 0..raw.len() {
        assert!(crate::payment::Payment::decode(&raw[..end]).is_err());
    }
}

#[test]
fn parts_of_another_bundle_do_not_fit() {
    let a = world(&Plan::default());
    let b = world(&Plan { claims: |c| c.request_digest.0[0] ^= 1, ..Plan::default() });
    assert_eq!(run(&b).verdict(), Verdict::Verified);
    let failed = |change: &dyn Fn(&mut crate::Bundle)| {
        let mut bundle = a.bundle.clone();
        change(&mut bundle);
        let report = verify(&bundle.encode(), Some(&a.anchors));
        report.failed().unwrap().name
    };
    assert_eq!(failed(&|x| x.receipt = b.bundle.receipt.clone()), name::SETTLEMENT_LOG);
    assert_eq!(failed(&|x| x.settlement = b.bundle.settlement.clone()), name::SETTLEMENT_LOG);
    assert_eq!(failed(&|x| x.chain = b.bundle.chain.clone()), name::SETTLEMENT_LOG);
    assert_eq!(failed(&|x| x.chain = None), name::BUNDLE_PARTS);
    assert_eq!(failed(&|x| x.settlement = None), name::BUNDLE_PARTS);
    // The evidence under a tag is the same statement, but not the same bundle.
    assert_eq!(
        failed(&|x| x.evidence = [&[0xd2], &x.evidence[..]].concat().into()),
        name::EVIDENCE_DOCUMENT
    );
    assert_eq!(
        failed(&|x| x.receipt = [&[0xd2], &x.receipt[..]].concat().into()),
        name::RECEIPT_FORMAT
    );
}
