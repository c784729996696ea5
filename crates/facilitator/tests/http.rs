//! The HTTP face: shapes that the official gateways and x402 clients read, and refusals in JSON.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

mod support;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use og_facilitator::*;
use serde_json::{Value, json};
use support::*;
use tower::ServiceExt as _;

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    ask(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(router: &Router, path: &str, body: impl ToString) -> (StatusCode, Value) {
    ask(router, Request::post(path).body(Body::from(body.to_string())).unwrap()).await
}

async fn post_data(router: &Router, kind: &str, data: &Value) -> (StatusCode, Value) {
    let request = Request::post("/settle_data")
        .header("x-settlement-type", kind)
        .header("x-settlement-data", STANDARD.encode(data.to_string()))
        .body(Body::from("{}"))
        .unwrap();
    ask(router, request).await
}

fn body_of(request: &SettleRequest) -> Value {
    let mut body = serde_json::to_value(request).unwrap();
    body["x402Version"] = json!(2);
    body["usageMetadata"] = json!({ "requestCount": 1 });
    body
}

fn data_of(item: &EvidenceItem) -> Value {
    json!({
        "tee_id": item.tee_id, "input_hash": format!("{:x}", item.input_hash), "output_hash": item.output_hash,
        "tee_signature": STANDARD.encode(&item.signature), "tee_timestamp": item.timestamp.to_string(),
        "receipt_digest": item.receipt_digest.unwrap(),
    })
}

#[tokio::test]
async fn the_way_of_a_payment_and_its_evidence() {
    let world = World::new().await;
    let tee = Tee::new(1);
    world.network.register(&tee);
    let running = Running::start(world.open());
    let router = router(running.facilitator.clone());

    let (status, supported) = get(&router, "/supported").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(supported["kinds"][0]["scheme"], "upto");
    let facilitator = world.keys.payment.address().to_checksum(None);
    assert_eq!(supported["kinds"][0]["extra"]["facilitatorAddress"], json!(facilitator));
    assert_eq!(supported["signers"]["eip155:*"], json!([facilitator]));

    let mut request = world.payment(1, 1_000, 1_000);
    let (status, verified) = post(&router, "/verify", body_of(&request)).await;
    let payer = world.payer.address().to_checksum(None);
    assert_eq!((status, verified), (StatusCode::OK, json!({ "isValid": true, "payer": payer })));

    request.payment_requirements.amount = "77".to_owned();
    let (status, taken) = post(&router, "/settle", body_of(&request)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let id = taken["paymentJob"]["jobId"].as_str().unwrap().to_owned();
    running.done(&id).await;
    let (status, job) = get(&router, &format!("/settle/{id}")).await;
    assert_eq!(
        (status, &job["status"], &job["result"]["success"]),
        (StatusCode::OK, &json!("succeeded"), &json!(true))
    );
    assert_eq!(job["result"]["amount"], "77");

    let item = tee.evidence(1);
    let (status, taken) = post_data(&router, "Batch", &data_of(&item)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let id = taken["settlementJob"]["jobId"].as_str().unwrap().to_owned();
    assert_eq!(id, evidence::job_id(item.digest()));
    assert_eq!(running.done(&id).await.status, Status::Succeeded);
    let (_, job) = get(&router, &format!("/settle/{id}")).await;
    assert!(
        job["walrusBlobId"].is_string()
            && job["txHash"].is_string()
            && job["merkleRoot"].is_string()
    );

    // The whole content of an individual settlement goes through the body, which a header could not hold.
    let mut data = data_of(&tee.evidence(2));
    data["input"] = json!({ "messages": ["x".repeat(40_000)] });
    let request = Request::post("/settle_data").header("x-settlement-type", "inidvidual");
    let (status, taken) = ask(&router, request.body(Body::from(data.to_string())).unwrap()).await;
    assert_eq!(
        (status, &taken["settlementJob"]["settlementType"]),
        (StatusCode::ACCEPTED, &json!("individual"))
    );
    let (status, taken) = post_data(&router, "PRIVATE", &json!({})).await;
    assert_eq!((status, &taken["settlementJob"]), (StatusCode::ACCEPTED, &Value::Null));

    let heartbeat = tee.heartbeat(now_secs());
    let body = json!({
        "teeId": heartbeat.tee_id, "timestamp": heartbeat.timestamp.to_string(),
        "signature": STANDARD.encode(&heartbeat.signature), "contractAddress": REGISTRY.to_string(),
    });
    let (status, relayed) = post(&router, "/heartbeat", body).await;
    assert_eq!((status, &relayed["success"]), (StatusCode::OK, &json!(true)));
    assert!(relayed["txHash"].as_str().unwrap().starts_with("0x"));

    let (status, health) = get(&router, "/health").await;
    assert_eq!((status, &health["status"]), (StatusCode::OK, &json!("ok")));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn refusals_are_json_with_a_next_step() {
    let world = World::new().await;
    let tee = Tee::new(1);
    world.network.register(&tee);
    let facilitator = world.open();
    let router = router(facilitator.clone());
    let good = world.payment(1, 100, 100);
    let (status, answer) =
        post(&router, "/verify", body_of(&world.payment_at(1, 100, 100, 1))).await;
    assert_eq!(
        (status, &answer["invalidReason"]),
        (StatusCode::OK, &json!("permit2_deadline_expired"))
    );
    let mut above = good.clone();
    above.payment_requirements.amount = "101".to_owned();
    let data = data_of(&tee.evidence(1));
    let without = |name: &str| {
        let mut data = data.clone();
        data.as_object_mut().unwrap().remove(name);
        data
    };
    let with = |name: &str, value: Value| {
        let mut data = data.clone();
        data[name] = value;
        data
    };
    let unknown_job = format!("/settle/payment-{}", "0".repeat(64));
    for ((got, answer), status, code) in [
        (post(&router, "/verify", "{").await, 400, "invalid_request"),
        (post(&router, "/verify", json!({})).await, 400, "invalid_request"),
        (
            post(&router, "/settle", "x".repeat(http::BODY_BYTES_MAX + 1)).await,
            400,
            "invalid_request",
        ),
        (
            post(&router, "/settle", body_of(&above)).await,
            400,
            "invalid_upto_evm_payload_settlement_exceeds_amount",
        ),
        (get(&router, &unknown_job).await, 404, "job_not_found"),
        (get(&router, "/settle/..%2f..").await, 404, "job_not_found"),
        (get(&router, "/nothing").await, 404, "not_found"),
        (get(&router, "/settle").await, 405, "method_not_allowed"),
        (post(&router, "/settle_data", "{}").await, 400, "invalid_request"),
        (post_data(&router, "batch", &without("tee_id")).await, 400, "invalid_request"),
        (
            post_data(&router, "batch", &with("input_hash", json!("0x12"))).await,
            400,
            "invalid_request",
        ),
        (
            post_data(&router, "batch", &with("output_hash", json!("zz".repeat(32)))).await,
            400,
            "invalid_request",
        ),
        (
            post_data(&router, "batch", &with("tee_timestamp", json!(-1))).await,
            400,
            "invalid_request",
        ),
        (
            post_data(&router, "batch", &with("tee_timestamp", json!("1e9"))).await,
            400,
            "invalid_request",
        ),
        (
            post_data(&router, "batch", &with("tee_signature", json!("0x"))).await,
            400,
            "invalid_request",
        ),
        (
            post_data(&router, "batch", &with("tee_signature", json!("0w=="))).await,
            422,
            "invalid_tee_signature",
        ),
        (
            post_data(&router, "batch", &with("tee_id", json!("11".repeat(32)))).await,
            422,
            "tee_not_registered",
        ),
        (post(&router, "/heartbeat", json!({ "teeId": 1 })).await, 400, "invalid_request"),
    ] {
        let error = &answer["error"];
        assert_eq!((got.as_u16(), error["code"].as_str()), (status, Some(code)), "{answer}");
        assert!(
            error["message"].is_string() && error["type"].is_string() && error["next"].is_string()
        );
        assert!(error["retryable"].is_boolean());
    }
    drop((router, facilitator));

    for policy in [HttpSettle::Closed, HttpSettle::Token("secret".to_owned())] {
        let facilitator = world.open_with(|config| config.http_settle = policy.clone());
        let router = og_facilitator::router(facilitator);
        for token in [None, Some("Bearer wrong"), Some("Bearer secreT"), Some("secret")] {
            let mut request = Request::post("/settle");
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let (status, answer) =
                ask(&router, request.body(Body::from(body_of(&good).to_string())).unwrap()).await;
            assert_eq!(
                (status, &answer["error"]["code"]),
                (StatusCode::FORBIDDEN, &json!("forbidden"))
            );
        }
        let request = Request::post("/settle").header("authorization", "Bearer secret");
        let (status, _) =
            ask(&router, request.body(Body::from(body_of(&good).to_string())).unwrap()).await;
        let expected = if matches!(policy, HttpSettle::Closed) {
            StatusCode::FORBIDDEN
        } else {
            StatusCode::ACCEPTED
        };
        assert_eq!(status, expected);
    }
}

#[test]
fn configuration_reads_from_json_and_refuses_what_it_does_not_know() {
    let config: Config = serde_json::from_value(json!({
        "database": "outbox.sqlite",
        "payment": { "rpc_url": "http://127.0.0.1:1", "chain_id": 8453 },
        "network": { "rpc_url": "http://127.0.0.1:2", "chain_id": 10740, "registry": REGISTRY, "relay": RELAY },
        "flush": { "items_max": 8 },
    }))
    .unwrap();
    assert_eq!((config.flush.items_max, config.payment.confirmations), (8, 1));
    assert!(matches!(config.http_settle, HttpSettle::Closed));
    let mut json = serde_json::to_value(&config).unwrap();
    assert!(serde_json::from_value::<Config>(json.clone()).is_ok());
    json["surprise"] = json!(1);
    assert!(serde_json::from_value::<Config>(json).is_err());
}

/// Mutated bodies and headers from a seed: an answer is always JSON of a known status, nothing panics, and nothing
/// that was not signed is taken.
#[tokio::test]
async fn mutated_requests_are_answered_and_take_nothing() {
    let world = World::new().await;
    let tee = Tee::new(1);
    world.network.register(&tee);
    let facilitator = world.open();
    let router = router(facilitator.clone());
    let mut seed = 11_u64;
    let mut below = move |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % n
    };
    let originals = [
        ("/settle", body_of(&world.payment(1, 100, 50)).to_string()),
        ("/settle", body_of(&world.exact_payment(1, 50)).to_string()),
        ("/settle_data", data_of(&tee.evidence(1)).to_string()),
    ];
    let mut jobs = std::collections::BTreeSet::new();
    let mut refused = 0;
    for round in 0..1_500 {
        let (path, original) = &originals[round % originals.len()];
        let mut bytes = original.clone().into_bytes();
        for _ in 0..=below(2) {
            let at = below(bytes.len());
            match below(3) {
                0 => bytes[at] ^= 1 << below(7),
                1 => bytes[at] = b"0123456789abcdefx{}[]\",:"[below(24)],
                _ => drop(bytes.remove(at)),
            }
        }
        let request = Request::post(*path).header("x-settlement-type", "batch");
        let (status, answer) = ask(&router, request.body(Body::from(bytes)).unwrap()).await;
        match status.as_u16() {
            202 => {
                let job = answer.as_object().unwrap().values().next().unwrap();
                jobs.insert(job["jobId"].as_str().unwrap().to_owned());
            }
            400 | 409 | 422 => {
                assert!(answer["error"]["code"].is_string(), "{answer}");
                refused += 1;
            }
            other => panic!("{other}: {answer}"),
        }
    }
    assert!(refused > 1_000);
    // Only what was signed was taken: at most the three originals (receipt digests are not signed by the legacy key,
    // but one statement is taken for one receipt only).
    assert!(jobs.len() <= 3, "{jobs:?}");
}

#[test]
fn the_protocols_addresses_are_those_of_genesis() {
    use og_contracts::addresses;
    assert_eq!(og_x402::PERMIT2, addresses::PERMIT2);
    assert_eq!(og_x402::UPTO_PROXY, addresses::X402_UPTO_PROXY);
    assert_eq!(og_x402::EXACT_PROXY, addresses::X402_EXACT_PROXY);
}
