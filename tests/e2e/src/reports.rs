//! What client scripts report: one line of JSON for every paid request.

use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

use crate::charges::Asset;

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

/// A paid request, as the client saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Which case of the script.
    pub case: String,
    /// Settlement mode; scripts that do not choose one leave it to the gateway.
    #[serde(default)]
    pub mode: Option<String>,
    /// Usage, where the client shows it.
    pub usage: Option<Usage>,
    /// What was answered.
    #[serde(default)]
    pub text: Option<String>,
    /// Why the answer ended.
    pub finish_reason: Option<String>,
    /// The token paid with.
    #[serde(default)]
    pub asset: Asset,
}

/// Runs a script to its end and reads its reports; its other output is quoted when it fails.
///
/// # Errors
/// When the script fails or reports something else.
pub fn run(command: &mut Command) -> anyhow::Result<Vec<Report>> {
    let output = og_testkit::clients::run(command)?;
    let text = String::from_utf8(output.stdout).context("the script's output is not text")?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a report: {line}")))
        .collect()
}

/// Fills in what a client does not show: a streamed tool call used what the same call without streaming used.
#[must_use]
pub fn with_known_usage(reports: &[Report]) -> Vec<Report> {
    let same = |report: &Report| {
        let twin = report.case.strip_suffix("-stream")?;
        reports.iter().find(|other| other.case == twin && other.mode == report.mode)?.usage
    };
    reports
        .iter()
        .map(|report| Report { usage: report.usage.or_else(|| same(report)), ..report.clone() })
        .collect()
}
