use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use og_light::ValidatorSet;

use crate::error::Error;
use crate::keys::ValidatorKeys;

/// Longest body of a block, bytes. A block of 60 M gas with nothing but calldata stays below it.
pub const BODY_LEN_MAX: usize = 8 * 1024 * 1024;

/// Longest allowed time between two blocks.
pub const EMPTY_BLOCK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Source of time: Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Everything one validator needs to run.
#[derive(Clone)]
pub struct Config {
    /// Its secrets; they must hold a seat in `set`.
    pub keys: ValidatorKeys,
    /// All validators.
    pub set: ValidatorSet,
    /// Where each of them listens, in seat order.
    pub addresses: Vec<SocketAddr>,
    /// A directory of its own: votes and bodies are kept here, and a restart on it resumes. Losing it while the
    /// keys live on makes the validator able to vote twice in a view.
    pub data_dir: PathBuf,
    /// Source of the time given to the application.
    pub clock: Clock,
    /// Pace of blocks; the same for all validators.
    pub timing: Timing,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("keys", &self.keys)
            .field("addresses", &self.addresses)
            .field("data_dir", &self.data_dir)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// The seat that the keys hold.
    ///
    /// # Errors
    ///
    /// [`Error::NoSeat`], or whatever else is wrong with the configuration.
    pub fn seat(&self) -> Result<usize, Error> {
        if self.addresses.len() != self.set.len() {
            return Err(Error::Addresses {
                addresses: self.addresses.len(),
                seats: self.set.len(),
            });
        }
        self.timing.check()?;
        let validator = self.keys.validator();
        let seat = self.set.seat_of(&validator.identity).ok_or(Error::NoSeat)?;
        let same_key = |other: &og_light::Validator| other.public_key == validator.public_key;
        if self.set.validators().get(seat).is_some_and(same_key) {
            Ok(seat)
        } else {
            Err(Error::NoSeat)
        }
    }
}

/// Pace of blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// A leader without a transaction waits this long, then proposes an empty block. It also bounds how long the
    /// first missed turn of a dead leader holds the chain up (this and [`Timing::grace`]); later ones are skipped
    /// at once.
    pub empty_block_interval: Duration,
    /// Shortest time between two blocks: how long transactions are gathered when many arrive.
    pub block_interval_min: Duration,
    /// How long building, sending and executing a block may take.
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            empty_block_interval: Duration::from_millis(1500),
            block_interval_min: Duration::from_millis(20),
            grace: Duration::from_millis(750),
        }
    }
}

impl Timing {
    fn check(&self) -> Result<(), Error> {
        if self.empty_block_interval > EMPTY_BLOCK_INTERVAL_MAX {
            return Err(Error::Timing("empty_block_interval exceeds 5 s"));
        }
        if self.block_interval_min > self.empty_block_interval {
            return Err(Error::Timing("block_interval_min exceeds empty_block_interval"));
        }
        if self.grace < Duration::from_millis(50) {
            return Err(Error::Timing("grace is below 50 ms"));
        }
        Ok(())
    }

    /// How long to wait for a leader's block: it may wait for a transaction, and pace itself before that.
    pub(crate) fn leader_timeout(&self) -> Duration {
        self.empty_block_interval + self.block_interval_min + self.grace
    }

    /// How long to wait for the votes on it.
    pub(crate) fn certification_timeout(&self) -> Duration {
        self.leader_timeout() + self.grace
    }

    /// Silence after which a leader is taken for dead and its turns are skipped.
    pub(crate) fn silence(&self) -> Duration {
        self.certification_timeout() + Duration::from_millis(100)
    }

    /// How often to repeat the vote for skipping a view.
    pub(crate) fn retry(&self) -> Duration {
        self.grace
    }
}

/// The row of ports from which [`reserve_loopback`] takes: below the range from which systems take the ports of
/// outgoing connections (RFC 6335 has it begin at 49152, Linux at 32768). A port out of that range could be taken by
/// one validator's call to another before its owner listens on it.
const LOOPBACK_PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How many taken ports are passed over before giving up.
const LOOPBACK_ATTEMPTS_MAX: usize = 1_000;

/// Finds free ports on 127.0.0.1, one for each of `count` validators. They are free when this returns; bind soon.
///
/// # Errors
///
/// What the system says when it has no port left.
pub fn reserve_loopback(count: usize) -> io::Result<Vec<SocketAddr>> {
    let mut listeners = Vec::with_capacity(count);
    let mut attempts = 0;
    while listeners.len() < count {
        // The system's choice of a port is as good as a draw of our own.
        let drawn = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let span = LOOPBACK_PORTS.end - LOOPBACK_PORTS.start;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, LOOPBACK_PORTS.start + drawn % span)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if attempts == LOOPBACK_ATTEMPTS_MAX => return Err(error),
            Err(_) => attempts += 1,
        }
    }
    listeners.iter().map(TcpListener::local_addr).collect()
}
