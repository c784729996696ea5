//! Putting the parts together: start, what is shared, stop.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use og_attest::driver::Attester;
use og_contracts::registry::{Registration, registration_nonce};
use og_infer::Engine;
use og_meter::UnitPrice;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::books::Books;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, LOCAL};
use crate::enclave::{Enclave, EnclaveError, Identity};
use crate::error::{ApiError, Code};
use crate::heartbeat::{self, HeartbeatLog};
use crate::payment::Offers;
use crate::request::{Call, Route};
use crate::settlement::{self, Funds, Settlement};
use crate::upstream::local::LocalUpstream;
use crate::upstream::openai::OpenAiUpstream;
use crate::upstream::{Upstream, UpstreamError};
use crate::wire::Heading;
use crate::{journal, routes, server};

/// How long running requests may finish after a stop.
const GRACE: Duration = Duration::from_secs(20);

/// What a gateway is given besides its configuration.
pub struct Parts {
    /// The device that attests the enclave.
    pub attester: Arc<dyn Attester>,
    /// The engine inside the enclave, if models of the table are served by `local`.
    pub engine: Option<Arc<dyn Engine>>,
    /// Looks at the payment chain.
    pub funds: Arc<dyn Funds>,
    /// The facilitator.
    pub settlement: Arc<dyn Settlement>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why a gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The enclave has no keys or no evidence; nothing may be served then.
    #[error(transparent)]
    Enclave(#[from] EnclaveError),
    /// The journal cannot be used; nothing may be charged then.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The TLS library refuses.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An upstream cannot be prepared.
    #[error("upstream {name}: {reason}")]
    Upstream {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// The gateway.
#[derive(Debug)]
pub struct Gateway;

/// A running gateway. Dropping it stops everything at once; [`GatewayHandle::shutdown`] does it gently.
pub struct GatewayHandle {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: CancellationToken,
    working: CancellationToken,
    server: JoinHandle<()>,
    workers: TaskTracker,
}

/// The registry's number for a gateway in front of language models.
pub(crate) const LLM_PROXY: u8 = 0;

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) enclave: Arc<Enclave>,
    pub(crate) books: Arc<Books>,
    pub(crate) funds: Arc<dyn Funds>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wake_settlement: Arc<Notify>,
    pub(crate) running: TaskTracker,
    pub(crate) heartbeat: Arc<HeartbeatLog>,
    /// Absolute URL under which clients reach the gateway.
    pub(crate) public_url: String,
    upstreams: HashMap<String, Arc<dyn Upstream>>,
    chat_offers: Offers,
    completion_offers: Offers,
    places: Arc<Semaphore>,
    started_secs: u64,
}

impl Gateway {
    /// Bears the enclave's keys, opens the journal, and serves.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, parts: Parts) -> Result<GatewayHandle, StartError> {
        config.validate()?;
        let clock = parts.clock;
        // Keys first: no listener opens before there is something to prove.
        let attester = parts.attester;
        let now_secs = clock.now_secs();
        let enclave = tokio::task::spawn_blocking(move || Enclave::born(attester, now_secs))
            .await
            .map_err(|_| EnclaveError::Random)??;
        let enclave = Arc::new(enclave);
        enclave.evidence(&[0; 20], clock.now_ms())?;
        let limits = og_meter::Limits {
            in_flight_per_payer_max: config.limits.payments_per_payer,
            retention_secs: config.limits.stored_answer_secs,
            ..og_meter::Limits::default()
        };
        let books = Books::open(
            &config.data_dir,
            limits,
            config.limits.stored_answer_bytes,
            Arc::clone(&clock),
        )?;
        let books = Arc::new(books);
        let upstreams = upstreams(&config, parts.engine)?;

        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let public_url = config.public_url.clone().unwrap_or_else(|| format!("https://{addr}"));
        let (certificate, key) = enclave.tls();
        let tls = server::tls_config(certificate, key)?;

