//! What goes wrong outside, and what a client is told: a documented error, no charge, no panic.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{World, chat, chat_stream, completion, events};
use serde_json::Value;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn upstream_faults_are_told_and_cost_nothing() {
    let world = World::with(|config| config.limits.answer_secs = 2).await;
    for (model, status, code) in [
        ("status-400", 400, "upstream_rejected"),
        ("status-404", 400, "upstream_rejected"),
        ("status-401", 502, "upstream_refused"),
        ("status-403", 502, "upstream_refused"),
        ("status-429", 429, "upstream_busy"),
        ("status-500", 502, "upstream_failed"),
        ("status-503", 502, "upstream_failed"),
        ("not-json", 502, "upstream_malformed"),
        ("no-usage", 502, "upstream_usage_missing"),
        ("cut", 502, "upstream_cut"),
        ("silent", 504, "upstream_timeout"),
    ] {
        let response = world.paid(CHAT, chat(model)).await;
        assert_eq!(response.status(), status, "{model}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "{model}");
        assert_eq!(body["error"]["payment"], "not_charged");
        assert!(body["error"]["next"].is_string() && body["error"]["message"].is_string());
        if status == 502 {
            assert!(!body.to_string().contains("sk-secret"), "{body}");
        }
    }
    for model in ["status-500", "status-401", "status-429", "silent"] {
        let response = world.paid(CHAT, chat_stream(model)).await;
        assert!(response.status().as_u16() >= 400, "{model}");
    }
    assert!(world.settled().await.is_empty());
    assert_eq!(world.get("/health").await.0, 200);
}

#[tokio::test]
async fn a_payment_whose_request_failed_serves_the_same_request_again_and_no_other() {
    let world = World::new().await;
    let payment = world.payment(CHAT).await;
    for count in 1..=2 {
        assert_eq!(world.with_payment(CHAT, chat("status-500"), &payment).await.status(), 502);
        assert_eq!(world.upstream.requests().len(), count);
    }
    let response = world.with_payment(CHAT, chat("ok"), &payment).await;
    assert_eq!(response.status(), 402);
    assert!(response.text().await.unwrap().contains("payment_already_used"));
    assert!(world.settled().await.is_empty());
}

#[tokio::test]
async fn a_stream_that_breaks_off_upstream_breaks_off_here() {
    let world = World::new().await;
    for (model, code) in [
        ("cut", "upstream_cut"),
        ("error-event", "upstream_cut"),
        ("no-usage", "upstream_usage_missing"),
    ] {
        let mut response = world.paid(CHAT, chat_stream(model)).await;
        assert_eq!(response.status(), 200);
        let mut text = String::new();
        let broken = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => text.push_str(core::str::from_utf8(&chunk).unwrap()),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(broken, "{model}: the body must not look complete");
        assert!(text.contains("word0"), "{text}");
        assert!(!text.contains("[DONE]") && !text.contains("tee_signature"));
        let last: Value = serde_json::from_str(events(&text).last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], code);
        assert_eq!(last["error"]["payment"], "not_charged");
    }
    assert!(world.settled().await.is_empty());
}

#[tokio::test]
async fn an_upstream_cannot_bill_more_than_was_agreed() {
    let world = World::new().await;
    let body = chat("huge");
    let answer: Value = world.paid(CHAT, body.clone()).await.json().await.unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 50);
    let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt < 1_000, "{prompt}");
    assert_eq!(world.settled().await[0].amount.to_string(), answer["opengradient"]["cost"]);
}

