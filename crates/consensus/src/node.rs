//! What one validator does when consensus asks: propose, verify, deliver finality, and catch up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use commonware_cryptography::ed25519::PublicKey;
use commonware_cryptography::sha256;
use commonware_p2p::{Receiver as _, Recipients};
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _};
use commonware_utils::channel::{oneshot, watch};
use futures::future::{Either, select};
use tracing::{debug, error, warn};

use crate::application::{Application, Cancel, CancelOnDrop, Context, Digest};
use crate::bodies::Bodies;
use crate::config::{BODY_LEN_MAX, Clock, Timing};
use crate::engine::{ChannelReceiver, Runtime};
use crate::exchange::{Exchange, Message};

/// How long to wait for a body that its leader should be sending before asking for it.
const FIRST_REQUEST_AFTER: Duration = Duration::from_millis(100);

/// How often to ask again, each time somebody else.
const REQUEST_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Most requests for bodies served at the same time; others go unanswered and are repeated.
const SERVED_MAX: usize = 8;

/// Most certificates waiting for the application. Above this the oldest goes: its block is final through a later one.
const FINALIZED_MAX: usize = 1024;

/// A finalization to be delivered.
pub(crate) struct Finalized {
    pub(crate) view: u64,
    pub(crate) digest: Digest,
    pub(crate) certificate: Vec<u8>,
}

/// A turn: what consensus says about a block to be proposed or verified.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) view: u64,
    pub(crate) parent: Digest,
    pub(crate) parent_view: u64,
    pub(crate) leader: usize,
}

pub(crate) struct Node {
    pub(crate) application: Arc<dyn Application>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) bodies: Bodies,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    /// All validators in seat order.
    pub(crate) seats: Vec<PublicKey>,
    pub(crate) seat: usize,
    pub(crate) finalized_view: Arc<AtomicU64>,
    /// For tasks that outlive the request they serve.
    background: Runtime,
    /// Held while the application executes somebody's block.
    execution: Mutex<()>,
    last_block: Mutex<Option<Instant>>,
    finalizations: Mutex<VecDeque<Finalized>>,
    finalizations_changed: watch::Sender<()>,
    serving: AtomicUsize,
}

/// The work was given up: the node is stopping, or disagrees with a quorum.
struct Stopped;

impl Node {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the node, named by its field")]
    pub(crate) fn new(
        application: Arc<dyn Application>,
        exchange: Arc<Exchange>,
        bodies: Bodies,
        clock: Clock,
        timing: Timing,
        seats: Vec<PublicKey>,
        seat: usize,
        finalized_view: Arc<AtomicU64>,
        background: Runtime,
    ) -> Arc<Self> {
        Arc::new(Self {
            application,
            exchange,
            bodies,
            clock,
            timing,
            seats,
            seat,
            finalized_view,
            background,
            execution: Mutex::default(),
            last_block: Mutex::default(),
            finalizations: Mutex::default(),
            finalizations_changed: watch::Sender::new(()),
            serving: AtomicUsize::new(0),
        })
    }

    /// Answers with the digest of a new block, or closes `response` to decline.
    pub(crate) async fn propose(
        self: Arc<Self>,
        runtime: Runtime,
        turn: Turn,
        mut response: oneshot::Sender<sha256::Digest>,
    ) {
        let cancel = Cancel::default();
        let _guard = CancelOnDrop(cancel.clone());
        let work = Box::pin(async {
            self.import_through(&runtime, turn.parent, turn.leader).await?;
            self.pace(&runtime).await;
            let node = Arc::clone(&self);
            let (digest, body) =
                blocking(&runtime, move || node.build(turn, &cancel)).await?.ok_or(Stopped)?;
            self.store_soon(turn.view, digest, body);
            Ok::<_, Stopped>(digest)
        });
        let outcome = match select(work, Box::pin(response.closed())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => return,
        };
        if let Ok(digest) = outcome {
            let _ = response.send(sha256::Digest(digest));
        }
    }

    /// Answers whether a block may be voted for.
    pub(crate) async fn verify(
        self: Arc<Self>,
        runtime: Runtime,
        turn: Turn,
        digest: Digest,
        mut response: oneshot::Sender<bool>,
    ) {
        let work = Box::pin(async {
            let body = self.fetch(&runtime, digest, turn.leader).await;
            self.import_through(&runtime, turn.parent, turn.leader).await?;
            if self.application.parent_of(digest, &body) != Some(turn.parent) {
                warn!(view = turn.view, "proposal does not build on its parent");
                return Ok(false);
            }
            // Certification waits for this; starting now, it is mostly done by then.
            self.store_soon(turn.view, digest, body.clone());
            let node = Arc::clone(&self);
            blocking(&runtime, move || {
                let _execution = node.execution.lock().unwrap_or_else(PoisonError::into_inner);
                node.application.verify(&node.context(turn), digest, &body)
            })
            .await
        });
        let outcome: Result<bool, Stopped> = match select(work, Box::pin(response.closed())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => return,
        };
        if let Ok(valid) = outcome {
            if valid {
                self.note_block();
            }
            let _ = response.send(valid);
        }
    }

