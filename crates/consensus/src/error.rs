use std::io;
use std::path::PathBuf;

/// Why a validator does not run, or no longer runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The keys are not those of a seat of the validator set.
    #[error("these keys hold no seat in the validator set")]
    NoSeat,
    /// There must be one address per seat.
    #[error("{addresses} addresses for {seats} seats")]
    Addresses {
        /// How many addresses were given.
        addresses: usize,
        /// How many seats the set has.
        seats: usize,
    },
    /// A key of the validator set is refused by the consensus library.
    #[error("seat {seat}: {reason}")]
    Seat {
        /// The seat.
        seat: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A timing value is out of range.
    #[error("timing: {0}")]
    Timing(&'static str),
    /// A key file is not what [`crate::ValidatorKeys::save`] writes.
    #[error("key file {path}: {reason}", path = path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The data directory or a key file cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Storage {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another validator runs on the same data directory.
    #[error("{path} is in use by another validator", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A part of the validator ended by itself.
    #[error("validator stopped: {0} ended")]
    Ended(&'static str),
    /// A part of the validator panicked; its data directory is as after a crash.
    #[error("validator panicked: {0}")]
    Panicked(String),
    /// The validator did not finish its work in time when it was stopped.
    #[error("validator did not stop in time")]
    StopTimeout,
}
