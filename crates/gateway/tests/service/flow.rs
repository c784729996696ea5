//! A paid request from challenge to settlement, in every shape clients use.

use crate::support::{
    FACILITATOR, OPG, OPG_CAP, PAY_TO, SETTLING_TRANSACTION, USDC, World, chat, chat_stream,
    completion, events,
};
use alloy_primitives::{B256, U256, keccak256};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use og_gateway::legacy::canonical::{
    ToolCall, chat_subset, completion_subset, output_hash, request_hash,
};
use og_gateway::legacy::json::{Limits, parse};
use og_receipt::claims::message_hash;
use og_receipt::digest::{self, StreamDigest};
use og_receipt::{Receipt, ResponseForm, SettlementMode, TruthLevel};
use serde_json::Value;

const CHAT: &str = "/v1/chat/completions";

/// Checks the legacy signature and the receipt, as a client would.
fn verify(world: &World, signed: &Value, body: &str, output: B256) -> Receipt {
    let identity = world.gateway().identity();
    let body_json = parse(body.as_bytes(), &Limits::REQUEST).unwrap();
    let subset = chat_subset(&body_json).or_else(|_| completion_subset(&body_json)).unwrap();
    let hash = |key: &str| -> B256 { signed[key].as_str().unwrap().parse().unwrap() };
    assert_eq!(hash("tee_request_hash"), request_hash(&subset));
    assert_eq!(hash("tee_output_hash"), output);
    assert_eq!(signed["tee_id"], identity.tee_id.to_string());
    let timestamp = signed["tee_timestamp"].as_u64().unwrap();
    let message = message_hash(hash("tee_request_hash"), output, timestamp);
    let signature = STANDARD.decode(signed["tee_signature"].as_str().unwrap()).unwrap();
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &identity.signing_key_der)
        .verify(message.as_slice(), &signature)
        .unwrap();

    let receipt = STANDARD.decode(signed["receipt"].as_str().unwrap()).unwrap();
    let receipt = Receipt::decode(&receipt).unwrap();
    receipt.verify(&identity.receipt_key).unwrap();
    assert_eq!(signed["tee_receipt_id"], receipt.digest().to_string());
    let claims = receipt.claims();
    assert_eq!(claims.request_digest, digest::request(body.as_bytes()));
    assert_eq!(claims.leaf.input_hash, hash("tee_request_hash"));
    assert_eq!(claims.leaf.output_hash, output);
    assert_eq!(claims.leaf.signature, signature);
    assert_eq!((claims.payer, claims.pay_to), (world.wallet.address(), PAY_TO));
    assert!(claims.simulated);
    assert_eq!(claims.truth, TruthLevel::Handoff);
    assert_eq!(
        claims.total,
        claims.prices.prompt_per_million * U256::from(claims.usage.prompt_tokens)
            / U256::from(1_000_000)
            + claims.prices.completion_per_million * U256::from(claims.usage.completion_tokens)
                / U256::from(1_000_000)
    );
    receipt
}