    /// Answers that this validator may vote for the finality of a block which a quorum has voted for: it has executed
    /// it and holds its body durably. Otherwise stays silent; consensus gives up by itself.
    pub(crate) async fn certify(
        self: Arc<Self>,
        runtime: Runtime,
        view: u64,
        digest: Digest,
        mut response: oneshot::Sender<bool>,
    ) {
        let work = Box::pin(async {
            let body = self.fetch(&runtime, digest, self.seat).await;
            self.import_through(&runtime, digest, self.seat).await?;
            let node = Arc::clone(&self);
            blocking(&runtime, move || node.store(view, digest, &body)).await
        });
        let outcome = match select(work, Box::pin(response.closed())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => return,
        };
        match outcome {
            Ok(true) => {
                let _ = response.send(true);
            }
            // An answer, or dropping the channel, would be final: wait until consensus has moved on.
            Ok(false) | Err(Stopped) => response.closed().await,
        }
    }

    /// Sends a block's body, if we have it.
    pub(crate) fn push(&self, digest: Digest, recipients: Recipients<PublicKey>) {
        if let Some(body) = self.exchange.held_body(&digest) {
            self.exchange.send(recipients, &Message::Block(digest, body));
        }
    }

    /// Queues a finalization for the application.
    pub(crate) fn report(&self, finalized: Finalized) {
        let mut queue = self.finalizations.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() == FINALIZED_MAX {
            queue.pop_front();
        }
        queue.push_back(finalized);
        drop(queue);
        self.finalizations_changed.send_replace(());
    }

