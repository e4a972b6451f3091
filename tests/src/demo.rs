//! `make demo`: the main job once, for real, from built programs, judged by programs that are not ours.
//!
//! A sealed base image; an experiment of two machines, changed and swapped out; the machines given to another
//! experiment, which overwrites them; the first swapped in again, each virtual node on the other machine of the two.

mod report;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::site::Site;
use crate::{cleanup, pg, processes, talk, tools};

pub use report::{NodeReport, Report};
use steps::Demo;

/// A folder of ours says so: nothing else is ever removed.
const OURS: &str = "made-by-ebb-demo";

/// How to run the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where everything goes; what an earlier demo left there is removed
    #[arg(long, default_value = "target/demo")]
    pub out: PathBuf,
    /// Use small disks
    #[arg(long)]
    pub small: bool,
    /// Leave the site running until Ctrl-C
    #[arg(long)]
    pub serve: bool,
    /// Flip one byte of a restored disk before the judge looks at it: the demo must fail
    #[arg(long)]
    pub flip_byte: bool,
}

/// How large things are.
#[derive(Clone, Copy, Debug)]
struct Scale {
    system_mib: u64,
    system_used: u64,
    data_mib: u64,
    data_used: u64,
    new_bytes: u64,
    touched: usize,
}

impl Scale {
    const MIB: u64 = 1 << 20;
    const FULL: Self = Self {
        system_mib: 1024,
        system_used: 560 * Self::MIB,
        data_mib: 128,
        data_used: 32 * Self::MIB,
        new_bytes: 48 * Self::MIB,
        touched: 120,
    };
    const SMALL: Self = Self {
        system_mib: 176,
        system_used: 80 * Self::MIB,
        data_mib: 32,
        data_used: 6 * Self::MIB,
        new_bytes: 6 * Self::MIB,
        touched: 24,
    };
}

/// Runs the demo. Returns the exit code.
///
/// # Errors
/// When a step does not work; the report says so, too.
pub fn main(options: &Options) -> anyhow::Result<u8> {
    tools::install_missing(&[])?;
    let out = make_room(&options.out)?;
    let site = Site::start(&out, &pg::Options { durable: true, ..pg::Options::default() })?;
    let scale = if options.small { Scale::SMALL } else { Scale::FULL };
    let ran = Demo::new(&site, scale).and_then(|demo| demo.run(options.flip_byte));
    let report = match &ran {
        Ok(report) => report.clone(),
        Err(error) => Report::failed(format!("{error:#}")),
    };
    let path = out.join("report.json");
    fs::write(&path, serde_json::to_vec_pretty(&report)?).with_context(|| format!("write {}", path.display()))?;
    ran.with_context(|| format!("boss's log is {}", out.join("boss.log").display()))?;
    talk::result(report.table());
    talk::say(format!("report: {}; evidence: {}", path.display(), out.join("evidence").display()));
    if options.serve {
        serve(&site)?;
    }
    drop(site);
    if report.ok && !options.serve {
        // The database is gone, so these are of no use; report and evidence stay.
        for name in ["machines", "state", "work", "keys"] {
            fs::remove_dir_all(out.join(name)).with_context(|| format!("remove {name}"))?;
        }
    }
    Ok(u8::from(!report.ok))
}

fn serve(site: &Site) -> anyhow::Result<()> {
    let (user, file) = site.login();
    let password = fs::read_to_string(file).context("read the password")?;
    cleanup::interruption_is_success();
    talk::result(format!("\nserving at {}\n  user: {user}\n  password: {}", site.url(), password.trim()));
    talk::result("Ctrl-C stops everything");
    loop {
        // The signal ends the program.
        std::thread::park();
    }
}

/// Removes what an earlier demo left, its processes too, and makes the folder anew.
fn make_room(out: &Path) -> anyhow::Result<PathBuf> {
    if out.exists() {
        let out = out.canonicalize()?;
        let empty = fs::read_dir(&out).with_context(|| format!("read {}", out.display()))?.next().is_none();
        ensure!(
            empty || out.join(OURS).is_file(),
            "{} holds something that is not from a demo; it is left alone: name another folder with --out",
            out.display()
        );
        processes::kill_marked(&crate::site::mark_of(&out));
        pg::remove_leftovers(&out);
        fs::remove_dir_all(&out).with_context(|| format!("remove {}", out.display()))?;
    }
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    fs::write(out.join(OURS), "The next demo removes this folder.\n")?;
    Ok(out.canonicalize()?)
}
