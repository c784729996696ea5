//! Seeded mutation of a committed corpus: fuzzing on stable Rust, repeatable bit by bit.
//!
//! A run mutates inputs of `tests/corpus/<target>/` until its time is over and hands each to a check, which says whether
//! it was accepted. An input that is answered in a way not seen before joins the inputs that are mutated, so that the
//! run works its way inwards without knowing the code. A check fails by panicking, by taking too long or by taking too much
//! memory; the input is then written to `target/fuzz/<target>/`, and belongs into the corpus with the repair.
//!
//! | `OG_FUZZ` | Time for each target |
//! |---|---|
//! | not set | 3 seconds |
//! | `ci` | 60 seconds |
//! | `long` | 10 minutes |
//!
//! `OG_FUZZ_SEED` chooses another sequence of inputs. The same seed gives the same sequence.

mod mutate;

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::clients::workspace_dir;
pub use mutate::{Random, interesting, mutate};

/// Mutated inputs are cut to this many bytes.
const INPUT_BYTES_MAX: usize = 1 << 16;

/// New answers that are learned in a run.
const ANSWERS_MAX: usize = 4096;

/// Changes a copy of an input in a way that knows its format, given all inputs; `None` where it cannot.
pub type Shape<'a> = &'a dyn Fn(&[u8], &[Vec<u8>], &mut Random) -> Option<Vec<u8>>;

/// What is fuzzed, and what one input may take.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Name of the corpus: a folder in `tests/corpus`.
    pub name: &'a str,
    /// Longest time for one input, on the processor.
    pub time_max: Duration,
    /// Most memory that the process ever holds, in bytes.
    pub memory_max: u64,
    /// How every other input is changed; the rest is changed by [`mutate`], which knows no format.
    pub shape: Option<Shape<'a>>,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Inputs in the corpus.
    pub corpus: usize,
    /// Mutated inputs that were checked.
    pub inputs: u64,
    /// Those among them that were accepted.
    pub accepted: u64,
    /// Different answers.
    pub answers: usize,
    /// The longest that one input took.
    pub slowest: Duration,
    /// The most memory that the process ever held, in bytes, where the system says so.
    pub memory: Option<u64>,
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, corpus, inputs, accepted, answers, slowest, memory } = self;
        write!(
            f,
            "seed {seed}: {inputs} inputs from {corpus}, {accepted} accepted, {answers} answers, \
             slowest {slowest:.1?}, {} MiB",
            memory.unwrap_or_default() >> 20
        )
    }
}

impl Target<'_> {
    /// Checks the corpus, then mutated inputs until the time is over.
    ///
    /// `check` gives `Ok` for an input that is accepted, else the reason; it panics where the code under test is wrong.
    ///
    /// # Errors
    /// At the first input that panics or takes too much, after writing it to a file; when there is no corpus.
    pub fn run<E: Display>(
        &self,
        check: impl Fn(&[u8]) -> Result<(), E>,
    ) -> anyhow::Result<Report> {
        let budget = budget()?;
        let seed = std::env::var("OG_FUZZ_SEED").map_or(Ok(1), |seed| seed.parse());
        let seed: u64 = seed.context("OG_FUZZ_SEED is no number")?;
        let mut pool = corpus(self.name)?;
        let mut report = Report {
            seed,
            corpus: pool.len(),
            inputs: 0,
            accepted: 0,
            answers: 0,
            slowest: Duration::ZERO,
            memory: None,
        };
        let mut answers = BTreeSet::new();
        for input in &pool {
            answers.insert(self.attempt(input, &check, &mut report)?);
        }
        let mut random = Random::new(seed);
        let begun = Instant::now();
        while begun.elapsed() < budget {
            // Most of what was learned was refused early: half of the time, begin with the corpus again.
            let known = if random.flag() { report.corpus } else { pool.len() };
            let original = random.below(known);
            let input = self.draw(&pool[original], &pool, &mut random);
            let answer = self.attempt(&input, &check, &mut report)?;
            report.inputs += 1;
            report.accepted += u64::from(answer.is_none());
            if answers.len() < ANSWERS_MAX && answers.insert(answer) {
                pool.push(input);
            }
        }
        report.answers = answers.len();
        report.memory = memory_peak();
        Ok(report)
    }

    /// An input made of this one.
    fn draw(&self, original: &[u8], pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let shaped = self.shape.filter(|_| random.flag());
        let mut input =
            shaped.and_then(|shape| shape(original, pool, random)).unwrap_or_else(|| {
                let mut input = original.to_vec();
                mutate(&mut input, pool, random);
                input
            });
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    /// The answer to one input: `None` if it is accepted, else the reason without what varies in it.
    fn attempt<E: Display>(
        &self,
        input: &[u8],
        check: impl Fn(&[u8]) -> Result<(), E>,
        report: &mut Report,
    ) -> anyhow::Result<Option<String>> {
        let timed = || {
            let begun = Instant::now();
            let answer = catch_unwind(AssertUnwindSafe(|| check(input)));
            (answer, begun.elapsed())
        };
        let (answer, mut took) = timed();
        let Ok(answer) = answer else { return Err(self.failure(input, report, "panics")) };
        if took > self.time_max {
            // Other processes may have had the processor: once more, by this thread's time on it.
            let before = processor_time();
            let again = timed().1;
            took = processor_time().zip(before).map_or(again, |(now, before)| now - before);
        }
        if took > self.time_max {
            return Err(self.failure(input, report, &format!("takes {took:?}")));
        }
        // To take much memory takes time; asking the system each time would take more.
        if took > Duration::from_millis(1) || report.inputs.is_multiple_of(1024) {
            let held = memory_peak().unwrap_or_default();
            if held > self.memory_max {
                return Err(self.failure(input, report, &format!("takes {held} bytes of memory")));
            }
        }
        report.slowest = report.slowest.max(took);
        Ok(answer.err().map(|reason| kind(&reason.to_string())))
    }

    /// Writes an input that failed, and says so.
    fn failure(&self, input: &[u8], report: &Report, what: &str) -> anyhow::Error {
        let Report { seed, inputs, .. } = report;
        let folder = workspace_dir().join("target/fuzz").join(self.name);
        let path = folder.join(format!("{seed}-{inputs}.bin"));
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, input));
        let kept = match written {
            Ok(()) => format!("it is {}", path.display()),
            Err(error) => format!("it could not be written ({error})"),
        };
        anyhow::anyhow!("{}: input {inputs} of seed {seed} {what}; {kept}", self.name)
    }
}

