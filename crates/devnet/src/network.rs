//! The whole network, started and stopped in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, U256};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use og_blob::LocalStore;
use og_client::NetworkFile;
use og_client::network::{
    Account, ChainEndpoint, Contracts, GatewayEntry, PaymentEndpoint, ServiceEndpoint, TeeRoot,
    Trust,
};
use og_contracts::addresses;
use og_facilitator::{Config as FacilitatorConfig, Facilitator, FlushPolicy, HttpSettle, Keys};
use og_gateway::config::{Asset, Config as GatewayConfig, OpenAiUpstream, VerificationChain};
use og_gateway::{Gateway, GatewayHandle, Parts, SystemClock, simulated_attester};
use og_infer::Engine;
use og_primitives::networks::{BASE_CHAIN_ID, OPENGRADIENT_CHAIN_ID};
use og_x402::Wallet;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accounts::{DevAccount, ServiceAccounts, users};
use crate::bridge::Bridge;
use crate::chains::Chains;
use crate::enclave::Operator;
use crate::founding::{Founding, GATEWAY_IMAGE};
use crate::models;
use crate::options::{Options, Progress, Service, Watcher};

/// How long payments and evidence of earlier enclaves may take to settle at a start.
const EARLIER_TIMEOUT: Duration = Duration::from_secs(45);

/// The most that one answer may cost: 0.1 OPG, or 0.10 USDC, in base units.
const CAP_OPG: u64 = 100_000_000_000_000_000;
const CAP_USDC: u64 = 100_000;

/// A running network.
#[derive(Debug)]
pub struct Devnet {
    chains: Chains,
    gateway: GatewayHandle,
    services: JoinSet<Result<()>>,
    shutdown: CancellationToken,
    file: NetworkFile,
}

impl Devnet {
    /// Starts everything and returns once everything accepts requests.
    ///
    /// # Errors
    /// Whatever keeps a part from starting; what had started is stopped again.
    pub async fn start(options: &Options) -> Result<Self> {
        let shutdown = CancellationToken::new();
        let guard = shutdown.clone().drop_guard();
        let begun = Instant::now();
        let founding = Founding::open(&options.data_dir, options.validators, now_secs())?;
        let services = ServiceAccounts::derive(founding.seed)?;

        let engine = options.local_model.then(|| {
            let (cache, watcher) = (options.cache_dir.clone(), Arc::clone(&options.watcher));
            tokio::task::spawn_blocking(move || models::load_local(&cache, &watcher))
        });
        let chains = Chains::start(&founding, &options.data_dir, options.ports, &shutdown).await?;
        let serving = chains.serving()?;
        let rpc_url = serving.http_url().context("the chain serves no RPC")?;
        let ws_url = serving.ws_url().context("the chain serves no RPC")?;
        let genesis_hash = serving.chain().context("the chain is gone")?.genesis_hash();
        let payment_url = chains.payment.http_url().context("the payment chain serves no RPC")?;
        (options.watcher)(Progress::ChainsUp { after_ms: millis(begun.elapsed()) });

        let mut tasks = JoinSet::new();
        let (facilitator, facilitator_addr, store_addr) =
            start_facilitator(options, &services, &rpc_url, &payment_url, &shutdown, &mut tasks)
                .await?;
        let engine = match engine {
            Some(loading) => Some(loading.await.context("loading the local model")??),
            None => None,
        };
        let config =
            gateway_config(options, &services, &facilitator, genesis_hash, engine.as_deref());
        let config = config.await?;
        let names: Vec<String> = config.models.iter().map(|model| model.name.clone()).collect();
        let bridge = Arc::new(Bridge::new(facilitator));
        let parts = Parts {
            attester: simulated_attester(GATEWAY_IMAGE),
            engine,
            funds: Arc::clone(&bridge) as _,
            settlement: bridge,
            clock: Arc::new(SystemClock),
        };
        let gateway = Gateway::start(config, parts).await.context("starting the gateway")?;
        (options.watcher)(Progress::EnclaveUp);
        let endpoint = format!("https://{}", gateway.addr());

        let registry = addresses::TEE_REGISTRY;
        let operator = Operator::new(&rpc_url, &services, registry)?;
        settle_earlier(&gateway, &options.watcher).await?;
        operator.retire_earlier().await?;
        operator.register(&gateway, &endpoint).await?;
        (options.watcher)(Progress::Registered);
        operator.await_listing(&gateway).await?;

        let file = NetworkFile {
            network: ChainEndpoint { rpc_url, ws_url, chain_id: OPENGRADIENT_CHAIN_ID },
            payment: PaymentEndpoint { rpc_url: payment_url, chain_id: BASE_CHAIN_ID },
            contracts: contracts(),
            gateways: vec![GatewayEntry {
                tee_id: gateway.identity().tee_id.0,
                url: endpoint,
                payment_address: services.payee.address(),
                simulated: gateway.identity().simulated,
            }],
            facilitator: http_endpoint(facilitator_addr),
            store: http_endpoint(store_addr),
            trust: trust(&founding, genesis_hash)?,
            models: names,
            accounts: published_accounts(&founding)?,
        };
        (options.watcher)(Progress::Ready { after_ms: millis(begun.elapsed()) });
        guard.disarm();
        Ok(Self { chains, gateway, services: tasks, shutdown, file })
    }

