//! The chain: finalised blocks on disk, pending ones in memory, one handle to both.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes};
use og_attest::Root;

use crate::block::{Block, block_hash};
use crate::error::{BlockError, Error};
use crate::executed::ExecutedBlock;
use crate::genesis::Genesis;
use crate::precompile::Native;
use crate::produce::{self, Proposal, ProposeRequest};
use crate::state::{Layer, View};
use crate::store::{Store, Tables};

/// Blocks that may wait for finality; when more come, the oldest goes, and can be executed again.
pub const PENDING_MAX: usize = 1024;

/// Where a chain lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory, gone with the last handle.
    Memory,
    /// In this file, made when it is missing. One process at a time may open it.
    File(PathBuf),
}

/// The last finalised block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Height.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Time, ms since 1970.
    pub timestamp_ms: u64,
    /// The block.
    pub block: Arc<ExecutedBlock>,
}

impl Head {
    fn of(block: Arc<ExecutedBlock>) -> Self {
        Self { number: block.number(), hash: block.hash, timestamp_ms: block.timestamp_ms(), block }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        self.block.header()
    }
}

/// A handle to a chain; clones share it. All methods block for as long as they compute or write.
#[derive(Clone)]
pub struct Chain {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    store: Store,
    pub(crate) genesis: Genesis,
    genesis_hash: B256,
    pub(crate) native: Arc<Native>,
    live: RwLock<Live>,
    /// Held while blocks are finalised, so that they are in order.
    finalizing: Mutex<()>,
}

struct Live {
    head: Head,
    tables: Arc<Tables>,
    pending: BTreeMap<B256, Pending>,
    /// Blocks ever inserted: gives each pending block its age.
    inserted: u64,
}

struct Pending {
    layer: Arc<Layer>,
    age: u64,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("chain_id", &self.shared.genesis.chain_id)
            .field("genesis", &self.shared.genesis_hash)
            .finish_non_exhaustive()
    }
}

