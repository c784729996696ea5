//! Run the real `og` binary: ready file, kill, logs.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::devnet::Devnet;

/// How often a condition outside this process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The binary under test: `OG_BIN`, else `og` beside the test executable's profile directory.
///
/// # Errors
/// When there is no such file; the message says how to build it.
pub fn og_binary() -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("OG_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe().context("finding the test executable")?;
            // target/<profile>/deps/<test>
            let profile = test.ancestors().nth(2).context("the test executable lies nowhere")?;
            profile.join("og")
        }
    };
    if !path.is_file() {
        bail!("{} is missing; run `cargo build --package og` first, or set OG_BIN", path.display());
    }
    Ok(path)
}

/// A running `og dev`. Dropping it kills it; its log is kept when the test fails.
#[derive(Debug)]
pub struct OgDev {
    child: Child,
    log: PathBuf,
    ready_file: PathBuf,
    /// What it wrote when it became ready.
    pub devnet: Devnet,
    /// From start to readiness.
    pub started_in: Duration,
}

/// How to start `og dev`.
#[derive(Clone, Debug)]
pub struct OgDevOptions {
    /// The binary.
    pub binary: PathBuf,
    /// Where it keeps its state.
    pub data_dir: PathBuf,
    /// An OpenAI-compatible upstream, base ending in `/v1`.
    pub upstream: Option<String>,
    /// Names the upstream serves.
    pub models: Vec<String>,
    /// Further arguments.
    pub arguments: Vec<OsString>,
    /// Further environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// How long it may take to become ready.
    pub deadline: Duration,
}

impl OgDevOptions {
    /// The binary under test on `data_dir`, without upstream.
    ///
    /// # Errors
    /// As [`og_binary`].
    pub fn new(data_dir: impl Into<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self {
            binary: og_binary()?,
            data_dir: data_dir.into(),
            upstream: None,
            models: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            deadline: Duration::from_secs(120),
        })
    }

    /// Adds an upstream that serves `models`.
    #[must_use]
    pub fn upstream(mut self, url: impl Into<String>, models: &[&str]) -> Self {
        self.upstream = Some(url.into());
        self.models = models.iter().map(|&model| model.to_owned()).collect();
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Where the process announces readiness: beside the data directory, so that it is never part of the state.
    #[must_use]
    pub fn ready_file(&self) -> PathBuf {
        self.data_dir.with_extension("devnet.json")
    }

    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; the message ends with its last log lines.
    pub fn start(&self) -> anyhow::Result<OgDev> {
        let mut starting = self.spawn()?;
        let devnet = starting.wait_ready(self.deadline)?;
        let started_in = starting.since.elapsed();
        let Starting { child, log, ready_file, .. } = starting;
        Ok(OgDev { child, log, ready_file, devnet, started_in })
    }

    /// Starts the process without waiting.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self) -> anyhow::Result<Starting> {
        let ready_file = self.ready_file();
        if let Some(parent) = ready_file.parent() {
            std::fs::create_dir_all(parent).context("creating the directory of the ready file")?;
        }
        // A killed process leaves its file behind; readiness must be news.
        match std::fs::remove_file(&ready_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("removing an old ready file");
            }
            _ => {}
        }
        let log = self.data_dir.with_extension("log");
        let out =
            File::options().create(true).append(true).open(&log).context("opening the log")?;
        let mut command = Command::new(&self.binary);
        command
            // Tests share a small machine: threads that wait for each other on busy cores only burn time.
            .env("RAYON_NUM_THREADS", "1")
            .args(["dev", "--ports", "auto", "--ready-file"])
            .arg(&ready_file)
            .arg("--data-dir")
            .arg(&self.data_dir);
        if let Some(upstream) = &self.upstream {
            command.args(["--upstream", upstream]);
            if !self.models.is_empty() {
                command.args(["--models", &self.models.join(",")]);
            }
        }
        let child = command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().context("sharing the log")?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        Ok(Starting { child, log, ready_file, since: Instant::now() })
    }
}

/// A process that has not announced readiness yet.
#[derive(Debug)]
pub struct Starting {
    child: Child,
    log: PathBuf,
    ready_file: PathBuf,
    since: Instant,
}

