//! The facilitator: what holds the parts together, and its worker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use og_blob::LocalStore;
use og_x402::Policy;
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::batches::Next;
use crate::config::{Config, Keys, Sending};
use crate::error::Error;
use crate::evidence::TeeKeys;
use crate::job::Job;
use crate::lane::Lane;
use crate::outbox::Outbox;
use crate::rpc::Rpc;

/// Longest pause of an idle worker; everything that makes work also wakes it.
const IDLE_MS: u64 = 5_000;

/// The facilitator. Clones share it.
#[derive(Clone, Debug)]
pub struct Facilitator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    outbox: Outbox,
    blobs: LocalStore,
    payment: Arc<Lane>,
    evidence: Arc<Lane>,
    heartbeat: Arc<Lane>,
    policy: Policy,
    tee_keys: TeeKeys,
    batch_limit: AtomicUsize,
    heartbeat_gate: Mutex<()>,
    payments_woken: Notify,
    evidence_woken: Notify,
    changed: watch::Sender<u64>,
}

impl Facilitator {
    /// Opens the outbox; asks no chain yet.
    ///
    /// # Errors
    /// When the outbox cannot be opened.
    pub fn open(config: Config, keys: Keys, blobs: LocalStore) -> Result<Self, Error> {
        let outbox = Outbox::open(&config.database)?;
        let timeout = Duration::from_millis(config.sending.rpc_timeout_ms);
        let payment_rpc = Arc::new(Rpc::new(&config.payment.rpc_url, timeout)?);
        let network_rpc = Arc::new(Rpc::new(&config.network.rpc_url, timeout)?);
        // Roles that share a key on a chain share the lane, or they would race for nonces.
        let mut lanes: HashMap<(u64, Address), Arc<Lane>> = HashMap::new();
        let mut lane = |rpc: &Arc<Rpc>, chain_id, confirmations, wallet: og_x402::Wallet| {
            let key = (chain_id, wallet.address());
            let new = || {
                let (rpc, outbox) = (Arc::clone(rpc), outbox.clone());
                Arc::new(Lane::new(rpc, chain_id, confirmations, wallet, outbox, config.sending))
            };
            Arc::clone(lanes.entry(key).or_insert_with(new))
        };
        let (payment, network) = (&config.payment, &config.network);
        let policy = Policy { facilitators: vec![keys.payment.address()] };
        let inner = Inner {
            payment: lane(&payment_rpc, payment.chain_id, payment.confirmations, keys.payment),
            evidence: lane(&network_rpc, network.chain_id, 1, keys.evidence),
            heartbeat: lane(&network_rpc, network.chain_id, 1, keys.heartbeat),
            policy,
            tee_keys: TeeKeys::default(),
            batch_limit: AtomicUsize::new(usize::MAX),
            heartbeat_gate: Mutex::new(()),
            payments_woken: Notify::new(),
            evidence_woken: Notify::new(),
            changed: watch::Sender::new(0),
            outbox,
            blobs,
            config,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The address that `upto` permits name as their facilitator.
    pub fn address(&self) -> Address {
        self.0.payment.address()
    }

    /// A job by its id.
    ///
    /// # Errors
    /// When the outbox fails.
    pub async fn job(&self, id: &str) -> Result<Option<Job>, Error> {
        if id.strip_prefix("payment-").is_some_and(is_hash) {
            return self.payment_job(id.to_owned()).await;
        }
        match id.strip_prefix("settlement-batch-").filter(|digest| is_hash(digest)) {
            Some(digest) => match digest.parse::<B256>() {
                Ok(digest) => self.evidence_job(digest).await,
                Err(_) => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Waits until a job has succeeded or failed. The caller bounds the wait.
    ///
    /// # Errors
    /// [`Error::UnknownJob`], or when the outbox fails.
    pub async fn wait(&self, id: &str) -> Result<Job, Error> {
        let mut changed = self.0.changed.subscribe();
        loop {
            let job = self.job(id).await?.ok_or(Error::UnknownJob)?;
            if job.status.is_final() {
                return Ok(job);
            }
            changed.changed().await.map_err(|_| Error::Stopping)?;
        }
    }

    /// Settles what the outbox holds until `stop`. What is under way then goes on at the next start.
    ///
    /// # Errors
    /// [`Error::WrongChain`] when an endpoint is not on the chain that the outbox was made for, or an outbox that
    /// cannot be read; a chain that does not answer is waited for.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        let done = stop.cancelled();
        tokio::select! {
            () = done => return Ok(()),
            agreed = self.agree_on_chains() => agreed?,
        }
        tokio::join!(
            self.run_payments(&stop),
            self.run_evidence(&stop),
            self.run_forgetting(&stop)
        );
        Ok(())
    }

    /// Forgets work that was finished before `before_ms` (Unix milliseconds).
    ///
    /// # Errors
    /// When the outbox fails.
    pub async fn forget_finished(&self, before_ms: u64) -> Result<(), Error> {
        let before = crate::outbox::int(before_ms);
        self.outbox()
            .run(move |tx| {
                // The highest slot of each key stays: nonces are counted on from it.
                tx.execute_batch(
                    "CREATE TEMP TABLE IF NOT EXISTS top AS SELECT 0 AS id LIMIT 0;
                     DELETE FROM top;
                     INSERT INTO top SELECT id FROM slots s
                       WHERE nonce = (SELECT MAX(nonce) FROM slots WHERE chain_id = s.chain_id AND sender = s.sender);",
                )?;
                let old = "state <> 'open' AND created_ms < ?1 AND id NOT IN (SELECT id FROM top)";
                tx.execute(
                    &format!("DELETE FROM attempts WHERE slot IN (SELECT id FROM slots WHERE {old})"),
                    [before],
                )?;
                tx.execute(&format!("DELETE FROM slots WHERE {old}"), [before])?;
                for (table, finished) in [
                    ("payments", "'settled', 'failed'"),
                    ("evidence", "'settled', 'quarantined'"),
                    ("batches", "'settled'"),
                ] {
                    tx.execute(
                        &format!("DELETE FROM {table} WHERE state IN ({finished}) AND updated_ms < ?1"),
                        [before],
                    )?;
                }
                Ok(())
            })
            .await
    }

    async fn run_forgetting(&self, stop: &CancellationToken) {
        let retention_ms = self.config().retention_days.saturating_mul(24 * 3_600 * 1_000);
        loop {
            let before = crate::clock::now_ms().saturating_sub(retention_ms);
            if let Err(error) = self.forget_finished(before).await {
                tracing::warn!(%error, "forgetting finished work");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(3_600)) => {}
            }
        }
    }

    async fn run_payments(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let pause = match self.payments_round().await {
                Ok(more) => {
                    backoff = Backoff::default();
                    if more { self.sending().poll_ms } else { IDLE_MS }
                }
                Err(error) => backoff.after(&error, "payments"),
            };
            if !paused(pause, &self.0.payments_woken, stop).await {
                return;
            }
        }
    }

    async fn run_evidence(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let pause = match self.evidence_round().await {
                Ok(next) => {
                    backoff = Backoff::default();
                    match next {
                        Next::Poll => self.sending().poll_ms,
                        Next::InMs(ms) => ms.clamp(1, IDLE_MS),
                        Next::Idle => IDLE_MS,
                    }
                }
                Err(error) => backoff.after(&error, "evidence"),
            };
            if !paused(pause, &self.0.evidence_woken, stop).await {
                return;
            }
        }
    }

    /// Compares both endpoints with the configuration and with what the outbox was made for.
    async fn agree_on_chains(&self) -> Result<(), Error> {
        let config = self.config();
        for (role, rpc, chain_id, fact) in [
            ("payment", &self.0.payment.rpc, config.payment.chain_id, "payment genesis"),
            ("network", &self.0.evidence.rpc, config.network.chain_id, "network genesis"),
        ] {
            let mut backoff = Backoff::default();
            let (their_id, genesis) = loop {
                match tokio::try_join!(rpc.chain_id(), rpc.genesis_hash()) {
                    Ok(answers) => break answers,
                    Err(error) => {
                        let pause = backoff.after(&error.into(), role);
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                }
            };
            if their_id != chain_id {
                let message = format!("it is on chain {their_id}, not {chain_id}");
                return Err(Error::WrongChain { role, message });
            }
            if let Some(before) = self.0.outbox.agree(fact, genesis.to_vec()).await? {
                let before = B256::try_from(before.as_slice()).unwrap_or_default();
                let message = format!("its genesis is {genesis}, the outbox was made for {before}");
                return Err(Error::WrongChain { role, message });
            }
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn sending(&self) -> Sending {
        self.0.config.sending
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(crate) fn blobs(&self) -> &LocalStore {
        &self.0.blobs
    }

    pub(crate) fn payment_lane(&self) -> &Lane {
        &self.0.payment
    }

    pub(crate) fn evidence_lane(&self) -> &Lane {
        &self.0.evidence
    }

    pub(crate) fn heartbeat_lane(&self) -> &Lane {
        &self.0.heartbeat
    }

    pub(crate) fn payment_policy(&self) -> Policy {
        self.0.policy.clone()
    }

    pub(crate) fn tee_keys(&self) -> &TeeKeys {
        &self.0.tee_keys
    }

    pub(crate) fn batch_limit(&self) -> &AtomicUsize {
        &self.0.batch_limit
    }

    pub(crate) fn heartbeat_gate(&self) -> &Mutex<()> {
        &self.0.heartbeat_gate
    }

    pub(crate) fn wake_payments(&self) {
        self.0.payments_woken.notify_one();
    }

    pub(crate) fn wake_evidence(&self) {
        self.0.evidence_woken.notify_one();
    }

    /// Tells those who wait that a job has changed.
    pub(crate) fn announce(&self) {
        self.0.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// Pauses that double while something fails.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn after(&mut self, error: &Error, what: &str) -> u64 {
        let pause = 100_u64.saturating_mul(1 << self.failures.min(6)).min(IDLE_MS);
        // Once in words, then quietly: a chain that is away is away for many rounds.
        if self.failures == 0 {
            tracing::warn!(%error, "{what}: will try again");
        } else {
            tracing::debug!(%error, "{what}: will try again");
        }
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// Whether to go on after a pause that something may cut short.
async fn paused(ms: u64, woken: &Notify, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = woken.notified() => true,
        () = tokio::time::sleep(Duration::from_millis(ms)) => true,
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
