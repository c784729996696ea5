//! Payments against a chain with faults. Charges are counted in the chain's logs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

mod support;

use alloy_primitives::{B256, U256};
use og_facilitator::*;
use og_x402::InvalidReason;
use support::*;

fn charged(amounts: &[u64]) -> Vec<U256> {
    amounts.iter().map(|amount| U256::from(*amount)).collect()
}

#[tokio::test]
async fn a_payment_is_settled_once_for_the_amount_that_was_signed_off() {
    let world = World::new().await;
    let running = Running::start(world.open());
    let request = world.payment(7, 1_000, 123);
    let job = running.facilitator.settle(&request).await.unwrap();
    let again = running.facilitator.settle(&request).await.unwrap();
    assert_eq!(job.job_id, again.job_id);
    let done = running.done(&job.job_id).await;
    let result = done.result.unwrap();
    assert!(done.status == Status::Succeeded && result.success && done.error.is_none());
    assert_eq!(result.amount.as_deref(), Some("123"));
    assert_eq!(result.network, "eip155:8453");
    assert_eq!(result.payer, Some(world.payer.address().to_checksum(None)));
    assert!(result.transaction.parse::<B256>().is_ok());
    assert_eq!(world.payment.charges(world.payer.address()), charged(&[123]));
    assert_eq!(world.payment.balance(PAYEE), U256::from(123));

    // Handing it over again is safe for ever; another amount for the same permit is refused.
    assert_eq!(running.facilitator.settle(&request).await.unwrap().status, Status::Succeeded);
    let other = running.facilitator.settle(&world.payment(7, 1_000, 124)).await.unwrap_err();
    assert_eq!((other.code(), other.money()), ("settlement_amount_differs", Some("settled")));
    assert_eq!(world.payment.charges(world.payer.address()), charged(&[123]));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn many_payments_settle_side_by_side_and_zero_needs_no_transaction() {
    let world = World::new().await;
    let running = Running::start(world.open());
    let mut jobs = Vec::new();
    for nonce in 0..40 {
        let request = world.payment(nonce, 100, nonce);
        jobs.push(running.facilitator.settle(&request).await.unwrap().job_id);
    }
    let exact = world.exact_payment(1, 55);
    jobs.push(running.facilitator.settle(&exact).await.unwrap().job_id);
    for job in &jobs {
        assert_eq!(running.done(job).await.status, Status::Succeeded, "{job}");
    }
    assert_eq!(running.done(&jobs[0]).await.tx_hash, None);
    let mut charges = world.payment.charges(world.payer.address());
    charges.sort();
    let mut expected: Vec<u64> = (1..40).collect();
    expected.push(55);
    expected.sort_unstable();
    assert_eq!(charges, charged(&expected));
    running.stop().await.unwrap();
}

/// The facilitator dies at its n-th request to the payment chain, before or after the chain has done it; for every
/// n that a settlement takes. Whatever was promised is settled afterwards, once.
#[tokio::test]
async fn a_crash_at_any_request_neither_loses_nor_repeats_a_settlement() {
    let mut crashes = 0;
    for executed in [false, true] {
        for at in 1.. {
            let world = World::new().await;
            world.payment.faults(|faults| faults.crash_at = Some((at, executed)));
            let running = Running::start(world.open());
            let mut jobs = Vec::new();
            for nonce in [1, 2] {
                let request = world.payment(nonce, 100, 40 + nonce);
                jobs.push(running.facilitator.settle(&request).await.unwrap().job_id);
            }
            let finished = async {
                for job in &jobs {
                    running.done(job).await;
                }
            };
            let crashed = tokio::select! {
                () = finished => false,
                () = world.payment.crashed.cancelled() => true,
            };
            running.kill().await;
            world.payment.faults(|faults| faults.crash_at = None);
            let running = Running::start(world.open());
            for job in &jobs {
                assert_eq!(running.done(job).await.status, Status::Succeeded, "crash at {at}");
            }
            let mut charges = world.payment.charges(world.payer.address());
            charges.sort();
            assert_eq!(charges, charged(&[41, 42]), "crash at {at}, executed: {executed}");
            running.stop().await.unwrap();
            if !crashed {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes > 20, "{crashes} crash points");
}

#[tokio::test]
async fn lost_answers_and_lost_transactions_are_made_good() {
    let world = World::new().await;
    world.payment.faults(|faults| faults.lose_send_answers = true);
    let running = Running::start(world.open());
    let first = running.facilitator.settle(&world.payment(1, 100, 11)).await.unwrap().job_id;
    assert_eq!(running.done(&first).await.status, Status::Succeeded);

    world.payment.faults(|faults| {
        faults.lose_send_answers = false;
        faults.lose_sends = true;
    });
    let second = running.facilitator.settle(&world.payment(2, 100, 22)).await.unwrap().job_id;
    let pending = async || running.facilitator.job(&second).await.unwrap().unwrap().status;
    while pending().await != Status::Processing {
        tokio::task::yield_now().await;
    }
    world.payment.faults(|faults| faults.lose_sends = false);
    assert_eq!(running.done(&second).await.status, Status::Succeeded);

    world.payment.faults(|faults| faults.down = true);
    let third = running.facilitator.settle(&world.payment(3, 100, 33)).await.unwrap().job_id;
    let before = world.payment.requests();
    until("a retry", || world.payment.requests() > before + 2).await;
    assert_eq!(running.facilitator.job(&third).await.unwrap().unwrap().status, Status::Queued);
    world.payment.faults(|faults| faults.down = false);
    assert_eq!(running.done(&third).await.status, Status::Succeeded);
    assert_eq!(world.payment.charges(world.payer.address()), charged(&[11, 22, 33]));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_and_a_stolen_nonce_is_given_up() {
    let mut world = World::new().await;
    world.sending.bump_ms = 10;
    // The suggested fee is 15: two raises are needed.
    world.payment.faults(|faults| faults.least_max_fee = 19);
    let running = Running::start(world.open());
    let job = running.facilitator.settle(&world.payment(1, 100, 10)).await.unwrap().job_id;
    assert_eq!(running.done(&job).await.status, Status::Succeeded);
    running.stop().await.unwrap();

    world.sending.bump_ms = 60_000;
    world.payment.faults(|faults| {
        faults.least_max_fee = 0;
        faults.no_blocks = true;
    });
    let running = Running::start(world.open());
    let sent = world.payment.sent();
    let job = running.facilitator.settle(&world.payment(2, 100, 20)).await.unwrap().job_id;
    until("the transaction", || world.payment.sent() > sent).await;
    world.payment.steal_nonce(world.keys.payment.address());
    world.payment.faults(|faults| faults.no_blocks = false);
    assert_eq!(running.done(&job).await.status, Status::Succeeded);
    assert_eq!(world.payment.charges(world.payer.address()), charged(&[10, 20]));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_settlement_counts_only_with_its_confirmations() {
    let world = World::new().await;
    let running = Running::start(world.open_with(|config| config.payment.confirmations = 3));
    let job = running.facilitator.settle(&world.payment(1, 100, 10)).await.unwrap().job_id;
    until("the charge", || !world.payment.charges(world.payer.address()).is_empty()).await;
    for _ in 0..2 {
        let looked = world.payment.requests();
        until("another look", || world.payment.requests() > looked + 3).await;
        let status = running.facilitator.job(&job).await.unwrap().unwrap().status;
        assert_eq!(status, Status::Processing);
        world.payment.seal();
    }
    assert_eq!(running.done(&job).await.status, Status::Succeeded);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_outbox_that_was_lost_does_not_charge_again() {
    let world = World::new().await;
    for request in [world.payment(5, 100, 50), world.exact_payment(6, 60)] {
        let running = Running::start(world.open());
        let job = running.facilitator.settle(&request).await.unwrap().job_id;
        let first = running.done(&job).await;
        running.stop().await.unwrap();
        world.forget_outbox();
        let running = Running::start(world.open());
        running.facilitator.settle(&request).await.unwrap();
        let second = running.done(&job).await;
        assert_eq!(second.status, Status::Succeeded);
        assert_eq!(second.tx_hash, first.tx_hash, "the settlement that was ours is recognised");
        running.stop().await.unwrap();
    }
    assert_eq!(world.payment.charges(world.payer.address()), charged(&[50, 60]));

    // Not even when the permit is over by the time it is handed over again.
    world.forget_outbox();
    world.payment.faults(|faults| faults.early_clock = true);
    let over = world.payment_at(8, 100, 80, now_secs() - 1_000);
    let running = Running::start(world.open());
    let job = running.facilitator.settle(&over).await.unwrap().job_id;
    let first = running.done(&job).await;
    running.stop().await.unwrap();
    world.forget_outbox();
    world.payment.faults(|faults| faults.early_clock = false);
    let running = Running::start(world.open());
    running.facilitator.settle(&over).await.unwrap();
    let second = running.done(&job).await;
    assert_eq!((second.status, second.tx_hash), (Status::Succeeded, first.tx_hash));
    running.stop().await.unwrap();
    assert_eq!(world.payment.charges(world.payer.address()), charged(&[50, 60, 80]));

    // The same permit, settled for another amount in an earlier life: failed, and says so.
    world.forget_outbox();
    let running = Running::start(world.open());
    let job = running.facilitator.settle(&world.payment(5, 100, 49)).await.unwrap().job_id;
    let failed = running.done(&job).await;
    assert_eq!(failed.error.unwrap().code, "permit2_invalid_nonce");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_settled_fails_with_its_reason_and_without_a_charge() {
    let world = World::new().await;
    let running = Running::start(world.open());
    let payer = world.payer.address();

    world.payment.spend_permit2_nonce(payer, U256::from(1));
    let job = running.facilitator.settle(&world.payment(1, 100, 1)).await.unwrap().job_id;
    let failed = running.done(&job).await;
    assert_eq!((failed.status, failed.result.unwrap().success), (Status::Failed, false));
    let error = failed.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.payment.as_str()),
        ("permit2_invalid_nonce", "not_charged")
    );

    // Funds that are missing now may come before the deadline.
    world.payment.fund(payer, 10, U256::MAX);
    let job = running.facilitator.settle(&world.payment(2, 100, 20)).await.unwrap().job_id;
    let reason = async || {
        let job = running.facilitator.job(&job).await.unwrap().unwrap();
        job.error.map(|error| (error.code, error.payment, error.retryable))
    };
    let expected = Some(("permit2_insufficient_balance".to_owned(), "pending".to_owned(), true));
    while reason().await != expected {
        tokio::task::yield_now().await;
    }
    world.payment.fund(payer, 1_000, U256::ZERO);
    while reason().await.map(|reason| reason.0) != Some("permit2_allowance_required".to_owned()) {
        tokio::task::yield_now().await;
    }
    world.payment.fund(payer, 1_000, U256::MAX);
    assert_eq!(running.done(&job).await.status, Status::Succeeded);
    running.stop().await.unwrap();

    // A transaction that reverts after a good estimate is tried again, not counted.
    world.payment.faults(|faults| faults.blind_estimates = true);
    world.payment.fund(payer, 0, U256::MAX);
    let running = Running::start(world.open());
    let job = running.facilitator.settle(&world.payment(3, 100, 30)).await.unwrap().job_id;
    let sent = world.payment.sent();
    until("a revert", || world.payment.sent() > sent).await;
    world.payment.fund(payer, 1_000, U256::MAX);
    assert_eq!(running.done(&job).await.status, Status::Succeeded);
    assert_eq!(world.payment.charges(payer), charged(&[20, 30]));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_permit_that_is_over_fails_and_costs_nothing() {
    let world = World::new().await;
    let running = Running::start(world.open());
    let request = world.payment_at(1, 100, 10, now_secs() - 301);
    let job = running.facilitator.settle(&request).await.unwrap().job_id;
    let failed = running.done(&job).await;
    assert_eq!(failed.error.unwrap().code, "permit2_deadline_expired");
    assert!(world.payment.charges(world.payer.address()).is_empty());
    let accepted = request.payment_payload.accepted.clone();
    let refused = running.facilitator.check(&request.payment_payload, &accepted).await.unwrap_err();
    assert_eq!(refused.code(), "permit2_deadline_expired");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn bad_settlements_are_refused_at_the_door() {
    let world = World::new().await;
    let facilitator = world.open();
    let refused = async |change: fn(&mut SettleRequest)| {
        let mut request = world.payment(9, 100, 50);
        change(&mut request);
        facilitator.settle(&request).await.unwrap_err().code()
    };
    assert_eq!(
        refused(|r| r.payment_requirements.amount = "101".to_owned()).await,
        InvalidReason::SettlementExceedsAmount.code()
    );
    assert_eq!(
        refused(|r| r.payment_requirements.amount = "-1".to_owned()).await,
        "invalid_request"
    );
    assert_eq!(
        refused(|r| r.payment_requirements.pay_to = OPG.to_string()).await,
        "invalid_permit2_recipient_mismatch"
    );
    assert_eq!(refused(|r| r.payment_payload.x402_version = 1).await, "invalid_x402_version");
    assert_eq!(
        refused(|r| r.payment_payload.accepted.network = "eip155:1".to_owned()).await,
        "invalid_upto_evm_network_mismatch"
    );
    assert_eq!(
        refused(|r| {
            r.payment_requirements.network = "eip155:1".to_owned();
            r.payment_payload.accepted.network = "eip155:1".to_owned();
        })
        .await,
        "invalid_permit2_signature"
    );
    let exact = world.exact_payment(1, 10);
    let cheaper = SettleRequest {
        payment_requirements: og_x402::PaymentRequirements {
            amount: "9".to_owned(),
            ..exact.payment_requirements.clone()
        },
        ..exact
    };
    assert_eq!(
        facilitator.settle(&cheaper).await.unwrap_err().code(),
        "invalid_exact_evm_authorization_value"
    );
    let closed = world.payment(10, 100, 1);
    drop(facilitator);
    let facilitator = world.open_with(|config| config.payment.payees = vec![OPG]);
    assert_eq!(facilitator.settle(&closed).await.unwrap_err().code(), "pay_to_not_allowed");
    drop(facilitator);
    let facilitator = world.open_with(|config| config.payment.assets = vec![PAYEE]);
    assert_eq!(facilitator.settle(&closed).await.unwrap_err().code(), "permit2_token_mismatch");
    assert_eq!(facilitator.job(&format!("payment-{}", "0".repeat(64))).await.unwrap(), None);
    assert_eq!(facilitator.job("payment-../../etc").await.unwrap(), None);
}

#[tokio::test]
async fn verification_names_what_the_chain_would_refuse() {
    let world = World::new().await;
    let facilitator = world.open();
    let payer = world.payer.address();
    let check = async |request: &SettleRequest| {
        let mut requirements = request.payment_requirements.clone();
        requirements.amount = request.payment_payload.accepted.amount.clone();
        facilitator
            .check(&request.payment_payload, &requirements)
            .await
            .map(|_| ())
            .map_err(|error| error.code())
    };
    assert_eq!(check(&world.payment(1, 100, 1)).await, Ok(()));
    assert_eq!(check(&world.exact_payment(1, 100)).await, Ok(()));
    world.payment.fund(payer, 99, U256::MAX);
    assert_eq!(check(&world.payment(1, 100, 1)).await, Err("permit2_insufficient_balance"));
    assert_eq!(
        check(&world.exact_payment(1, 100)).await,
        Err("invalid_exact_evm_insufficient_balance")
    );
    world.payment.fund(payer, 100, U256::from(99));
    assert_eq!(check(&world.payment(1, 100, 1)).await, Err("permit2_allowance_required"));
    let request = world.payment(256 * 3 + 17, 100, 1);
    world.payment.fund(payer, 100, U256::from(100));
    let verified = facilitator
        .check(&request.payment_payload, &request.payment_payload.accepted)
        .await
        .unwrap();
    let funds = facilitator.funds(&verified).await.unwrap();
    assert_eq!((funds.available(), funds.nonce_used), (U256::from(100), false));
    world.payment.spend_permit2_nonce(payer, U256::from(256 * 3 + 17));
    assert_eq!(check(&request).await, Err("permit2_invalid_nonce"));
    world.payment.faults(|faults| faults.down = true);
    assert_eq!(check(&world.payment(1, 100, 1)).await, Err("chain_unreachable"));
}

#[tokio::test]
async fn another_chain_behind_the_endpoint_is_noticed() {
    let world = World::new().await;
    let running = Running::start(world.open());
    let job = running.facilitator.settle(&world.payment(1, 100, 1)).await.unwrap().job_id;
    running.done(&job).await;
    running.stop().await.unwrap();
    world.payment.change_genesis();
    let error = world.open().run(tokio_util::sync::CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.code(), "wrong_chain");
    let facilitator = world.open_with(|config| config.payment.chain_id = 1);
    let error = facilitator.run(tokio_util::sync::CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.code(), "wrong_chain");
}

#[tokio::test]
async fn finished_work_is_forgotten_and_unfinished_is_not() {
    let world = World::new().await;
    let tee = Tee::new(1);
    world.network.register(&tee);
    let running = Running::start(world.open());
    let facilitator = &running.facilitator;
    let request = world.payment(1, 100, 10);
    let item = tee.evidence(1);
    let paid = facilitator.settle(&request).await.unwrap().job_id;
    let anchored = facilitator.settle_data(item.clone()).await.unwrap().job_id;
    let first = (running.done(&paid).await.tx_hash, running.done(&anchored).await.tx_hash);
    world.payment.fund(world.payer.address(), 0, U256::MAX);
    let open = facilitator.settle(&world.payment(2, 100, 20)).await.unwrap().job_id;
    facilitator.forget_finished((now_secs() + 1) * 1_000).await.unwrap();
    assert_eq!(facilitator.job(&paid).await.unwrap(), None);
    assert_eq!(facilitator.job(&anchored).await.unwrap(), None);
    assert!(facilitator.job(&open).await.unwrap().is_some());

    // The chains remember what the outbox forgot.
    facilitator.settle(&request).await.unwrap();
    facilitator.settle_data(item).await.unwrap();
    let again = (running.done(&paid).await.tx_hash, running.done(&anchored).await.tx_hash);
    assert_eq!(again, first);
    world.payment.fund(world.payer.address(), 100, U256::MAX);
    assert_eq!(running.done(&open).await.status, Status::Succeeded);
    assert_eq!(world.payment.charges(world.payer.address()), charged(&[10, 20]));
    running.stop().await.unwrap();
}
