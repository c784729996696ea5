//! The store in a folder: `blobs/<2 hex>/<64 hex>`, written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use thiserror::Error;

use crate::id::BlobId;

/// What a store takes. In bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest blob.
    pub blob_bytes_max: usize,
    /// Most bytes of all blobs together.
    pub store_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blob_bytes_max: 16 << 20, store_bytes_max: 64 << 30 }
    }
}

/// Why a store could not do what it was asked.
#[derive(Debug, Error)]
pub enum Error {
    /// The blob is larger than the store takes.
    #[error("blob of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The store holds as much as it may.
    #[error("the store is full at {max} bytes")]
    Full {
        /// Bytes allowed.
        max: u64,
    },
    /// What lies under the id is not what the id says.
    #[error("stored content does not match id {id}")]
    Corrupt {
        /// The id.
        id: BlobId,
    },
    /// The disk failed.
    #[error("blob storage: {0}")]
    Io(#[from] io::Error),
}

/// What came of storing a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Put {
    /// The id under which it can be fetched.
    pub id: BlobId,
    /// False when the store had it already.
    pub newly_created: bool,
}

/// A store in a folder. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: PathBuf,
    unfinished: PathBuf,
    limits: Limits,
    stored_bytes: AtomicU64,
    next_unfinished: AtomicU64,
}

impl LocalStore {
    /// Opens or creates the store in `folder`; what an earlier crash left unfinished is removed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        let (blobs, unfinished) = (folder.join("blobs"), folder.join("unfinished"));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        fs::create_dir_all(&blobs)?;
        let mut stored_bytes = 0_u64;
        for shelf in fs::read_dir(&blobs)? {
            for blob in fs::read_dir(shelf?.path())? {
                stored_bytes = stored_bytes.saturating_add(blob?.metadata()?.len());
            }
        }
        Ok(Self(Arc::new(Inner {
            blobs,
            unfinished,
            limits,
            stored_bytes: AtomicU64::new(stored_bytes),
            next_unfinished: AtomicU64::new(0),
        })))
    }

    /// What the store takes.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Stores `content`; when this returns it survives a crash.
    ///
    /// # Errors
    /// [`Error`]; nothing was stored.
    pub async fn put(&self, content: Bytes) -> Result<Put, Error> {
        let store = self.clone();
        blocking(move || store.put_blocking(&content)).await
    }

    /// The content under `id`, compared with it; `None` when the store has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the content is not that of the id.
    pub async fn get(&self, id: BlobId) -> Result<Option<Bytes>, Error> {
        let store = self.clone();
        blocking(move || store.get_blocking(id)).await
    }

    /// [`LocalStore::put`] on the calling thread.
    ///
    /// # Errors
    /// [`Error`]; nothing was stored.
    pub fn put_blocking(&self, content: &[u8]) -> Result<Put, Error> {
        let limits = self.0.limits;
        if content.len() > limits.blob_bytes_max {
            return Err(Error::TooLarge { len: content.len(), max: limits.blob_bytes_max });
        }
        let id = BlobId::of(content);
        match self.get_blocking(id) {
            Ok(Some(_)) => return Ok(Put { id, newly_created: false }),
            // Damage is healed by the content that is at hand.
            Ok(None) | Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let len = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.0
            .stored_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |stored| {
                stored.checked_add(len).filter(|stored| *stored <= limits.store_bytes_max)
            })
            .map_err(|_| Error::Full { max: limits.store_bytes_max })?;
        let written = self.write(id, content);
        if written.is_err() {
            self.0.stored_bytes.fetch_sub(len, Ordering::Relaxed);
        }
        written?;
        Ok(Put { id, newly_created: true })
    }

    /// [`LocalStore::get`] on the calling thread.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the content is not that of the id.
    pub fn get_blocking(&self, id: BlobId) -> Result<Option<Bytes>, Error> {
        let content = match fs::read(self.path(id)) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if BlobId::of(&content) != id {
            return Err(Error::Corrupt { id });
        }
        Ok(Some(content.into()))
    }

    fn write(&self, id: BlobId, content: &[u8]) -> io::Result<()> {
        let number = self.0.next_unfinished.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.0.unfinished.join(number.to_string());
        let mut file = File::create(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        let path = self.path(id);
        let shelf = path.parent().unwrap_or(&self.0.blobs);
        if !shelf.exists() {
            fs::create_dir_all(shelf)?;
            File::open(&self.0.blobs)?.sync_all()?;
        }
        fs::rename(&unfinished, &path)?;
        File::open(shelf)?.sync_all()
    }

    fn path(&self, id: BlobId) -> PathBuf {
        let name = hex::encode(id.0);
        self.0.blobs.join(&name[..2]).join(&name)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(Error::Io(io::Error::other(stopped))),
    }
}
