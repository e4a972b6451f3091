//! `make bench`: our times against limits measured in the same run by programs that are not ours.
//!
//! A ratio is ours divided by the limit, in time or bytes: lower is better, and a goal is the most it may be.

mod limits;
mod measure;
mod workload;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use limits::Limits;
use measure::{Run, measure};
use workload::Workload;

/// How to run the benchmark.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the built programs lie; beside this one by default
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Where the workload is made and the report is written
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// MiB of files on the benchmarked disk
    #[arg(long, default_value_t = 2200)]
    used_mib: u64,
    /// Runs of each measurement; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    unit: &'static str,
    value: f64,
    limit: f64,
    ratio: f64,
    goal: f64,
    met: bool,
    limit_is: String,
}

impl Row {
    fn new(name: &'static str, unit: &'static str, value: f64, limit: f64, goal: f64, limit_is: String) -> Self {
        let ratio = value / limit;
        Self { name, unit, value, limit, ratio, goal, met: ratio <= goal, limit_is }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    rows: Vec<Row>,
    workload: workload::Figures,
    limits: Limits,
    delta_bytes: u64,
    zstd_of_changed_bytes: u64,
}

/// Makes the workload, measures limits and ourselves, prints the table and writes `report.json`.
///
/// # Errors
/// When something cannot be run. A missed goal is not an error but `false`.
#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let programs = match &options.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("the folder of this program")?.to_path_buf(),
    };
    let imagezip = programs.join("imagezip");
    std::fs::create_dir_all(&options.out).with_context(|| format!("make {}", options.out.display()))?;
    let workload = Workload::make(&options.out, options.used_mib)?;
    let limits = Limits::measure(&workload, &options.out)?;
    let ours = Ours::measure(&imagezip, &workload, &options.out, options.runs)?;
    let report = compare(&workload, limits, &ours)?;
    println!("{:<12} {:>10} {:>10} {:>7} {:>6}  met", "what", "ours", "limit", "ratio", "goal");
    for row in &report.rows {
        let met = if row.met { "yes" } else { "NO" };
        println!(
            "{:<12} {:>8.2} {} {:>8.2} {} {:>6.2} {:>6.2}  {met}   limit: {}",
            row.name, row.value, row.unit, row.limit, row.unit, row.ratio, row.goal, row.limit_is
        );
    }
    let changed = report.zstd_of_changed_bytes;
    println!("delta image: {} bytes; zstd of the changed blocks alone: {changed} bytes", report.delta_bytes);
    for command in &report.limits.commands {
        println!("limit measured by: {command}");
    }
    let path = options.out.join("report.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("write {}", path.display()))?;
    Ok(report.ok)
}

/// Our own times, in seconds, and the highest memory of any of them.
struct Ours {
    hash: f64,
    full: f64,
    delta: f64,
    restore: f64,
    read_back: f64,
    peak_bytes: u64,
    delta_bytes: u64,
    stored_bytes: u64,
}

impl Ours {
    fn measure(imagezip: &Path, workload: &Workload, out: &Path, runs: usize) -> anyhow::Result<Self> {
        let [sig, full, delta, target] =
            ["base.sig", "base.zdi", "delta.zdi", "restored.img"].map(|name| out.join(name));
        let (mut peak, mut last_read_back) = (0, 0.0);
        let mut median = |name: &str, arguments: &[&Path]| -> anyhow::Result<f64> {
            let mut seconds = Vec::new();
            for _ in 0..runs {
                // Written anew each time: a file that is there would be replaced or, for restore, compared.
                for made in [&target] {
                    if made.exists() {
                        std::fs::remove_file(made)?;
                    }
                }
                let Run { seconds: wall, peak_bytes, report } = measure(imagezip, arguments)?;
                peak = peak.max(peak_bytes);
                let read_back_ms = report.get("read_back_ms").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
                last_read_back = read_back_ms / 1000.0;
                seconds.push(wall - last_read_back);
            }
            seconds.sort_by(f64::total_cmp);
            let middle = seconds[seconds.len() / 2];
            eprintln_line(&format!("{name}: {middle:.2} s"));
            Ok(middle)
        };
        let arg = Path::new;
        let (base, changed) = (workload.base.as_path(), workload.changed.as_path());
        let hash = median("hash", &[arg("hash"), base, arg("--out"), &sig])?;
        let full_seconds = median("full image", &[arg("create"), base, arg("--out"), &full])?;
        let delta_seconds = median("delta", &[arg("create"), changed, arg("--base"), &sig, arg("--out"), &delta])?;
        let restore = median("restore", &[arg("restore"), &full, &delta, arg("--to"), &target])?;
        let delta_bytes = std::fs::metadata(&delta)?.len();
        let stored_bytes = delta_bytes + std::fs::metadata(&full)?.len();
        Ok(Self {
            hash,
            full: full_seconds,
            delta: delta_seconds,
            restore,
            read_back: last_read_back,
            peak_bytes: peak,
            delta_bytes,
            stored_bytes,
        })
    }
}

#[expect(clippy::print_stderr, reason = "progress for whoever waits")]
fn eprintln_line(text: &str) {
    eprintln!("bench: {text}");
}

fn compare(workload: &Workload, limits: Limits, ours: &Ours) -> anyhow::Result<Report> {
    let figures = workload.figures;
    let bytes = |count: u64| -> anyhow::Result<f64> { Ok(f64::from(u32::try_from(count >> 10)?) * 1024.0) };
    let hash_base = bytes(figures.base_allocated)? / limits.sha256;
    let hash_changed = bytes(figures.changed_allocated)? / limits.sha256;
    let delta = hash_changed + bytes(figures.changed_bytes)? / limits.zstd_changed;
    let full = hash_base + bytes(figures.base_allocated)? / limits.zstd_allocated;
    let write = bytes(figures.changed_allocated)? / limits.write;
    let unpack =
        bytes(figures.changed_allocated)? / limits.unzstd_allocated + bytes(ours.stored_bytes)? / limits.sha256;
    let mib = 1024.0 * 1024.0;
    let rows = vec![
        Row::new("hash", "s", ours.hash, hash_base, 1.6, "SHA-256 of the allocated bytes".into()),
        Row::new("full", "s", ours.full, full, 1.6, "that and zstd -3 of them".into()),
        Row::new("delta", "s", ours.delta, delta, 1.6, "SHA-256 of allocated, zstd -3 of changed".into()),
        Row::new(
            "restore",
            "s",
            ours.restore,
            write.max(unpack),
            2.0,
            format!(
                "the slower of fsynced write {write:.2} s and decompress + digests {unpack:.2} s; the read-back, {:.2} s \
                 more, is not counted",
                ours.read_back
            ),
        ),
        Row::new("peak_memory", "MiB", bytes(ours.peak_bytes)? / mib, 512.0, 1.0, "512 MiB".into()),
    ];
    Ok(Report {
        ok: rows.iter().all(|row| row.met),
        rows,
        workload: figures,
        delta_bytes: ours.delta_bytes,
        zstd_of_changed_bytes: limits.zstd_changed_bytes,
        limits,
    })
}