impl Starting {
    /// Waits until the process announces readiness.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub fn wait_ready(&mut self, deadline: Duration) -> anyhow::Result<Devnet> {
        loop {
            if self.ready_file.exists() {
                return Devnet::read(&self.ready_file);
            }
            if let Some(status) = self.child.try_wait().context("waiting for og dev")? {
                bail!("og dev ended before it was ready ({status})\n{}", tail(&self.log));
            }
            if self.since.elapsed() > deadline {
                kill(&mut self.child);
                bail!("og dev was not ready within {deadline:?}\n{}", tail(&self.log));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Kills the process at once (SIGKILL) and waits for its end.
    pub fn kill(mut self) {
        kill(&mut self.child);
    }
}

impl OgDev {
    /// Kills the process at once (SIGKILL) and waits for its end.
    pub fn kill(mut self) {
        kill(&mut self.child);
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait().context("asking for og dev's state")?.is_none())
    }

    /// The process number, for signals.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process as Ctrl-C does and checks that it ends well and takes its ready file away.
    ///
    /// # Errors
    /// When it does not end in time, ends with an error, or leaves the file behind.
    pub fn stop(mut self, deadline: Duration) -> anyhow::Result<()> {
        let status = interrupt(&mut self.child, deadline)
            .with_context(|| format!("stopping og dev\n{}", tail(&self.log)))?;
        if !status.success() {
            bail!("og dev ended with {status} after Ctrl-C\n{}", tail(&self.log));
        }
        if self.ready_file.exists() {
            bail!("og dev left {} behind", self.ready_file.display());
        }
        Ok(())
    }

    /// The ready file, for scripts that take its path.
    #[must_use]
    pub fn ready_file(&self) -> &Path {
        &self.ready_file
    }

    /// The process's output so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for OgDev {
    fn drop(&mut self) {
        kill(&mut self.child);
        if std::thread::panicking() {
            keep_log(&self.log);
        }
    }
}

/// Copies a log out of the test's temporary directory.
fn keep_log(log: &Path) {
    let name = log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kept = clients_dir().join("logs").join(format!("{}-{name}", std::process::id()));
    if let Some(parent) = kept.parent()
        && std::fs::create_dir_all(parent).is_ok()
        && std::fs::copy(log, &kept).is_ok()
    {
        say(&format!("the log of og dev is kept at {}", kept.display()));
    }
    say(&tail(log));
}

#[expect(clippy::print_stderr, reason = "test output is the way to tell a person")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn clients_dir() -> PathBuf {
    crate::clients::target_dir()
}

/// Sends SIGINT and waits.
fn interrupt(child: &mut Child, deadline: Duration) -> anyhow::Result<ExitStatus> {
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .context("sending SIGINT")?;
    if !sent.success() {
        bail!("SIGINT could not be sent");
    }
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if since.elapsed() > deadline {
            bail!("still running {deadline:?} after SIGINT");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn kill(child: &mut Child) {
    // Both only fail when the process has ended already, which is what is wanted.
    child.kill().ok();
    child.wait().ok();
}

/// The last lines of a log, for an error message.
fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    format!(
        "--- last lines of {} ---\n{}",
        log.display(),
        lines.get(from..).unwrap_or_default().join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for `og dev`: a shell script that gets the same arguments.
    fn options(dir: &Path, script: &str) -> OgDevOptions {
        let binary = dir.join("og");
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&binary, executable).unwrap();
        OgDevOptions {
            binary,
            data_dir: dir.join("data"),
            upstream: Some("http://127.0.0.1:9/v1".into()),
            models: vec!["a".into(), "b".into()],
            arguments: vec![],
            environment: vec![],
            deadline: Duration::from_secs(20),
        }
    }

    const READY: &str = r#"echo args "$@"
printf '%s' '{"network":{"rpc_url":"","ws_url":"","chain_id":1},"payment":{"rpc_url":"","chain_id":2},"contracts":{"tee_registry":"","inference_verifier":"","settlement_relay":"","opg":"","usdc":"","permit2":"","x402_exact_proxy":"","x402_upto_proxy":""},"gateways":[],"facilitator":{"url":""},"store":{"url":""},"trust":{"genesis_hash":"","validators":[],"tee_roots":[]},"models":[],"accounts":[]}' > "$5.new"
mv "$5.new" "$5""#;

    #[test]
    fn arguments_readiness_and_a_clean_stop() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("trap 'rm \"$5\"; exit 0' INT\n{READY}\nwhile :; do sleep 0.01; done");
        let mut og = options(dir.path(), &script).start().unwrap();
        assert_eq!(og.devnet.payment.chain_id, 2);
        assert!(og.is_running().unwrap());
        assert!(og.log().contains("dev --ports auto --ready-file"), "{}", og.log());
        assert!(og.log().contains("--upstream http://127.0.0.1:9/v1 --models a,b"), "{}", og.log());
        og.stop(Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn an_early_end_is_reported_with_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let error = options(dir.path(), "echo broken; exit 3").start().unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn an_old_ready_file_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), "exec sleep 60");
        options.deadline = Duration::from_millis(200);
        std::fs::write(options.ready_file(), "{}").unwrap();
        assert!(options.start().unwrap_err().to_string().contains("not ready within"));
    }

    #[test]
    fn a_killed_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let og = options(dir.path(), &format!("{READY}\nexec sleep 60")).start().unwrap();
        let id = og.id();
        og.kill();
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
