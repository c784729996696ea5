//! Put chain, pool, sealer and RPC together, and take them apart again.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use alloy_primitives::{Address, Bytes};
use jsonrpsee::server::ServerHandle;
use og_chain::{Chain, Genesis, Storage};
use og_consensus::Timing;
use og_pool::Limits;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, Error, Mempool, RpcConfig, SystemClock,
    rpc::{self, Backend, Filters},
    seal::{HeadFeed, consensus::ConsensusSeal, instant::InstantSeal},
};

/// Everything a node needs to start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The chain; a node started on the storage of another chain refuses.
    pub genesis: Genesis,
    /// Where final blocks and state are kept; a restart on the same storage resumes.
    pub storage: Storage,
    /// How blocks become final.
    pub seal: Seal,
    /// The RPC server, if this node has one.
    pub rpc: Option<RpcConfig>,
    /// The pool; hand the same one to all nodes of a network that live in one process.
    pub mempool: Mempool,
    /// Where block and call times come from.
    pub clock: Arc<dyn Clock>,
    /// Who receives the tips of blocks made here.
    pub beneficiary: Address,
}

impl NodeConfig {
    /// A node with an RPC server on a free loopback port, a pool of its own and the machine's clock.
    #[must_use]
    pub fn new(genesis: Genesis, storage: Storage, seal: Seal) -> Self {
        let mempool = mempool_for(&genesis);
        Self {
            genesis,
            storage,
            seal,
            rpc: Some(RpcConfig::default()),
            mempool,
            clock: Arc::new(SystemClock),
            beneficiary: Address::ZERO,
        }
    }
}

/// An empty pool with the usual limits for the chain of `genesis`.
#[must_use]
pub fn mempool_for(genesis: &Genesis) -> Mempool {
    Mempool::new(Limits { fee_cap_min: genesis.base_fee_floor, ..Limits::default() })
}

/// How blocks become final.
#[derive(Debug, Clone)]
pub enum Seal {
    /// At once, by this node alone; without certificates.
    Instant,
    /// By agreement of validators.
    Consensus(Box<Validator>),
}

/// One seat in a network of validators.
#[derive(Debug, Clone)]
pub struct Validator {
    /// The secrets of this seat.
    pub keys: og_consensus::ValidatorKeys,
    /// All seats.
    pub set: og_light::ValidatorSet,
    /// Where each seat listens, in seat order.
    pub addresses: Vec<SocketAddr>,
    /// A directory for this seat's votes.
    pub data_dir: std::path::PathBuf,
    /// The pace of blocks, the same for all seats.
    pub timing: Timing,
}

/// A node; see [`Node::start`].
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node; it runs until [`NodeHandle::stop`], or until `shutdown` is cancelled.
    ///
    /// Call from within a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// When the storage does not open, the RPC port is taken, or consensus refuses its configuration.
    pub async fn start(
        config: NodeConfig,
        shutdown: CancellationToken,
    ) -> Result<NodeHandle, Error> {
        let NodeConfig { genesis, storage, seal, rpc, mempool, clock, beneficiary } = config;
        let chain = tokio::task::spawn_blocking(move || Chain::open(&storage, genesis))
            .await
            .map_err(|_| Error::Panicked("opening the chain"))??;
        let heads = HeadFeed::new(chain.head().number);
        let member = mempool.join(chain.head().number);
        let shutdown = shutdown.child_token();
        let validators = match &seal {
            Seal::Instant => Vec::new(),
            Seal::Consensus(validator) => public_keys(&validator.set),
        };

        let (in_use, released) = mpsc::channel(1);
        let (rpc_addr, server) = match rpc {
            None => (None, None),
            Some(rpc) => {
                let backend = Backend {
                    chain: chain.clone(),
                    mempool: mempool.clone(),
                    heads: heads.clone(),
                    clock: clock.clone(),
                    filters: Filters::default(),
                    validators,
                    workers: Semaphore::new(rpc.workers.max(1)),
                    shutdown: shutdown.clone(),
                    in_use,
                };
                let (address, server) = rpc::serve(&rpc, Arc::new(backend))
                    .await
                    .map_err(|source| Error::Listen { address: rpc.listen, source })?;
                tracing::info!(%address, chain_id = chain.chain_id(), "rpc server listens");
                (Some(address), Some(server))
            }
        };

        let sealer = match seal {
            Seal::Instant => {
                let seal = InstantSeal {
                    chain: chain.clone(),
                    mempool: mempool.clone(),
                    member,
                    heads: heads.clone(),
                    clock,
                    beneficiary,
                    shutdown: shutdown.clone(),
                };
                Sealer::Instant(seal.spawn().map_err(Error::Thread)?)
            }
            Seal::Consensus(validator) => {
                let application = ConsensusSeal {
                    chain: chain.clone(),
                    mempool: mempool.clone(),
                    member,
                    heads: heads.clone(),
                    clock: clock.clone(),
                    beneficiary,
                    shutdown: shutdown.clone(),
                    halted: AtomicBool::new(false),
                };
                let Validator { keys, set, addresses, data_dir, timing } = *validator;
                let config = og_consensus::Config {
                    keys,
                    set,
                    addresses,
                    data_dir,
                    clock: Arc::new(move || clock.now_ms()),
                    timing,
                };
                Sealer::Consensus(og_consensus::spawn(config, Arc::new(application))?)
            }
        };
        // Whoever cancels, the sealer wakes up and the server closes its connections.
        let (cancelled, pool, closing) = (shutdown.clone(), mempool.clone(), server.clone());
        tokio::spawn(async move {
            cancelled.cancelled().await;
            pool.nudge();
            if let Some(server) = closing {
                // An error says that it has stopped already.
                let _already_stopped = server.stop();
            }
        });
        Ok(NodeHandle {
            rpc_addr,
            chain: Some(chain),
            mempool,
            heads,
            shutdown,
            server,
            released,
            sealer: Some(sealer),
        })
    }
}