        let identity = enclave.identity();
        let heartbeat = Arc::new(HeartbeatLog::new(
            identity.tee_id.to_string(),
            config.verification.registry,
            config.heartbeat_secs,
        ));
        if identity.simulated {
            tracing::warn!(tee_id = %identity.tee_id, "this enclave is simulated: it proves nothing about where it runs");
        }
        let shared = Arc::new(Shared {
            chat_offers: Offers::new(&config.payment, Route::Chat, &public_url),
            completion_offers: Offers::new(&config.payment, Route::Completion, &public_url),
            places: Arc::new(Semaphore::new(config.limits.requests)),
            config,
            enclave,
            books,
            funds: parts.funds,
            clock,
            wake_settlement: Arc::new(Notify::new()),
            running: TaskTracker::new(),
            heartbeat,
            public_url,
            upstreams,
            started_secs: now_secs,
        });

        let (accepting, working) = (CancellationToken::new(), CancellationToken::new());
        let workers = TaskTracker::new();
        workers.spawn(settlement::work(
            Arc::clone(&shared.books),
            Arc::clone(&parts.settlement),
            Arc::clone(&shared.wake_settlement),
            working.clone(),
        ));
        workers.spawn(heartbeat::beat(
            Arc::clone(&shared.heartbeat),
            Arc::clone(&shared.enclave),
            parts.settlement,
            Arc::clone(&shared.clock),
            now_secs,
            working.clone(),
        ));
        workers.spawn(sweep(Arc::clone(&shared), working.clone()));
        workers.close();
        let router = routes::router(Arc::clone(&shared)).layer(tower::util::MapResponseLayer::new(
            |mut response: http::Response<axum::body::Body>| {
                routes::expose(response.headers_mut());
                response
            },
        ));
        let limits = shared.config.limits.clone();
        let server = tokio::spawn(server::serve(listener, tls, router, limits, accepting.clone()));
        tracing::info!(%addr, tee_id = %shared.enclave.identity().tee_id, "gateway is serving");
        Ok(GatewayHandle { addr, shared, accepting, working, server, workers })
    }
}

