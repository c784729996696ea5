//! Install what the tests need and the machine lacks.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::{run, say};

/// A program that the tests start, and the Debian packages that bring it.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("cc", &["gcc", "libc6-dev"]),
    ("make", &["make"]),
    ("python3", &["python3", "python3-venv", "python3-pip"]),
    ("node", &["nodejs"]),
    ("npm", &["npm"]),
    ("git", &["git"]),
];

/// `cargo-deny` is compiled once from its published source, at this version.
const CARGO_DENY: &str = "0.20.2";

/// Installs missing programs through apt-get, or says what to install where that is not possible.
pub(crate) fn programs() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_present(program, "--version"))
        .flat_map(|(_, packages)| packages.iter().copied())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("installing: {}", missing.join(" ")));
    if !is_present("apt-get", "--version") {
        bail!("please install {} and run again", missing.join(", "));
    }
    run("apt-get", &["update", "--quiet"])?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(missing);
    run("apt-get", &arguments)
}

/// Installs `cargo-deny` unless it is there.
pub(crate) fn cargo_deny() -> Result<()> {
    if is_present("cargo-deny", "--version") {
        return Ok(());
    }
    run("cargo", &["install", "cargo-deny", "--locked", "--version", CARGO_DENY])
}

fn is_present(program: &str, probe: &str) -> bool {
    Command::new(program)
        .arg(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