    /// The network's description, as `devnet.json` holds it.
    pub fn file(&self) -> &NetworkFile {
        &self.file
    }

    /// Waits until a part fails by itself; pends for ever while everything is well.
    ///
    /// # Errors
    /// Always: it names the part.
    pub async fn failed(&mut self) -> Result<()> {
        let mut watch = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                ended = self.services.join_next() => match ended {
                    Some(Ok(Ok(()))) => bail!("a service stopped by itself"),
                    Some(Ok(Err(error))) => return Err(error),
                    Some(Err(error)) => return Err(anyhow!(error).context("a service panicked")),
                    None => bail!("no service runs"),
                },
                _ = watch.tick() => ensure!(self.chains.are_running(), "a node stopped by itself"),
            }
        }
    }

    /// Stops everything in the order in which nothing is lost: gateway, facilitator, chains.
    ///
    /// # Errors
    /// What did not stop in order; everything durable is on disk all the same.
    pub async fn stop(mut self) -> Result<()> {
        self.gateway.shutdown().await;
        self.shutdown.cancel();
        while let Some(ended) = self.services.join_next().await {
            ended.context("a service panicked")??;
        }
        self.chains.stop().await
    }
}

/// Starts the facilitator's worker, its HTTP service and the store.
async fn start_facilitator(
    options: &Options,
    services: &ServiceAccounts,
    rpc_url: &str,
    payment_url: &str,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<(Facilitator, SocketAddr, SocketAddr)> {
    let store = LocalStore::open(&options.data_dir.join("blobs"), og_blob::Limits::default())
        .context("opening the blob store")?;
    let config = FacilitatorConfig {
        database: options.data_dir.join("facilitator.sqlite"),
        payment: og_facilitator::PaymentChain {
            rpc_url: payment_url.to_owned(),
            chain_id: BASE_CHAIN_ID,
            confirmations: 1,
            assets: vec![addresses::OPG, addresses::USDC],
            payees: vec![services.payee.address()],
        },
        network: og_facilitator::NetworkChain {
            rpc_url: rpc_url.to_owned(),
            chain_id: OPENGRADIENT_CHAIN_ID,
            registry: addresses::TEE_REGISTRY,
            relay: addresses::SETTLEMENT_RELAY,
        },
        flush: FlushPolicy::devnet(),
        sending: og_facilitator::Sending { poll_ms: 20, ..Default::default() },
        // The gateway of this process uses the library; nobody else may settle its permits.
        http_settle: HttpSettle::Closed,
        retention_days: 30,
    };
    let keys = Keys {
        payment: wallet(&services.facilitator)?,
        evidence: wallet(&services.anchor)?,
        heartbeat: wallet(&services.heartbeat)?,
    };
    let facilitator =
        Facilitator::open(config, keys, store.clone()).context("opening the facilitator")?;
    let facilitator_addr = serve(
        options.ports.of(Service::Facilitator),
        og_facilitator::router(facilitator.clone()),
        shutdown,
        tasks,
    );
    let facilitator_addr = facilitator_addr.await.context("serving the facilitator")?;
    let store_addr =
        serve(options.ports.of(Service::Store), og_blob::router(store), shutdown, tasks);
    let store_addr = store_addr.await.context("serving the store")?;
    let (worker, stop) = (facilitator.clone(), shutdown.clone());
    tasks.spawn(async move { worker.run(stop).await.context("the facilitator's worker") });
    Ok((facilitator, facilitator_addr, store_addr))
}

async fn serve(
    listen: SocketAddr,
    router: axum::Router,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<SocketAddr> {
    use axum::serve::ListenerExt as _;

    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let addr = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
    });
    let stop = shutdown.clone().cancelled_owned();
    tasks.spawn(async move {
        axum::serve(listener, router).with_graceful_shutdown(stop).await.context("an HTTP service")
    });
    Ok(addr)
}

