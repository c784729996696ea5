//! Talk to people on standard error and to programs on standard output.

use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// The one place that prints.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
    colours: bool,
}

impl Ui {
    /// `json` turns tables into JSON documents.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, colours: colours(&std::io::stdout()) }
    }

    /// Whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A result, for a program or a person to read: standard output.
    pub(crate) fn result(&self, text: &str) {
        write_line(&mut std::io::stdout().lock(), text);
    }

    /// A result as JSON: standard output.
    pub(crate) fn json(&self, document: &serde_json::Value) {
        self.result(&format!("{document:#}"));
    }

    /// Talk: standard error.
    pub(crate) fn say(&self, text: &str) {
        write_line(&mut std::io::stderr().lock(), text);
    }

    /// An error with its causes on one line.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        self.say(&format!("{}: {error:#}", self.paint("31", "error")));
    }

    /// A table with aligned columns: standard output.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(head.to_vec());
        for row in rows {
            table.add_row(row.clone());
        }
        self.result(&table.to_string());
    }

    /// A mark for a check that holds or not.
    pub(crate) fn mark(&self, holds: bool) -> String {
        if holds { self.paint("32", "✓") } else { self.paint("31", "✗") }
    }

    /// A spinner with a message, for work whose length is not known; invisible where nobody looks.
    pub(crate) fn spinner(&self, message: &str) -> ProgressBar {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether a stream takes colours: a terminal, and `NO_COLOR` not set (no-color.org).
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A closed pipe at the other end is not our failure.
fn write_line(stream: &mut impl std::io::Write, text: &str) {
    if writeln!(stream, "{text}").is_ok() {
        drop(stream.flush());
    }
}
