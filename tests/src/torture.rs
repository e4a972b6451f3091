//! `make torture`: whatever goes wrong, nothing is lost. What was tried and what was found is in `report.json`.
//!
//! - [`failpoints`]: an error, a crash and a delay at every named place ([`points`], armed by [`arming`]); [`counted`]: a
//!   crash at the so-many-th of them; shared among [`workers`]
//! - [`turnover`]: two experiments that take the same machines in turn, on disks that an [`oracle`] judges; [`rows`]:
//!   and the database speaks of no file that is not there
//! - [`order`], [`crashstates`]: flushes that are missing, seen in a [`trace`], and what a crash may then leave, by
//!   [`replay`]; of transfers it is written down and finished: [`transfer_states`], with journals that [`mod@reseal`] fits
//!   to it
//! - [`nospace`]: full file systems
//! - [`planted`]: bugs in the code, and that they are caught
//! - [`mod@crate::model`]: the protocol, explored
//! - [`uploads`], [`commands`]: what else programs do durably
//! - [`sweeps`]: programs that are killed at one system call after the other, or get errors from them: [`sigkill`] does
//!   it with [`syscalls`], to [`transfers`] and [`images`], and [`mod@errno`] judges errors; [`mod@strace`] understands
//!   what they did
//! - [`transfer_order`]: what a transfer flushes before what
//! - [`mod@report`]: the account

pub mod arming;
pub mod commands;
pub mod counted;
pub mod crashstates;
pub mod errno;
pub mod failpoints;
pub mod images;
pub mod nospace;
pub mod oracle;
pub mod order;
pub mod planted;
pub mod points;
pub mod replay;
pub mod report;
pub mod reseal;
pub mod rows;
pub mod sigkill;
pub mod strace;
pub mod sweeps;
pub mod syscalls;
pub mod trace;
pub mod transfer_order;
pub mod transfer_states;
pub mod transfers;
pub mod turnover;
pub mod uploads;
pub mod workers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use self::report::{Method, Report, Row};
use self::sigkill::Bound;
use crate::{model, pg, processes, site, talk};

/// How to torture.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where everything goes
    #[arg(long, default_value = "target/torture")]
    pub out: PathBuf,
    /// Only these methods
    #[arg(long, value_enum, num_args = 1..)]
    pub only: Vec<Method>,
    /// Only named places that begin so
    #[arg(long)]
    pub points: Option<String>,
    /// Only planted bugs whose names begin so
    #[arg(long)]
    pub bugs: Option<String>,
    /// How many amounts of room are left on the file system
    #[arg(long, default_value_t = 100)]
    pub sizes: u64,
    /// How many sites at once
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
}

/// Runs all methods, or those that were asked for. Returns whether all is well.
///
/// # Errors
/// When the report cannot be written.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    fs::create_dir_all(&options.out).with_context(|| format!("make {}", options.out.display()))?;
    let out = options.out.canonicalize()?;
    let asked = |method: &Method| options.only.is_empty() || options.only.contains(method);
    let mut rows = Vec::new();
    for method in [
        Method::Failpoints,
        Method::Counted,
        Method::Sigkill,
        Method::Errno,
        Method::Order,
        Method::Crashstates,
        Method::Nospace,
        Method::Model,
        Method::Planted,
    ]
    .iter()
    .filter(|method| asked(method))
    {
        let began = Instant::now();
        let row = one(*method, &out, options);
        rows.push(row.unwrap_or_else(|error| Row::failed(*method, format!("{error:#}"), began.elapsed())));
    }
    let report = Report::new(rows);
    let path = out.join("report.json");
    fs::write(&path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("write {}", path.display()))?;
    talk::result(report.table());
    talk::say(format!("report: {}", path.display()));
    Ok(report.ok)
}

fn one(method: Method, out: &Path, options: &Options) -> anyhow::Result<Row> {
    let folder = out.join(method.name());
    // What planted bugs are built in is kept: it takes minutes.
    if method != Method::Planted {
        remove(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    match method {
        Method::Failpoints => {
            let mut cases = failpoints::all();
            let begins = options.points.clone().unwrap_or_default();
            cases.retain(|(point, _)| point.name.starts_with(&begins));
            failpoints::run(&folder, &cases, options.workers)
        }
        // Half of what a sweep of system calls tries, in each of the four turns.
        Method::Counted => counted::run(&folder, Bound { every: 25, spread: 25 }, None, options.workers),
        Method::Order => order::run(&folder),
        Method::Crashstates => crashstates::run(&folder),
        Method::Nospace => {
            nospace::run(&folder, options.sizes)?.context("a small file system cannot be mounted here: run it as root")
        }
        Method::Planted => planted::run(&folder, &options.bugs.clone().unwrap_or_default()),
        Method::Model => model::account::run(),
        Method::Sigkill => sweeps::kills(&folder),
        Method::Errno => sweeps::errors(&folder),
    }
}

/// Removes what an earlier run left, its processes first.
fn remove(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    stop_below(folder)?;
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

fn stop_below(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_symlink() || !path.is_dir() {
            continue;
        }
        if path.ends_with("site") {
            processes::kill_marked(&site::mark_of(&path));
            pg::remove_leftovers(&path);
            nospace::unmount(&path.join("state"));
        } else {
            stop_below(&path)?;
        }
    }
    Ok(())
}
