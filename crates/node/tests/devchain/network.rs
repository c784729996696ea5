//! A network of four validators in one process, over real connections on loopback.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use og_chain::{Genesis, Storage};
use og_consensus::{Timing, ValidatorKeys, reserve_loopback};
use og_light::ValidatorSet;
use og_node::{
    Clock, Mempool, Node, NodeConfig, NodeHandle, Seal, SystemClock, Validator, mempool_for,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::genesis;

const VALIDATORS: u32 = 4;

pub struct Network {
    folder: TempDir,
    genesis: Genesis,
    keys: Vec<ValidatorKeys>,
    pub set: ValidatorSet,
    addresses: Vec<SocketAddr>,
    mempool: Mempool,
    clock: Arc<dyn Clock>,
}

impl Network {
    pub fn new() -> Self {
        Self::at(Arc::new(SystemClock))
    }

    /// A network whose validators all look at `clock`.
    pub fn at(clock: Arc<dyn Clock>) -> Self {
        let keys: Vec<_> =
            (0..VALIDATORS).map(|index| ValidatorKeys::from_seed(&[7; 32], index)).collect();
        let set = ValidatorSet::new(keys.iter().map(ValidatorKeys::validator).collect()).unwrap();
        let genesis = Genesis { timestamp: clock.now_s(), ..genesis() };
        let mempool = mempool_for(&genesis);
        let addresses = reserve_loopback(keys.len()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), genesis, keys, set, addresses, mempool, clock }
    }

    pub async fn start(&self, index: usize) -> NodeHandle {
        let folder = |name: &str| -> std::path::PathBuf {
            Path::join(self.folder.path(), format!("{name}-{index}"))
        };
        let validator = Validator {
            keys: self.keys[index].clone(),
            set: self.set.clone(),
            addresses: self.addresses.clone(),
            data_dir: folder("votes"),
            timing: Timing::default(),
        };
        let storage = Storage::File(folder("chain"));
        let seal = Seal::Consensus(Box::new(validator));
        let config = NodeConfig {
            mempool: self.mempool.clone(),
            clock: self.clock.clone(),
            ..NodeConfig::new(self.genesis.clone(), storage, seal)
        };
        Node::start(config, CancellationToken::new()).await.unwrap()
    }

    pub async fn start_all(&self) -> Vec<NodeHandle> {
        let mut nodes = Vec::new();
        for index in 0..self.keys.len() {
            nodes.push(self.start(index).await);
        }
        nodes
    }
}

/// Waits until the node's head is at `height` at least.
pub async fn reach(node: &NodeHandle, height: u64) {
    let mut heads = node.heads();
    tokio::time::timeout(Duration::from_secs(60), heads.wait_for(|head| *head >= height))
        .await
        .unwrap_or_else(|_| panic!("block {height} within 60 s"))
        .unwrap();
}

pub async fn stop_all(nodes: Vec<NodeHandle>) {
    for node in nodes {
        node.stop().await.unwrap();
    }
}
