//! Programs under `strace`: which durable system calls they make, and what becomes of them when one of these goes wrong.
//!
//! A call is named by its kind and its number. `strace` counts for each thread by itself, so what is swept has one thread
//! that does the work; its counts are taken first, from a run that nothing happens to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::replay::BYTES;
use super::strace::{Call, understand};
use crate::tools;

/// Whatever changes what is on a disk, or makes it durable. Some of them exist on some processors only.
const DURABLE: &str = "?write,?pwrite64,?writev,?pwritev,?pwritev2,?fsync,?fdatasync,?sync_file_range,?syncfs,?rename,\
    ?renameat,?renameat2,?link,?linkat,?unlink,?unlinkat,?rmdir,?mkdir,?mkdirat,?symlink,?symlinkat,?truncate,?ftruncate,\
    ?fallocate,?chmod,?fchmod,?fchmodat,?fchmodat2,?chown,?fchown,?lchown,?fchownat,?fsetxattr,?setxattr,?lsetxattr,\
    ?utimensat,?copy_file_range";

/// How long a run may take; it takes a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed instead of the call.
    Kill,
    /// The call does nothing and fails with this error.
    Error(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("SIGKILL"),
            Self::Error(error) => f.write_str(error),
        }
    }
}

/// One call that goes wrong.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The kind of call.
    pub call: String,
    /// The how manieth of its thread, counted from 1.
    pub number: u64,
    /// What is done to it.
    pub fault: Fault,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} {}", self.fault, self.call, self.number)
    }
}

/// How a program ended, and what it did until then.
#[derive(Debug)]
pub struct Ended {
    /// What it said, and its exit status.
    pub output: Output,
    /// Its calls, in the order in which they ended.
    pub calls: Vec<Call>,
}

impl Ended {
    /// Returns true when it was killed.
    pub fn killed(&self) -> bool {
        self.output.status.signal() == Some(9)
    }

    /// Returns what it said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).trim().to_owned()
    }
}

/// Returns whether programs can be looked at here, or why not.
///
/// # Errors
/// With the reason.
pub fn available() -> anyhow::Result<()> {
    ensure!(tools::find("strace").is_some(), "strace is not installed");
    let tried = tools::program("strace").args(["-o", "/dev/null", "-e", "trace=none", "true"]).output()?;
    ensure!(tried.status.success(), "strace cannot trace here: {}", String::from_utf8_lossy(&tried.stderr).trim());
    Ok(())
}

/// Runs a command to its end and looks on.
///
/// # Errors
/// When it cannot be run.
pub fn watch(command: &Command, trace: &Path) -> anyhow::Result<Ended> {
    run(command, trace, &BRIEF, None)
}

/// Runs a command in which one call goes wrong.
///
/// # Errors
/// When it cannot be run.
pub fn inject(command: &Command, trace: &Path, injection: &Injection) -> anyhow::Result<Ended> {
    run(command, trace, &BRIEF, Some(injection))
}

/// Runs a command in which one call may go wrong, and keeps all that it wrote, so that it can be replayed.
///
/// # Errors
/// When it cannot be run.
pub fn record(command: &Command, trace: &Path, injection: Option<&Injection>) -> anyhow::Result<Ended> {
    run(command, trace, &WHOLE, injection)
}

/// Runs a command to its end and looks on, also at what it reads.
///
/// # Errors
/// When it cannot be run.
pub fn watch_reads(command: &Command, trace: &Path) -> anyhow::Result<Ended> {
    run(command, trace, &READS, None)
}

/// What is kept of a run.
struct Kept {
    /// Which calls, besides the durable ones.
    more: &'static str,
    /// So many bytes of what each writes.
    bytes: usize,
    /// Calls of which no bytes are kept.
    bare: Option<&'static str>,
}

const BRIEF: Kept = Kept { more: "", bytes: 96, bare: None };
const READS: Kept = Kept { more: ",read", bytes: 0, bare: None };
/// A call can only be made to fail if it is looked at, too.
const WHOLE: Kept = Kept { more: ",openat,read", bytes: BYTES, bare: Some("raw=read") };

fn run(command: &Command, trace: &Path, kept: &Kept, injection: Option<&Injection>) -> anyhow::Result<Ended> {
    let Kept { more, bytes, bare } = kept;
    let mut strace = tools::program("strace");
    strace.args(["-f", "-qq", "-y", "-xx", "-s"]).arg(bytes.to_string());
    strace.args(["-e", "signal=none", "-e"]).arg(format!("trace={DURABLE}{more}"));
    if let Some(bare) = bare {
        strace.args(["-e", bare]);
    }
    if let Some(Injection { call, number, fault }) = injection {
        let what = match fault {
            Fault::Kill => "signal=SIGKILL".to_owned(),
            Fault::Error(error) => format!("error={error}"),
        };
        strace.arg("-e").arg(format!("inject={call}:{what}:when={number}"));
    }
    strace.arg("-o").arg(trace).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    let output = to_end(&mut strace)?;
    let text = fs::read_to_string(trace).with_context(|| format!("read {}", trace.display()))?;
    if text.is_empty() && !output.status.success() {
        bail!("strace did nothing: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(Ended { output, calls: understand(&text) })
}

/// Runs a command, which says little, in a group of its own; what hangs is ended and is an error.
fn to_end(command: &mut Command) -> anyhow::Result<Output> {
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start strace")?;
    let until = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                kill_process_group(group, Signal::KILL).context("end what hangs")?;
            }
            let said = child.wait_with_output()?;
            bail!("it hangs; it said: {}", String::from_utf8_lossy(&said.stderr).trim());
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().context("wait for strace")
}

/// Returns the calls, by name and number, that are talk in any of the threads.
pub fn talk(calls: &[Call]) -> HashSet<(String, u64)> {
    let mut numbers: HashMap<(&str, u32), u64> = HashMap::new();
    let mut found = HashSet::new();
    for call in calls {
        let number = numbers.entry((&call.name, call.thread)).or_default();
        *number += 1;
        if call.is_talk() {
            found.insert((call.name.clone(), *number));
        }
    }
    found
}

/// Returns how often each kind of call is made by the thread that makes it most often.
pub fn count(calls: &[Call]) -> BTreeMap<String, u64> {
    let mut by_thread: HashMap<(&str, u32), u64> = HashMap::new();
    for call in calls {
        *by_thread.entry((&call.name, call.thread)).or_default() += 1;
    }
    let mut most: BTreeMap<String, u64> = BTreeMap::new();
    for ((name, _), count) in by_thread {
        let known = most.entry(name.to_owned()).or_default();
        *known = count.max(*known);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_in_the_thread_that_makes_most_and_talk_is_known() {
        let calls = understand(concat!(
            "7 write(1<pipe:[1]>, \"y\", 1) = 1\n",
            "8 write(4</a/d>, \"z\", 1) = 1\n",
            "8 write(4</a/d>, \"z\", 1) = 1\n",
        ));
        assert_eq!(count(&calls)["write"], 2);
        assert_eq!(talk(&calls), HashSet::from([("write".to_owned(), 1)]));
    }
}
