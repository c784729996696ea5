//! Share one pool of pending transactions between the RPC server and the sealers.
//!
//! Validators of one process may share one handle: a transaction submitted to any of their RPC servers
//! can then be proposed by whichever leads next. Validators of different processes each have their
//! own; nothing gossips transactions between processes yet.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy_consensus::{TxEnvelope, transaction::Recovered};
use alloy_primitives::{Address, B256};
use og_chain::{At, Chain, TxError};
use og_pool::{Account, Added, Budget, Limits, Place, Pool, Rejection, Status};
use tokio::sync::watch;

/// How many of the latest arrivals filters and subscriptions can still fetch.
const RECENT_ARRIVALS_MAX: usize = 4_096;

/// How many blocks the slowest node may lag behind the fastest before the pool stops waiting for it.
const MEMBER_LAG_MAX: u64 = 64;

/// Most transactions offered to one block.
const BLOCK_CANDIDATES_MAX: usize = 4_096;

/// Most bytes of transactions offered to one block.
const BLOCK_CANDIDATE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a submitted transaction was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No block of this chain could include it.
    #[error(transparent)]
    Invalid(#[from] TxError),
    /// The pool has no place for it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] og_chain::Error),
}

/// A cheap handle to one pool; clones share it.
#[derive(Debug, Clone)]
pub struct Mempool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// How many transactions have ever arrived.
    arrivals: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    /// The head that the pool's content was last compared with.
    height: u64,
    /// Heads of the nodes that share the pool.
    members: BTreeMap<u64, u64>,
    last_member: u64,
    /// Counts everything a waiter may want to look at.
    generation: u64,
    recent: VecDeque<B256>,
}

impl Mempool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let state = State {
            pool: Pool::new(limits),
            height: 0,
            members: BTreeMap::new(),
            last_member: 0,
            generation: 0,
            recent: VecDeque::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            arrivals: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes in a transaction, checked against the head of `chain`; one that waits already, or was
    /// included already, is no error.
    ///
    /// # Errors
    /// [`SubmitError`] with the text that clients expect.
    pub fn submit(&self, chain: &Chain, tx: Recovered<TxEnvelope>) -> Result<B256, SubmitError> {
        let hash = *tx.tx_hash();
        if self.get(&hash).is_some() || chain.transaction(hash)?.is_some() {
            return Ok(hash);
        }
        chain.check_transaction(&tx)??;
        let mut state = self.lock();
        // Read under the lock: between the read and the insertion no head may pass by.
        let account = account_at(chain, tx.signer(), At::Latest)?;
        match state.pool.add(tx, account) {
            Ok(Added { .. }) => {}
            Err(Rejection::AlreadyKnown) => return Ok(hash),
            Err(rejection) => return Err(rejection.into()),
        }
        if state.recent.len() == RECENT_ARRIVALS_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(hash);
        self.shared.arrivals.send_modify(|count| *count += 1);
        self.wake(state);
        Ok(hash)
    }