/// The committed inputs of a target, by name of the file.
///
/// # Errors
/// When there are none.
pub fn corpus(target: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = folder(target);
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("no corpus in {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    ensure!(!paths.is_empty(), "no file in {}", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).with_context(|| format!("reading {}", path.display())))
        .collect()
}

/// Compares files of a corpus with what their generator makes; with `OG_REWRITE`, writes them.
///
/// # Errors
/// When a file differs or is missing.
pub fn generated(target: &str, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    for (name, bytes) in files {
        let path = folder(target).join(name);
        if std::env::var_os("OG_REWRITE").is_some() {
            std::fs::create_dir_all(folder(target))?;
            std::fs::write(&path, bytes)?;
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        ensure!(committed == *bytes, "{} differs; OG_REWRITE=1 writes it", path.display());
    }
    Ok(())
}

fn folder(target: &str) -> PathBuf {
    workspace_dir().join("tests/corpus").join(target)
}

fn budget() -> anyhow::Result<Duration> {
    Ok(Duration::from_secs(match std::env::var("OG_FUZZ").as_deref() {
        Err(_) => 3,
        Ok("ci") => 60,
        Ok("long") => 600,
        Ok(other) => bail!("OG_FUZZ is `ci` or `long`, not `{other}`"),
    }))
}

/// A reason without its numbers and names.
fn kind(reason: &str) -> String {
    let said = reason.split('`').step_by(2).flat_map(str::split_whitespace);
    let varies = |word: &str| word.contains(|c: char| !c.is_ascii_graphic() || c.is_ascii_digit());
    said.filter(|word| !varies(word)).take(20).collect::<Vec<_>>().join(" ")
}

/// The time that this thread was on a processor, where the system says so.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// The most memory that this process ever held, in bytes.
fn memory_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn answers_are_told_apart_by_what_they_say() {
        assert_eq!(kind("node `a` (Add): 3 of 44"), kind("node `bcd` (Add): 17 of 1"));
        assert_ne!(kind("node `a` (Add): 3"), kind("node `a` (Sub): 3"));
    }

    #[test]
    fn a_panic_and_slowness_are_found_and_kept() {
        let target = Target {
            name: "onnx",
            time_max: Duration::from_millis(20),
            memory_max: u64::MAX,
            shape: None,
        };
        // The message, and the input that was kept.
        let taken = |found: anyhow::Result<Report>| {
            let message = found.unwrap_err().to_string();
            let path = message.split_once("it is ").unwrap().1;
            let input = std::fs::read(path).unwrap();
            std::fs::remove_file(path).unwrap();
            (message, input)
        };
        let (message, input) = taken(target.run(|input| {
            assert!(!input.is_empty(), "a deliberate panic");
            if input.len() < 100 { Err("short") } else { Ok(()) }
        }));
        assert!(message.contains("panics") && input.is_empty(), "{message}");
        let first = corpus("onnx").unwrap().swap_remove(0);
        let (message, input) = taken(target.run(|_| {
            let begun = processor_time();
            while processor_time()
                .zip(begun)
                .is_some_and(|(now, begun)| now - begun < 3 * target.time_max)
            {}
            Ok::<(), String>(())
        }));
        assert!(message.contains("takes") && input == first, "{message}");
        let small = Target { memory_max: 1, ..target };
        let (message, input) = taken(small.run(|_| Ok::<(), String>(())));
        assert!(message.contains("memory") && input == first, "{message}");
    }
}
