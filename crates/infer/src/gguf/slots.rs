//! Bound how many conversations run at once, and how much memory their caches take.
//!
//! Weights are shared; what grows is each conversation's key/value cache. A request reserves its worst case before it
//! starts, first come first served, so that a long one is not starved by short ones.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Error;

/// How often a waiting request reports that it waits (and so learns that it was cancelled).
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Bounds on a model's concurrent use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Conversations that compute at the same time.
    pub conversations: usize,
    /// Requests that wait for one; further ones are refused as busy.
    pub waiting: usize,
    /// Memory of all key/value caches together, in bytes.
    pub cache_bytes: u64,
    /// Tokens that prompt and answer share; never above what the model and engine allow.
    pub context_tokens: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { conversations: 2, waiting: 32, cache_bytes: 256 << 20, context_tokens: 4096 }
    }
}

/// The places where conversations run.
pub(crate) struct Slots {
    limits: Limits,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    cache_bytes: u64,
    next_ticket: u64,
    now_serving: u64,
    /// Tickets of requests that gave up before their turn.
    abandoned: std::collections::BTreeSet<u64>,
    waiting: usize,
}

/// A place, given back when dropped.
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    cache_bytes: u64,
}

impl Slots {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Waits for a place with `cache_bytes` of cache; `None` when `on_wait` says to stop.
    pub(crate) fn acquire(
        &self,
        cache_bytes: u64,
        on_wait: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Slot<'_>>, Error> {
        let mut state = self.lock();
        let must_wait = state.waiting > 0 || !self.has_room(&state, cache_bytes);
        if must_wait && state.waiting >= self.limits.waiting {
            return Err(Error::Busy { conversations: state.running, waiting: state.waiting });
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting += 1;
        while state.now_serving != ticket || !self.has_room(&state, cache_bytes) {
            let (guard, timeout) = self
                .freed
                .wait_timeout(state, REPORT_EVERY)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() {
                // The callback may block or call back into the engine: never under the lock.
                drop(state);
                let go_on = on_wait();
                state = self.lock();
                if go_on.is_break() {
                    state.abandoned.insert(ticket);
                    state.waiting -= 1;
                    state.advance();
                    self.freed.notify_all();
                    return Ok(None);
                }
            }
        }
        state.waiting -= 1;
        state.now_serving += 1;
        state.advance();
        state.running += 1;
        state.cache_bytes += cache_bytes;
        self.freed.notify_all();
        Ok(Some(Slot { slots: self, cache_bytes }))
    }

    /// Whether a conversation may start. One that alone exceeds the memory bound may run alone.
    fn has_room(&self, state: &State, cache_bytes: u64) -> bool {
        state.running == 0
            || (state.running < self.limits.conversations
                && state.cache_bytes.saturating_add(cache_bytes) <= self.limits.cache_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counters are consistent at every point where a panic could strike.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn advance(&mut self) {
        while self.abandoned.remove(&self.now_serving) {
            self.now_serving += 1;
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.running -= 1;
        state.cache_bytes -= self.cache_bytes;
        drop(state);
        self.slots.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn slots(conversations: usize, waiting: usize, cache_bytes: u64) -> Slots {
        Slots::new(Limits { conversations, waiting, cache_bytes, context_tokens: 1 })
    }

    fn take(slots: &Slots, bytes: u64) -> Result<Option<Slot<'_>>, Error> {
        slots.acquire(bytes, &mut || ControlFlow::Continue(()))
    }

    #[test]
    fn what_does_not_fit_is_refused_as_busy_and_fits_again_later() {
        let slots = slots(2, 0, 100);
        let first = take(&slots, 60).unwrap().unwrap();
        assert!(take(&slots, 60).is_err_and(|e| e.is_busy()), "memory");
        let second = take(&slots, 40).unwrap().unwrap();
        assert!(take(&slots, 0).is_err_and(|e| e.is_busy()), "conversations");
        drop(first);
        drop(take(&slots, 60).unwrap().unwrap());
        drop(second);
        assert!(take(&slots, 1000).unwrap().is_some(), "an oversized one runs alone");
    }

    #[test]
    fn a_cancelled_wait_leaves_the_queue_intact() {
        let slots = slots(1, 4, 100);
        let held = take(&slots, 1).unwrap().unwrap();
        let given_up = slots.acquire(1, &mut || ControlFlow::Break(())).unwrap();
        assert!(given_up.is_none());
        drop(held);
        assert!(take(&slots, 1).unwrap().is_some());
    }

    #[test]
    fn never_more_than_the_bound_and_everyone_gets_a_turn() {
        let slots = slots(3, 64, 1000);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (done, finished) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..24 {
                let done = done.clone();
                scope.spawn(|| {
                    let done = done;
                    let slot = take(&slots, 10).unwrap().unwrap();
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    drop(slot);
                    done.send(()).unwrap();
                });
            }
        });
        drop(done);
        assert_eq!(finished.iter().count(), 24);
        assert!(most.load(Ordering::SeqCst) <= 3);
    }
}
