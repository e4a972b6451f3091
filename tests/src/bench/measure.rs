//! Runs of a program: how long, how much memory, and what it says of itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What a run gave.
#[derive(Debug)]
pub(super) struct Run {
    /// Wall clock, without the read-back of what was written where there is one.
    pub(super) seconds: f64,
    /// How long that read-back took.
    pub(super) read_back: f64,
    /// The kernel's high-water mark of its resident memory.
    pub(super) peak_bytes: u64,
    /// What it printed.
    pub(super) printed: String,
}

/// A build of `imagezip`, and how often each thing is measured.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) runs: usize,
}

impl Program {
    /// Runs it several times, `before` before each, and returns the run of median length with the highest peak of all.
    pub(super) fn median(
        &self,
        name: &str,
        arguments: &[&Path],
        mut before: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Run> {
        let mut runs = Vec::new();
        for _ in 0..self.runs.max(1) {
            before()?;
            // What others wrote before is not written while this is measured.
            rustix::fs::sync();
            let mut run = self.once(&[arguments, &[Path::new("--json")]].concat())?;
            let report: serde_json::Value = serde_json::from_str(&run.printed).context("read its --json answer")?;
            let read_back_ms = report.get("read_back_ms").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
            run.read_back = read_back_ms / 1000.0;
            run.seconds -= run.read_back;
            runs.push(run);
        }
        runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let peak_bytes = runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0);
        let mut middle = runs.swap_remove(runs.len() / 2);
        middle.peak_bytes = peak_bytes;
        say(&format!("{name}: {:.2} s, {} MiB", middle.seconds, peak_bytes >> 20));
        Ok(middle)
    }

    /// Runs it once and watches its memory.
    pub(super) fn once(&self, arguments: &[&Path]) -> anyhow::Result<Run> {
        let begin = Instant::now();
        let mut child = Command::new(&self.path)
            .args(arguments)
            .args(["--progress", "none"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.path.display()))?;
        let status_file = format!("/proc/{}/status", child.id());
        let mut peak_bytes = 0;
        let status = loop {
            // The mark only rises, so the last sample before the end is off by at most what it rose in 20 ms.
            peak_bytes = high_water(&status_file).unwrap_or(0).max(peak_bytes);
            if let Some(status) = child.try_wait()? {
                break status;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        };
        let seconds = begin.elapsed().as_secs_f64();
        let output = child.wait_with_output()?;
        if !status.success() {
            bail!("imagezip {arguments:?} ended with {status}");
        }
        Ok(Run { seconds, read_back: 0.0, peak_bytes, printed: String::from_utf8(output.stdout)? })
    }
}

fn high_water(status_file: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status_file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Tells whoever waits.
#[expect(clippy::print_stderr, reason = "progress for whoever waits")]
pub(super) fn say(text: &str) {
    eprintln!("bench: {text}");
}

/// Removes a file that may be there.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Runs another program that must succeed; returns what it prints.
pub(super) fn tool(command: &mut Command) -> anyhow::Result<String> {
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    let output = output.with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
