//! A gateway with everything around it faked: upstream, payment chain, facilitator, and a paying client.

pub mod upstream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256, U256, address};
use async_trait::async_trait;
use og_gateway::config::{Asset, Limits, Model, OpenAiUpstream, Payment, VerificationChain};
use og_gateway::settlement::{
    EvidenceJob, FundsError, Heartbeat, PaymentJob, Settled, SettlementError, Spendable,
};
use og_gateway::{
    Clock, Config, Funds, Gateway, GatewayHandle, Parts, Settlement, SystemClock,
    simulated_attester,
};
use og_meter::UnitPrice;
use og_x402::client::{Fresh, pay};
use og_x402::verify::VerifiedPayment;
use og_x402::{PaymentId, PaymentPayload, PaymentRequired, Wallet, header};
use serde_json::{Value, json};

pub const OPG: Address = address!("0xFbC2051AE2265686a469421b2C5A2D5462FbF5eB");
pub const USDC: Address = address!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913");
pub const PAY_TO: Address = address!("0x2222222222222222222222222222222222222222");
pub const FACILITATOR: Address = address!("0x3333333333333333333333333333333333333333");
pub const OPG_CAP: u64 = 100_000_000_000_000_000;

/// Every name that the mock upstream gives a meaning.
pub const MODELS: &[&str] = &[
    "ok",
    "tools",
    "slow",
    "gate",
    "cut",
    "no-usage",
    "not-json",
    "error-event",
    "status-401",
    "status-403",
    "status-400",
    "status-404",
    "status-429",
    "status-500",
    "status-503",
    "huge",
    "silent",
    "gpt-5.2",
];

/// The payment chain, as the gateway sees it.
pub struct FakeFunds {
    pub spendable: Mutex<Result<Spendable, FundsError>>,
    pub asked: AtomicUsize,
}

#[async_trait]
impl Funds for FakeFunds {
    async fn spendable(&self, _payment: &VerifiedPayment) -> Result<Spendable, FundsError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.spendable.lock().unwrap().clone()
    }
}

/// The facilitator, as the gateway sees it.
#[derive(Default)]
pub struct FakeSettlement {
    pub payments: Mutex<Vec<PaymentJob>>,
    pub evidence: Mutex<Vec<EvidenceJob>>,
    pub heartbeats: Mutex<Vec<Heartbeat>>,
    pub down: AtomicBool,
    pub pending: AtomicBool,
}

impl FakeSettlement {
    fn up(&self) -> Result<(), SettlementError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(SettlementError::Unavailable("down".into()));
        }
        Ok(())
    }
}

pub const SETTLING_TRANSACTION: B256 = B256::repeat_byte(0x77);

#[async_trait]
impl Settlement for FakeSettlement {
    async fn settle(&self, job: &PaymentJob) -> Result<Settled, SettlementError> {
        self.up()?;
        self.payments.lock().unwrap().push(job.clone());
        if self.pending.load(Ordering::SeqCst) {
            return Ok(Settled::Pending);
        }
        Ok(Settled::Done { transaction: Some(SETTLING_TRANSACTION) })
    }

    async fn settled(&self, _payment: PaymentId) -> Result<Settled, SettlementError> {
        self.up()?;
        if self.pending.load(Ordering::SeqCst) {
            return Ok(Settled::Pending);
        }
        Ok(Settled::Done { transaction: Some(SETTLING_TRANSACTION) })
    }

    async fn settle_data(&self, job: &EvidenceJob) -> Result<(), SettlementError> {
        self.up()?;
        self.evidence.lock().unwrap().push(job.clone());
        Ok(())
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<B256, SettlementError> {
        self.up()?;
        self.heartbeats.lock().unwrap().push(heartbeat.clone());
        Ok(B256::repeat_byte(0x55))
    }
}

pub struct World {
    pub gateway: Option<GatewayHandle>,
    pub config: Config,
    pub upstream: upstream::Mock,
    pub funds: Arc<FakeFunds>,
    pub settlement: Arc<FakeSettlement>,
    pub clock: Arc<dyn Clock>,
    pub engine: Option<Arc<dyn og_infer::Engine>>,
    pub client: reqwest::Client,
    pub base: String,
    pub wallet: Wallet,
    nonce: AtomicUsize,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_clock(Arc::new(SystemClock), change).await
    }

    pub async fn with_clock(clock: Arc<dyn Clock>, change: impl FnOnce(&mut Config)) -> Self {
        Self::build(clock, None, change).await
    }

    pub async fn with_engine(
        engine: Arc<dyn og_infer::Engine>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::build(Arc::new(SystemClock), Some(engine), change).await
    }

    async fn build(
        clock: Arc<dyn Clock>,
        engine: Option<Arc<dyn og_infer::Engine>>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let upstream = upstream::Mock::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(upstream.base_url(), folder.path().to_path_buf());
        change(&mut config);
        let plenty = Spendable { balance: U256::from(u128::MAX), allowance: U256::MAX };
        let mut world = Self {
            gateway: None,
            config,
            upstream,
            funds: Arc::new(FakeFunds {
                spendable: Mutex::new(Ok(plenty)),
                asked: AtomicUsize::new(0),
            }),
            settlement: Arc::new(FakeSettlement::default()),
            clock,
            engine,
            client: client(),
            base: String::new(),
            wallet: Wallet::from_key(&[0x11; 32]).unwrap(),
            nonce: AtomicUsize::new(1),
            _folder: folder,
        };
        world.start().await;
        world
    }

