//! Signs of life: signed every ten minutes, for a moment that every chain clock has passed, and loud when they fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::enclave::Enclave;
use crate::legacy::signing::heartbeat_hash;
use crate::settlement::{Heartbeat, Settlement};

/// How far in the past a heartbeat is signed, so that a chain with a slow clock does not see the future. In seconds.
const BEHIND_SECS: u64 = 30;

/// Pause before a failed heartbeat is tried again, in seconds.
const RETRY_SECS: u64 = 10;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(200);

/// How the heartbeats go.
#[derive(Debug)]
pub struct HeartbeatLog {
    tee_id: String,
    registry: Address,
    interval_secs: u64,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    sent: u64,
    errors: u64,
    last_success: Option<u64>,
    last_transaction: Option<B256>,
    last_error: Option<String>,
}

impl HeartbeatLog {
    /// Nothing sent yet.
    pub fn new(tee_id: String, registry: Address, interval_secs: u64) -> Self {
        Self { tee_id, registry, interval_secs, record: Mutex::default() }
    }

    /// The `/heartbeat/status` document; `alarm` is set while the last attempt failed.
    pub fn to_json(&self) -> Value {
        if self.interval_secs == 0 {
            return json!({"enabled": false});
        }
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "enabled": true,
            "running": true,
            "tee_id": self.tee_id,
            "registry": self.registry.to_checksum(None),
            "relay_mode": "facilitator",
            "interval_seconds": self.interval_secs,
            "total_sent": record.sent,
            "total_errors": record.errors,
            "last_success_timestamp": record.last_success,
            "last_tx_hash": record.last_transaction.map(|hash| hash.to_string()),
            "last_error": record.last_error,
            "alarm": record.last_error.as_ref().map(|_| "heartbeats fail; the registry will drop this enclave"),
        })
    }

    fn note(&self, result: Result<(u64, B256), String>) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok((timestamp, transaction)) => {
                record.sent += 1;
                record.last_success = Some(timestamp);
                record.last_transaction = Some(transaction);
                record.last_error = None;
            }
            Err(error) => {
                record.errors += 1;
                record.last_error = Some(error);
            }
        }
    }
}

/// Sends heartbeats until stopped. The registry counts registration as one, so the first is due an interval later.
pub(crate) async fn beat(
    log: Arc<HeartbeatLog>,
    enclave: Arc<Enclave>,
    settlement: Arc<dyn Settlement>,
    clock: Arc<dyn Clock>,
    started_secs: u64,
    stop: CancellationToken,
) {
    if log.interval_secs == 0 {
        return;
    }
    let mut due = started_secs.saturating_add(log.interval_secs);
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => return,
        }
        let now = clock.now_secs();
        if now < due {
            continue;
        }
        let timestamp = now.saturating_sub(BEHIND_SECS);
        let result = send(&log, &enclave, settlement.as_ref(), timestamp).await;
        due = now.saturating_add(if result.is_ok() { log.interval_secs } else { RETRY_SECS });
        if let Err(error) = &result {
            tracing::error!(%error, "heartbeat failed; the registry drops enclaves that are silent");
        }
        log.note(result.map(|transaction| (timestamp, transaction)));
    }
}

async fn send(
    log: &HeartbeatLog,
    enclave: &Enclave,
    settlement: &dyn Settlement,
    timestamp: u64,
) -> Result<B256, String> {
    let tee_id = enclave.identity().tee_id;
    let signature =
        enclave.legacy_key().sign(heartbeat_hash(tee_id, timestamp)).map_err(|e| e.to_string())?;
    let heartbeat = Heartbeat { tee_id, timestamp, signature, registry: log.registry };
    settlement.heartbeat(&heartbeat).await.map_err(|e| e.to_string())
}
