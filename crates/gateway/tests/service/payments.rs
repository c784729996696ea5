//! Payments that are not good, payments used twice, and funds that do not suffice.

use std::sync::atomic::Ordering;

use crate::support::{World, chat, chat_stream, completion};
use alloy_primitives::{Address, Bytes, U256};
use og_gateway::settlement::{FundsError, Spendable};
use og_x402::verify::InvalidReason;
use og_x402::wire::SchemePayload;
use og_x402::{PaymentPayload, PaymentRequired, Wallet, client, eip712, header};
use serde_json::Value;

const CHAT: &str = "/v1/chat/completions";

/// Changes what is signed, and signs it again.
fn resigned(
    world: &World,
    payment: &PaymentPayload,
    change: impl FnOnce(&mut og_x402::wire::Permit2Authorization),
) -> PaymentPayload {
    let mut payment = payment.clone();
    let SchemePayload::Permit2(permit) = &mut payment.payload else { panic!("a permit") };
    change(&mut permit.permit2_authorization);
    let digest = eip712::permit2_digest(&permit.permit2_authorization, 8453);
    permit.signature = world.wallet.sign(&digest).to_bytes();
    payment
}

#[tokio::test]
async fn every_invalid_payment_is_refused_by_its_code_and_costs_nothing() {
    let world = World::new().await;
    let good = world.payment(CHAT).await;
    let now = world.clock.now_secs();
    let other = Address::repeat_byte(0xaa);
    let with_signature = |signature: Bytes| {
        let mut payment = good.clone();
        let SchemePayload::Permit2(permit) = &mut payment.payload else { panic!("a permit") };
        permit.signature = signature;
        payment
    };
    let accepted = |change: fn(&mut og_x402::PaymentRequirements)| {
        let mut payment = good.clone();
        change(&mut payment.accepted);
        payment
    };
    let foreign = {
        let required = world.challenge(CHAT).await;
        let fresh = client::Fresh { nonce: U256::from(999), now_secs: now };
        let other = Wallet::from_key(&[0x12; 32]).unwrap();
        let mut payment = client::pay(&required, &required.accepts[0], &other, fresh).unwrap();
        let SchemePayload::Permit2(permit) = &mut payment.payload else { panic!("a permit") };
        permit.permit2_authorization.from = world.wallet.address();
        payment
    };
    let mut version = good.clone();
    version.x402_version = 1;
    let mut no_permit = good.clone();
    no_permit.payload = SchemePayload::Other(serde_json::json!({"x": 1}));
    let cases: Vec<(&str, PaymentPayload)> = vec![
        ("invalid_x402_version", version),
        ("unsupported_payload_type", no_permit),
        ("no_matching_requirements", accepted(|a| a.scheme = "exact".into())),
        ("no_matching_requirements", accepted(|a| a.network = "eip155:10740".into())),
        ("no_matching_requirements", accepted(|a| a.amount = "1".into())),
        ("no_matching_requirements", accepted(|a| a.pay_to = a.asset.clone())),
        ("no_matching_requirements", accepted(|a| a.asset = a.pay_to.clone())),
        ("invalid_permit2_spender", resigned(&world, &good, |a| a.spender = other)),
        ("invalid_permit2_recipient_mismatch", resigned(&world, &good, |a| a.witness.to = other)),
        (
            "upto_facilitator_mismatch",
            resigned(&world, &good, |a| a.witness.facilitator = Some(other)),
        ),
        ("unsupported_payload_type", resigned(&world, &good, |a| a.witness.facilitator = None)),
        ("permit2_deadline_expired", resigned(&world, &good, |a| a.deadline = U256::from(now + 2))),
        ("permit2_deadline_expired", resigned(&world, &good, |a| a.deadline = U256::ZERO)),
        ("permit2_deadline_too_far", resigned(&world, &good, |a| a.deadline = U256::MAX)),
        (
            "permit2_not_yet_valid",
            resigned(&world, &good, |a| a.witness.valid_after = U256::from(now + 100)),
        ),
        (
            "permit2_amount_mismatch",
            resigned(&world, &good, |a| a.permitted.amount = U256::from(1)),
        ),
        ("permit2_amount_mismatch", resigned(&world, &good, |a| a.permitted.amount = U256::MAX)),
        ("permit2_token_mismatch", resigned(&world, &good, |a| a.permitted.token = other)),
        ("invalid_permit2_signature", with_signature(Bytes::from(vec![0; 65]))),
        ("invalid_permit2_signature", with_signature(Bytes::from(vec![1; 3]))),
        ("invalid_permit2_signature", foreign),
    ];
    for (code, payment) in cases {
        let response = world.with_payment(CHAT, chat("ok"), &payment).await;
        assert_eq!(response.status(), 402, "{code}");
        let required: PaymentRequired =
            header::decode(response.headers()["payment-required"].as_bytes()).unwrap();
        assert_eq!(required.error.as_deref(), Some(code));
        assert_eq!(required.accepts.len(), 2);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "payment_invalid", "{code}");
        assert_eq!(body["error"]["payment"], "not_charged");
        assert!(body["error"]["message"].as_str().unwrap().starts_with(code), "{body}");
    }
    for header in ["", "!!!", "e30=", "bnVsbA==", &"A".repeat(40_000)] {
        let response =
            world.post(CHAT, chat("ok")).header("payment-signature", header).send().await.unwrap();
        let status = response.status().as_u16();
        assert!(status == 402 || status == 431, "{status}");
    }
    assert!(world.upstream.requests().is_empty());
    // After all that the payment itself is still good: `validAfter` may be 0, and letter case is no matter.
    let mut payment = resigned(&world, &good, |a| a.witness.valid_after = U256::ZERO);
    payment.accepted.pay_to = payment.accepted.pay_to.to_lowercase();
    payment.accepted.asset = payment.accepted.asset.to_lowercase();
    assert_eq!(world.with_payment(CHAT, chat("ok"), &payment).await.status(), 200);
    assert_eq!(world.settled().await.len(), 1);
}

