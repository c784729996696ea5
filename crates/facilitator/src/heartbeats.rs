//! Heartbeats: relayed once each, after checking what the registry would check.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolCall;
use og_contracts::ITEERegistry::heartbeatCall;
use og_primitives::TeeId;
use rusqlite::OptionalExtension as _;

use crate::calls::revert_text;
use crate::clock::now_ms;
use crate::error::{Error, HeartbeatError};
use crate::lane::{Purpose, SlotState, slot_state};
use crate::outbox::{Blob, int, uint};
use crate::rpc::RpcError;
use crate::service::Facilitator;

/// How long a caller waits for the block. In milliseconds.
const WAIT_MS: u64 = 15_000;

/// A sign of life of an enclave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// The enclave.
    pub tee_id: TeeId,
    /// Signed time, Unix seconds.
    pub timestamp: u64,
    /// RSA-PSS signature over `keccak256(tee id ‖ u256 time)`.
    pub signature: Bytes,
    /// The registry that it is meant for, when the enclave says so.
    pub registry: Option<Address>,
}

/// A heartbeat that is in a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relayed {
    /// The transaction.
    pub transaction: B256,
    /// Who sent it.
    pub relayer: Address,
    /// The registry.
    pub registry: Address,
}

impl Heartbeat {
    /// What the enclave signed.
    pub fn message_hash(&self) -> B256 {
        let mut bytes = [0_u8; 64];
        bytes[..32].copy_from_slice(self.tee_id.0.as_slice());
        bytes[56..].copy_from_slice(&self.timestamp.to_be_bytes());
        keccak256(bytes)
    }
}

impl Facilitator {
    /// Relays a heartbeat and waits for its block. The same heartbeat again returns the same transaction.
    ///
    /// # Errors
    /// It is not of a registered enclave, not newer than the last, refused by the registry, or the chain does not
    /// answer (then it is safe to send it again).
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Relayed, Error> {
        let registry = self.config().network.registry;
        if heartbeat.registry.is_some_and(|other| other != registry) {
            return Err(HeartbeatError::OtherRegistry.into());
        }
        let key = self.tee_key(heartbeat.tee_id).await?.ok_or(HeartbeatError::UnknownTee)?;
        if !og_attest::legacy::verify_rsa_pss(&key, heartbeat.message_hash(), &heartbeat.signature)
        {
            return Err(HeartbeatError::Signature.into());
        }
        let reference = format!("{}-{}", heartbeat.tee_id, heartbeat.timestamp);
        // One at a time for each enclave would do; one at a time is enough.
        let _gate = self.heartbeat_gate().lock().await;
        let last = self.last_heartbeat(heartbeat.tee_id).await?;
        if last.is_some_and(|last| last > heartbeat.timestamp) {
            return Err(HeartbeatError::NotNewer.into());
        }
        if last != Some(heartbeat.timestamp) {
            self.send_heartbeat(&heartbeat, reference.clone()).await?;
        }
        self.await_heartbeat(reference).await
    }

    async fn send_heartbeat(&self, heartbeat: &Heartbeat, reference: String) -> Result<(), Error> {
        let (lane, registry) = (self.heartbeat_lane(), self.config().network.registry);
        let input: Bytes = heartbeatCall {
            teeId: heartbeat.tee_id.0,
            timestamp: U256::from(heartbeat.timestamp),
            signature: heartbeat.signature.clone(),
        }
        .abi_encode()
        .into();
        let gas = match lane.estimate(registry, input.clone()).await {
            Ok(gas) => gas,
            Err(RpcError::Reverted { data, message }) => {
                let text = revert_text(&data, &message);
                tracing::warn!(tee = %heartbeat.tee_id, "heartbeat refused: {text}");
                return Err(HeartbeatError::Refused.into());
            }
            Err(error) => return Err(error.into()),
        };
        let (tee, timestamp) = (heartbeat.tee_id.0, heartbeat.timestamp);
        let signature = heartbeat.signature.to_vec();
        lane.send(Purpose::Heartbeat, reference, registry, input, gas, move |tx| {
            tx.execute(
                "INSERT INTO heartbeats(tee, signed_secs, signature) VALUES(?1, ?2, ?3)
                 ON CONFLICT(tee) DO UPDATE SET signed_secs = excluded.signed_secs, signature = excluded.signature",
                (Blob(tee), int(timestamp), signature),
            )?;
            Ok(())
        })
        .await
    }

    async fn await_heartbeat(&self, reference: String) -> Result<Relayed, Error> {
        let lane = self.heartbeat_lane();
        let until = now_ms().saturating_add(WAIT_MS);
        loop {
            lane.look_after().await?;
            let asked = reference.clone();
            match self.outbox().run(move |tx| slot_state(tx, Purpose::Heartbeat, &asked)).await? {
                Some(SlotState::Mined { success: true, transaction }) => {
                    let registry = self.config().network.registry;
                    return Ok(Relayed { transaction, relayer: lane.address(), registry });
                }
                Some(SlotState::Open) if now_ms() < until => {}
                Some(SlotState::Open) => {
                    let message = "the heartbeat is not in a block yet".to_owned();
                    return Err(RpcError::Unreachable(message).into());
                }
                Some(SlotState::Mined { success: false, .. } | SlotState::Lost) | None => {
                    return Err(HeartbeatError::Refused.into());
                }
            }
            tokio::time::sleep(Duration::from_millis(self.sending().poll_ms)).await;
        }
    }

    async fn last_heartbeat(&self, tee_id: TeeId) -> Result<Option<u64>, Error> {
        self.outbox()
            .run(move |tx| {
                let last: Option<i64> = tx
                    .query_row(
                        "SELECT signed_secs FROM heartbeats WHERE tee = ?1",
                        [Blob(tee_id.0)],
                        |row| row.get(0),
                    )
                    .optional()?;
                Ok(last.map(uint))
            })
            .await
    }
}
