//! Answer the questions of consensus out of the chain and the pool.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use alloy_primitives::{Address, B256, Bytes};
use og_chain::{
    At, Chain, ProposeRequest, block_hash, body_matches_header, check_timestamp, decode_block,
    encode_block,
};
use og_consensus::{Application, Block, Cancel, Context, Digest};
use tokio_util::sync::CancellationToken;

use super::HeadFeed;
use crate::{Clock, Mempool, mempool::Membership};

/// One validator's view: its own chain, a pool that may be shared, its own clock.
pub(crate) struct ConsensusSeal {
    pub(crate) chain: Chain,
    pub(crate) mempool: Mempool,
    pub(crate) member: Membership,
    pub(crate) heads: HeadFeed,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) beneficiary: Address,
    /// Cancelled when the node stops, also by this validator when its disk fails.
    pub(crate) shutdown: CancellationToken,
    /// Set when this validator's disk fails: it must not vote on what it could not store. An orderly stop is no
    /// failure, so the shutdown does not tell.
    pub(crate) halted: AtomicBool,
}

impl ConsensusSeal {
    fn try_propose(
        &self,
        context: &Context,
        cancel: &Cancel,
    ) -> Result<Option<Block>, og_chain::Error> {
        let parent = B256::from(context.parent);
        let deadline = Instant::now() + context.patience;
        loop {
            let seen = self.mempool.generation();
            if cancel.is_cancelled() || self.shutdown.is_cancelled() {
                return Ok(None);
            }
            let candidates = self.mempool.candidates(&self.chain, parent)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let is_due = left.is_zero();
            if !candidates.is_empty() || is_due {
                let proposal = self.chain.propose(ProposeRequest {
                    parent,
                    candidates,
                    timestamp_ms: self.clock.now_ms(),
                    beneficiary: self.beneficiary,
                })?;
                self.mempool.discard(&proposal.rejected);
                let executed = proposal.executed;
                if is_due || !executed.block.body.transactions.is_empty() {
                    let body = encode_block(&executed.block).to_vec();
                    return Ok(Some(Block { digest: executed.hash.0, body }));
                }
            }
            self.mempool.wait(seen, left);
        }
    }

    fn try_verify(&self, context: &Context, digest: Digest, body: &[u8]) -> Result<(), Refusal> {
        let block = decode_block(body)?;
        if block_hash(&block.header) != digest {
            return Err(Refusal::Digest);
        }
        let parent = B256::from(context.parent);
        if block.header.parent_hash != parent {
            return Err(Refusal::Parent);
        }
        let executed = self.chain.execute(&block)?;
        let (_, parent) = self.chain.header(At::Hash(parent))?.ok_or(Refusal::Parent)?;
        let parent_ms = og_chain::timestamp_ms(&parent).ok_or(Refusal::Parent)?;
        check_timestamp(parent_ms, executed.timestamp_ms(), context.now_ms)?;
        Ok(())
    }

    fn knows(&self, hash: B256) -> Result<bool, og_chain::Error> {
        Ok(self.chain.pending(hash).is_some() || self.chain.number_of(hash)?.is_some())
    }
}

/// Why this validator does not vote for a block.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Decode(#[from] og_chain::BlockDecodeError),
    #[error("the body is not the block voted on")]
    Digest,
    #[error("the block does not build on the agreed parent")]
    Parent,
    #[error(transparent)]
    Block(#[from] og_chain::BlockError),
    #[error(transparent)]
    Timestamp(#[from] og_chain::TimestampError),
    #[error(transparent)]
    Chain(#[from] og_chain::Error),
}

impl Application for ConsensusSeal {
    fn genesis(&self) -> Digest {
        self.chain.genesis_hash().0
    }

    fn propose(&self, context: &Context, cancel: &Cancel) -> Option<Block> {
        let mempool = self.mempool.clone();
        cancel.on_cancel(move || mempool.nudge());
        self.try_propose(context, cancel).unwrap_or_else(|error| {
            tracing::error!(%error, view = context.view, "proposing a block failed");
            None
        })
    }

    fn verify(&self, context: &Context, digest: Digest, body: &[u8]) -> bool {
        self.try_verify(context, digest, body)
            .inspect_err(|refusal| {
                let (view, leader) = (context.view, context.leader);
                tracing::warn!(%refusal, view, leader, "block refused");
            })
            .is_ok()
    }

    fn finalized(&self, digest: Digest, certificate: Vec<u8>) {
        let finalized = self
            .chain
            .finalize(digest.into(), Some(&Bytes::from(certificate)))
            .and_then(|_| self.heads.publish(&self.chain, &self.member));
        if let Err(error) = finalized {
            // Going on would mean voting on top of blocks that a restart would not find.
            tracing::error!(%error, digest = %B256::from(digest), "finalising failed; stopping");
            self.halted.store(true, Ordering::SeqCst);
            self.shutdown.cancel();
        }
    }

    fn has(&self, digest: Digest) -> bool {
        self.knows(digest.into()).unwrap_or_else(|error| {
            tracing::error!(%error, "looking a block up failed");
            false
        })
    }

    fn parent_of(&self, digest: Digest, body: &[u8]) -> Option<Digest> {
        let block = decode_block(body).ok()?;
        // A right header with a wrong body would sit in the place of the right block.
        let is_it = block_hash(&block.header) == digest && body_matches_header(&block);
        is_it.then_some(block.header.parent_hash.0)
    }

    fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }

    fn import(&self, digest: Digest, body: &[u8]) -> bool {
        let executed = decode_block(body).map_err(Refusal::from).and_then(|block| {
            match block_hash(&block.header) == digest {
                true => self.chain.execute(&block).map_err(Refusal::from),
                false => Err(Refusal::Digest),
            }
        });
        executed.inspect_err(|refusal| tracing::warn!(%refusal, "block not imported")).is_ok()
    }

    fn body(&self, digest: Digest) -> Option<Vec<u8>> {
        let hash = B256::from(digest);
        if let Some(pending) = self.chain.pending(hash) {
            return Some(encode_block(&pending.block).to_vec());
        }
        let stored = self.chain.block(At::Hash(hash)).unwrap_or_else(|error| {
            tracing::error!(%error, "reading a block failed");
            None
        })?;
        Some(encode_block(&stored.block).to_vec())
    }
}
