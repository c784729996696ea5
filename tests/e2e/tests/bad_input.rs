//! Bad input: each kind gives a documented JSON error, no charge, no panic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use og_e2e::charges::{Account, Asset};
use og_e2e::network::{Network, mock_model};
use og_e2e::payer::{Payer, Reply, encode};
use og_x402::PAYMENT_SIGNATURE;
use reqwest::StatusCode;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn question(model: &str) -> Value {
    json!({"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "a b c d e f g h"}]})
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_bad_input_is_refused_without_a_charge() {
    let network = Network::start(false).await.unwrap();
    let name = network.accounts[1].name.clone();
    let payer = Payer::connect(&network, &name).await.unwrap();
    let opg = Account::look(&network, &name, Asset::Opg).await.unwrap();
    let usdc = Account::look(&network, &name, Asset::Usdc).await.unwrap();

    let mut wrong = Wrong::default();
    malformed_requests(&payer, &mut wrong).await;
    unfit_bodies(&payer, &mut wrong).await;
    invalid_payments(&payer, &mut wrong).await;
    // The first account has granted nothing yet: it can sign, but not pay.
    let poor = Payer::connect(&network, &network.accounts[0].name).await.unwrap();
    let reply = poor.ask(CHAT, &question(mock_model())).await.unwrap();
    wrong.check("no allowance", &reply, &[402]);
    let told = reply.challenge.and_then(|again| again.error).unwrap_or_default();
    wrong.unless(told.contains("allowance_required"), || format!("no allowance: {told}"));
    assert_eq!(network.mock.count(), 0, "nothing of this may reach the upstream");
    upstream_failures(&payer, &mut wrong).await;
    assert!(wrong.0.is_empty(), "{} cases:\n{}", wrong.0.len(), wrong.0.join("\n"));
    assert!(!network.og().log().contains("panicked"), "{}", network.og().log());

    // One good request, so that "no charge" is not for want of settling.
    let reply = payer.ask(CHAT, &question(mock_model())).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    opg.settled(1).await.unwrap();
    usdc.settled(0).await.unwrap();
    network.stop().unwrap();
}

/// Cases that were not refused as they should be; all are told at once.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    /// Checks the status and that the error has the documented shape; its code.
    fn check(&mut self, what: &str, reply: &Reply, statuses: &[u16]) -> String {
        let (status, body) = (reply.status.as_u16(), &reply.body);
        if !statuses.contains(&status) {
            self.0.push(format!("{what}: {status}, not {statuses:?}: {body:.300?}"));
        }
        reply.error_code().unwrap_or_else(|error| {
            self.0.push(format!("{what}: {error:#}"));
            String::new()
        })
    }

    fn unless(&mut self, fine: bool, what: impl FnOnce() -> String) {
        if !fine {
            self.0.push(what());
        }
    }
}

async fn malformed_requests(payer: &Payer, wrong: &mut Wrong) {
    let body = question(mock_model());
    let cases: Vec<(&str, String, u16)> = vec![
        ("empty", String::new(), 400),
        ("cut JSON", "{\"model\":".into(), 400),
        ("not an object", "[1]".into(), 400),
        ("control bytes", "\u{0}".into(), 400),
        ("trailing bytes", format!("{body} x"), 400),
        ("deep nesting", format!("{{\"model\":{}1{}}}", "[".repeat(5000), "]".repeat(5000)), 400),
        ("no model", with(body.clone(), "model", Value::Null).to_string(), 400),
        ("unknown model", with(body.clone(), "model", json!("no-such-model")).to_string(), 404),
        ("no messages", with(body.clone(), "messages", json!([])).to_string(), 400),
        (
            "messages of the wrong type",
            with(body.clone(), "messages", json!("hi")).to_string(),
            400,
        ),
        (
            "unknown role",
            with(body.clone(), "messages", json!([{"role": "alien", "content": "x"}])).to_string(),
            400,
        ),
        ("negative max_tokens", with(body.clone(), "max_tokens", json!(-1)).to_string(), 400),
        ("fractional max_tokens", with(body.clone(), "max_tokens", json!(1.5)).to_string(), 400),
        ("temperature out of range", with(body.clone(), "temperature", json!(99)).to_string(), 400),
        ("stream of the wrong type", with(body.clone(), "stream", json!("yes")).to_string(), 400),
        ("unsupported n", with(body.clone(), "n", json!(3)).to_string(), 400),
        // More than may be authorised, refused before anything is asked of the upstream.
        ("too costly", with(body.clone(), "max_tokens", json!(1_000_000_000)).to_string(), 400),
    ];
    for (what, body, status) in cases {
        let reply = Reply::read(payer.post(CHAT).body(body).send().await.unwrap()).await;
        wrong.check(what, &reply, &[status]);
    }
    let request = payer.post(CHAT).body(vec![0x7b, 0xff, 0xfe, 0x7d]);
    wrong.check("not UTF-8", &Reply::read(request.send().await.unwrap()).await, &[400]);
    for (path, status) in [("/v1/nothing", 404), ("/v1/models/none", 404), (CHAT, 405)] {
        let url = format!("{}{path}", payer.gateway.endpoint);
        let reply = Reply::read(payer.http.get(url).send().await.unwrap()).await;
        wrong.check(&format!("GET {path}"), &reply, &[status]);
    }
}

async fn unfit_bodies(payer: &Payer, wrong: &mut Wrong) {
    let body = question(mock_model()).to_string();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let request = payer.http.post(format!("{}{CHAT}", payer.gateway.endpoint));
        let request = request.header("content-type", kind).body(body.clone());
        wrong.check(kind, &Reply::read(request.send().await.unwrap()).await, &[415]);
    }
    let request = payer.post(CHAT).header("content-encoding", "gzip").body(body);
    wrong.check("gzip", &Reply::read(request.send().await.unwrap()).await, &[415]);

    // Refused, whether or not the client listens before it has sent everything.
    match payer.post(CHAT).body(vec![b' '; 100_000_000]).send().await {
        Ok(response) => {
            wrong.check("100 MB", &Reply::read(response).await, &[413]);
        }
        Err(error) => {
            wrong.unless(error.is_request() || error.is_body(), || format!("100 MB: {error:?}"));
        }
    }
}

async fn invalid_payments(payer: &Payer, wrong: &mut Wrong) {
    let body = question(mock_model());
    let challenge = payer.challenge(CHAT, &body).await.unwrap();
    let other = "0x00000000000000000000000000000000000000aa";

    // Signed as it stands, but for something other than what is offered.
    let signed = |what: &'static str, reason: &'static str, payment: anyhow::Result<Value>| {
        (what, reason, payment.unwrap_or_else(|error| panic!("{what}: {error:#}")))
    };
    let mut cases = vec![
        signed(
            "another payee",
            "recipient_mismatch",
            payer.sign(&challenge, |offer, _| offer.pay_to = other.into()),
        ),
        signed(
            "another facilitator",
            "facilitator_mismatch",
            payer.sign(&challenge, |offer, _| {
                offer.extra.insert("facilitatorAddress".into(), json!(other));
            }),
        ),
        signed(
            "an expired permit",
            "deadline_expired",
            payer.sign(&challenge, |_, fresh| fresh.now_secs -= 7200),
        ),
        signed(
            "a permit of the future",
            "not_yet_valid",
            payer.sign(&challenge, |_, fresh| fresh.now_secs += 7200),
        ),
        signed(
            "a smaller amount",
            "amount_mismatch",
            payer.sign(&challenge, |offer, _| offer.amount = "1".into()),
        ),
        signed(
            "another token",
            "token_mismatch",
            payer.sign(&challenge, |offer, _| offer.asset = other.into()),
        ),
        signed(
            "another chain's signature",
            "signature",
            payer.sign(&challenge, |offer, _| offer.network = "eip155:1".into()),
        ),
    ];
    // Good, then changed after signing.
    let changed = |what: &'static str, reason: &'static str, change: fn(&mut Value)| {
        let mut payment = payer.pay(&challenge).unwrap();
        change(&mut payment);
        (what, reason, payment)
    };
    cases.extend([
        changed("another nonce", "signature", |p| {
            p["payload"]["permit2Authorization"]["nonce"] = json!("7");
        }),
        changed("another owner", "signature", |p| {
            p["payload"]["permit2Authorization"]["from"] =
                json!("0x00000000000000000000000000000000000000aa");
        }),
        changed("another spender", "spender", |p| {
            p["payload"]["permit2Authorization"]["spender"] =
                json!("0x00000000000000000000000000000000000000aa");
        }),
        changed("a short signature", "", |p| p["payload"]["signature"] = json!("0x1234")),
        changed("no signature", "", |p| p["payload"]["signature"] = json!("0x")),
        changed("a signature of zeroes", "", |p| {
            p["payload"]["signature"] = json!(format!("0x{}", "00".repeat(65)));
        }),
        changed("no payload", "", |p| p["payload"] = json!({})),
        changed("another scheme", "", |p| p["accepted"]["scheme"] = json!("exact")),
        changed("another network", "", |p| p["accepted"]["network"] = json!("eip155:1")),
        changed("an offer never made", "", |p| p["accepted"]["amount"] = json!("1")),
        changed("version 1", "", |p| p["x402Version"] = json!(1)),
        changed("a nonce beyond 256 bits", "", |p| {
            p["payload"]["permit2Authorization"]["nonce"] = json!("9".repeat(90));
        }),
    ]);
    for (what, reason, payment) in cases {
        let reply = payer.send(CHAT, &body, &payment).await.unwrap();
        let code = wrong.check(what, &reply, &[402]);
        wrong.unless(code.starts_with("payment_"), || format!("{what}: {code}"));
        let told = reply.challenge.and_then(|again| again.error);
        wrong.unless(told.as_ref().is_some_and(|told| told.contains(reason)), || {
            format!("{what}: {told:?} should say `{reason}`")
        });
    }
    for garbage in ["", "%%%", "e30=", "bnVsbA==", "WzFd", &"A".repeat(60_000)] {
        let request = payer.post(CHAT).header(PAYMENT_SIGNATURE, garbage).body(body.to_string());
        let what = format!("payment header `{garbage:.20}`");
        match request.send().await {
            // Headers beyond the server's limit are the HTTP library's to refuse.
            Ok(response) if response.status().as_u16() == 431 => {}
            Ok(response) => {
                wrong.check(&what, &Reply::read(response).await, &[400, 402]);
            }
            Err(error) => wrong.unless(error.is_request(), || format!("{what}: {error:?}")),
        }
    }
}

async fn upstream_failures(payer: &Payer, wrong: &mut Wrong) {
    let models = [
        "mock-500",
        "mock-503",
        "mock-429",
        "mock-401",
        "mock-no-usage",
        "mock-cut",
        "mock-no-done",
        "mock-malformed",
        "mock-not-json",
        "mock-huge",
    ];
    for model in models {
        for stream in [false, true] {
            let reply =
                payer.ask(CHAT, &with(question(model), "stream", json!(stream))).await.unwrap();
            let what = format!("{model}, stream {stream}");
            if reply.status.is_success() {
                // The stream had begun: it must not look complete.
                let incomplete = match &reply.body {
                    Err(_) => true,
                    Ok(text) => !text.contains("[DONE]") && !text.contains("tee_signature"),
                };
                wrong.unless(stream && incomplete, || {
                    format!("{what}: answered {:.300?}", reply.body)
                });
            } else {
                let code = wrong.check(&what, &reply, &[400, 429, 502, 503, 504]);
                wrong.unless(code.starts_with("upstream_"), || format!("{what}: {code}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_permit_pays_for_one_request() {
    let network = Network::start(false).await.unwrap();
    let name = network.accounts[1].name.clone();
    let payer = Payer::connect(&network, &name).await.unwrap();
    let opg = Account::look(&network, &name, Asset::Opg).await.unwrap();
    let body = question(mock_model());
    let challenge = payer.challenge(CHAT, &body).await.unwrap();
    let payment = payer.pay(&challenge).unwrap();

    // The same request with the same permit, at once and later: one answer.
    let (first, second) =
        tokio::join!(payer.send(CHAT, &body, &payment), payer.send(CHAT, &body, &payment));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(
        (first.status, second.status),
        (StatusCode::OK, StatusCode::OK),
        "{first:?} {second:?}"
    );
    let later = payer.send(CHAT, &body, &payment).await.unwrap();
    assert_eq!(first.json().unwrap(), second.json().unwrap());
    assert_eq!(first.json().unwrap(), later.json().unwrap());

    // Another body, another path, another spelling of the same body: another request.
    let spaced = format!("{body} ");
    for (path, other) in [
        (CHAT, with(body.clone(), "max_tokens", json!(21)).to_string()),
        (CHAT, spaced),
        (
            "/v1/completions",
            json!({"model": mock_model(), "prompt": "x", "max_tokens": 20}).to_string(),
        ),
    ] {
        let request = payer.post(path).header(PAYMENT_SIGNATURE, encode(&payment)).body(other);
        let reply = Reply::read(request.send().await.unwrap()).await;
        assert_eq!(reply.status.as_u16(), 402, "{path}: {:?}", reply.body);
        assert_eq!(reply.error_code().unwrap(), "payment_already_used");
    }
    assert_eq!(network.mock.count(), 1);
    opg.settled(1).await.unwrap();
    // Even after settlement, when only the chain remembers.
    let reply = payer.send(CHAT, &body, &payment).await.unwrap();
    assert_eq!(reply.json().unwrap(), first.json().unwrap());
    network.anchored(1).await.unwrap();
    opg.settled(1).await.unwrap();
    network.stop().unwrap();
}
