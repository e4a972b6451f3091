//! What this machine can do at most, measured in the same run: by `openssl speed` and `zstd -b` at its beginning, and by
//! `dd` between the runs that write, because what a medium takes and gives changes from minute to minute.

use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;

use super::workload::Workload;

/// What `OPENSSL_ia32cap` has to be so that openssl does not use the SHA instructions: bit 29 of the second word.
const WITHOUT_SHA: &str = ":~0x20000000";

/// Rates in bytes a second on all cores, and how they were measured.
#[derive(Debug, Serialize)]
pub(super) struct Limits {
    pub(super) cores: usize,
    pub(super) sha256: f64,
    /// With the SHA instructions of the processor hidden from it.
    pub(super) sha256_soft: f64,
    pub(super) zstd_changed: f64,
    /// The changed blocks, one after the other, packed as one.
    pub(super) zstd_of_changed_bytes: u64,
    pub(super) zstd_allocated: f64,
    pub(super) unzstd_allocated: f64,
    pub(super) commands: Vec<String>,
}

impl Limits {
    pub(super) fn measure(workload: &Workload, out: &Path) -> anyhow::Result<Self> {
        let cores = thread::available_parallelism()?.get();
        let multi = cores.to_string();
        let mut commands = Vec::new();
        let sha256 = openssl_sha256(&multi, None, &mut commands)?;
        let sha256_soft = openssl_sha256(&multi, Some(WITHOUT_SHA), &mut commands)?;
        let (zstd_changed, _) = zstd(&workload.changed_blocks, cores, &mut commands)?;
        let zstd_of_changed_bytes = zstd_size(&workload.changed_blocks, &out.join("changed.zst"), &mut commands)?;
        let (zstd_allocated, unzstd_allocated) = zstd(&workload.allocated_sample, cores, &mut commands)?;
        let write = || write_command(&workload.base, &out.join("dd.img"), workload.figures.changed_allocated);
        commands.extend([say(&write()), say(write().arg("oflag=direct"))]);
        commands.push(say(&read_command(&out.join("dd.img"))));
        Ok(Self {
            cores,
            sha256,
            sha256_soft,
            zstd_changed,
            zstd_of_changed_bytes,
            zstd_allocated,
            unzstd_allocated,
            commands,
        })
    }
}

fn say(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let set = set.map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
    set.chain(words.map(|word| word.to_string_lossy().into_owned())).collect::<Vec<_>>().join(" ")
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("run {}", say(command)))?;
    if !output.status.success() {
        bail!("{}: {}", say(command), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

fn openssl_sha256(multi: &str, processor: Option<&str>, commands: &mut Vec<String>) -> anyhow::Result<f64> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-seconds", "3", "-bytes", "4096", "-multi", multi, "sha256"]);
    if let Some(processor) = processor {
        command.env("OPENSSL_ia32cap", processor);
    }
    let mut rates = Vec::new();
    for _ in 0..3 {
        let text = String::from_utf8(run(&mut command)?.stdout)?;
        // The last line: `sha256     1736634.37k`, in thousands of bytes a second over all processes.
        let rate = text.lines().rev().find_map(|line| line.strip_prefix("sha256")?.trim().strip_suffix('k'));
        rates.push(rate.context("openssl speed did not print a rate")?.trim().parse::<f64>()? * 1000.0);
    }
    commands.push(say(&command));
    rates.sort_by(f64::total_cmp);
    Ok(rates[1])
}

/// Rates of packing and unpacking, the medians of three measurements.
fn zstd(file: &Path, cores: usize, commands: &mut Vec<String>) -> anyhow::Result<(f64, f64)> {
    let (mut pack, mut unpack) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (packed, unpacked) = zstd_once(file, cores)?;
        pack.push(packed);
        unpack.push(unpacked);
    }
    commands.push(format!("{} ({cores} at once)", say(&zstd_command(file))));
    Ok((median(&pack)?, median(&unpack)?))
}

fn zstd_command(file: &Path) -> Command {
    let mut command = Command::new("zstd");
    command.args(["-b3", "-i3", "-B1048576", "-q"]).arg(file);
    command
}

