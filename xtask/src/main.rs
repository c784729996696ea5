//! Run the house-keeping jobs: `cargo xtask <job>`.
//!
//! | Job | Does |
//! |---|---|
//! | `ci` | everything that guards the main branch, in the order that fails soonest (the README's test command) |
//! | `test` | builds and runs every test, and counts the shared vectors that ran |
//! | `fuzz` | fuzzes whatever reads a stranger's bytes for 60 seconds each; with `--long`, 10 minutes each |
//! | `tidy` | checks the architecture invariants of `docs/architecture.md` |
//! | `contracts` | rebuilds the Solidity artifacts; with `--check`, fails when one differs from the committed one |
//! | `bench zkml` | times proofs and compares with the baseline; with `--save`, makes the baseline; with `--with-ezkl`, measures ezkl beside it |
//! | `deny` | checks licences, bans and sources of every dependency |

mod bench;
mod ci;
mod setup;
mod tidy;
mod vectors;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: cargo xtask <ci | test | fuzz [--long] | tidy | contracts [--check] | bench zkml [--save] [--with-ezkl] [MODEL…] | deny>";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["ci"] => ci::all(),
        ["test"] => ci::test(),
        ["fuzz"] => ci::fuzz("ci"),
        ["fuzz", "--long"] => ci::fuzz("long"),
        ["tidy"] => tidy::check(),
        ["contracts"] => ci::contracts(false),
        ["contracts", "--check"] => ci::contracts(true),
        ["bench", "zkml", options @ ..] => bench::zkml(options),
        ["deny"] => ci::deny(),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The one place that prints: progress goes to standard error, where it cannot be taken for data.
#[expect(clippy::print_stderr, reason = "a command-line tool talks on standard error")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// The repository root, found from where this crate was compiled.
fn root() -> Result<std::path::PathBuf> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(std::path::Path::to_path_buf).context("xtask stands in no workspace")
}

/// Runs a command in the repository root and fails when it does.
fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_with(program, arguments, &[])
}

/// [`run`] with variables added to the environment.
fn run_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    say(&format!("$ {program} {}", arguments.join(" ")));
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root()?)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("`{program} {}` ended with {status}", arguments.join(" "));
    }
    Ok(())
}