impl Chain {
    /// Opens a chain, writing the genesis block when the storage is empty.
    ///
    /// # Errors
    /// When the genesis cannot start a chain, the storage holds another chain, or the disk fails.
    pub fn open(storage: &Storage, genesis: Genesis) -> Result<Self, Error> {
        let first = genesis.layer()?;
        let genesis_hash = first.block.hash;
        let path = match storage {
            Storage::Memory => None,
            Storage::File(path) => Some(path.as_path()),
        };
        let store = Store::open(path, &first)?;
        let tables = store.tables()?;
        let (number, _) = tables.last()?;
        let block = tables.block(number)?.ok_or_else(|| Error::corrupt("the last block"))?;
        let live = Live {
            head: Head::of(Arc::new(block)),
            tables: Arc::new(tables),
            pending: BTreeMap::new(),
            inserted: 0,
        };
        let mut roots: Vec<Root> = genesis
            .trusted_roots
            .iter()
            .map(|root| Root { sha256: root.sha256, simulated: root.simulated })
            .collect();
        roots.sort_unstable();
        roots.dedup();
        let shared = Shared {
            store,
            genesis,
            genesis_hash,
            native: Arc::new(Native::new(roots, genesis_hash)),
            live: RwLock::new(live),
            finalizing: Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How the chain started.
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.shared.genesis_hash
    }

    /// Chain id (EIP-155).
    pub fn chain_id(&self) -> u64 {
        self.shared.genesis.chain_id
    }

    /// The last finalised block.
    pub fn head(&self) -> Head {
        self.read().head.clone()
    }

    /// Builds a block on a finalised head or a pending block, and keeps it as pending.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`] when the parent is neither; otherwise only our own failures. Candidates that cannot
    /// be executed are listed in the proposal.
    pub fn propose(&self, request: ProposeRequest) -> Result<Proposal, Error> {
        let (view, parent) = self.parent(request.parent).ok_or(Error::UnknownBlock)?;
        let (layer, rejected) =
            produce::propose(view, &parent, &self.shared.genesis, &self.shared.native, request)?;
        let executed = Arc::clone(&layer.block);
        self.insert(layer)?;
        Ok(Proposal { executed, rejected })
    }

    /// Executes a foreign block, checks every field of it, and keeps it as pending. Doing so again is cheap.
    ///
    /// The block's time is compared with its parent's only; whether it lies too far ahead is for the caller, who has
    /// a clock: [`crate::check_timestamp`].
    ///
    /// # Errors
    /// [`BlockError::UnknownParent`] when the parent has to come first, [`BlockError::Internal`] for our own
    /// failures, otherwise the rule that the block breaks.
    pub fn execute(&self, block: &Block) -> Result<Arc<ExecutedBlock>, BlockError> {
        let hash = block_hash(&block.header);
        if let Some(known) = self.known(hash)? {
            return Ok(known);
        }
        let parent_hash = block.header.parent_hash;
        let (view, parent) =
            self.parent(parent_hash).ok_or(BlockError::UnknownParent { hash: parent_hash })?;
        let layer =
            produce::execute(view, &parent, &self.shared.genesis, &self.shared.native, block)?;
        let executed = Arc::clone(&layer.block);
        self.insert(layer)?;
        Ok(executed)
    }

    /// A block that waits for finality.
    pub fn pending(&self, hash: B256) -> Option<Arc<ExecutedBlock>> {
        self.read().pending.get(&hash).map(|pending| Arc::clone(&pending.layer.block))
    }

    /// Makes a pending block and its pending ancestors final, oldest first, each in one durable commit; drops
    /// pending blocks that conflict with it. The certificate is kept with the block itself. Gives the blocks that
    /// became final; none when the block already was, in which case a missing certificate is added.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`] when the block was never executed here, [`Error::ConflictsWithFinalized`] when it
    /// does not descend from the last finalised block.
    pub fn finalize(
        &self,
        hash: B256,
        certificate: Option<&Bytes>,
    ) -> Result<Vec<Arc<ExecutedBlock>>, Error> {
        let _order: MutexGuard<'_, ()> =
            self.shared.finalizing.lock().unwrap_or_else(PoisonError::into_inner);
        let (tables, path) = {
            let live = self.read();
            (Arc::clone(&live.tables), live.path_from_head(hash))
        };
        if let Some(number) = tables.number_of(hash)? {
            if let Some(certificate) = certificate
                && tables.certificate(number)?.is_none()
            {
                self.shared.store.add_certificate(number, certificate)?;
                let tables = Arc::new(self.shared.store.tables()?);
                self.write(|live| live.tables = tables);
            }
            return Ok(Vec::new());
        }
        let path = path?;
        let mut finalized = Vec::with_capacity(path.len());
        for layer in path {
            let last = layer.block.hash == hash;
            let certificate = certificate.filter(|_| last).map(|bytes| bytes.as_ref());
            self.shared.store.commit(&layer, certificate)?;
            let tables = Arc::new(self.shared.store.tables()?);
            self.write(|live| {
                live.tables = tables;
                live.head = Head::of(Arc::clone(&layer.block));
                live.pending.remove(&layer.block.hash);
            });
            finalized.push(Arc::clone(&layer.block));
        }
        self.write(Live::drop_losers);
        Ok(finalized)
    }

    /// The certificate that was kept with the block at this height.
    ///
    /// # Errors
    /// When the database fails.
    pub fn certificate(&self, number: u64) -> Result<Option<Bytes>, Error> {
        self.tables().certificate(number)
    }

    /// The first certificate at or above a height: a block may be final through a descendant.
    ///
    /// # Errors
    /// When the database fails.
    pub fn certificate_at_or_after(&self, number: u64) -> Result<Option<(u64, Bytes)>, Error> {
        self.tables().certificate_from(number)
    }

    /// A block by hash, wherever it is.
    fn known(&self, hash: B256) -> Result<Option<Arc<ExecutedBlock>>, Error> {
        if let Some(block) = self.pending(hash) {
            return Ok(Some(block));
        }
        let tables = self.tables();
        match tables.number_of(hash)? {
            None => Ok(None),
            Some(number) => Ok(tables.block(number)?.map(Arc::new)),
        }
    }

    /// A block that may be built on, and the state after it.
    fn parent(&self, hash: B256) -> Option<(View, Arc<ExecutedBlock>)> {
        let live = self.read();
        let view = live.view(hash)?;
        let block = match view.layers.first() {
            Some(layer) => Arc::clone(&layer.block),
            None => Arc::clone(&live.head.block),
        };
        Some((view, block))
    }

    fn insert(&self, layer: Layer) -> Result<(), Error> {
        let mut live = self.shared.live.write().unwrap_or_else(PoisonError::into_inner);
        let (hash, parent) = (layer.block.hash, layer.block.header().parent_hash);
        if parent != live.head.hash && !live.pending.contains_key(&parent) {
            return Err(Error::ConflictsWithFinalized { hash, head: live.head.hash });
        }
        live.inserted = live.inserted.saturating_add(1);
        let age = live.inserted;
        live.pending.entry(hash).or_insert_with(|| Pending { layer: Arc::new(layer), age });
        if live.pending.len() > PENDING_MAX {
            let oldest = live.pending.iter().min_by_key(|(_, pending)| pending.age);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                live.pending.remove(&oldest);
            }
        }
        Ok(())
    }