/// Runs one benchmark a core at the same time and adds up.
fn zstd_once(file: &Path, cores: usize) -> anyhow::Result<(f64, f64)> {
    let runs: Vec<anyhow::Result<Output>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| run(&mut zstd_command(file)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked"))).collect()
    });
    let (mut pack, mut unpack) = (0.0, 0.0);
    for output in runs {
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let (p, u) = parse_zstd(&text).with_context(|| format!("zstd -b said {text:?}"))?;
        pack += p;
        unpack += u;
    }
    Ok((pack, unpack))
}

/// Packs a file as one and returns how many bytes that makes.
fn zstd_size(file: &Path, to: &Path, commands: &mut Vec<String>) -> anyhow::Result<u64> {
    let mut command = Command::new("zstd");
    command.args(["-3", "-q", "-f"]).arg(file).arg("-o").arg(to);
    run(&mut command)?;
    commands.push(say(&command));
    let size = std::fs::metadata(to)?.len();
    std::fs::remove_file(to)?;
    Ok(size)
}

/// Reads `-3#name :  10485760 ->   2409740 (x4.351),  480.7 MB/s, 1750.2 MB/s` or the short form of `-q`:
/// `-3   2409740 (4.351)  480.7 MB/s 1750.2 MB/s  name`.
fn parse_zstd(text: &str) -> Option<(f64, f64)> {
    let line = text.rsplit(['\r', '\n']).find(|line| line.matches("MB/s").count() == 2)?;
    let mut rates = line.split("MB/s").filter_map(|piece| piece.split_whitespace().last()?.parse::<f64>().ok());
    let (pack, unpack) = (rates.next()?, rates.next()?);
    Some((pack * 1e6, unpack * 1e6))
}

/// What the medium does when `dd` asks it, once for each run of ours that is measured against it.
#[derive(Debug, Default)]
pub(super) struct Medium {
    write: Vec<f64>,
    write_direct: Vec<f64>,
    read: Vec<f64>,
}

impl Medium {
    /// Writes so many bytes of a file to another, durably, reads them directly, and removes them.
    pub(super) fn measure(&mut self, from: &Path, to: &Path, len: u64) -> anyhow::Result<()> {
        // Neither does this wait for what was written or removed before.
        rustix::fs::sync();
        self.write.push(timed(&mut write_command(from, to, len))?);
        self.read.push(timed(&mut read_command(to))?);
        std::fs::remove_file(to)?;
        rustix::fs::sync();
        self.write_direct.push(timed(write_command(from, to, len).arg("oflag=direct"))?);
        std::fs::remove_file(to)?;
        // The next who writes must not wait for this.
        rustix::fs::sync();
        Ok(())
    }

    /// The median of the seconds that writing took, through the page cache or past it: the faster.
    pub(super) fn write_seconds(&self) -> anyhow::Result<f64> {
        Ok(median(&self.write)?.min(median(&self.write_direct)?))
    }

    /// The median of the seconds that reading took.
    pub(super) fn read_seconds(&self) -> anyhow::Result<f64> {
        median(&self.read)
    }
}

fn write_command(from: &Path, to: &Path, len: u64) -> Command {
    let mut command = Command::new("dd");
    command.arg(format!("if={}", from.display())).arg(format!("of={}", to.display()));
    command.args(["bs=1M", "iflag=count_bytes", &format!("count={len}"), "conv=fsync"]);
    command
}

fn read_command(from: &Path) -> Command {
    let mut command = Command::new("dd");
    command.arg(format!("if={}", from.display())).args(["of=/dev/null", "bs=1M", "iflag=direct"]);
    command
}

pub(super) fn timed(command: &mut Command) -> anyhow::Result<f64> {
    let begin = Instant::now();
    run(command)?;
    Ok(begin.elapsed().as_secs_f64())
}

pub(super) fn median(seconds: &[f64]) -> anyhow::Result<f64> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_zstd_are_read() {
        let long = " 3#disk.img         :  10485760 ->   2409740 (x4.351),  480.7 MB/s, 1750.2 MB/s \n";
        assert_eq!(parse_zstd(long), Some((480.7e6, 1750.2e6)));
        let short = "-3   2409740 (4.351)  480.7 MB/s 1750.2 MB/s  disk.img\n";
        assert_eq!(parse_zstd(short), Some((480.7e6, 1750.2e6)));
    }
}
