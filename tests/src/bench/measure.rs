//! One run of a program: how long, how much memory, and what it says of itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What a run gave.
#[derive(Debug)]
pub(super) struct Run {
    /// Wall clock.
    pub(super) seconds: f64,
    /// The kernel's high-water mark of its resident memory.
    pub(super) peak_bytes: u64,
    /// Its `--json` answer.
    pub(super) report: serde_json::Value,
}

/// Runs `imagezip` with `arguments` and watches its memory.
pub(super) fn measure(imagezip: &Path, arguments: &[&Path]) -> anyhow::Result<Run> {
    let begin = Instant::now();
    let mut child = Command::new(imagezip)
        .args(arguments)
        .args(["--json", "--progress", "none"])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", imagezip.display()))?;
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
    Ok(Run { seconds, peak_bytes, report: serde_json::from_slice(&output.stdout).context("read its --json answer")? })
}

fn high_water(status_file: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status_file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
