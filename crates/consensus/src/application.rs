//! The boundary between agreement and what is agreed on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Identity of a block: 32 bytes that commit to its body. Opaque to consensus.
pub type Digest = [u8; 32];

/// A block as consensus sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// Commits to the body.
    pub digest: Digest,
    /// The bytes that validators exchange; at most [`crate::BODY_LEN_MAX`] of them.
    pub body: Vec<u8>,
}

/// Where and when a block is proposed or voted on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Context {
    /// Round of voting.
    pub view: u64,
    /// Digest of the block to build on. It has been executed before ([`Application::has`] is true).
    pub parent: Digest,
    /// View in which the parent was proposed; 0 for the genesis block.
    pub parent_view: u64,
    /// Seat of the proposer in the validator set.
    pub leader: usize,
    /// The injected clock, Unix milliseconds.
    pub now_ms: u64,
    /// For proposals: how long to wait for a transaction at most before proposing an empty block.
    pub patience: Duration,
}

/// What is agreed on: a chain of blocks.
///
/// Calls are blocking and come from threads kept for that; calls for different blocks may overlap, except that
/// `verify` and `import` never overlap with each other and `finalized` never with itself. Digests and bodies are
/// opaque here, so the application must answer deterministically: honest validators have to agree on validity.
pub trait Application: Send + Sync + 'static {
    /// The digest every chain of these validators begins with.
    fn genesis(&self) -> Digest;

    /// Builds a block on `context.parent`, and executes it so that children can be built on it. Waits until there
    /// is something to put into it, at most for `context.patience` (then the block is empty) and at most until
    /// `cancel` (then `None`). `None` declines, which costs this validator its turn.
    fn propose(&self, context: &Context, cancel: &Cancel) -> Option<Block>;

    /// Whether a block may be voted for: it is `body`'s, it is valid on `context.parent`, and its time fits
    /// `context.now_ms`. When true, it has been executed and children can be built on it.
    fn verify(&self, context: &Context, digest: Digest, body: &[u8]) -> bool;

    /// A quorum finalised `digest` and with it every ancestor; all of them have been executed before. What is
    /// final must be durable when this returns. Comes in ascending order of views, skips blocks that were finalised
    /// through a descendant, and repeats itself after a restart.
    fn finalized(&self, digest: Digest, certificate: Vec<u8>);

    /// Whether the application can no longer store what is final, say because its disk is full. Asked after every
    /// [`Application::finalized`]: when true, the validator stops, and keeps what it needs to go on after a restart.
    fn is_halted(&self) -> bool {
        false
    }

    /// Whether children can be built on this block: it is the genesis block, final, or executed since the start.
    fn has(&self, digest: Digest) -> bool;

    /// The parent's digest of the block that `body` is, or `None` when `body` is not the block `digest` commits to.
    /// The whole body must be checked against the digest (of an Ethereum block: header hash, and the header's roots
    /// of transactions, ommers and withdrawals): what passes here is kept, and nobody is asked for it again. Cheap and
    /// without locks: called on every received body, on a network thread.
    fn parent_of(&self, digest: Digest, body: &[u8]) -> Option<Digest>;

    /// Executes a block that a quorum has voted for already, on its parent, which has been executed. No clock
    /// applies. False when it is not valid, which means that this node disagrees with a quorum.
    fn import(&self, digest: Digest, body: &[u8]) -> bool;

    /// The body of a final or executed block, for validators that missed it.
    fn body(&self, digest: Digest) -> Option<Vec<u8>>;
}

/// Tells a waiting [`Application::propose`] that its block is no longer wanted.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

enum State {
    Live(Vec<Box<dyn FnOnce() + Send>>),
    Cancelled,
}

impl Default for State {
    fn default() -> Self {
        Self::Live(Vec::new())
    }
}

impl Cancel {
    /// Whether the block is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), State::Cancelled)
    }

    /// Runs `wake` when the block is no longer wanted, at once if that is so already. Used to wake a waiting thread.
    pub fn on_cancel(&self, wake: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Live(wakers) => wakers.push(Box::new(wake)),
            State::Cancelled => {
                drop(state);
                wake();
            }
        }
    }

    /// Says that the block is no longer wanted.
    pub fn cancel(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Cancelled);
        drop(state);
        if let State::Live(wakers) = before {
            for wake in wakers {
                wake();
            }
        }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// Cancels when dropped: a task that is aborted must not leave a waiting thread behind.
pub(crate) struct CancelOnDrop(pub(crate) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn wakers_run_once_whenever_they_come() {
        let runs = Arc::new(AtomicU32::new(0));
        let waker = |runs: &Arc<AtomicU32>| {
            let runs = Arc::clone(runs);
            move || {
                runs.fetch_add(1, Ordering::SeqCst);
            }
        };
        let cancel = Cancel::default();
        cancel.on_cancel(waker(&runs));
        assert!(!cancel.is_cancelled());
        drop(CancelOnDrop(cancel.clone()));
        assert!(cancel.is_cancelled());
        cancel.cancel();
        cancel.on_cancel(waker(&runs));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
