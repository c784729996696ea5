//! A chain of counters for tests: every block holds its parent, its height, a time and some numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use og_consensus::{
    Application, Block, Cancel, Config, Context, Digest, Handle, Timing, ValidatorKeys,
    reserve_loopback, spawn,
};
use og_light::{ValidatorSet, verify_certificate};
use og_primitives::{B256, keccak256};

pub const GENESIS: Digest = [0x67; 32];

/// Longest a test waits for anything before it fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a validator's disk holds: it survives the application, and with a file also the process.
#[derive(Default)]
pub struct Disk {
    pub finalized: Vec<(Digest, Vec<u8>)>,
    pub certificates: Vec<(Digest, Vec<u8>)>,
    file: Option<File>,
}

impl Disk {
    /// Reads final blocks from a file; a block cut by a crash was not final yet.
    pub fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        let mut disk = Self::default();
        let mut rest = bytes.as_slice();
        while let Some((len, tail)) = rest.split_first_chunk::<8>() {
            let Some((body, tail)) = tail.split_at_checked(u64::from_be_bytes(*len) as usize)
            else {
                break;
            };
            disk.finalized.push((keccak256(body).0, body.to_vec()));
            rest = tail;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.set_len((bytes.len() - rest.len()) as u64).unwrap();
        disk.file = Some(file);
        disk
    }

    fn push(&mut self, digest: Digest, body: Vec<u8>) {
        if let Some(file) = &mut self.file {
            let record = [&(body.len() as u64).to_be_bytes(), body.as_slice()].concat();
            file.write_all(&record).unwrap();
        }
        self.finalized.push((digest, body));
    }
}

pub struct Counters {
    set: ValidatorSet,
    state: Arc<(Mutex<State>, Condvar)>,
    disk: Arc<Mutex<Disk>>,
    /// Proposes blocks that every honest validator refuses.
    rogue: bool,
    /// Cannot store anything any more.
    pub halted: AtomicBool,
    /// How many numbers nobody submitted go into the next own block, to make it large.
    pub padding: AtomicU64,
}

#[derive(Default)]
struct State {
    executed: BTreeMap<Digest, Vec<u8>>,
    pool: BTreeSet<u64>,
    included: BTreeSet<u64>,
    proposed_at: BTreeMap<Digest, Instant>,
    finalized_at: BTreeMap<Digest, Instant>,
    height: u64,
    refused: u64,
}

pub fn parent(body: &[u8]) -> Digest {
    body[..32].try_into().unwrap()
}

pub fn number(body: &[u8], index: usize) -> u64 {
    u64::from_be_bytes(body[32 + 8 * index..40 + 8 * index].try_into().unwrap())
}

impl Counters {
    pub fn new(set: &ValidatorSet, disk: &Arc<Mutex<Disk>>, rogue: bool) -> Arc<Self> {
        let mut state = State::default();
        for (_, body) in &disk.lock().unwrap().finalized {
            state.height = number(body, 0);
            state.included.extend((2..(body.len() - 32) / 8).map(|index| number(body, index)));
        }
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        Arc::new(Self {
            set: set.clone(),
            state,
            disk: Arc::clone(disk),
            rogue,
            halted: AtomicBool::new(false),
            padding: AtomicU64::new(0),
        })
    }

    pub fn submit(&self, transaction: u64) {
        let mut state = self.state();
        if !state.included.contains(&transaction) {
            state.pool.insert(transaction);
        }
        self.state.1.notify_all();
    }

    pub fn refused(&self) -> u64 {
        self.state().refused
    }

    pub fn wait_for(&self, what: &str, mut done: impl FnMut(u64, &BTreeSet<u64>) -> bool) {
        let state = self.state();
        let (_state, timeout) = self
            .state
            .1
            .wait_timeout_while(state, DEADLINE, |state| !done(state.height, &state.included))
            .unwrap();
        assert!(!timeout.timed_out(), "timed out waiting for {what}");
    }

    pub fn wait_for_height(&self, height: u64) {
        self.wait_for("a height", |reached, _| reached >= height);
    }

    pub fn wait_for_transaction(&self, transaction: u64) {
        self.wait_for("a transaction", |_, included| included.contains(&transaction));
    }

