//! The outbox: everything that was promised and is not finished, in one SQLite file.
//!
//! Every promise is on disk (WAL, `synchronous = FULL`) before it is made. What happened to a transaction is
//! found out again from the chain after a crash; nothing here is true only in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{Address, B256, U256};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::error::Error;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS payments(
  id TEXT PRIMARY KEY,
  state TEXT NOT NULL CHECK(state IN ('queued','sent','settled','failed')),
  payload TEXT NOT NULL, requirements TEXT NOT NULL, amount BLOB NOT NULL,
  deadline_secs INTEGER NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, next_ms INTEGER NOT NULL,
  tx_hash BLOB, code TEXT, message TEXT) STRICT;
CREATE INDEX IF NOT EXISTS payments_open ON payments(next_ms) WHERE state IN ('queued','sent');

CREATE TABLE IF NOT EXISTS evidence(
  receipt BLOB PRIMARY KEY, leaf BLOB NOT NULL UNIQUE,
  tee BLOB NOT NULL, input_hash BLOB NOT NULL, output_hash BLOB NOT NULL,
  signature BLOB NOT NULL, signed_secs INTEGER NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('queued','batched','settled','quarantined')),
  batch BLOB, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
  tx_hash BLOB, code TEXT, message TEXT) STRICT;
CREATE INDEX IF NOT EXISTS evidence_state ON evidence(state, created_ms);
CREATE INDEX IF NOT EXISTS evidence_batch ON evidence(batch);

CREATE TABLE IF NOT EXISTS batches(
  root BLOB PRIMARY KEY,
  state TEXT NOT NULL CHECK(state IN ('formed','sent','settled')),
  blob TEXT, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, tx_hash BLOB) STRICT;

CREATE TABLE IF NOT EXISTS heartbeats(
  tee BLOB PRIMARY KEY, signed_secs INTEGER NOT NULL, signature BLOB NOT NULL, tx_hash BLOB) STRICT;

CREATE TABLE IF NOT EXISTS slots(
  id INTEGER PRIMARY KEY, chain_id INTEGER NOT NULL, sender BLOB NOT NULL, nonce INTEGER NOT NULL,
  purpose TEXT NOT NULL, reference TEXT NOT NULL, target BLOB NOT NULL, input BLOB NOT NULL,
  gas_limit INTEGER NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('open','mined','lost')), success INTEGER, tx_hash BLOB, block INTEGER,
  created_ms INTEGER NOT NULL,
  UNIQUE(chain_id, sender, nonce)) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS slots_open ON slots(purpose, reference) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS slots_reference ON slots(purpose, reference, id);

CREATE TABLE IF NOT EXISTS attempts(
  tx_hash BLOB PRIMARY KEY, slot INTEGER NOT NULL REFERENCES slots(id), raw BLOB NOT NULL,
  max_fee TEXT NOT NULL, priority TEXT NOT NULL, signed_ms INTEGER NOT NULL, sent_ms INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS attempts_slot ON attempts(slot);
";

/// Version of the schema; a file of another one is refused.
const SCHEMA_VERSION: i64 = 1;

/// The outbox. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(Arc<Mutex<Connection>>);

impl Outbox {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        create_private(path)?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // One facilitator to a file: two would race for nonces.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != 0 && version != SCHEMA_VERSION {
            return Err(Error::Damaged("schema version"));
        }
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Runs `work` in one transaction on a thread where blocking is fine.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
        .await
        .map_err(|_| Error::Stopping)?
    }

    /// Remembers a fact, or compares it with what was remembered: `Some(before)` when they differ.
    pub(crate) async fn agree(
        &self,
        name: &'static str,
        value: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.run(move |tx| {
            let before: Option<Vec<u8>> = tx
                .query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get(0))
                .optional()?;
            if before.is_none() {
                tx.execute("INSERT INTO facts VALUES(?1, ?2)", (name, &value))?;
            }
            Ok(before.filter(|before| *before != value))
        })
        .await
    }
}

/// Creates the file and its folder, readable by the owner only: signed permits lie in it.
fn create_private(path: &Path) -> Result<(), Error> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    Ok(())
}

/// Fixed-size bytes and 256-bit numbers as blobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob<T>(pub(crate) T);

impl ToSql for Blob<B256> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_slice())))
    }
}

impl FromSql for Blob<B256> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        B256::try_from(value.as_blob()?).map(Self).map_err(|_| FromSqlError::InvalidType)
    }
}

impl ToSql for Blob<Address> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_slice())))
    }
}

impl FromSql for Blob<Address> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Address::try_from(value.as_blob()?).map(Self).map_err(|_| FromSqlError::InvalidType)
    }
}

impl ToSql for Blob<U256> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.to_be_bytes::<32>().to_vec()))
    }
}

impl FromSql for Blob<U256> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(U256::from_be_bytes(Blob::<B256>::column_result(value)?.0.0)))
    }
}

/// An unsigned number as SQLite's signed one; beyond its range it is the greatest.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Back from [`int`].
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
