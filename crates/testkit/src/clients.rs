//! Third-party clients in environments of their own, from lock files.
//!
//! Environments are built once and kept under `target/clients`, named by client and lock-file hash; a change of the
//! lock file makes a new one. Packages come from the registry the machine's pip and npm are set up for.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

/// The workspace's root directory.
#[must_use]
pub fn workspace_dir() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// Where environments are kept: `target/clients` of the workspace.
#[must_use]
pub fn target_dir() -> PathBuf {
    workspace_dir().join("target").join("clients")
}

/// A client's directory: lock file and scripts.
#[must_use]
pub fn client_dir(name: &str) -> PathBuf {
    workspace_dir().join("tests").join("clients").join(name)
}

/// A Python client with its own virtual environment.
#[derive(Clone, Debug)]
pub struct PythonClient {
    directory: PathBuf,
    python: PathBuf,
}

impl PythonClient {
    /// Makes the environment of `tests/clients/<name>/requirements.lock`, unless it is there.
    ///
    /// # Errors
    /// When Python 3.11 is missing, or pip fails (its words are quoted).
    pub fn ensure(name: &str) -> anyhow::Result<Self> {
        let directory = client_dir(name);
        let lock_file = directory.join("requirements.lock");
        let base = python3()?;
        let python = environment(name, &lock_file, |environment| {
            // Without a pip of its own: Debian's Python cannot make one unless another package is installed.
            run(Command::new(&base).args(["-m", "venv", "--without-pip"]).arg(environment))?;
            run(Command::new(&base)
                .args(["-m", "pip", "--python"])
                .arg(environment.join("bin/python"))
                .args(["--disable-pip-version-check", "--no-input", "install", "--quiet"])
                .args(["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r"])
                .arg(&lock_file))?;
            Ok(())
        })?
        .join("bin/python");
        Ok(Self { directory, python })
    }

    /// A command that runs `script` of the client's directory.
    #[must_use]
    pub fn script(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command
            // No user site, no current directory, no PYTHONPATH: only what the lock file brought.
            .args(["-I", "-B", "-u"])
            .arg(self.directory.join(script))
            // Proxies would see loopback requests.
            .env_remove("HTTP_PROXY")
            .env_remove("HTTPS_PROXY")
            .env_remove("ALL_PROXY")
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .env_remove("all_proxy");
        command
    }
}

/// A Node.js client with its own `node_modules`.
#[derive(Clone, Debug)]
pub struct NodeClient {
    environment: PathBuf,
}

impl NodeClient {
    /// Makes the environment of `tests/clients/<name>/package-lock.json`, unless it is there.
    ///
    /// # Errors
    /// When Node.js is missing or npm fails.
    pub fn ensure(name: &str) -> anyhow::Result<Self> {
        let directory = client_dir(name);
        let environment = environment(name, &directory.join("package-lock.json"), |environment| {
            std::fs::create_dir_all(environment)?;
            for file in ["package.json", "package-lock.json"] {
                std::fs::copy(directory.join(file), environment.join(file))
                    .with_context(|| format!("copying {file}"))?;
            }
            run(Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
                .current_dir(environment))?;
            Ok(())
        })?;
        // Modules are looked for upwards of the script, so scripts run from a copy beside them.
        for entry in std::fs::read_dir(&directory).context("listing the client's scripts")? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "mjs")
                && let Some(file) = path.file_name()
            {
                std::fs::copy(&path, environment.join(file)).context("copying a script")?;
            }
        }
        Ok(Self { environment })
    }

    /// A command that runs `script`.
    #[must_use]
    pub fn script(&self, script: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(self.environment.join(script));
        command
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails; the message quotes all it said.
pub fn run(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\n--- stdout ---\n{}--- stderr ---\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// The directory of an environment that is complete, building it under a lock when it is not.
fn environment(
    name: &str,
    lock_file: &Path,
    build: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let lock =
        std::fs::read(lock_file).with_context(|| format!("reading {}", lock_file.display()))?;
    let mut hash = Sha256::new();
    hash.update(&lock);
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let root = target_dir();
    std::fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
    let environment = root.join(format!("{name}-{hash}"));
    let complete = environment.join(".complete");

    let guard = File::create(root.join(format!("{name}.lock"))).context("creating a lock")?;
    guard.lock().context("waiting for another test that builds the same environment")?;
    if !complete.exists() {
        if environment.exists() {
            std::fs::remove_dir_all(&environment).context("removing an unfinished environment")?;
        }
        build(&environment).with_context(|| format!("building the environment of `{name}`"))?;
        File::create(&complete).context("marking the environment complete")?;
    }
    Ok(environment)
}

/// The Python that makes environments: `OG_PYTHON`, else the first of the usual names that is the locked version.
fn python3() -> anyhow::Result<OsString> {
    if let Some(chosen) = std::env::var_os("OG_PYTHON") {
        return Ok(chosen);
    }
    let names = ["python3", "python3.11", "/usr/bin/python3.11"];
    let is_locked_version = |name: &&&str| {
        let version = "import sys; sys.exit(sys.version_info[:2] != (3, 11))";
        Command::new(name).args(["-c", version]).output().is_ok_and(|out| out.status.success())
    };
    names.iter().find(is_locked_version).map(Into::into).context(
        "Python 3.11 is missing (the clients are locked for it); install it with pip, or set OG_PYTHON",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_built_once_and_again_when_its_lock_changes() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        let name = format!("selftest-{}", std::process::id());
        let built = std::cell::Cell::new(0);
        let build = |path: &Path| {
            built.set(built.get() + 1);
            Ok(std::fs::create_dir_all(path)?)
        };
        std::fs::write(&lock, "one").unwrap();
        let first = environment(&name, &lock, build).unwrap();
        assert_eq!(environment(&name, &lock, build).unwrap(), first);
        assert_eq!(built.get(), 1);
        std::fs::write(&lock, "two").unwrap();
        let second = environment(&name, &lock, build).unwrap();
        assert_ne!(first, second);
        std::fs::remove_file(second.join(".complete")).unwrap();
        environment(&name, &lock, build).unwrap();
        assert_eq!(built.get(), 3, "an unfinished one is built again");
        for path in [first, second] {
            std::fs::remove_dir_all(path).unwrap();
        }
        std::fs::remove_file(target_dir().join(format!("{name}.lock"))).unwrap();
    }

    #[test]
    fn a_failing_command_is_quoted() {
        let error =
            run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 7"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("out\n") && text.contains("err\n") && text.contains('7'), "{text}");
    }
}
