//! Processes that we started, or that something we started did.
//!
//! Agents outlive their boss as machines do, so they are found by what they inherit: a word in their environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cleanup::Cleanup;

/// The variable that everything of one site inherits.
pub const MARK: &str = "EBB_TESTS_SITE";

/// A process of a site.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its parent.
    pub parent: i32,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The program's name.
    pub name: String,
}

impl Process {
    /// Sends it a signal; that it is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself a moment ago.
        let _gone = kill_process(self.pid, signal);
    }
}

/// Runs a command to its end, and takes it along when a signal ends us.
///
/// # Errors
/// When it cannot be started.
pub fn run_to_end(
    command: &mut Command,
    meanwhile: impl FnOnce(&mut Child) -> std::io::Result<()>,
) -> std::io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let ended = Arc::new(AtomicBool::new(false));
    let _cleanup = Cleanup::new({
        let ended = Arc::clone(&ended);
        move || {
            if let Some(pid) = pid.filter(|_| !ended.load(Ordering::Acquire)) {
                // It may have ended by the same Ctrl-C.
                let _gone = kill_process(pid, Signal::TERM);
            }
        }
    });
    meanwhile(&mut child)?;
    let status = child.wait();
    ended.store(true, Ordering::Release);
    status
}

/// Returns the living processes that inherited this mark.
pub fn marked(mark: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={mark}");
    all()
        .filter(|(folder, _)| has_word(&folder.join("environ"), &wanted))
        .filter_map(|(folder, pid)| look(&folder, pid))
        .collect()
}

/// Kills everything that inherited this mark, and waits until none is left.
pub fn kill_marked(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = marked(mark);
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for process in left {
            process.signal(Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn all() -> impl Iterator<Item = (PathBuf, Pid)> {
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(move |entry| {
        let raw: i32 = entry.file_name().to_str()?.parse().ok()?;
        (raw != own).then_some((entry.path(), Pid::from_raw(raw)?))
    })
}

fn has_word(path: &Path, word: &str) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|item| item == word.as_bytes()))
}

fn look(folder: &Path, pid: Pid) -> Option<Process> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let mut fields = tail.split_whitespace();
    // A zombie is not alive; whoever is its parent will notice.
    let alive = fields.next()? != "Z";
    let parent = fields.next()?.parse().ok()?;
    let arguments = std::fs::read(folder.join("cmdline")).ok()?;
    let arguments = arguments.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let name = head.split_once('(')?.1.to_owned();
    alive.then_some(Process { pid, parent, arguments, name })
}
