//! `make bench`: our times against limits measured in the same run by programs that are not ours.
//!
//! A ratio is ours divided by the limit, in time or bytes: lower is better, and a goal is the most it may be.

mod direct;
mod extents;
mod limits;
mod measure;
mod memory;
mod row;
mod speed;
mod workload;

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use limits::Limits;
use measure::{Program, say};
use row::Row;
use workload::Workload;

/// How to run the benchmark.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the built programs lie; beside this one by default
    #[arg(long)]
    programs: Option<PathBuf>,
    /// An `imagezip` built without SHA instructions; without it that is not measured
    #[arg(long, value_name = "IMAGEZIP")]
    soft: Option<PathBuf>,
    /// Where the workload is made and the report is written
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Two images of an ext4 without a partition table to measure with, instead of a workload that is made
    #[arg(long, num_args = 2, value_names = ["BASE", "CHANGED"])]
    pair: Option<Vec<PathBuf>>,
    /// MiB of files on the benchmarked disk
    #[arg(long, default_value_t = 2200)]
    used_mib: u64,
    /// Runs of each measurement; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    rows: Vec<Row>,
    /// What could not be measured here, and why.
    skipped: Vec<String>,
    workload: workload::Figures,
    limits: Limits,
    delta_bytes: u64,
}

/// Makes the workload, measures limits and ourselves, prints the table and writes `report.json`.
///
/// # Errors
/// When something cannot be run. A missed goal is not an error but `false`.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let programs = match &options.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("the folder of this program")?.to_path_buf(),
    };
    let program = Program { path: programs.join("imagezip"), runs: options.runs };
    std::fs::create_dir_all(&options.out).with_context(|| format!("make {}", options.out.display()))?;
    let workload = match options.pair.as_deref() {
        Some([base, changed]) => Workload::of(base.clone(), changed.clone(), &options.out)?,
        _ => Workload::make(&options.out, options.used_mib)?,
    };
    let report = measure_all(options, &program, &workload)?;
    print(&report);
    let path = options.out.join("report.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("write {}", path.display()))?;
    Ok(report.ok)
}

fn measure_all(options: &Options, program: &Program, workload: &Workload) -> anyhow::Result<Report> {
    let out = &options.out;
    say("measuring the limits");
    let limits = Limits::measure(workload, out)?;
    let made = speed::Made::within(out);
    let (mut rows, peak) = speed::rows(program, workload, &limits, &made)?;
    let delta_bytes = std::fs::metadata(&made.delta)?.len();
    let mut skipped = Vec::new();
    match &options.soft {
        // The way to hide the instructions from openssl is for this kind of processor alone.
        Some(path) if cfg!(target_arch = "x86_64") => {
            let soft = Program { path: path.clone(), ..program.clone() };
            rows.extend(speed::soft_rows(&soft, workload, &limits, &made)?);
        }
        Some(_) => skipped.push("hash_soft, delta_soft: only on x86-64".to_owned()),
        None => skipped.push("hash_soft, delta_soft: no program was given with --soft".to_owned()),
    }
    match direct::row(program, workload, &limits, out)? {
        Ok(row) => rows.push(row),
        Err(why) => skipped.push(format!("hash_direct: {why}")),
    }
    rows.push(memory::row("peak_memory", peak, limits.cores)?);
    rows.extend(memory::rows(program, out, limits.cores)?);
    rows.extend(extents::rows(program, out, limits.cores)?);
    let ok = rows.iter().all(|row| row.met);
    Ok(Report { ok, rows, skipped, workload: workload.figures, limits, delta_bytes })
}

#[expect(clippy::print_stdout, reason = "what the table cannot say is said below it")]
fn print(report: &Report) {
    row::print(&report.rows);
    for why in &report.skipped {
        println!("skipped: {why}");
    }
    for command in &report.limits.commands {
        println!("limit measured by: {command}");
    }
}
