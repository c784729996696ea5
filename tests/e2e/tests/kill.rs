//! `kill -9` at random moments during paid requests: what both chains' logs say afterwards must add up.
//!
//! Every request has its own length and therefore its own cost, so a transfer tells which request it paid for. A client
//! whose request broke off does what the documentation says: it asks again with the same payment, and makes a new one
//! only when it is told that the old one was not and will not be charged.
//!
//! `OG_KILLS` and `OG_KILL_REQUESTS` set the size (the full suite: 50 and 200); `OG_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use og_e2e::charges::{Account, Asset};
use og_e2e::network::{self, STOP_WITHIN};
use og_e2e::payer::{Payer, Reply};
use og_e2e::reports::Usage;
use og_testkit::devnet::Devnet;
use og_testkit::process::{OgDev, OgDevOptions};
use og_testkit::rpc::Rpc;
use og_testkit::upstream::MockUpstream;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

const CHAT: &str = "/v1/chat/completions";
/// Who pays, and how many requests each has running at the same time.
const PAYERS: [&str; 2] = ["bob", "carol"];
const AT_ONCE: usize = 2;
/// How long one request may take, restarts included.
const PATIENCE: Duration = Duration::from_secs(300);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A request and what its client was told.
#[derive(Debug)]
struct Outcome {
    /// What the answer said it costs.
    cost: u128,
    /// The answer's receipt.
    receipt: String,
    /// Payments signed for it; more than one only after a definite "not charged".
    payments: usize,
}

/// Its length decides its cost.
fn request(index: u64, stream: bool) -> Value {
    let words: Vec<String> = (0..=index).map(|word| format!("w{word}")).collect();
    let model = if index.is_multiple_of(3) { "mock-slow" } else { "mock-chat" };
    json!({
        "model": model, "stream": stream, "max_tokens": 400,
        "messages": [{"role": "user", "content": words.join(" ")}],
    })
}

fn cost(index: u64) -> u128 {
    let words = index + 1;
    Asset::Opg.cost(Usage { prompt_tokens: words, completion_tokens: words + 2 })
}

/// The final object of an answer, whole or streamed; `None` when it did not arrive whole.
fn whole(reply: &Reply) -> Option<Value> {
    let text = reply.body.as_ref().ok()?;
    if !text.starts_with("data: ") && !text.contains("\ndata: ") {
        return serde_json::from_str(text).ok();
    }
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (done, events) = data.split_last()?;
    if *done != "[DONE]" {
        return None;
    }
    serde_json::from_str(events.last()?).ok()
}

