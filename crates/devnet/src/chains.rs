//! Both chains of the devnet.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use og_chain::Storage;
use og_consensus::Timing;
use og_node::{Node, NodeConfig, NodeHandle, RpcConfig, Seal, Validator, mempool_for};
use tokio_util::sync::CancellationToken;

use crate::founding::Founding;
use crate::options::{Ports, Service};

/// Blocks that hold a block before it is empty, and pace of full ones.
const TIMING: Timing = Timing {
    empty_block_interval: std::time::Duration::from_secs(2),
    block_interval_min: std::time::Duration::from_millis(20),
    grace: std::time::Duration::from_millis(1000),
};

/// Both chains, running.
#[derive(Debug)]
pub(crate) struct Chains {
    /// The validators; the first serves RPC.
    pub(crate) validators: Vec<NodeHandle>,
    /// The payment chain's only node.
    pub(crate) payment: NodeHandle,
}

impl Chains {
    /// Starts every validator and the payment chain.
    pub(crate) async fn start(
        founding: &Founding,
        data_dir: &Path,
        ports: Ports,
        shutdown: &CancellationToken,
    ) -> Result<Self> {
        let payment = Self::start_payment(founding, data_dir, ports, shutdown).await?;
        let genesis = founding.opengradient()?;
        let set = founding.validator_set()?;
        let addresses = match ports.validators(founding.validators) {
            Some(addresses) => addresses,
            None => og_consensus::reserve_loopback(usize::from(founding.validators))
                .context("finding ports for the validators")?,
        };
        // All validators live in this process, so a transaction given to one is given to all.
        let mempool = mempool_for(&genesis);
        let mut validators = Vec::new();
        for (index, keys) in founding.keys().into_iter().enumerate() {
            let folder = data_dir.join(format!("validator-{index}"));
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
            let seal = Seal::Consensus(Box::new(Validator {
                keys,
                set: set.clone(),
                addresses: addresses.clone(),
                data_dir: folder.join("votes"),
                timing: TIMING,
            }));
            let mut config =
                NodeConfig::new(genesis.clone(), Storage::File(folder.join("chain.redb")), seal);
            config.rpc = (index == 0).then(|| rpc(ports.of(Service::Network)));
            config.mempool = mempool.clone();
            let node = Node::start(config, shutdown.clone()).await;
            validators.push(node.with_context(|| format!("starting validator {index}"))?);
        }
        Ok(Self { validators, payment })
    }

    async fn start_payment(
        founding: &Founding,
        data_dir: &Path,
        ports: Ports,
        shutdown: &CancellationToken,
    ) -> Result<NodeHandle> {
        let storage = Storage::File(data_dir.join("payment.redb"));
        let mut config = NodeConfig::new(founding.payment()?, storage, Seal::Instant);
        config.rpc = Some(rpc(ports.of(Service::Payment)));
        Node::start(config, shutdown.clone()).await.context("starting the payment chain")
    }

    /// The node that serves the OpenGradient chain's RPC.
    pub(crate) fn serving(&self) -> Result<&NodeHandle> {
        self.validators.first().context("no validator runs")
    }

    /// Whether every node still runs.
    pub(crate) fn are_running(&self) -> bool {
        self.payment.is_running() && self.validators.iter().all(NodeHandle::is_running)
    }

    /// Stops all nodes and waits for them.
    pub(crate) async fn stop(self) -> Result<()> {
        let mut outcome = self.payment.stop().await.context("stopping the payment chain");
        for validator in self.validators {
            outcome = outcome.and(validator.stop().await.context("stopping a validator"));
        }
        outcome
    }
}

fn rpc(listen: SocketAddr) -> RpcConfig {
    RpcConfig { listen, ..RpcConfig::default() }
}
