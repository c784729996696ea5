//! Count the shared test vectors that a test run reported.
//!
//! A test that reads a shared vector file prints `VECTORS <file> <count>` when it ran it and
//! `SKIPPED <name>: <why>` when the folder was not there. Where the folder exists, a skip is a failure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{root, say};

/// What the output of a test run says about shared vectors.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    ran: BTreeMap<String, u64>,
    skipped: Vec<String>,
}

impl Tally {
    /// Reads the tally from the lines of a test run.
    pub(crate) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut tally = Self::default();
        for line in lines {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("VECTORS"), Some(file), Some(count)) => {
                    *tally.ran.entry(file.to_owned()).or_default() += count.parse().unwrap_or(0);
                }
                (Some("SKIPPED"), Some(_), _) => tally.skipped.push(line.trim().to_owned()),
                _ => {}
            }
        }
        tally
    }

    /// Prints the tally and fails on a skip, or on nothing run at all, where the vectors are present.
    pub(crate) fn judge(&self) -> Result<()> {
        for (file, count) in &self.ran {
            say(&format!("  {file:<36} {count:>6} ran"));
        }
        for skip in &self.skipped {
            say(&format!("  {skip}"));
        }
        let total: u64 = self.ran.values().sum();
        say(&format!("shared vectors: {total} ran, {} skipped", self.skipped.len()));
        if folder()?.is_dir() {
            if !self.skipped.is_empty() {
                bail!(
                    "{} tests skipped although the shared vectors are present",
                    self.skipped.len()
                );
            }
            if total == 0 {
                bail!("no shared vector ran although the folder is present");
            }
        }
        Ok(())
    }
}

/// Where the shared vectors lie: `OG_VECTORS`, or `shared/vectors` beside the checkout.
fn folder() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OG_VECTORS") {
        return Ok(path.into());
    }
    Ok(root()?.join("../shared/vectors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_skips_are_kept() {
        let tally = Tally::read([
            "VECTORS nitro_synthetic.json 18",
            "test x ... ok",
            "VECTORS nitro_synthetic.json 2",
            "SKIPPED real_documents: no shared vectors",
        ]);
        assert_eq!(tally.ran.get("nitro_synthetic.json"), Some(&20));
        assert_eq!(tally.skipped, ["SKIPPED real_documents: no shared vectors"]);
    }
}