fn public_keys(set: &og_light::ValidatorSet) -> Vec<Bytes> {
    set.validators().iter().map(|validator| validator.to_bytes().to_vec().into()).collect()
}

#[derive(Debug)]
enum Sealer {
    Instant(thread::JoinHandle<()>),
    Consensus(og_consensus::Handle),
}

/// A running node.
#[derive(Debug)]
pub struct NodeHandle {
    rpc_addr: Option<SocketAddr>,
    /// Given up on stop, so that the storage is free again.
    chain: Option<Chain>,
    mempool: Mempool,
    heads: HeadFeed,
    shutdown: CancellationToken,
    server: Option<ServerHandle>,
    /// Closes when the last request and subscription have let go of the chain.
    released: mpsc::Receiver<Infallible>,
    sealer: Option<Sealer>,
}

impl NodeHandle {
    /// Where the RPC server listens.
    #[must_use]
    pub fn rpc_addr(&self) -> Option<SocketAddr> {
        self.rpc_addr
    }

    /// The RPC server's URL for HTTP.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        self.rpc_addr.map(|address| format!("http://{address}"))
    }

    /// The RPC server's URL for WebSocket; it is the same port.
    #[must_use]
    pub fn ws_url(&self) -> Option<String> {
        self.rpc_addr.map(|address| format!("ws://{address}"))
    }

    /// The chain, for reading; drop clones before the node stops, or its storage stays locked.
    ///
    /// `None` only while the node is being stopped.
    #[must_use]
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// The pool.
    #[must_use]
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// The number of the last final block; changes are observable.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<u64> {
        self.heads.subscribe()
    }

    /// Cancelled when the node stops, also by itself after a failure of its disk.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Whether blocks are still being made here.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.shutdown.is_cancelled()
            && match &self.sealer {
                Some(Sealer::Instant(thread)) => !thread.is_finished(),
                Some(Sealer::Consensus(handle)) => handle.is_running(),
                None => false,
            }
    }

    /// Stops everything and waits for it; what is final stays on disk.
    ///
    /// # Errors
    /// When consensus does not stop in order, or a part had panicked.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.shutdown.cancel();
        if let Some(server) = self.server.take() {
            server.stopped().await;
        }
        if let Some(sealer) = self.sealer.take() {
            tokio::task::spawn_blocking(move || match sealer {
                Sealer::Instant(thread) => {
                    thread.join().map_err(|_| Error::Panicked("the sealing thread"))
                }
                Sealer::Consensus(handle) => handle.stop().map_err(Error::from),
            })
            .await
            .map_err(|_| Error::Panicked("stopping the sealer"))??;
        }
        self.chain = None;
        // A connection that is closed may still have a subscription or a read that is only now learning of it.
        let None = self.released.recv().await;
        Ok(())
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