    /// Candidates for a child of `parent`, best first; empty when nothing can be included.
    ///
    /// # Errors
    /// When the parent is unknown or the chain cannot be read.
    pub fn candidates(
        &self,
        chain: &Chain,
        parent: B256,
    ) -> Result<Vec<Recovered<TxEnvelope>>, og_chain::Error> {
        let state = self.lock();
        if state.pool.is_empty() {
            return Ok(Vec::new());
        }
        let base_fee = chain.next_base_fee(At::Hash(parent))?;
        let budget =
            Budget { transactions: BLOCK_CANDIDATES_MAX, bytes: BLOCK_CANDIDATE_BYTES_MAX };
        let mut failure = None;
        let best = state.pool.best(base_fee, budget, |address| {
            account_at(chain, address, At::Hash(parent)).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                Account::default()
            })
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(best.into_iter().map(|tx| Recovered::clone(&tx)).collect()),
        }
    }

    /// Forgets transactions that the executor refused and no later block can include either.
    pub fn discard(&self, rejected: &[(B256, TxError)]) {
        let mut state = self.lock();
        for (hash, error) in rejected {
            if is_lasting(error) {
                tracing::debug!(%hash, %error, "transaction dropped");
                state.pool.remove(hash);
            }
        }
    }

    /// Makes a node one of those whose head decides when transactions leave the pool.
    #[must_use]
    pub(crate) fn join(&self, height: u64) -> Membership {
        let mut state = self.lock();
        state.last_member += 1;
        let id = state.last_member;
        state.members.insert(id, height);
        drop(state);
        Membership { mempool: self.clone(), id }
    }

    /// A number that changes with everything a waiter may want to look at.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Blocks the thread until the generation is no longer `seen`, or for `at_most`.
    pub fn wait(&self, seen: u64, at_most: Duration) {
        let state = self.lock();
        // A poisoned lock or an early wake-up only makes the caller look again.
        drop(
            self.shared
                .changed
                .wait_timeout_while(state, at_most, |state| state.generation == seen)
                .map(|(state, _)| state)
                .map_err(PoisonError::into_inner),
        );
    }

    /// Makes every waiter look again.
    pub fn nudge(&self) {
        let state = self.lock();
        self.wake(state);
    }

    /// A waiting transaction.
    #[must_use]
    pub fn get(&self, hash: &B256) -> Option<Arc<Recovered<TxEnvelope>>> {
        self.lock().pool.get(hash)
    }

    /// The nonce after all executable transactions of `sender`.
    #[must_use]
    pub fn next_nonce(&self, sender: Address, account_nonce: u64) -> u64 {
        self.lock().pool.next_nonce(sender, account_nonce)
    }

    /// Everything that waits, by sender and nonce.
    #[must_use]
    pub fn content(&self) -> Vec<(Place, Arc<Recovered<TxEnvelope>>)> {
        self.lock().pool.content().collect()
    }

    /// How many transactions wait.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lock().pool.status()
    }

    /// How many transactions have ever arrived; changes are observable.
    #[must_use]
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.shared.arrivals.subscribe()
    }

    /// Hashes of the transactions that arrived after the first `seen`, and the count to pass next
    /// time. Only the latest few thousand are kept.
    #[must_use]
    pub fn arrived_since(&self, seen: u64) -> (Vec<B256>, u64) {
        let state = self.lock();
        let count = *self.shared.arrivals.borrow();
        let new = usize::try_from(count.saturating_sub(seen)).unwrap_or(usize::MAX);
        let skip = state.recent.len().saturating_sub(new);
        (state.recent.iter().skip(skip).copied().collect(), count)
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        state.generation += 1;
        drop(state);
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The pool keeps its invariants at every point where it could unwind.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's share in a pool; it leaves when dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    mempool: Mempool,
    id: u64,
}

impl Membership {
    /// Takes note of the head of this node's `chain`.
    ///
    /// Transactions leave once the slowest node has their block: until then a client of that node would
    /// find them neither waiting nor included, and would use their nonces again.
    pub(crate) fn on_head(&self, chain: &Chain) -> Result<(), og_chain::Error> {
        let mut state = self.mempool.lock();
        state.members.insert(self.id, chain.head().number);
        let slowest = state.members.values().min().copied().unwrap_or_default();
        let fastest = state.members.values().max().copied().unwrap_or_default();
        // No node, stuck or starting, holds the pool up for long.
        let height = slowest.max(fastest.saturating_sub(MEMBER_LAG_MAX));
        if height <= state.height || height > chain.head().number {
            return Ok(());
        }
        let at = At::Number(height);
        let base_fee = chain.next_base_fee(at)?;
        let mut failure = None;
        let update = state.pool.on_block(height, base_fee, |address| {
            account_at(chain, address, at).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                Account::default()
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        state.height = height;
        if !update.expired.is_empty() {
            tracing::info!(count = update.expired.len(), "transactions expired");
        }
        self.mempool.wake(state);
        Ok(())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.mempool.lock().members.remove(&self.id);
    }
}

/// Whether a refused transaction can be included in no later block on any branch.
fn is_lasting(error: &TxError) -> bool {
    !matches!(
        error,
        TxError::NonceTooHigh { .. }
            | TxError::NonceTooLow { .. }
            | TxError::BlockFull { .. }
            | TxError::BlockBytesFull { .. }
            | TxError::FeeCapBelowBaseFee { .. }
            | TxError::InsufficientFunds { .. }
    )
}

fn account_at(chain: &Chain, address: Address, at: At) -> Result<Account, og_chain::Error> {
    let account = chain.account(address, at)?;
    Ok(account.map_or_else(Account::default, |account| Account {
        nonce: account.nonce,
        balance: account.balance,
    }))
}

#[cfg(test)]
mod tests;
