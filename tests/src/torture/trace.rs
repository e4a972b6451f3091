//! What boss asks of the system during a cycle, recorded with `strace`.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::strace::{Call, understand};
use super::turnover::{Turn, Turnover};
use crate::cleanup::Cleanup;
use crate::tools;

const CALLS: &str = "trace=openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,\
    mkdir,mkdirat";
const PATIENCE: Duration = Duration::from_secs(30);

/// Records the calls that succeed while both experiments take their turns; of what is written so many bytes of each call.
///
/// # Errors
/// When the site or `strace` does not work.
pub fn record(turnover: &mut Turnover, folder: &Path, bytes: usize) -> anyhow::Result<Vec<Call>> {
    let trace = folder.join("trace");
    let watcher = Watcher::attach(turnover, &trace, bytes)?;
    for turn in Turn::ALL {
        turnover.turn(turn)?;
    }
    watcher.detach()?;
    let text = fs::read_to_string(&trace).with_context(|| format!("read {}", trace.display()))?;
    fs::remove_file(&trace).context("remove the trace")?;
    let mut calls = understand(&text);
    calls.retain(Call::succeeded);
    Ok(calls)
}

/// `strace`, looking at boss.
struct Watcher {
    child: Child,
    _killed: Cleanup,
}

impl Watcher {
    fn attach(turnover: &Turnover, trace: &Path, bytes: usize) -> anyhow::Result<Self> {
        let ready = turnover.site().state().join("run/boss.json");
        let told: serde_json::Value = serde_json::from_slice(&fs::read(ready)?)?;
        let boss = told["pid"].as_u64().context("boss's process is not known")?;
        let mut command = tools::program("strace");
        command.args(["-f", "-y", "-xx", "-s"]).arg(bytes.to_string()).args(["-e", CALLS, "-o"]).arg(trace);
        let child = command.arg("-p").arg(boss.to_string()).stderr(Stdio::null()).spawn().context("start strace")?;
        let strace = child.id();
        let killed = Cleanup::new(move || signal(strace, Signal::KILL));
        let deadline = Instant::now() + PATIENCE;
        while !all_traced(boss, strace)? {
            ensure!(Instant::now() < deadline, "strace does not get hold of boss");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, _killed: killed })
    }

    fn detach(mut self) -> anyhow::Result<()> {
        signal(self.child.id(), Signal::INT);
        self.child.wait().context("wait for strace").map(drop)
    }
}

fn all_traced(process: u64, tracer: u32) -> anyhow::Result<bool> {
    let wanted = format!("TracerPid:\t{tracer}");
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // One that ended meanwhile needs no looking at.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
        if !status.lines().any(|line| line == wanted) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // Gone is as good.
        let _gone = kill_process(pid, signal);
    }
}
