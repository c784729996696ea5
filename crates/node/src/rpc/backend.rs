//! What every method works on.

use std::{convert::Infallible, sync::Arc};

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes};
use jsonrpsee::types::ErrorObjectOwned;
use og_chain::{At, Chain, ExecutedBlock};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{error, filter::Filters};
use crate::{Clock, Mempool, seal::HeadFeed};

/// One node as its RPC methods see it.
pub(crate) struct Backend {
    pub(crate) chain: Chain,
    pub(crate) mempool: Mempool,
    pub(crate) heads: HeadFeed,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) filters: Filters,
    /// Public keys of the validators, as published in `devnet.json`; empty under instant seal.
    pub(crate) validators: Vec<Bytes>,
    /// Bounds how many requests occupy threads at once.
    pub(crate) workers: Semaphore,
    pub(crate) shutdown: CancellationToken,
    /// Dropped after all of the above: tells [`crate::NodeHandle::stop`] that no request holds the storage.
    #[expect(dead_code, reason = "it is held, never sent on")]
    pub(crate) in_use: mpsc::Sender<Infallible>,
}

impl Backend {
    /// The block that a request names, or `None`.
    pub(super) fn block(
        &self,
        at: impl Into<At>,
    ) -> Result<Option<Arc<ExecutedBlock>>, ErrorObjectOwned> {
        match self.final_block(at.into()).and_then(|at| self.chain.block(at)) {
            Err(og_chain::Error::UnknownBlock) => Ok(None),
            other => other.map_err(error::chain),
        }
    }

    /// Where a request wants state read; the default is the head.
    pub(super) fn state_at(&self, block: Option<BlockId>) -> Result<At, ErrorObjectOwned> {
        self.final_block(block.unwrap_or_default().into()).map_err(error::chain)
    }

    /// Only what is final is shown: a block that consensus may still drop appears under no name.
    fn final_block(&self, at: At) -> Result<At, og_chain::Error> {
        match at {
            At::Pending => Ok(At::Latest),
            At::Hash(hash) if self.chain.number_of(hash)?.is_none() => {
                Err(og_chain::Error::UnknownBlock)
            }
            other => Ok(other),
        }
    }

    /// The included transaction with this hash, with its block and index.
    pub(super) fn included(
        &self,
        hash: B256,
    ) -> Result<Option<(Arc<ExecutedBlock>, usize)>, ErrorObjectOwned> {
        let found = self.chain.transaction(hash).map_err(error::chain)?;
        Ok(found.map(|at| (at.block, at.index)))
    }

    /// The number of the block that a tag or number names; never above the head's for a tag.
    pub(super) fn number(&self, name: BlockNumberOrTag) -> u64 {
        match name {
            BlockNumberOrTag::Number(number) => number,
            BlockNumberOrTag::Earliest => 0,
            BlockNumberOrTag::Latest
            | BlockNumberOrTag::Pending
            | BlockNumberOrTag::Safe
            | BlockNumberOrTag::Finalized => self.chain.head().number,
        }
    }

    pub(super) fn nonce(
        &self,
        address: Address,
        block: Option<BlockId>,
    ) -> Result<u64, ErrorObjectOwned> {
        let nonce = self.chain.nonce(address, self.state_at(block)?).map_err(error::chain)?;
        match block {
            Some(BlockId::Number(BlockNumberOrTag::Pending)) => {
                Ok(self.mempool.next_nonce(address, nonce))
            }
            _ => Ok(nonce),
        }
    }
}
