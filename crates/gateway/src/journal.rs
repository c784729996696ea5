//! The journal on disk: an append-only file behind one writer thread.
//!
//! Whatever waits when the thread comes round is written and synced together, so many requests share one `fsync`.
//! A write that fails stops the journal for good: what is in memory would no longer be what a restart finds.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use og_meter::journal::{self, JournalError};
use og_meter::ledger::ReplayError;
use og_meter::{Input, Ledger, Limits, Record, step};
use thiserror::Error;
use tokio::sync::oneshot;

/// A log longer than this is rewritten as a snapshot when it is opened, in bytes.
const COMPACT_BYTES: usize = 1 << 20;

/// Why a journal cannot be opened or written.
#[derive(Debug, Error)]
pub enum Error {
    /// The file system refuses.
    #[error("journal {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("journal {} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged; it is left as it is for a person to look at.
    #[error("journal {}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not read.
        source: JournalError,
    },
    /// The records contradict each other.
    #[error("journal {}: {source}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Which record.
        source: ReplayError,
    },
    /// An earlier write failed.
    #[error("the journal has stopped after a failed write")]
    Stopped,
}

/// An open journal. Dropping it waits for its thread, so that the file can be opened again at once.
#[derive(Debug)]
pub struct Journal {
    sender: Option<mpsc::Sender<Append>>,
    writer: Option<JoinHandle<()>>,
}

struct Append {
    records: Vec<Record>,
    durable: oneshot::Sender<()>,
}

/// Resolves when records are durable.
#[derive(Debug)]
#[must_use = "nothing may be acted upon before it is durable"]
pub struct Durable(Option<oneshot::Receiver<()>>);

impl Durable {
    /// Waits.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the records were not written.
    pub async fn wait(self) -> Result<(), Error> {
        match self.0 {
            Some(receiver) => receiver.await.map_err(|_| Error::Stopped),
            None => Ok(()),
        }
    }
}

impl Journal {
    /// Opens the journal in `folder`, replays it, and releases what a crash interrupted: nobody saw its end.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(folder: &Path, limits: Limits, now_secs: u64) -> Result<(Self, Ledger), Error> {
        let path = folder.join("journal.log");
        let io = |source| Error::Io { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        // The lock is on a file of its own, because the log itself is replaced when it is compacted.
        let lock = File::create(folder.join("journal.lock")).map_err(io)?;
        lock.try_lock().map_err(|_| Error::InUse { path: path.clone() })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let log = journal::read(&bytes)
            .map_err(|source| Error::Damaged { path: path.clone(), source })?;
        let mut position = count(&log.records);
        let mut ledger = Ledger::replay(limits, log.records)
            .map_err(|source| Error::Contradiction { path: path.clone(), source })?;
        file.set_len(u64::try_from(log.valid_bytes).unwrap_or(u64::MAX)).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;

        let interrupted: Vec<_> = ledger.interrupted().collect();
        let mut records = Vec::new();
        for payment in interrupted {
            let release = Input::Release { payment, reason: "interrupted".into() };
            records.extend(step(&mut ledger, release, now_secs).map_or(Vec::new(), |e| e.records));
        }
        records
            .extend(step(&mut ledger, Input::Forget, now_secs).map_or(Vec::new(), |e| e.records));
        if bytes.len() > COMPACT_BYTES {
            let snapshot = ledger.snapshot();
            position = 0;
            file = rewrite(folder, &path, &snapshot)?;
            position += count(&snapshot);
        } else if !records.is_empty() {
            write(&mut file, &mut position, &records).map_err(io)?;
        }
        let (sender, receiver) = mpsc::channel();
        let writer = Writer { file, position, receiver, _lock: lock };
        let writer = std::thread::Builder::new()
            .name("og-journal".into())
            .spawn(move || writer.run())
            .map_err(io)?;
        Ok((Self { sender: Some(sender), writer: Some(writer) }, ledger))
    }

    /// Queues records. The order of calls is the order in the log.
    pub fn append(&self, records: Vec<Record>) -> Durable {
        if records.is_empty() {
            return Durable(None);
        }
        let (durable, receiver) = oneshot::channel();
        // A stopped writer drops the sender, which the waiter sees.
        if let Some(sender) = &self.sender {
            let _ = sender.send(Append { records, durable });
        }
        Durable(Some(receiver))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    file: File,
    position: u64,
    receiver: mpsc::Receiver<Append>,
    _lock: File,
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.receiver.recv() {
            let mut batch = vec![first];
            batch.extend(self.receiver.try_iter());
            let records: Vec<Record> =
                batch.iter_mut().flat_map(|append| std::mem::take(&mut append.records)).collect();
            if let Err(error) = write(&mut self.file, &mut self.position, &records) {
                tracing::error!(%error, "the journal cannot be written; no more payments are taken");
                return;
            }
            for append in batch {
                let _ = append.durable.send(());
            }
        }
    }
}

