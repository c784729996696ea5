//! Seal a block as soon as a transaction waits; it is final at once.
//!
//! For a chain with a single operator, as the local payment chain is. There is no certificate.

use std::{sync::Arc, thread, time::Duration};

use alloy_primitives::Address;
use og_chain::{Chain, ProposeRequest};
use tokio_util::sync::CancellationToken;

use super::HeadFeed;
use crate::{Clock, Mempool, mempool::Membership};

/// How long the sealer rests after a failure of its disk before it tries again.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// Longest sleep between looks at the pool; a change wakes the sealer at once.
const IDLE_WAIT: Duration = Duration::from_secs(60);

pub(crate) struct InstantSeal {
    pub(crate) chain: Chain,
    pub(crate) mempool: Mempool,
    pub(crate) member: Membership,
    pub(crate) heads: HeadFeed,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) beneficiary: Address,
    pub(crate) shutdown: CancellationToken,
}

impl InstantSeal {
    /// Seals until shutdown, on a thread of its own: execution and disk writes block.
    pub(crate) fn spawn(self) -> std::io::Result<thread::JoinHandle<()>> {
        thread::Builder::new().name("og-instant-seal".into()).spawn(move || self.run())
    }

    fn run(self) {
        while !self.shutdown.is_cancelled() {
            let seen = self.mempool.generation();
            match self.seal() {
                Ok(true) => {}
                // A shutdown nudges the pool, so nothing is missed here.
                Ok(false) if self.shutdown.is_cancelled() => break,
                Ok(false) => self.mempool.wait(seen, IDLE_WAIT),
                Err(error) => {
                    tracing::error!(%error, "sealing a block failed");
                    self.mempool.wait(seen, FAILURE_PAUSE);
                }
            }
        }
    }

    /// Seals one block out of what waits; false when nothing could be included.
    fn seal(&self) -> Result<bool, og_chain::Error> {
        let head = self.chain.head();
        let candidates = self.mempool.candidates(&self.chain, head.hash)?;
        if candidates.is_empty() {
            return Ok(false);
        }
        let proposal = self.chain.propose(ProposeRequest {
            parent: head.hash,
            candidates,
            timestamp_ms: self.clock.now_ms(),
            beneficiary: self.beneficiary,
        })?;
        self.mempool.discard(&proposal.rejected);
        let block = &proposal.executed;
        if block.block.body.transactions.is_empty() {
            return Ok(false);
        }
        self.chain.finalize(block.hash, None)?;
        self.heads.publish(&self.chain, &self.member)?;
        tracing::debug!(
            number = block.number(),
            hash = %block.hash,
            transactions = block.block.body.transactions.len(),
            "block sealed"
        );
        Ok(true)
    }
}
