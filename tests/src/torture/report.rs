//! What the torture run found, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the programs were tortured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Errors, crashes and delays at named places.
    Failpoints,
    /// Killed at the so-many-th named place, whichever it is.
    Counted,
    /// Killed at system calls.
    Sigkill,
    /// Errors of system calls.
    Errno,
    /// Flushes missing from a trace of system calls.
    Order,
    /// Full file systems.
    Nospace,
    /// The protocol, explored.
    Model,
    /// Bugs planted in the code.
    Planted,
    /// What a crash may leave of what was written.
    Crashstates,
}

impl Method {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failpoints => "failpoints",
            Self::Counted => "counted",
            Self::Sigkill => "sigkill",
            Self::Errno => "errno",
            Self::Order => "order",
            Self::Nospace => "nospace",
            Self::Model => "model",
            Self::Planted => "planted",
            Self::Crashstates => "crashstates",
        }
    }
}

/// One method's account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// How.
    pub method: Method,
    /// How many times.
    pub tried: u64,
    /// What was found of what had to be: places that were passed, bugs that were caught, runs that ended well.
    pub found: u64,
    /// What had to be found.
    pub expected: u64,
    /// How long it took.
    pub seconds: f64,
    /// What went wrong, in words; empty when all is well.
    pub failures: Vec<String>,
    /// What else there is to say.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl Row {
    /// A method that could not be carried out.
    pub fn failed(method: Method, why: String, took: Duration) -> Self {
        let (failures, seconds) = (vec![why], took.as_secs_f64());
        Self { method, tried: 0, found: 0, expected: 0, seconds, failures, more: serde_json::Map::new() }
    }

    /// Returns whether all that had to be found was, and nothing else.
    pub fn ok(&self) -> bool {
        self.found == self.expected && self.expected > 0 && self.failures.is_empty()
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether every row is well.
    pub ok: bool,
    /// One for each method.
    pub rows: Vec<Row>,
}

impl Report {
    /// Puts rows together.
    pub fn new(rows: Vec<Row>) -> Self {
        Self { ok: !rows.is_empty() && rows.iter().all(Row::ok), rows }
    }

    /// Returns it as a table.
    pub fn table(&self) -> String {
        let mut text = format!("{:<12} {:>8} {:>8} {:>8} {:>9}\n", "method", "tried", "found", "expected", "seconds");
        for row in &self.rows {
            let (name, well) = (row.method.name(), if row.ok() { "" } else { "  NOT WELL" });
            let Row { tried, found, expected, seconds, .. } = row;
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<12} {tried:>8} {found:>8} {expected:>8} {seconds:>9.1}{well}");
            for failure in &row.failures {
                // The rest, logs above all, is in the report.
                let _ = writeln!(text, "  {}", failure.lines().next().unwrap_or_default());
            }
        }
        text
    }
}