fn write(file: &mut File, position: &mut u64, records: &[Record]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(journal::frame(*position, record).map_err(io::Error::other)?);
        *position += 1;
    }
    file.write_all(&bytes)?;
    file.sync_data()
}

fn rewrite(folder: &Path, path: &Path, records: &[Record]) -> Result<File, Error> {
    let fresh = folder.join("journal.new");
    let io = |source| Error::Io { path: fresh.clone(), source };
    let mut file = File::create(&fresh).map_err(io)?;
    write(&mut file, &mut 0, records).map_err(io)?;
    std::fs::rename(&fresh, path).map_err(io)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(file)
}

fn count(records: &[Record]) -> u64 {
    u64::try_from(records.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256, U256};
    use og_meter::AssetId;
    use og_x402::PaymentId;

    use super::*;

    fn reserve(n: u8) -> Input {
        Input::Reserve {
            payment: PaymentId(B256::repeat_byte(n)),
            payer: Address::repeat_byte(1),
            asset: AssetId { chain_id: 1, token: Address::repeat_byte(2) },
            request: B256::repeat_byte(n),
            bound: U256::from(1),
            permitted: U256::from(2),
            deadline_secs: 2_000,
            balance: None,
            context: vec![7; 100].into(),
        }
    }

    fn limits() -> Limits {
        Limits { in_flight_per_payer_max: 1_000_000, ..Limits::default() }
    }

    fn open(folder: &Path) -> Result<(Journal, Ledger), Error> {
        Journal::open(folder, limits(), 1_900)
    }

    #[tokio::test]
    async fn what_was_durable_is_found_again_and_a_torn_tail_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, mut ledger) = open(folder.path()).unwrap();
        assert!(matches!(Journal::open(folder.path(), limits(), 0), Err(Error::InUse { .. })));
        for n in 0..3 {
            let effects = step(&mut ledger, reserve(n), 1_900).unwrap();
            journal.append(effects.records).wait().await.unwrap();
        }
        drop(journal);
        let path = folder.path().join("journal.log");
        // A crash inside the fourth write, at every place.
        let (journal, ledger) = open(folder.path()).unwrap();
        assert_eq!(ledger.entries().count(), 3);
        assert_eq!(ledger.interrupted().count(), 0, "what was interrupted is given back");
        drop((journal, ledger));
        drop(open(folder.path()).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for torn in [1, 15, 16, 17, 60] {
            let mut bytes = whole.clone();
            bytes.extend_from_slice(&whole[..torn]);
            // The tail is a frame with the wrong position or a piece of one: never acted upon.
            std::fs::write(&path, &bytes).unwrap();
            let (journal, ledger) = open(folder.path()).unwrap();
            assert_eq!(ledger.entries().count(), 3, "{torn}");
            drop(journal);
        }
        std::fs::write(&path, [&[1_u8; 4][..], &whole[4..]].concat()).unwrap();
        assert!(matches!(open(folder.path()), Err(Error::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_long_log_is_rewritten_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, mut ledger) = open(folder.path()).unwrap();
        let payment = PaymentId(B256::repeat_byte(1));
        let mut records = step(&mut ledger, reserve(1), 1_900).unwrap().records;
        for n in 2..=255 {
            let mut input = reserve(n);
            if let Input::Reserve { context, .. } = &mut input {
                *context = vec![n; 8_000].into();
            }
            records.extend(step(&mut ledger, input, 1_900).unwrap().records);
            let release =
                Input::Release { payment: PaymentId(B256::repeat_byte(n)), reason: "x".into() };
            records.extend(step(&mut ledger, release, 1_900).unwrap().records);
        }
        journal.append(records).wait().await.unwrap();
        drop(journal);
        let path = folder.path().join("journal.log");
        let before = std::fs::metadata(&path).unwrap().len();
        assert!(before > 1 << 20);
        // Long after every deadline, nothing of it matters.
        let opened = Journal::open(folder.path(), limits(), 1_000_000).unwrap();
        assert!(opened.1.entry(&payment).is_none());
        assert!(std::fs::metadata(&path).unwrap().len() < 1_000);
        let effects = step(&mut { opened.1 }, reserve(3), 1_900).unwrap();
        opened.0.append(effects.records).wait().await.unwrap();
        drop(opened.0);
        assert_eq!(open(folder.path()).unwrap().1.entries().count(), 1);
    }
}