#[tokio::test]
async fn an_unpaid_request_is_told_how_to_pay() {
    let world = World::new().await;
    let response = world.post(CHAT, chat("ok")).send().await.unwrap();
    assert_eq!(response.status(), 402);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "payment_required");
    let required = world.challenge(CHAT).await;
    assert_eq!(required.error.as_deref(), Some("Payment required"));
    assert_eq!(required.resource.unwrap().url, format!("{}{CHAT}", world.base));
    let [opg, usdc] = &required.accepts[..] else { panic!("two offers") };
    assert_eq!((opg.scheme.as_str(), opg.network.as_str()), ("upto", "eip155:8453"));
    assert_eq!((opg.evm().unwrap().asset, usdc.evm().unwrap().asset), (OPG, USDC));
    assert_eq!(opg.amount, OPG_CAP.to_string());
    assert_eq!(opg.facilitator(), Some(FACILITATOR));
    assert_eq!(opg.max_timeout_seconds, 300);
    assert_eq!(
        (opg.extra["name"].as_str(), opg.extra["version"].as_str()),
        (Some("OpenGradient"), Some("1"))
    );
    assert!(world.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_paid_chat_is_answered_signed_and_settled_for_its_cost() {
    let world = World::new().await;
    let body = chat("ok");
    let response = world.paid(CHAT, body.clone()).await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "ok");
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello! How can I help?");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["total_tokens"], 19);
    assert_eq!(answer["opengradient"]["simulated"], true);
    let receipt = verify(&world, &answer, &body, keccak256("Hello! How can I help?"));
    let claims = receipt.claims();
    assert_eq!(claims.response_form, ResponseForm::Json);
    assert_eq!(claims.response_digest, digest::json(text.as_bytes()).unwrap());
    assert_eq!((claims.model_requested.as_str(), claims.model_served.as_str()), ("ok", "ok-2026"));
    // 12 prompt tokens at 1e18 and 7 answer tokens at 4e18 per million.
    assert_eq!(claims.total, U256::from(40_000_000_000_000_u64));
    assert_eq!(answer["opengradient"]["cost"], claims.total.to_string());

    let settled = world.settled().await;
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].amount, claims.total);
    assert_eq!(settled[0].requirements.amount, OPG_CAP.to_string());
    let evidence = world.settlement.evidence.lock().unwrap().clone();
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0].receipt.digest(), receipt.digest());
    assert_eq!((&evidence[0].input, &evidence[0].output), (&None, &None));

    let (status, kept) = world.get(&format!("/v1/receipts/{}", receipt.digest())).await;
    assert_eq!(status, 200);
    assert_eq!(kept["receipt"], answer["receipt"]);
    assert_eq!(kept["payment"]["state"], "settled");
    assert_eq!(kept["payment"]["transaction"], SETTLING_TRANSACTION.to_string());
}

#[tokio::test]
async fn a_stream_ends_in_one_final_event_and_its_chain_is_signed() {
    let world = World::new().await;
    let body = chat_stream("ok");
    let response = world.paid(CHAT, body.clone()).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    assert!(!response.headers().contains_key("content-encoding"));
    let text = response.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert!(!text.contains("\"usage\":null"));
    let payloads = events(&text);
    let count = payloads.len();
    let last: Value = serde_json::from_str(&payloads[count - 2]).unwrap();
    let mut chain = StreamDigest::new();
    let mut content = String::new();
    for (i, payload) in payloads[..count - 2].iter().enumerate() {
        chain.push(payload.as_bytes());
        let event: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(event["object"], "chat.completion.chunk");
        assert_eq!(event["id"], last["id"]);
        assert_eq!(event["choices"][0]["finish_reason"], Value::Null);
        assert!(event.get("usage").is_none() && event.get("tee_signature").is_none());
        if i == 0 {
            assert_eq!(event["choices"][0]["delta"]["role"], "assistant");
        }
        content.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap());
    }
    assert!(content.starts_with("word0 word1 "));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["usage"]["completion_tokens"], 18);
    let receipt = verify(&world, &last, &body, keccak256(&content));
    assert_eq!(receipt.claims().response_form, ResponseForm::Stream);
    assert_eq!(receipt.claims().response_digest, chain.finish());
    assert_eq!(world.settled().await[0].amount, receipt.claims().total);
}

#[tokio::test]
async fn tool_calls_are_hashed_whole_and_streamed_in_pieces() {
    let world = World::new().await;
    let call = |id: &str, name: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: "{\"x\": 1}".into(),
    };
    let body = chat("tools");
    let answer: Value = world.paid(CHAT, body.clone()).await.json().await.unwrap();
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"x\": 1}");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    verify(&world, &answer, &body, output_hash("", &[call("call_1", "get")]));

    let body = chat_stream("tools");
    let text = world.paid(CHAT, body.clone()).await.text().await.unwrap();
    let payloads = events(&text);
    let last: Value = serde_json::from_str(&payloads[payloads.len() - 2]).unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
    verify(&world, &last, &body, output_hash("", &[call("call_1", "get"), call("call_2", "put")]));
    let first: Value = serde_json::from_str(&payloads[1]).unwrap();
    assert_eq!(first["choices"][0]["delta"]["tool_calls"][0]["id"], "call_1");
}