    pub(crate) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.read().tables)
    }

    /// State and block after a finalised or pending block of this hash.
    pub(crate) fn view_of(&self, hash: B256) -> Result<Option<(View, Arc<ExecutedBlock>)>, Error> {
        if let Some(found) = self.parent(hash) {
            return Ok(Some(found));
        }
        let tables = self.tables();
        let Some(number) = tables.number_of(hash)? else { return Ok(None) };
        Self::view_at(tables, number)
    }

    /// State and block at a finalised height.
    pub(crate) fn view_of_number(
        &self,
        number: u64,
    ) -> Result<Option<(View, Arc<ExecutedBlock>)>, Error> {
        let (head, tables) = {
            let live = self.read();
            (Arc::clone(&live.head.block), Arc::clone(&live.tables))
        };
        if number == head.number() {
            let view = View { layers: Vec::new(), tables: Some(tables), height: number };
            return Ok(Some((view, head)));
        }
        Self::view_at(tables, number)
    }

    fn view_at(
        tables: Arc<Tables>,
        number: u64,
    ) -> Result<Option<(View, Arc<ExecutedBlock>)>, Error> {
        let Some(block) = tables.block(number)? else { return Ok(None) };
        let view = View { layers: Vec::new(), tables: Some(tables), height: number };
        Ok(Some((view, Arc::new(block))))
    }

    /// The longest chain of pending blocks, the youngest of equals; the head when none is pending.
    pub(crate) fn tip(&self) -> B256 {
        let live = self.read();
        live.pending
            .iter()
            .filter(|(hash, _)| live.view(**hash).is_some())
            .max_by_key(|(_, pending)| (pending.layer.block.number(), pending.age))
            .map_or(live.head.hash, |(hash, _)| *hash)
    }

    fn read(&self) -> RwLockReadGuard<'_, Live> {
        // Writers only replace whole values, so a poisoned lock still holds a consistent chain.
        self.shared.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut Live)) {
        change(&mut self.shared.live.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Live {
    /// The state after the head or a pending block that descends from it.
    fn view(&self, hash: B256) -> Option<View> {
        let mut layers = Vec::new();
        let mut at = hash;
        while at != self.head.hash {
            let layer = Arc::clone(&self.pending.get(&at)?.layer);
            at = layer.block.header().parent_hash;
            layers.push(layer);
        }
        Some(View { layers, tables: Some(Arc::clone(&self.tables)), height: self.head.number })
    }

    /// The pending blocks from just above the head up to `hash`, oldest first.
    fn path_from_head(&self, hash: B256) -> Result<Vec<Arc<Layer>>, Error> {
        if !self.pending.contains_key(&hash) {
            return Err(Error::UnknownBlock);
        }
        let view = self.view(hash);
        let view = view.ok_or(Error::ConflictsWithFinalized { hash, head: self.head.hash })?;
        Ok(view.layers.into_iter().rev().collect())
    }

    fn drop_losers(&mut self) {
        let losers: Vec<B256> =
            self.pending.keys().filter(|hash| self.view(**hash).is_none()).copied().collect();
        for hash in losers {
            self.pending.remove(&hash);
        }
    }
}
