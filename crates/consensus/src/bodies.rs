//! Bodies of blocks that are not final yet, on disk.
//!
//! A block's body is written here before this validator votes for the block's finality. Consensus knows only digests,
//! so without this a crash of every validator could leave a final block that nobody can produce. Once a block is
//! final, the application holds it and the body is dropped from here.
//!
//! The format is a directory of append-only segments named by number. A segment is a sequence of records:
//! length of the body (4 bytes, little endian), view (8 bytes), digest (32 bytes), body. A crash can cut the last
//! record of a segment short or leave it damaged: a cut record ends the segment, and readers check every body
//! against its digest. Segments are deleted whole once all their views are final.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::application::Digest;
use crate::config::BODY_LEN_MAX;

/// A segment that has reached this length is followed by a new one.
const SEGMENT_LEN: u64 = 4 * 1024 * 1024;

/// Length of what precedes a body.
const RECORD_HEAD_LEN: usize = 4 + 8 + 32;

pub(crate) struct Bodies {
    dir: PathBuf,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    segments: BTreeMap<u64, Segment>,
    index: BTreeMap<Digest, Location>,
    open: Option<(u64, File)>,
}

#[derive(Default)]
struct Segment {
    len: u64,
    view_max: u64,
}

#[derive(Clone, Copy)]
struct Location {
    view: u64,
    segment: u64,
    offset: u64,
    len: usize,
}

impl Bodies {
    /// Opens the directory, made if missing, and reads what is there. Writing always begins a new segment, so a
    /// record cut by a crash is never written behind.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut log = Log::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok())
            else {
                continue;
            };
            log.scan(number, &File::open(entry.path())?)?;
        }
        Ok(Self { dir: dir.into(), log: Mutex::new(log) })
    }

    /// Makes a body durable. A body that is here for this or a later view is not written again.
    pub(crate) fn append(&self, view: u64, digest: Digest, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_LEN_MAX);
        let len =
            len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "body too long"))?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.index.get(&digest).is_some_and(|location| location.view >= view) {
            return Ok(());
        }
        let (number, mut file) = match log.open.take() {
            Some(open) => open,
            None => self.begin_segment(&log)?,
        };
        let offset = log.segments.get(&number).map_or(0, |segment| segment.len);
        let mut record = Vec::with_capacity(RECORD_HEAD_LEN + body.len());
        record.extend_from_slice(&len.to_le_bytes());
        record.extend_from_slice(&view.to_le_bytes());
        record.extend_from_slice(&digest);
        record.extend_from_slice(body);
        // On an error the segment stays closed: what follows goes into a new one.
        file.write_all(&record)?;
        file.sync_data()?;
        log.insert(number, offset, view, digest, body.len());
        if log.segments.get(&number).is_some_and(|segment| segment.len < SEGMENT_LEN) {
            log.open = Some((number, file));
        }
        Ok(())
    }

    /// The body stored for a digest. It may have been damaged by a crash; the caller checks it.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let location = *log.index.get(digest)?;
        let file = File::open(self.path(location.segment)).ok()?;
        let mut body = vec![0; location.len];
        file.read_exact_at(&mut body, location.offset + RECORD_HEAD_LEN as u64).ok()?;
        Some(body)
    }

    /// Drops segments of which every view is `view` or lower.
    pub(crate) fn prune(&self, view: u64) -> io::Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let done: Vec<u64> = log
            .segments
            .iter()
            .filter(|(number, segment)| {
                let open = log.open.as_ref().is_some_and(|(open, _)| open == *number);
                // The segment being written is kept until it is worth a new file.
                segment.view_max <= view && (!open || segment.len >= SEGMENT_LEN / 4)
            })
            .map(|(number, _)| *number)
            .collect();
        for number in done {
            if log.open.as_ref().is_some_and(|(open, _)| *open == number) {
                log.open = None;
            }
            log.segments.remove(&number);
            log.index.retain(|_, location| location.segment != number);
            fs::remove_file(self.path(number))?;
        }
        Ok(())
    }

    fn begin_segment(&self, log: &Log) -> io::Result<(u64, File)> {
        let number = log.segments.last_key_value().map_or(0, |(number, _)| number + 1);
        let path = self.path(number);
        let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(0)?;
        // The directory entry must be as durable as the records.
        File::open(&self.dir)?.sync_all()?;
        Ok((number, file))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}"))
    }
}