#[tokio::test]
async fn the_chains_word_about_funds_is_passed_on() {
    let world = World::new().await;
    let plenty = U256::from(u128::MAX);
    for (spendable, status, code) in [
        (
            Ok(Spendable { balance: U256::from(1), allowance: U256::MAX }),
            402,
            "permit2_insufficient_balance",
        ),
        (
            Ok(Spendable { balance: plenty, allowance: U256::ZERO }),
            402,
            "permit2_allowance_required",
        ),
        (
            Err(FundsError::Refused(InvalidReason::Permit2InvalidNonce)),
            402,
            "permit2_invalid_nonce",
        ),
        (Err(FundsError::Unavailable("x".into())), 503, "funds_unavailable"),
    ] {
        *world.funds.spendable.lock().unwrap() = spendable;
        let response = world.paid(CHAT, chat("ok")).await;
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.unwrap();
        let text = body["error"].to_string();
        assert!(text.contains(code), "{text}");
        assert_eq!(body["error"]["payment"], "not_charged");
    }
    assert!(world.upstream.requests().is_empty());
    assert!(world.settled().await.is_empty());
}

#[tokio::test]
async fn a_request_that_may_cost_more_than_was_permitted_does_not_reach_the_upstream() {
    let world = World::new().await;
    // 20,000 answer tokens at 4 per million and a long prompt: above 0.1 OPG.
    let body = chat("ok")
        .replace("\"max_tokens\":50", "\"max_tokens\":20000")
        .replace("Hello", &"x".repeat(30_000));
    let response = world.paid(CHAT, body).await;
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "cost_above_limit");
    assert_eq!(body["error"]["payment"], "not_charged");
    assert!(world.upstream.requests().is_empty());
}