    /// Times from building own blocks to their finality here.
    pub fn latencies(&self) -> Vec<Duration> {
        let state = self.state();
        let latency =
            |(digest, at): (&Digest, &Instant)| Some(*state.finalized_at.get(digest)? - *at);
        state.proposed_at.iter().filter_map(latency).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }
}

impl Application for Counters {
    fn genesis(&self) -> Digest {
        GENESIS
    }

    fn propose(&self, context: &Context, cancel: &Cancel) -> Option<Block> {
        let waker = Arc::clone(&self.state);
        cancel.on_cancel(move || {
            let _state = waker.0.lock().unwrap();
            waker.1.notify_all();
        });
        let state = self.state();
        let idle = |state: &mut State| state.pool.is_empty() && !cancel.is_cancelled();
        let (mut state, _) =
            self.state.1.wait_timeout_while(state, context.patience, idle).unwrap();
        if cancel.is_cancelled() {
            return None;
        }
        let height = match context.parent {
            GENESIS => 1,
            parent => match state.executed.get(&parent) {
                Some(body) => number(body, 0) + 1,
                None => state.height + 1,
            },
        };
        let mut body = context.parent.to_vec();
        body.extend(if self.rogue { u64::MAX } else { height }.to_be_bytes());
        body.extend(context.now_ms.to_be_bytes());
        let transactions: Vec<u64> = state.pool.iter().copied().collect();
        for transaction in transactions {
            // A block of an ancestor may hold it already and not be final yet.
            let mut ancestor = context.parent;
            let mut known = false;
            while let Some(body) = state.executed.get(&ancestor) {
                known |= (2..(body.len() - 32) / 8).any(|index| number(body, index) == transaction);
                ancestor = parent(body);
            }
            if !known {
                body.extend(transaction.to_be_bytes());
            }
        }
        for number in 0..self.padding.swap(0, Ordering::SeqCst) {
            body.extend((1 << 63 | height << 24 | number).to_be_bytes());
        }
        let digest = keccak256(&body).0;
        state.executed.insert(digest, body.clone());
        state.proposed_at.insert(digest, Instant::now());
        Some(Block { digest, body })
    }

    fn verify(&self, context: &Context, digest: Digest, body: &[u8]) -> bool {
        let in_time = number(body, 1) <= context.now_ms + 500;
        let valid = in_time && parent(body) == context.parent && self.import(digest, body);
        if !valid {
            self.state().refused += 1;
        }
        valid
    }

    fn finalized(&self, digest: Digest, certificate: Vec<u8>) {
        let verdict = verify_certificate(&self.set, B256::from(GENESIS), &certificate).unwrap();
        assert_eq!(verdict.payload.0, digest);
        if self.is_halted() {
            return;
        }
        let mut state = self.state();
        let mut disk = self.disk.lock().unwrap();
        disk.certificates.push((digest, certificate));
        let mut newly = Vec::new();
        let mut block = digest;
        while block != GENESIS && !disk.finalized.iter().any(|(known, _)| *known == block) {
            let body = state.executed.get(&block).expect("ancestors are executed first").clone();
            let next = parent(&body);
            newly.push((block, body));
            block = next;
        }
        if let Some((tip, _)) = disk.finalized.last() {
            assert!(newly.is_empty() || block == *tip, "a final block was replaced");
        }
        for (digest, body) in newly.into_iter().rev() {
            state.height = number(&body, 0);
            for index in 2..(body.len() - 32) / 8 {
                state.pool.remove(&number(&body, index));
                assert!(state.included.insert(number(&body, index)), "included twice");
            }
            state.finalized_at.insert(digest, Instant::now());
            disk.push(digest, body);
        }
        self.state.1.notify_all();
    }

    fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }

    fn has(&self, digest: Digest) -> bool {
        digest == GENESIS
            || self.state().executed.contains_key(&digest)
            || self.disk.lock().unwrap().finalized.iter().any(|(known, _)| *known == digest)
    }

    fn parent_of(&self, digest: Digest, body: &[u8]) -> Option<Digest> {
        let well_formed = body.len() >= 48 && body.len().is_multiple_of(8);
        (well_formed && keccak256(body).0 == digest).then(|| parent(body))
    }

    fn import(&self, digest: Digest, body: &[u8]) -> bool {
        let disk = self.disk.lock().unwrap().finalized.clone();
        let mut state = self.state();
        let height = match parent(body) {
            GENESIS => Some(0),
            parent => state.executed.get(&parent).map(|body| number(body, 0)).or_else(|| {
                let known = disk.iter().find(|(digest, _)| *digest == parent);
                known.map(|(_, body)| number(body, 0))
            }),
        };
        let valid = height.is_some_and(|height| number(body, 0) == height + 1);
        if valid {
            state.executed.insert(digest, body.to_vec());
        }
        valid
    }

    fn body(&self, digest: Digest) -> Option<Vec<u8>> {
        if let Some(body) = self.state().executed.get(&digest) {
            return Some(body.clone());
        }
        let disk = self.disk.lock().unwrap();
        disk.finalized.iter().find(|(known, _)| *known == digest).map(|(_, body)| body.clone())
    }
}

/// Validators of one process, each with a disk and a directory of its own.
pub struct Network {
    pub set: ValidatorSet,
    keys: Vec<ValidatorKeys>,
    addresses: Vec<SocketAddr>,
    pub disks: Vec<Arc<Mutex<Disk>>>,
    pub applications: Vec<Arc<Counters>>,
    pub handles: Vec<Option<Handle>>,
    dir: PathBuf,
    /// Removes the directory, when it is ours.
    _temporary: Option<tempfile::TempDir>,
    timing: Timing,
}

impl Network {
    pub fn new(size: u32, timing: Timing) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disks = (0..size).map(|_| Arc::default()).collect();
        let network = Self::on(dir.path(), disks, timing);
        Self { _temporary: Some(dir), ..network }
    }

    /// On a directory and disks that may have been used before.
    pub fn on(dir: &Path, disks: Vec<Arc<Mutex<Disk>>>, timing: Timing) -> Self {
        let size = u32::try_from(disks.len()).unwrap();
        let mut keys: Vec<_> =
            (0..size).map(|index| ValidatorKeys::from_seed(&[42; 32], index)).collect();
        keys.sort_by_key(ValidatorKeys::identity);
        let set = ValidatorSet::new(keys.iter().map(ValidatorKeys::validator).collect()).unwrap();
        let size = keys.len();
        let applications = disks.iter().map(|disk| Counters::new(&set, disk, false)).collect();
        Self {
            set,
            keys,
            addresses: reserve_loopback(size).unwrap(),
            disks,
            applications,
            handles: (0..size).map(|_| None).collect(),
            dir: dir.into(),
            _temporary: None,
            timing,
        }
    }

    pub fn config(&self, seat: usize) -> Config {
        let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        Config {
            keys: self.keys[seat].clone(),
            set: self.set.clone(),
            addresses: self.addresses.clone(),
            data_dir: self.data_dir(seat),
            clock: Arc::new(move || u64::try_from(since_epoch()).unwrap()),
            timing: self.timing,
        }
    }

    pub fn data_dir(&self, seat: usize) -> PathBuf {
        self.dir.join(seat.to_string())
    }

    /// Starts a validator with an application that knows what its disk holds.
    pub fn start(&mut self, seat: usize, rogue: bool) {
        self.applications[seat] = Counters::new(&self.set, &self.disks[seat], rogue);
        self.handles[seat] =
            Some(spawn(self.config(seat), self.applications[seat].clone()).unwrap());
    }

    pub fn start_all(&mut self) {
        for seat in 0..self.handles.len() {
            self.start(seat, false);
        }
    }

    pub fn stop(&mut self, seat: usize) {
        self.handles[seat].take().unwrap().stop().unwrap();
    }

    pub fn submit(&self, transaction: u64) {
        for application in &self.applications {
            application.submit(transaction);
        }
    }

    /// All disks hold the same chain, as far as each goes.
    pub fn assert_agreement(&self) {
        let chains: Vec<Vec<Digest>> = self
            .disks
            .iter()
            .map(|disk| disk.lock().unwrap().finalized.iter().map(|(digest, _)| *digest).collect())
            .collect();
        for chain in &chains {
            let longest = chains.iter().max_by_key(|chain| chain.len()).unwrap();
            assert_eq!(chain.as_slice(), &longest[..chain.len()]);
        }
    }
}

pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}