    /// Delivers finalizations in order, after whatever the application missed. Ends only when the node stops or
    /// disagrees with a quorum.
    pub(crate) async fn deliver(self: Arc<Self>, runtime: Runtime) {
        let mut changed = self.finalizations_changed.subscribe();
        loop {
            let next =
                self.finalizations.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(finalized) = next else {
                if changed.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if finalized.view <= self.finalized_view.load(Ordering::Acquire) {
                continue;
            }
            if self.import_through(&runtime, finalized.digest, self.seat).await.is_err() {
                return;
            }
            let node = Arc::clone(&self);
            let delivered = blocking(&runtime, move || {
                node.application.finalized(finalized.digest, finalized.certificate);
                if node.application.is_halted() {
                    return false;
                }
                node.finalized_view.store(finalized.view, Ordering::Release);
                if let Err(error) = node.bodies.prune(finalized.view) {
                    warn!(%error, "cannot remove bodies of final blocks");
                }
                true
            });
            if !matches!(delivered.await, Ok(true)) {
                return;
            }
        }
    }

    /// Receives what other validators send until the network closes.
    pub(crate) async fn receive(self: Arc<Self>, runtime: Runtime, mut receiver: ChannelReceiver) {
        while let Ok((peer, message)) = receiver.recv().await {
            self.exchange.hear(&peer);
            match Message::decode(message.into()) {
                Some(Message::Block(digest, body)) => {
                    if self.application.parent_of(digest, &body).is_some() {
                        self.exchange.hold(&peer, digest, body);
                    } else {
                        warn!(%peer, "peer sent a body that is not its digest's");
                    }
                }
                Some(Message::Request(digest)) => self.serve(&runtime, peer, digest),
                Some(Message::Hello) => {
                    self.exchange.send(Recipients::One(peer), &Message::HelloBack);
                }
                Some(Message::HelloBack) => {}
                None => warn!(%peer, "peer sent a malformed message"),
            }
        }
    }

    /// Waits until `enough` other validators are there.
    pub(crate) async fn meet(&self, runtime: &Runtime, enough: usize) {
        const HELLO_EVERY: Duration = Duration::from_millis(20);
        let mut heard = self.exchange.heard();
        while heard.borrow_and_update().len() < enough {
            self.exchange.send(Recipients::All, &Message::Hello);
            let pause = Box::pin(runtime.sleep(HELLO_EVERY));
            select(Box::pin(heard.changed()), pause).await;
        }
    }

    fn serve(self: &Arc<Self>, runtime: &Runtime, peer: PublicKey, digest: Digest) {
        if self.serving.fetch_add(1, Ordering::AcqRel) >= SERVED_MAX {
            self.serving.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let node = Arc::clone(self);
        runtime.child("serve").shared(true).spawn(move |_| async move {
            let body = node.exchange.held_body(&digest).or_else(|| node.local_body(&digest));
            if let Some(body) = body {
                node.exchange.send(Recipients::One(peer), &Message::Block(digest, body));
            }
            node.serving.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Has the application execute `target` and whatever it misses below it.
    async fn import_through(
        self: &Arc<Self>,
        runtime: &Runtime,
        target: Digest,
        hint: usize,
    ) -> Result<(), Stopped> {
        if self.has(runtime, target).await? {
            return Ok(());
        }
        let mut missing = vec![target];
        let mut lowest = target;
        loop {
            let body = self.fetch(runtime, lowest, hint).await;
            let Some(parent) = self.application.parent_of(lowest, &body) else {
                return Err(Stopped);
            };
            if self.has(runtime, parent).await? {
                break;
            }
            missing.push(parent);
            lowest = parent;
        }
        debug!(blocks = missing.len(), "catching up");
        while let Some(digest) = missing.pop() {
            let body = self.fetch(runtime, digest, hint).await;
            let node = Arc::clone(self);
            let imported = blocking(runtime, move || {
                let _execution = node.execution.lock().unwrap_or_else(PoisonError::into_inner);
                node.application.has(digest) || node.application.import(digest, &body)
            });
            if !imported.await? {
                error!(
                    digest = hex::encode(digest),
                    "a block that a quorum voted for is invalid here"
                );
                return Err(Stopped);
            }
        }
        Ok(())
    }

    async fn has(&self, runtime: &Runtime, digest: Digest) -> Result<bool, Stopped> {
        let application = Arc::clone(&self.application);
        blocking(runtime, move || application.has(digest)).await
    }

    /// The body of a block, checked; asks one validator after another, from seat `hint` on, for as long as it takes.
    async fn fetch(self: &Arc<Self>, runtime: &Runtime, digest: Digest, hint: usize) -> Bytes {
        let mut arrivals = self.exchange.arrivals();
        if let Some(body) = self.exchange.held_body(&digest) {
            return body;
        }
        let node = Arc::clone(self);
        if let Ok(Some(body)) = blocking(runtime, move || node.local_body(&digest)).await {
            return body;
        }
        let mut wait = FIRST_REQUEST_AFTER;
        let mut asked = hint;
        loop {
            let pause = Box::pin(runtime.sleep(wait));
            if let Either::Right(_) = select(Box::pin(arrivals.changed()), pause).await {
                wait = REQUEST_AGAIN_AFTER;
                if asked % self.seats.len() == self.seat {
                    asked += 1;
                }
                if let Some(peer) = self.seats.get(asked % self.seats.len()) {
                    self.exchange.send(Recipients::One(peer.clone()), &Message::Request(digest));
                }
                asked += 1;
            }
            if let Some(body) = self.exchange.held_body(&digest) {
                return body;
            }
        }
    }

    /// A body from our own disk, checked: a crash may have damaged it.
    fn local_body(&self, digest: &Digest) -> Option<Bytes> {
        let intact = |body: &Vec<u8>| self.application.parent_of(*digest, body).is_some();
        let stored = self.bodies.get(digest).filter(intact);
        stored.or_else(|| self.application.body(*digest).filter(intact)).map(Bytes::from)
    }

    /// Waits until the next block is due.
    async fn pace(&self, runtime: &Runtime) {
        let last = *self.last_block.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last {
            let rest = self.timing.block_interval_min.saturating_sub(last.elapsed());
            if !rest.is_zero() {
                runtime.sleep(rest).await;
            }
        }
    }

    fn note_block(&self) {
        *self.last_block.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn build(&self, turn: Turn, cancel: &Cancel) -> Option<(Digest, Bytes)> {
        let block = self.application.propose(&self.context(turn), cancel)?;
        let (digest, len) = (block.digest, block.body.len());
        if len > BODY_LEN_MAX {
            error!(len, "own proposal is too long");
            return None;
        }
        if self.application.parent_of(digest, &block.body) != Some(turn.parent) {
            error!("own proposal does not build on its parent");
            return None;
        }
        let body = Bytes::from(block.body);
        self.note_block();
        let own = self.seats.get(self.seat)?;
        self.exchange.hold(own, digest, body.clone());
        Some((digest, body))
    }

    /// Makes a body durable in the background.
    fn store_soon(self: &Arc<Self>, view: u64, digest: Digest, body: Bytes) {
        let node = Arc::clone(self);
        let storing = self.background.child("store").shared(true);
        storing.spawn(move |_| async move { node.store(view, digest, &body) });
    }

    fn store(&self, view: u64, digest: Digest, body: &[u8]) -> bool {
        let stored = self.bodies.append(view, digest, body);
        if let Err(error) = &stored {
            error!(%error, "cannot store a body, so its block cannot be voted for");
        }
        stored.is_ok()
    }

    fn context(&self, turn: Turn) -> Context {
        Context {
            view: turn.view,
            parent: turn.parent,
            parent_view: turn.parent_view,
            leader: turn.leader,
            now_ms: (self.clock)(),
            patience: self.timing.empty_block_interval,
        }
    }
}

/// Runs a call of the application, which may block, away from the network's threads.
async fn blocking<T: Send + 'static>(
    runtime: &Runtime,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let task = runtime.child("application").shared(true).spawn(move |_| async move { call() });
    task.await.map_err(|_| Stopped)
}