impl GatewayHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the enclave publishes about itself; the registry stores it.
    pub fn identity(&self) -> &Identity {
        self.shared.enclave.identity()
    }

    /// Evidence for registering the enclave: its nonce binds the owner, the chain, the registry, the payee and the
    /// endpoint of the configuration. `None` when the configuration names no owner.
    ///
    /// # Errors
    /// When the attestation device fails.
    pub fn registration_evidence(&self) -> Result<Option<Vec<u8>>, EnclaveError> {
        let now_ms = self.shared.clock.now_ms();
        let nonce = self.shared.registration_nonce();
        nonce.map(|nonce| self.shared.enclave.evidence(nonce.as_slice(), now_ms)).transpose()
    }

    /// Payments that are answered and not settled yet, those of earlier enclaves included.
    pub fn open_settlements(&self) -> usize {
        self.shared.books.open_settlements()
    }

    /// Resolves when every payment in the journal is settled or given up, or after `limit`; says which.
    pub async fn wait_settled(&self, limit: Duration) -> bool {
        let all = async {
            while self.open_settlements() > 0 {
                self.shared.wake_settlement.notify_one();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }

    /// Stops accepting, lets running requests finish, and hands over what can be handed over.
    pub async fn shutdown(mut self) {
        self.accepting.cancel();
        self.shared.running.close();
        if tokio::time::timeout(GRACE, self.shared.running.wait()).await.is_err() {
            tracing::warn!("requests still run at the stop; they cost nothing");
        }
        self.working.cancel();
        self.workers.wait().await;
        let _ = (&mut self.server).await;
    }
}

impl Drop for GatewayHandle {
    fn drop(&mut self) {
        self.accepting.cancel();
        self.working.cancel();
        self.server.abort();
    }
}

impl core::fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GatewayHandle").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Shared {
    /// What the attested nonce of a registration is; `None` when nobody is to register the enclave.
    pub(crate) fn registration_nonce(&self) -> Option<B256> {
        let verification = &self.config.verification;
        Some(registration_nonce(&Registration {
            owner: self.config.owner?,
            chain_id: verification.chain_id,
            genesis_hash: verification.genesis_hash,
            registry: verification.registry,
            pay_to: self.config.payment.pay_to,
            endpoint: &self.public_url,
            tee_type: LLM_PROXY,
        }))
    }

    pub(crate) fn offers(&self, route: Route) -> &Offers {
        match route {
            Route::Chat => &self.chat_offers,
            Route::Completion => &self.completion_offers,
        }
    }

    /// Who answers a request, and under which name the model is known there.
    pub(crate) fn upstream_of(&self, call: &Call) -> Result<(Arc<dyn Upstream>, String), ApiError> {
        let model = self.config.models.get(call.model);
        model
            .and_then(|model| {
                let upstream = self.upstreams.get(&model.upstream)?;
                let name = model.upstream_name.as_ref().unwrap_or(&model.name);
                Some((Arc::clone(upstream), name.clone()))
            })
            .ok_or_else(|| ApiError::new(Code::Internal, "the model has no upstream"))
    }

    pub(crate) fn price_of(&self, call: &Call, asset: Address) -> Option<UnitPrice> {
        self.config.models.get(call.model)?.prices.get(&asset).copied()
    }

    /// A place among the requests being answered.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.running.is_closed() {
            return Err(ApiError::new(Code::ShuttingDown, "the gateway is stopping"));
        }
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| ApiError::new(Code::Busy, "the gateway has no free place"))
    }

    pub(crate) fn heading(&self, call: &Call) -> Heading {
        let mut random = [0; 16];
        // An id without randomness is only less unique; nothing is decided by it.
        let _ = SystemRandom::new().fill(&mut random);
        let prefix = match call.route {
            Route::Chat => "chatcmpl",
            Route::Completion => "cmpl",
        };
        Heading {
            route: call.route,
            id: format!("{prefix}-{}", hex::encode(random)),
            created: self.clock.now_secs(),
            model: call.model_requested.clone(),
        }
    }

    pub(crate) fn model_json(&self, place: usize) -> Option<Value> {
        let model = self.config.models.get(place)?;
        let truth = self.upstreams.get(&model.upstream)?.provenance().truth.as_str();
        let prices: Vec<Value> = model
            .prices
            .iter()
            .map(|(asset, price)| {
                json!({
                    "asset": asset.to_checksum(None),
                    "input_per_million": price.input_per_million.to_string(),
                    "output_per_million": price.output_per_million.to_string(),
                })
            })
            .collect();
        Some(json!({
            "id": model.name,
            "object": "model",
            "created": self.started_secs,
            "owned_by": model.owned_by,
            "max_output_tokens": model.max_output_tokens,
            "truth": truth,
            "prices": prices,
        }))
    }
}

fn upstreams(
    config: &Config,
    engine: Option<Arc<dyn Engine>>,
) -> Result<HashMap<String, Arc<dyn Upstream>>, StartError> {
    let mut upstreams: HashMap<String, Arc<dyn Upstream>> = HashMap::new();
    for (name, settings) in &config.upstreams {
        let upstream = OpenAiUpstream::new(settings, config.limits.answer_bytes).map_err(
            |UpstreamError { message, .. }| StartError::Upstream {
                name: name.clone(),
                reason: message,
            },
        )?;
        upstreams.insert(name.clone(), Arc::new(upstream));
    }
    let local = |reason: String| StartError::Upstream { name: LOCAL.to_owned(), reason };
    for model in config.models.iter().filter(|model| model.upstream == LOCAL) {
        let engine = engine.as_ref().ok_or_else(|| local("no engine is given".to_owned()))?;
        let name = model.upstream_name.as_ref().unwrap_or(&model.name);
        if !engine.models().iter().any(|known| known.id == *name) {
            return Err(local(format!("the engine does not serve {name}")));
        }
    }
    if let Some(engine) = engine {
        upstreams.insert(LOCAL.to_owned(), Arc::new(LocalUpstream::new(engine)));
    }
    Ok(upstreams)
}

/// Drops files of answers that nobody may ask for any more.
async fn sweep(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let books = Arc::clone(&shared.books);
        let age_secs = shared
            .config
            .limits
            .stored_answer_secs
            .saturating_add(shared.config.payment.max_timeout_secs);
        let _ = tokio::task::spawn_blocking(move || books.answers.sweep(age_secs)).await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
            () = stop.cancelled() => return,
        }
    }
}
