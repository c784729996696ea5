//! Turn pending transactions into final blocks, alone or by agreement.

pub(crate) mod consensus;
pub(crate) mod instant;

use og_chain::Chain;
use tokio::sync::watch;

use crate::mempool::Membership;

/// Tells everyone who follows the chain that its head moved.
///
/// The number is only a signal; what became final is read from the chain, so a slow follower
/// misses nothing and costs nothing.
#[derive(Debug, Clone)]
pub(crate) struct HeadFeed {
    sender: watch::Sender<u64>,
}

impl HeadFeed {
    pub(crate) fn new(number: u64) -> Self {
        Self { sender: watch::Sender::new(number) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// Publishes the chain's head, to the pool first: who hears of a block finds its transactions
    /// gone from the pool.
    pub(crate) fn publish(
        &self,
        chain: &Chain,
        member: &Membership,
    ) -> Result<(), og_chain::Error> {
        member.on_head(chain)?;
        self.sender.send_replace(chain.head().number);
        Ok(())
    }
}