#[tokio::test]
async fn one_payment_buys_one_answer() {
    let world = World::new().await;
    let payment = world.payment(CHAT).await;
    let first = world.with_payment(CHAT, chat("ok"), &payment).await.text().await.unwrap();
    // The same request again is the same answer, byte for byte; the header may be written differently.
    let again = world.with_payment(CHAT, chat("ok"), &payment).await;
    assert_eq!(again.status(), 200);
    assert_eq!(again.text().await.unwrap(), first);
    let mut rewritten = payment.clone();
    rewritten.resource = None;
    rewritten.accepted.pay_to = rewritten.accepted.pay_to.to_lowercase();
    assert_eq!(world.with_payment(CHAT, chat("ok"), &rewritten).await.text().await.unwrap(), first);
    // Another body, another route, another mode, or another token with the same nonce: used.
    let required = world.challenge(CHAT).await;
    let SchemePayload::Permit2(permit) = &payment.payload else { panic!("a permit") };
    let fresh = client::Fresh {
        nonce: permit.permit2_authorization.nonce,
        now_secs: world.clock.now_secs(),
    };
    let in_usdc = client::pay(&required, &required.accepts[1], &world.wallet, fresh).unwrap();
    let mode = world
        .post(CHAT, chat("ok"))
        .header("x-settlement-type", "private")
        .header("payment-signature", header::encode(&payment).unwrap());
    for response in [
        world.with_payment(CHAT, chat("ok") + " ", &payment).await,
        world.with_payment("/v1/completions", completion("ok"), &payment).await,
        world.with_payment(CHAT, chat_stream("ok"), &in_usdc).await,
        mode.send().await.unwrap(),
    ] {
        assert_eq!(response.status(), 402);
        let required: PaymentRequired =
            header::decode(response.headers()["payment-required"].as_bytes()).unwrap();
        assert_eq!(required.error.as_deref(), Some("payment_already_used"));
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "payment_already_used");
        assert_eq!(body["error"]["payment"], "already_used");
    }
    assert_eq!(world.upstream.requests().len(), 1);
    assert_eq!(world.settled().await.len(), 1);
}

#[tokio::test]
async fn a_request_sent_twice_at_once_is_answered_once() {
    let world = World::new().await;
    let payment = world.payment(CHAT).await;
    for body in [chat("gate"), chat_stream("gate")] {
        let payment =
            if body.contains("stream") { world.payment(CHAT).await } else { payment.clone() };
        let before = world.upstream.requests().len();
        let open = async {
            // Both are in before the upstream may answer.
            while world.upstream.requests().len() == before
                || world.gateway().open_settlements() > 0
            {
                tokio::task::yield_now().await;
            }
            world.upstream.state.gate.add_permits(1);
        };
        let (first, second, ()) = tokio::join!(
            async { world.with_payment(CHAT, body.clone(), &payment).await.text().await.unwrap() },
            async { world.with_payment(CHAT, body.clone(), &payment).await.text().await.unwrap() },
            open,
        );
        assert_eq!(first, second);
        assert_eq!(world.upstream.requests().len(), before + 1);
        assert!(first.contains("tee_signature"));
    }
    assert_eq!(world.settled().await.len(), 2);
}

#[tokio::test]
async fn open_requests_of_a_payer_are_covered_together() {
    let world = World::with(|config| config.limits.payments_per_payer = 3).await;
    world.settlement.pending.store(true, Ordering::SeqCst);
    // Enough for one worst case (body and 50 tokens), not for two.
    let enough = Spendable { balance: U256::from(400_000_000_000_000_u64), allowance: U256::MAX };
    *world.funds.spendable.lock().unwrap() = Ok(enough);
    let first = async { world.paid(CHAT, chat("gate")).await.status() };
    let second = async {
        while world.upstream.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        let refused = world.paid(CHAT, chat("gate")).await.text().await.unwrap();
        world.upstream.state.gate.add_permits(1);
        refused
    };
    let (status, refused) = tokio::join!(first, second);
    assert_eq!(status, 200);
    assert!(refused.contains("permit2_insufficient_balance"), "{refused}");
    let plenty = Spendable { balance: U256::MAX, allowance: U256::MAX };
    *world.funds.spendable.lock().unwrap() = Ok(plenty);
    for _ in 0..2 {
        assert_eq!(world.paid(CHAT, chat("ok")).await.status(), 200);
    }
    // Three are answered and not settled yet.
    let response = world.paid(CHAT, chat("ok")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "too_many_in_flight");
    world.settlement.pending.store(false, Ordering::SeqCst);
    world.settled().await;
    assert_eq!(world.paid(CHAT, chat("ok")).await.status(), 200);
}
