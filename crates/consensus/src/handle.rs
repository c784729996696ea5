//! Starting and stopping a validator.

use std::any::Any;
use std::fs::{self, File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use commonware_utils::channel::oneshot;
use tracing::error;

use crate::application::Application;
use crate::config::Config;
use crate::engine;
use crate::error::Error;

/// A running validator. Dropping it stops it.
#[derive(Debug)]
pub struct Handle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
    finalized_view: Arc<AtomicU64>,
}

/// Starts one validator on a runtime of its own: a fault in it stops nobody else in the process.
///
/// # Errors
///
/// What is wrong with the configuration, [`Error::InUse`], [`Error::Storage`] or [`Error::Thread`]. Later failures are told by [`Handle::stop`].
pub fn spawn(config: Config, application: Arc<dyn Application>) -> Result<Handle, Error> {
    let seat = config.seat()?;
    let lock = lock(&config.data_dir)?;
    let (stop, stopped) = oneshot::channel();
    let finalized_view = Arc::new(AtomicU64::new(0));
    let view = Arc::clone(&finalized_view);
    let thread = std::thread::Builder::new()
        .name(format!("validator-{seat}"))
        .spawn(move || {
            let _lock = lock;
            let run = AssertUnwindSafe(|| engine::run(config, application, view, stopped));
            let outcome = catch_unwind(run)
                .unwrap_or_else(|panic| Err(Error::Panicked(message(panic.as_ref()))));
            if let Err(error) = &outcome {
                error!(seat, %error, "validator failed");
            }
            outcome
        })
        .map_err(Error::Thread)?;
    Ok(Handle { stop: Some(stop), thread: Some(thread), finalized_view })
}

impl Handle {
    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// View of the newest block that the application has been told to be final since the start; 0 for none.
    pub fn last_finalized_view(&self) -> u64 {
        self.finalized_view.load(Ordering::Acquire)
    }

    /// Stops it and waits until its files are closed.
    ///
    /// # Errors
    ///
    /// Why it had stopped before, if it had.
    pub fn stop(mut self) -> Result<(), Error> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Error> {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|panic| Err(Error::Panicked(message(panic.as_ref()))))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The outcome has been logged.
        let _ = self.finish();
    }
}

/// Takes a data directory for this process, made if missing. Two validators on one directory would vote twice.
fn lock(dir: &Path) -> Result<File, Error> {
    let failed = |source| Error::Storage { path: dir.into(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let file = File::create(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: dir.into() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