#[tokio::test]
async fn text_completions_carry_both_shapes() {
    let world = World::new().await;
    let body = completion("ok");
    let answer: Value = world.paid("/v1/completions", body.clone()).await.json().await.unwrap();
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["completion"], "Hello! How can I help?");
    assert_eq!(answer["choices"][0]["text"], "Hello! How can I help?");
    verify(&world, &answer, &body, keccak256("Hello! How can I help?"));
    let sent: Value = serde_json::from_str(&world.upstream.requests()[0]).unwrap();
    assert_eq!(sent["messages"], serde_json::json!([{"role": "user", "content": "Hello"}]));
    assert_eq!((sent["max_tokens"].as_u64(), sent["temperature"].as_f64()), (Some(50), Some(0.0)));

    let streamed = body.replace("\"prompt\"", "\"stream\":true,\"prompt\"");
    let text = world.paid("/v1/completions", streamed).await.text().await.unwrap();
    let payloads = events(&text);
    let first: Value = serde_json::from_str(&payloads[0]).unwrap();
    assert_eq!(first["choices"][0]["text"], "word0 ");
}

#[tokio::test]
async fn modes_decide_what_is_published() {
    let world = World::new().await;
    for (word, mode) in [
        ("private", Some(SettlementMode::Private)),
        ("BATCH", Some(SettlementMode::Batch)),
        ("individual", Some(SettlementMode::Individual)),
        ("everything", None),
    ] {
        let payment = world.payment(CHAT).await;
        let response = world
            .post(CHAT, chat("ok"))
            .header("x-settlement-type", word)
            .header("payment-signature", og_x402::header::encode(&payment).unwrap())
            .send()
            .await
            .unwrap();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        let Some(mode) = mode else {
            assert_eq!(status, 400);
            assert_eq!(answer["error"]["param"], "x-settlement-type");
            continue;
        };
        let receipt =
            Receipt::decode(&STANDARD.decode(answer["receipt"].as_str().unwrap()).unwrap())
                .unwrap();
        assert_eq!(receipt.claims().mode, mode);
    }
    assert_eq!(world.settled().await.len(), 3);
    let evidence = world.settlement.evidence.lock().unwrap();
    assert_eq!(evidence.len(), 2);
    for job in evidence.iter() {
        let individual = job.receipt.claims().mode == SettlementMode::Individual;
        assert_eq!(job.input.is_some(), individual);
        assert_eq!(job.output.as_deref(), individual.then_some("Hello! How can I help?"));
    }
}

#[tokio::test]
async fn usdc_pays_as_well() {
    let world = World::new().await;
    let required = world.challenge(CHAT).await;
    let payment = world.pay(&required, 1);
    assert_eq!(world.with_payment(CHAT, chat("ok"), &payment).await.status(), 200);
    let settled = world.settled().await;
    // 12 × 0.1 + 7 × 0.4 base units, rounded up once.
    assert_eq!(settled[0].amount, U256::from(4));
}

#[tokio::test]
async fn unpaid_routes_tell_what_they_are_for() {
    let world = World::new().await;
    let (status, models) = world.get("/v1/models").await;
    assert_eq!(status, 200);
    assert_eq!(models["data"].as_array().unwrap().len(), crate::support::MODELS.len());
    assert_eq!(world.get("/v1/models/gpt-5.2").await.1["id"], "gpt-5.2");
    assert_eq!(world.get("/v1/models/none").await.0, 404);
    let (_, health) = world.get("/health").await;
    assert_eq!(
        (health["status"].as_str(), health["simulated"].as_bool()),
        (Some("OK"), Some(true))
    );
    let (_, key) = world.get("/signing-key").await;
    assert_eq!(key["tee_id"], world.gateway().identity().tee_id.to_string());
    assert_eq!(key["enclave_info"]["platform"], "simulated");
    assert!(key["public_key"].as_str().unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
    assert_eq!(world.get("/heartbeat/status").await.1["enabled"], true);
    assert_eq!(world.get("/v1/receipts/0x12").await.0, 404);
    let answer: Value = world.paid(CHAT, chat("TEE_LLM.GPT_5_2")).await.json().await.unwrap();
    assert_eq!(answer["model"], "TEE_LLM.GPT_5_2");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}