impl Log {
    fn scan(&mut self, number: u64, file: &File) -> io::Result<()> {
        let len = file.metadata()?.len();
        self.segments.insert(number, Segment::default());
        let mut offset = 0;
        let mut head = [0; RECORD_HEAD_LEN];
        while offset + (RECORD_HEAD_LEN as u64) <= len {
            file.read_exact_at(&mut head, offset)?;
            let Some((body_len, view, digest)) = read_head(&head) else { break };
            let end = offset + (RECORD_HEAD_LEN + body_len) as u64;
            if body_len > BODY_LEN_MAX || end > len {
                break;
            }
            self.insert(number, offset, view, digest, body_len);
            offset = end;
        }
        Ok(())
    }

    fn insert(&mut self, number: u64, offset: u64, view: u64, digest: Digest, len: usize) {
        let segment = self.segments.entry(number).or_default();
        segment.len = offset + (RECORD_HEAD_LEN + len) as u64;
        segment.view_max = segment.view_max.max(view);
        let location = Location { view, segment: number, offset, len };
        let slot = self.index.entry(digest).or_insert(location);
        if slot.view <= view {
            *slot = location;
        }
    }
}

fn read_head(head: &[u8; RECORD_HEAD_LEN]) -> Option<(usize, u64, Digest)> {
    let (len, rest) = head.split_first_chunk()?;
    let (view, digest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    Some((len, u64::from_le_bytes(*view), digest.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_survive_reopening_and_leave_when_final() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path()).unwrap();
        for view in 1..=20_u8 {
            bodies.append(view.into(), [view; 32], &vec![view; 1024 * 1024]).unwrap();
        }
        let bodies = Bodies::open(dir.path()).unwrap();
        assert_eq!(bodies.get(&[7; 32]), Some(vec![7; 1024 * 1024]));
        assert_eq!(bodies.get(&[21; 32]), None);
        bodies.prune(10).unwrap();
        assert_eq!(bodies.get(&[1; 32]), None);
        assert_eq!(bodies.get(&[11; 32]), Some(vec![11; 1024 * 1024]));
        bodies.prune(20).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        bodies.append(21, [21; 32], b"next").unwrap();
        assert_eq!(bodies.get(&[21; 32]), Some(b"next".to_vec()));
    }

    #[test]
    fn a_record_cut_by_a_crash_hides_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path()).unwrap();
        bodies.append(1, [1; 32], b"whole").unwrap();
        bodies.append(2, [2; 32], b"to be cut").unwrap();
        drop(bodies);
        let path = dir.path().join(format!("{:016x}", 0));
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let bodies = Bodies::open(dir.path()).unwrap();
            assert_eq!(bodies.get(&[1; 32]).is_some(), len >= RECORD_HEAD_LEN + 5);
            assert_eq!(bodies.get(&[2; 32]), None);
            bodies.append(3, [3; 32], b"after the crash").unwrap();
            assert_eq!(
                Bodies::open(dir.path()).unwrap().get(&[3; 32]),
                Some(b"after the crash".to_vec())
            );
            fs::remove_file(dir.path().join(format!("{:016x}", 1))).unwrap();
        }
        // A damaged length ends the segment instead of asking for memory.
        let mut damaged = whole;
        damaged[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        fs::write(&path, &damaged).unwrap();
        assert_eq!(Bodies::open(dir.path()).unwrap().get(&[1; 32]), None);
    }

    #[test]
    fn a_body_seen_again_in_a_later_view_stays_for_that_view() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path()).unwrap();
        bodies.append(1, [1; 32], b"same").unwrap();
        let bodies = Bodies::open(dir.path()).unwrap();
        bodies.append(5, [1; 32], b"same").unwrap();
        bodies.append(4, [1; 32], b"same").unwrap();
        bodies.prune(4).unwrap();
        assert_eq!(bodies.get(&[1; 32]), Some(b"same".to_vec()));
        let too_long = vec![0; BODY_LEN_MAX + 1];
        assert!(bodies.append(6, [6; 32], &too_long).is_err());
    }
}