/// Gets one answer, whatever happens to the network meanwhile.
async fn obtain(index: u64, account: &str, mut devnets: watch::Receiver<Arc<Devnet>>) -> Outcome {
    let body = request(index, index.is_multiple_of(2));
    let mut payment: Option<Value> = None;
    let mut payments = 0;
    loop {
        let devnet = Arc::clone(&devnets.borrow_and_update());
        let attempt = async {
            let payer = Payer::connect(&devnet, account).await?;
            let paying = match &payment {
                Some(payment) => payment.clone(),
                None => {
                    let challenge = payer.challenge(CHAT, &body).await?;
                    payments += 1;
                    payment.insert(payer.pay(&challenge)?).clone()
                }
            };
            payer.send(CHAT, &body, &paying).await
        };
        let Ok(reply) = attempt.await else {
            // Killed: go on with the next incarnation (or the same, if the kill is only coming).
            tokio::time::timeout(Duration::from_secs(2), devnets.changed()).await.ok();
            continue;
        };
        if reply.status.is_success() {
            let Some(answer) = whole(&reply) else {
                tokio::time::timeout(Duration::from_secs(2), devnets.changed()).await.ok();
                continue;
            };
            let said = &answer["opengradient"]["cost"];
            let told = said.as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
            let receipt = answer["tee_receipt_id"].as_str().unwrap().to_owned();
            return Outcome { cost: told, receipt, payments };
        }
        let error = reply.json().unwrap();
        match error["error"]["payment"].as_str() {
            // Definitely untouched: a new payment is safe.
            Some("not_charged" | "none") if reply.status.as_u16() != 503 => payment = None,
            Some("not_charged" | "none" | "unknown" | "charged") => {
                tokio::time::timeout(Duration::from_millis(200), devnets.changed()).await.ok();
            }
            _ => panic!("request {index}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_request_is_settled_exactly_once() {
    let kills = number("OG_KILLS", 12);
    let requests = number("OG_KILL_REQUESTS", 48);
    let seed = number("OG_SEED", u64::from(std::process::id()));
    println!("OG_SEED={seed} OG_KILLS={kills} OG_KILL_REQUESTS={requests}");
    let mut random = StdRng::seed_from_u64(seed);

    let mock = MockUpstream::start().await.unwrap();
    let mut directory = tempfile::tempdir().unwrap();
    // What a failed run leaves behind is its evidence.
    directory.disable_cleanup(true);
    println!("state: {}", directory.path().display());
    let options = OgDevOptions::new(directory.path().join("og"))
        .unwrap()
        .upstream(mock.url(), &["mock-chat", "mock-slow"])
        .argument("--no-local-model");
    let mut og = start(&options);
    let (announce, devnets) = watch::channel(Arc::new(og.devnet.clone()));
    let mut before = BTreeMap::new();
    let first = og.devnet.clone();
    for payer in PAYERS {
        before.insert(payer, Account::look(&first, payer, Asset::Opg).await.unwrap());
    }

    let queue: Arc<Mutex<VecDeque<u64>>> = Arc::new(Mutex::new((0..requests).collect()));
    let clients: Vec<_> = PAYERS
        .into_iter()
        .flat_map(|payer| [payer; AT_ONCE])
        .map(|payer| {
            let (queue, devnets) = (Arc::clone(&queue), devnets.clone());
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                loop {
                    let Some(index) = queue.lock().await.pop_front() else {
                        return (payer, outcomes);
                    };
                    let outcome =
                        tokio::time::timeout(PATIENCE, obtain(index, payer, devnets.clone()));
                    let outcome =
                        outcome.await.unwrap_or_else(|_| panic!("request {index} got no answer"));
                    outcomes.push((index, outcome));
                }
            })
        })
        .collect();

    let mut slowest = og.started_in;
    for kill in 0..kills {
        // Moments spread over the requests: after start-up, before the queue is empty.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        let (height, hash) = latest_final(&og.devnet).await;
        og = tokio::task::block_in_place(|| {
            og.kill();
            if random.random_range(0..4) == 0 {
                // Again while it is starting up.
                let starting = options.spawn().unwrap();
                std::thread::sleep(Duration::from_millis(random.random_range(0..1500)));
                starting.kill();
            }
            options.start()
        })
        .unwrap_or_else(|error| panic!("restart after kill {kill}: {error:#}"));
        slowest = slowest.max(og.started_in);
        let now = block_hash(&og.devnet, &height).await;
        assert_eq!(now, hash, "kill {kill}: finalized block {height} changed or vanished");
        announce.send_replace(Arc::new(og.devnet.clone()));
    }

    let (mut answered, mut receipts) = (BTreeMap::new(), Vec::new());
    for client in clients {
        let (payer, outcomes) = client.await.unwrap();
        for (index, outcome) in outcomes {
            assert_eq!(outcome.cost, cost(index), "request {index}: the signed cost");
            receipts.push(outcome.receipt.clone());
            assert!(answered.insert(index, (payer, outcome)).is_none());
        }
    }
    assert_eq!(u64::try_from(answered.len()).unwrap(), requests, "none lost");
    receipts.sort();
    receipts.dedup();
    assert_eq!(
        u64::try_from(receipts.len()).unwrap(),
        requests,
        "every answer has its own receipt"
    );

    // The payment chain: for each payer exactly its answered requests, each at its cost.
    let devnet = og.devnet.clone();
    for (payer, before) in &before {
        let mut due: Vec<u128> = answered
            .iter()
            .filter(|(_, (by, _))| by == payer)
            .map(|(index, _)| cost(*index))
            .collect();
        let now = Account::look(&devnet, payer, Asset::Opg).await.unwrap();
        let mut paid: Vec<u128> = before
            .after_restart(&now)
            .settled(due.len())
            .await
            .unwrap()
            .iter()
            .map(|t| t.amount)
            .collect();
        due.sort_unstable();
        paid.sort_unstable();
        assert_eq!(paid, due, "{payer}");
    }
    // The OpenGradient chain: exactly the receipts the clients hold.
    network::anchored(&devnet, receipts.len()).await.unwrap();
    let mut anchored = network::settled_receipts(&devnet).await.unwrap();
    anchored.sort();
    assert_eq!(anchored, receipts);
    let repaid = answered.values().filter(|(_, outcome)| outcome.payments > 1).count();
    println!(
        "{requests} answers, {kills} kills, {repaid} requests needed a second payment; upstream asked {} times; slowest restart {} ms",
        mock.count(),
        slowest.as_millis()
    );
    tokio::task::block_in_place(|| og.stop(STOP_WITHIN)).unwrap();
    directory.disable_cleanup(false);
}

fn start(options: &OgDevOptions) -> OgDev {
    tokio::task::block_in_place(|| options.start()).unwrap()
}

/// The latest block that is final, with its hash.
async fn latest_final(devnet: &Devnet) -> (String, String) {
    let rpc = Rpc::new(&devnet.network.rpc_url);
    let block = rpc.call("eth_getBlockByNumber", json!(["finalized", false])).await.unwrap();
    let text = |key: &str| block[key].as_str().unwrap().to_owned();
    (text("number"), text("hash"))
}

async fn block_hash(devnet: &Devnet, height: &str) -> String {
    let rpc = Rpc::new(&devnet.network.rpc_url);
    let block = rpc.call("eth_getBlockByNumber", json!([height, false])).await.unwrap();
    block["hash"].as_str().unwrap().to_owned()
}