async fn gateway_config(
    options: &Options,
    services: &ServiceAccounts,
    facilitator: &Facilitator,
    genesis_hash: alloy_primitives::B256,
    engine: Option<&dyn Engine>,
) -> Result<GatewayConfig> {
    let mut offered = engine.map(models::local).unwrap_or_default();
    let mut upstreams = std::collections::BTreeMap::new();
    if let Some(upstream) = &options.upstream {
        offered.extend(models::upstream(upstream).await?);
        let service = OpenAiUpstream::at(upstream.base_url.clone());
        upstreams.insert(models::UPSTREAM.to_owned(), service);
    }
    ensure!(!offered.is_empty(), "there is no model to offer");
    let asset = |address: Address, symbol: &str, name: &str, version: &str, cap: u64| Asset {
        address,
        symbol: symbol.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        cap: U256::from(cap),
    };
    Ok(GatewayConfig {
        listen: options.ports.of(Service::Gateway),
        public_url: None,
        data_dir: options.data_dir.join("gateway"),
        verification: VerificationChain {
            chain_id: OPENGRADIENT_CHAIN_ID,
            genesis_hash,
            registry: addresses::TEE_REGISTRY,
        },
        owner: Some(services.operator.address()),
        payment: og_gateway::config::Payment {
            chain_id: BASE_CHAIN_ID,
            pay_to: services.payee.address(),
            facilitator: facilitator.address(),
            assets: vec![
                asset(addresses::OPG, "OPG", "OpenGradient", "1", CAP_OPG),
                asset(addresses::USDC, "USDC", "USD Coin", "2", CAP_USDC),
            ],
            max_timeout_secs: 300,
        },
        upstreams,
        models: offered,
        limits: og_gateway::config::Limits::default(),
        heartbeat_secs: 600,
    })
}

/// Waits until what earlier enclaves answered is settled: their signatures count while they are registered.
async fn settle_earlier(gateway: &GatewayHandle, watcher: &Watcher) -> Result<()> {
    let open = gateway.open_settlements();
    if open == 0 {
        return Ok(());
    }
    watcher(Progress::SettlingEarlier { open });
    if !gateway.wait_settled(EARLIER_TIMEOUT).await {
        // They stay in the journal; a longer wait would keep the network down for one stuck payment.
        tracing::warn!(
            open = gateway.open_settlements(),
            "settlements of earlier enclaves are open"
        );
    }
    Ok(())
}

fn contracts() -> Contracts {
    Contracts {
        tee_registry: addresses::TEE_REGISTRY,
        inference_verifier: addresses::INFERENCE_VERIFIER,
        settlement_relay: addresses::SETTLEMENT_RELAY,
        opg: addresses::OPG,
        usdc: addresses::USDC,
        permit2: addresses::PERMIT2,
        x402_exact_proxy: addresses::X402_EXACT_PROXY,
        x402_upto_proxy: addresses::X402_UPTO_PROXY,
    }
}

fn trust(founding: &Founding, genesis_hash: alloy_primitives::B256) -> Result<Trust> {
    let validators = founding.validator_set()?;
    let roots = founding.opengradient()?.trusted_roots;
    Ok(Trust {
        genesis_hash,
        validators: validators.validators().iter().map(ToString::to_string).collect(),
        tee_roots: roots
            .iter()
            .map(|root| TeeRoot { sha256: root.sha256, simulated: root.simulated })
            .collect(),
    })
}

fn published_accounts(founding: &Founding) -> Result<Vec<Account>> {
    let accounts = users(founding.seed)?;
    Ok(accounts
        .iter()
        .map(|account| Account {
            name: account.name.to_owned(),
            address: account.address(),
            private_key: account.private_key(),
        })
        .collect())
}

fn wallet(account: &DevAccount) -> Result<Wallet> {
    Wallet::from_key(&account.private_key().0).context("a service account's key")
}

fn http_endpoint(addr: SocketAddr) -> ServiceEndpoint {
    ServiceEndpoint { url: format!("http://{addr}") }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// The rim reads the clock.
fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