    pub async fn start(&mut self) {
        let parts = Parts {
            attester: simulated_attester("og-gateway"),
            engine: self.engine.clone(),
            funds: self.funds.clone(),
            settlement: self.settlement.clone(),
            clock: self.clock.clone(),
        };
        let gateway = Gateway::start(self.config.clone(), parts).await.unwrap();
        self.base = format!("https://{}", gateway.addr());
        self.gateway = Some(gateway);
    }

    pub fn gateway(&self) -> &GatewayHandle {
        self.gateway.as_ref().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    pub fn post(&self, path: &str, body: impl Into<String>) -> reqwest::RequestBuilder {
        self.client
            .post(self.url(path))
            .header("content-type", "application/json")
            .body(body.into())
    }

    pub async fn challenge(&self, path: &str) -> PaymentRequired {
        let body = match path {
            "/v1/completions" => completion("ok"),
            _ => chat("ok"),
        };
        let response = self.post(path, body).send().await.unwrap();
        assert_eq!(response.status(), 402);
        header::decode(response.headers()["payment-required"].as_bytes()).unwrap()
    }

    /// A fresh payment for the first (OPG) offer.
    pub async fn payment(&self, path: &str) -> PaymentPayload {
        let required = self.challenge(path).await;
        self.pay(&required, 0)
    }

    pub fn pay(&self, required: &PaymentRequired, offer: usize) -> PaymentPayload {
        let nonce = U256::from(self.nonce.fetch_add(1, Ordering::SeqCst));
        let fresh = Fresh { nonce, now_secs: self.clock.now_secs() };
        pay(required, &required.accepts[offer], &self.wallet, fresh).unwrap()
    }

    /// Sends a request with a fresh payment.
    pub async fn paid(&self, path: &str, body: String) -> reqwest::Response {
        let payment = self.payment(path).await;
        self.with_payment(path, body, &payment).await
    }

    pub async fn with_payment(
        &self,
        path: &str,
        body: String,
        payment: &PaymentPayload,
    ) -> reqwest::Response {
        self.post(path, body)
            .header("payment-signature", header::encode(payment).unwrap())
            .send()
            .await
            .unwrap()
    }

    /// Waits until nothing is open and returns what was settled.
    pub async fn settled(&self) -> Vec<PaymentJob> {
        assert!(self.gateway().wait_settled(std::time::Duration::from_secs(10)).await);
        self.settlement.payments.lock().unwrap().clone()
    }

    pub async fn restart(&mut self) {
        self.gateway.take().unwrap().shutdown().await;
        self.start().await;
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .tcp_nodelay(true)
        .no_proxy()
        .build()
        .unwrap()
}

pub fn config(upstream: String, data_dir: PathBuf) -> Config {
    let price = |n: u64| UnitPrice {
        input_per_million: U256::from(n),
        output_per_million: U256::from(n * 4),
    };
    let prices = BTreeMap::from([(OPG, price(1_000_000_000_000_000_000)), (USDC, price(100_000))]);
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: None,
        data_dir,
        owner: Some(Address::repeat_byte(0x0e)),
        verification: VerificationChain {
            chain_id: 10_740,
            genesis_hash: B256::repeat_byte(9),
            registry: address!("0x703cB174AEadB35D611858369B4b1111dC9Abda6"),
        },
        payment: Payment {
            chain_id: 8453,
            pay_to: PAY_TO,
            facilitator: FACILITATOR,
            assets: vec![
                Asset {
                    address: OPG,
                    symbol: "OPG".into(),
                    name: "OpenGradient".into(),
                    version: "1".into(),
                    cap: U256::from(OPG_CAP),
                },
                Asset {
                    address: USDC,
                    symbol: "USDC".into(),
                    name: "USD Coin".into(),
                    version: "2".into(),
                    cap: U256::from(100_000),
                },
            ],
            max_timeout_secs: 300,
        },
        upstreams: BTreeMap::from([("mock".to_owned(), OpenAiUpstream::at(upstream))]),
        models: MODELS
            .iter()
            .map(|name| Model {
                name: (*name).to_owned(),
                upstream: "mock".into(),
                upstream_name: None,
                owned_by: "tests".into(),
                max_output_tokens: 20_000,
                prices: prices.clone(),
            })
            .collect(),
        limits: Limits::default(),
        heartbeat_secs: 600,
    }
}

pub fn chat(model: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, "temperature": 0.0})
        .to_string()
}

pub fn chat_stream(model: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, "stream": true})
        .to_string()
}

pub fn completion(model: &str) -> String {
    json!({"model": model, "prompt": "Hello", "max_tokens": 50}).to_string()
}

/// The data payloads of a stream.
pub fn events(text: &str) -> Vec<String> {
    text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
}
