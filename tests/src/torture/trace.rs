//! What boss asks of the system during a cycle, recorded with `strace`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::turnover::{Turn, Turnover};
use crate::cleanup::Cleanup;
use crate::tools;

const CALLS: &str = "trace=openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,\
    mkdir,mkdirat";
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it.
    pub thread: String,
    /// Its name.
    pub name: String,
    /// The file that its descriptor is of.
    pub file: Option<String>,
    /// The texts among its arguments: paths, or what is written, as far as it was recorded.
    pub texts: Vec<Vec<u8>>,
    /// The numbers after them.
    pub numbers: Vec<u64>,
    /// Whether the file that is opened is made empty.
    pub truncates: bool,
    /// What came of it.
    pub result: u64,
}

impl Call {
    /// Returns a text as a path.
    pub fn path(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.texts.get(index)?).ok()
    }
}

/// Records both experiments taking their turns; of what is written so many bytes of each call.
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
    Ok(understand(&text))
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

/// Understands what `strace -f -y -xx` writes, in the order in which the calls ended: those that overlap are in two parts.
pub fn understand(text: &str) -> Vec<Call> {
    let (mut calls, mut open) = (Vec::new(), HashMap::new());
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let call = if rest.starts_with("<... ") { open.remove(thread) } else { begun(thread, rest) };
        let Some(mut call) = call else { continue };
        if rest.ends_with("<unfinished ...>") {
            open.insert(thread, call);
        } else if let Some(result) = result(rest) {
            call.result = result;
            calls.push(call);
        }
    }
    calls
}

/// Returns what a call gave, unless it failed.
fn result(text: &str) -> Option<u64> {
    let (_, result) = text.rsplit_once(" = ")?;
    result.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn begun(thread: &str, text: &str) -> Option<Call> {
    let (name, arguments) = text.split_once('(')?;
    let (first, rest) = arguments.split_once(',').unwrap_or((arguments, ""));
    let file = first.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| decode(path));
    let file = file.and_then(|path| String::from_utf8(path).ok());
    let texts = arguments.split('"').skip(1).step_by(2).map(decode).collect();
    let after = rest.rsplit_once('"').map_or(rest, |(_, after)| after);
    let after = after.split([')', '<']).next().unwrap_or(after);
    let numbers = after.split(',').filter_map(|word| word.trim().parse().ok()).collect();
    let truncates = after.contains("O_TRUNC");
    Some(Call { thread: thread.into(), name: name.into(), file, texts, numbers, truncates, result: 0 })
}

/// Turns `\x61b` into `ab`.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut pieces = text.split("\\x");
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_one_part_and_in_two_are_understood_and_failed_ones_left_out() {
        let text = r#"
15 write(3<\x2f\x61\x20b>, "\x68\x69\x00", 3) = 3
7  pwrite64(3</a>, "\xff"..., 500, 4096 <unfinished ...>
15 mkdir("/x", 0700)            = -1 EEXIST (File exists)
7  <... pwrite64 resumed>) = 500
7  renameat2(AT_FDCWD</home>, "\x2fx", AT_FDCWD</home>, "/y", RENAME_NOREPLACE) = 0
15 +++ exited with 0 +++
"#;
        let calls = understand(text);
        let [write, pwrite, rename] = calls.as_slice() else { panic!("{calls:#?}") };
        assert_eq!((write.file.as_deref(), write.texts[0].as_slice()), (Some("/a b"), &b"hi\0"[..]));
        assert_eq!((pwrite.name.as_str(), pwrite.numbers.as_slice()), ("pwrite64", &[500, 4096][..]));
        assert_eq!((rename.path(0), rename.path(1)), (Some("/x"), Some("/y")));
    }
}
