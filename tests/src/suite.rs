//! `make test`: every test of the workspace on a private PostgreSQL, and an account of what ran.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{pg, processes, talk};

const SKIPS: &str = "EBB_SKIPS_FILE";

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the database and the account of skips go
    #[arg(long, default_value = "target/test")]
    out: PathBuf,
    /// Arguments for `cargo test`, instead of the whole workspace
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

/// Runs the tests and prints the account. Returns whether something failed.
///
/// # Errors
/// When they cannot be run.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    fs::create_dir_all(&options.out).with_context(|| format!("make {}", options.out.display()))?;
    let skips = options.out.canonicalize()?.join("skips.txt");
    fs::write(&skips, "").with_context(|| format!("write {}", skips.display()))?;
    let server = pg::Server::start(&options.out, &pg::Options::default())?;
    let url = server.url("ebb");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--locked", "--no-fail-fast"]);
    if options.cargo.is_empty() {
        command.arg("--workspace");
    } else {
        command.args(&options.cargo);
    }
    // The macros of sqlx look for a database when they may; here they may not.
    command.env("SQLX_OFFLINE", "true").env("DATABASE_URL", &url).env("EBB_DATABASE_URL", &url).env(SKIPS, &skips);
    let mut counts = Counts::default();
    let status = processes::run_to_end(command.stdout(Stdio::piped()), |child| {
        for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
            let line = line?;
            talk::result(&line);
            counts.add(&line);
        }
        Ok(())
    })
    .context("run cargo test")?;
    drop(server);
    let skipped = fs::read_to_string(&skips).with_context(|| format!("read {}", skips.display()))?;
    let skipped: Vec<_> = skipped.lines().collect();
    Ok(report(&counts, &skipped, status.success()))
}

fn report(counts: &Counts, skipped: &[&str], success: bool) -> bool {
    talk::result("\nsummary");
    counts.failures.iter().for_each(|name| talk::result(format!("  failed: {name}")));
    skipped.iter().for_each(|line| talk::result(format!("  skipped: {line}")));
    let forbidden = no_skips() && !skipped.is_empty();
    if forbidden {
        talk::result("  EBB_NO_SKIPS=1: a skip is a failure");
    }
    // A test that was skipped ended well as far as cargo knows; it did not pass.
    let Counts { passed, failed, ignored, .. } = counts;
    let skips = u64::try_from(skipped.len()).unwrap_or(u64::MAX);
    let passed = if forbidden { *passed } else { passed.saturating_sub(skips) };
    talk::result(format!("{passed} passed, {failed} failed, {} skipped", skips + ignored));
    !success || *failed > 0 || forbidden || *ignored > 0
}

impl Counts {
    /// Takes note of a line of `cargo test`.
    fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.into());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let count = |what: &str| {
            let words: Vec<_> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }
}

fn no_skips() -> bool {
    std::env::var_os("EBB_NO_SKIPS").is_some_and(|value| value == "1")
}

/// Takes note that a test cannot run here, and why. Where nothing may be skipped, that is an error.
///
/// # Errors
/// With `EBB_NO_SKIPS=1`, or when it cannot be noted.
pub fn skip(test: &str, reason: &str) -> anyhow::Result<()> {
    if no_skips() {
        bail!("{test} would be skipped, which EBB_NO_SKIPS=1 forbids: {reason}");
    }
    talk::say(format!("skipped: {test}: {reason}"));
    match std::env::var_os(SKIPS) {
        Some(path) => note(Path::new(&path), &format!("{test}: {reason}")),
        None => Ok(()),
    }
}

fn note(path: &Path, line: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "{line}").with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut counts = Counts::default();
        counts.add("running 3 tests");
        counts.add("test map::gap ... FAILED");
        counts
            .add("test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        counts.add("test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        assert_eq!(counts, Counts { passed: 42, failed: 1, ignored: 2, failures: vec!["map::gap".into()] });
        assert!(report(&counts, &[], true));
        assert!(!report(&Counts { passed: 1, ..Counts::default() }, &[], true));
        assert!(report(&Counts { passed: 1, ..Counts::default() }, &[], false));
    }
}
