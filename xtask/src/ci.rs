//! Guard the main branch.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::vectors::Tally;
use crate::{root, run, run_with, say, setup, tidy};

/// A name for people, and what it runs.
type Step = (&'static str, fn() -> Result<()>);

/// Every check, those that fail soonest first.
pub(crate) fn all() -> Result<()> {
    let steps: [Step; 8] = [
        ("set-up", setup::programs),
        ("format", || run("cargo", &["fmt", "--all", "--check"])),
        ("tidy", tidy::check),
        ("contracts", || contracts(true)),
        ("tests", test),
        ("fuzz", || fuzz("ci")),
        ("clippy", clippy),
        ("deny", deny),
    ];
    let mut table = Vec::new();
    for (name, step) in steps {
        say(&format!("== {name}"));
        let begun = Instant::now();
        step().with_context(|| format!("step `{name}`"))?;
        table.push((name, begun.elapsed()));
    }
    for (name, took) in table {
        say(&format!("{name:<10} ok  {:>6.1} s", took.as_secs_f64()));
    }
    Ok(())
}

/// Builds every binary and test, runs them all and counts the shared vectors that ran.
pub(crate) fn test() -> Result<()> {
    // End-to-end tests start the real binaries, which `cargo test` alone would not build.
    run("cargo", &["build", "--locked", "--workspace", "--all-targets"])?;
    say("$ cargo test --locked --workspace -- --show-output");
    let mut child = Command::new("cargo")
        .args(["test", "--locked", "--workspace", "--no-fail-fast", "--", "--show-output"])
        // Third-party clients that cannot be installed are a failure here, not a reason to skip.
        .env("OG_CLIENTS", "required")
        .current_dir(root()?)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no standard output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the output of cargo test")?;
        echo(&line);
        lines.push(line);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() {
        bail!("tests failed ({status})");
    }
    Tally::read(lines.iter().map(String::as_str)).judge()
}

/// Fuzzes whatever reads a stranger's bytes, each target for the time that `profile` allows it.
pub(crate) fn fuzz(profile: &str) -> Result<()> {
    // All of the workspace, so that what the tests were built from serves here too.
    let arguments = ["test", "--locked", "--workspace", "--test", "fuzz", "--", "--show-output"];
    run_with("cargo", &arguments, &[("OG_FUZZ", profile)])
}

/// Rebuilds the Solidity artifacts from locked npm packages; with `check`, compares instead of writing.
pub(crate) fn contracts(check: bool) -> Result<()> {
    let contracts = root()?.join("contracts");
    let contracts = contracts.to_str().context("the path of contracts/ is not UTF-8")?;
    run("npm", &["ci", "--prefix", contracts, "--ignore-scripts", "--no-audit", "--no-fund"])?;
    let script = format!("{contracts}/build.mjs");
    if check { run("node", &[&script, "--check"]) } else { run("node", &[&script]) }
}

/// Checks licences, bans and sources.
pub(crate) fn deny() -> Result<()> {
    setup::cargo_deny()?;
    run("cargo", &["deny", "--all-features", "check", "bans", "licenses", "sources"])
}

fn clippy() -> Result<()> {
    let lints = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run("cargo", &lints)
}

/// Test output is data for whoever reads the log: it goes to standard output unchanged.
#[expect(clippy::print_stdout, reason = "passes the output of the tests through")]
fn echo(line: &str) {
    println!("{line}");
}