#[tokio::test]
async fn bad_input_is_told_what_is_wrong_before_any_payment() {
    let world = World::new().await;
    let post = |path: &str, kind: &str, body: &'static str| {
        world.client.post(world.url(path)).header("content-type", kind).body(body)
    };
    let big = "x".repeat(5 << 20);
    let chunked = reqwest::Body::wrap_stream(futures::stream::iter(
        (0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 << 10])),
    ));
    let cases = [
        (post(CHAT, "application/json", "{"), 400, "malformed_json"),
        (post(CHAT, "application/json", ""), 400, "malformed_json"),
        (post(CHAT, "application/json", "[1]"), 400, "malformed_json"),
        (post(CHAT, "application/json; charset=utf-8", "nul"), 400, "malformed_json"),
        (post(CHAT, "text/plain", "{}"), 415, "unsupported_media_type"),
        (world.client.post(world.url(CHAT)).body("{}"), 415, "unsupported_media_type"),
        (
            post(CHAT, "application/json", "{}").header("content-encoding", "gzip"),
            415,
            "unsupported_encoding",
        ),
        (world.post(CHAT, chat("nobody")), 404, "unknown_model"),
        (world.post("/v1/completions", completion("nobody")), 404, "unknown_model"),
        (world.post(CHAT, chat("ok").replace("user", "wizard")), 400, "invalid_request"),
        (
            world.post(CHAT, chat("ok").replace("temperature", "temprature")),
            400,
            "unsupported_parameter",
        ),
        (world.post(CHAT, big), 413, "body_too_large"),
        (
            world
                .client
                .post(world.url(CHAT))
                .header("content-type", "application/json")
                .body(chunked),
            413,
            "body_too_large",
        ),
        (world.post("/v1/nothing", "{}"), 404, "not_found"),
        (world.post("/v1/models", "{}"), 405, "method_not_allowed"),
        (world.client.get(world.url(CHAT)), 405, "method_not_allowed"),
        (world.client.get(world.url("/enclave/attestation?nonce=zz")), 400, "invalid_request"),
        (world.client.get(world.url("/enclave/attestation")), 400, "invalid_request"),
    ];
    for (i, (request, status, code)) in cases.into_iter().enumerate() {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "case {i}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "case {i}");
        assert_eq!(body["error"]["payment"], "none", "case {i}");
        assert!(body["error"]["type"].is_string() && body["error"]["retryable"].is_boolean());
    }
    // A hundred megabytes announced are refused without being read.
    let response = world
        .post(CHAT, "")
        .body(reqwest::Body::wrap_stream(
            futures::stream::pending::<Result<Vec<u8>, std::io::Error>>(),
        ))
        .header("content-length", (100_u64 << 20).to_string())
        .send();
    let response = tokio::time::timeout(Duration::from_secs(5), response).await.unwrap().unwrap();
    assert_eq!(response.status(), 413);
    assert!(world.upstream.requests().is_empty());
    assert_eq!(world.funds.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_is_billed_and_can_fetch_its_answer() {
    let world = World::new().await;
    for body in [chat("gate"), chat_stream("gate")] {
        let before = world.settlement.payments.lock().unwrap().len();
        let payment = world.payment(CHAT).await;
        let asked = world.upstream.requests().len();
        {
            let request = world.with_payment(CHAT, body.clone(), &payment);
            tokio::pin!(request);
            tokio::select! {
                _ = &mut request => panic!("the gate is closed"),
                () = async {
                    while world.upstream.requests().len() == asked {
                        tokio::task::yield_now().await;
                    }
                } => {}
            }
        }
        world.upstream.state.gate.add_permits(1);
        while world.settlement.payments.lock().unwrap().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = world.with_payment(CHAT, body, &payment).await.text().await.unwrap();
        assert!(text.contains("tee_signature"));
        assert_eq!(world.upstream.requests().len(), asked + 1);
    }
    assert_eq!(world.settled().await.len(), 2);
}

#[tokio::test]
async fn a_restart_settles_the_journal_and_still_gives_the_answer() {
    let mut world = World::new().await;
    world.settlement.down.store(true, Ordering::SeqCst);
    let payment = world.payment(CHAT).await;
    let first = world.with_payment(CHAT, chat_stream("ok"), &payment).await.text().await.unwrap();
    assert_eq!(world.gateway().open_settlements(), 1);
    let identity = world.gateway().identity().tee_id;
    world.restart().await;
    assert_ne!(world.gateway().identity().tee_id, identity, "a restart is a new enclave");
    assert!(world.settlement.payments.lock().unwrap().is_empty());
    assert_eq!(world.gateway().open_settlements(), 1);
    // The sealed copy opens for the same payment and body only.
    let again = world.with_payment(CHAT, chat_stream("ok"), &payment).await.text().await.unwrap();
    assert_eq!(again, first);
    assert_eq!(world.with_payment(CHAT, chat("ok"), &payment).await.status(), 402);
    world.settlement.down.store(false, Ordering::SeqCst);
    let settled = world.settled().await;
    assert_eq!(settled.len(), 1);
    assert_eq!(world.upstream.requests().len(), 1);
    world.restart().await;
    assert_eq!(world.gateway().open_settlements(), 0);
    assert_eq!(world.settled().await.len(), 1, "nothing is settled twice");
}

#[tokio::test]
async fn a_request_that_a_stop_interrupts_is_given_back() {
    let mut world = World::new().await;
    let payment = world.payment(CHAT).await;
    {
        let request = world.with_payment(CHAT, chat("gate"), &payment);
        tokio::pin!(request);
        tokio::select! {
            _ = &mut request => panic!("the gate is closed"),
            () = async {
                while world.upstream.requests().is_empty() {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    }
    // The process goes away without a word: the journal holds a reservation and nothing else.
    let journal = std::fs::read(world.config.data_dir.join("journal.log")).unwrap();
    let copy = tempfile::tempdir().unwrap();
    std::fs::write(copy.path().join("journal.log"), &journal).unwrap();
    drop(world.gateway.take());
    world.config.data_dir = copy.path().to_path_buf();
    world.start().await;
    assert_eq!(world.gateway().open_settlements(), 0);
    assert_eq!(world.paid(CHAT, chat("ok")).await.status(), 200);
    assert_eq!(world.settled().await.len(), 1);
}

#[tokio::test]
async fn a_private_answer_is_never_written() {
    let mut world = World::new().await;
    let payment = world.payment(CHAT).await;
    let send = |world: &World| {
        world
            .post(CHAT, chat("ok"))
            .header("x-settlement-type", "private")
            .header("payment-signature", og_x402::header::encode(&payment).unwrap())
            .send()
    };
    assert_eq!(send(&world).await.unwrap().status(), 200);
    assert_eq!(send(&world).await.unwrap().status(), 200);
    world.restart().await;
    let response = send(&world).await.unwrap();
    assert_eq!(response.status(), 410);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "answer_expired");
    assert_eq!(body["error"]["payment"], "charged");
    assert!(!world.config.data_dir.join("answers").exists());
    assert_eq!(world.settled().await.len(), 1);
    assert!(world.settlement.evidence.lock().unwrap().is_empty());
}
