//! Local nodes: the memory file system is a process, the disks are files.
//!
//! The agent outlives boss: it runs in a process group of its own, so a boss that is killed and started again finds it
//! by its pid file, or by its command line when boss died before that was written.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use boss_api::agent::BootParameters;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{BootControl, Machine, PowerDriver, PowerError, PowerFuture, PowerStatus};
use crate::store::make_private_dir;

/// How long a process group gets between being asked to end and being killed.
const TERM_GRACE: Duration = Duration::from_secs(3);
/// How long a killed process group may take to be gone: longer means it hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// How often a dying process group is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts and stops agents as processes of this machine.
#[derive(Debug)]
pub struct ProcessDriver {
    agent_program: PathBuf,
    run: PathBuf,
    log: PathBuf,
    changed: Arc<Notify>,
}

/// A process, told apart from a later one of the same number by when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Agent {
    pid: i32,
    start_time: u64,
}

impl ProcessDriver {
    /// Makes a driver that keeps its files under `state` and wakes `changed` when an agent ends.
    pub fn new(agent_program: PathBuf, state: &Path, changed: Arc<Notify>) -> Self {
        Self { agent_program, run: state.join("run/nodes"), log: state.join("log/nodes"), changed }
    }

    fn folder(&self, machine: &Machine) -> PathBuf {
        self.run.join(machine.name.as_str())
    }

    /// Returns the agent of a machine: the one of the pid file if it lives, else one found by its command line.
    fn find(&self, machine: &Machine) -> io::Result<Option<Agent>> {
        let noted = self.noted(machine)?;
        match noted {
            Some(agent) if agent.lives() => Ok(Some(agent)),
            _ => self.find_stray(machine),
        }
    }

    fn noted(&self, machine: &Machine) -> io::Result<Option<Agent>> {
        match fs::read(self.folder(machine).join("agent.pid")) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn find_stray(&self, machine: &Machine) -> io::Result<Option<Agent>> {
        let work = self.folder(machine).join("work");
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Processes come and go while we look; one that is gone is not ours to find.
            let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
            let mut words = line.split(|byte| *byte == 0);
            let ours = words.any(|word| word == b"--work-dir") && words.next() == Some(work.as_os_str().as_bytes());
            if ours
                && let Some(stat) = Stat::read(pid)
                && !stat.dead
                // The leader of its group is the agent; its children carry other command lines.
                && stat.group == pid
            {
                return Ok(Some(Agent { pid, start_time: stat.start_time }));
            }
        }
        Ok(None)
    }

    async fn start(&self, machine: &Machine, parameters: &BootParameters) -> io::Result<()> {
        self.stop(machine).await?;
        let folder = self.folder(machine);
        make_private_dir(&folder)?;
        make_private_dir(&folder.join("work"))?;
        make_private_dir(&self.log)?;
        let boot_file = folder.join("boot.json");
        let bytes = serde_json::to_vec(parameters).map_err(io::Error::other)?;
        // A file left by a boot that never read it would keep its mode: always a new one.
        remove_if_there(&boot_file)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&boot_file)?;
        file.write_all(&bytes)?;
        drop(file);
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.log.join(format!("{}.log", machine.name)))?;
        failpoints::hit("power.before-start")?;
        let mut child = tokio::process::Command::new(&self.agent_program)
            .arg("--boot-parameters")
            .arg(&boot_file)
            .arg("--work-dir")
            .arg(folder.join("work"))
            // What boss was told is none of the agent's business, the database's password least of all.
            .env_remove("EBB_DATABASE_URL")
            .env_remove("EBB_CONFIG")
            .env_remove("DATABASE_URL")
            .env_remove("PGPASSWORD")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("the agent ended before it was looked at"))?;
        // Not reaped yet, so its entry exists even if it ended already.
        let stat = Stat::read(pid).ok_or_else(|| io::Error::other("the agent's entry in /proc cannot be read"))?;
        let agent = Agent { pid, start_time: stat.start_time };
        failpoints::hit("power.started")?;
        write_whole(&folder.join("agent.pid"), &serde_json::to_vec(&agent).map_err(io::Error::other)?)?;
        write_whole(&folder.join("mode"), b"mfs")?;
        let (name, changed) = (machine.name.clone(), Arc::clone(&self.changed));
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::info!(node = %name, %status, "the agent ended"),
                Err(error) => tracing::warn!(node = %name, %error, "wait for the agent"),
            }
            changed.notify_waiters();
        });
        Ok(())
    }

    /// Ends the agent's process group: asked first, then killed. Gone when this returns.
    async fn stop(&self, machine: &Machine) -> io::Result<()> {
        let group = match self.find(machine)? {
            Some(agent) => Some(agent.pid),
            // The leader is gone; children it left behind still carry its group number, unless that was given away.
            None => self.noted(machine)?.map(|agent| agent.pid).filter(|pid| Stat::read(*pid).is_none_or(|s| s.dead)),
        };
        if let Some(group) = group.and_then(Pid::from_raw) {
            end_group(group).await?;
        }
        let folder = self.folder(machine);
        remove_if_there(&folder.join("agent.pid"))?;
        remove_if_there(&folder.join("boot.json"))?;
        remove_if_there(&folder.join("mode"))
    }

    fn look(&self, machine: &Machine) -> io::Result<PowerStatus> {
        if self.find(machine)?.is_some() {
            return Ok(PowerStatus::Mfs);
        }
        match fs::read(self.folder(machine).join("mode")) {
            Ok(mode) if mode == b"own-disk" => Ok(PowerStatus::OwnDisk),
            Ok(_) => Ok(PowerStatus::Off),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PowerStatus::Off),
            Err(error) => Err(error),
        }
    }

    async fn own_disk(&self, machine: &Machine) -> io::Result<()> {
        self.stop(machine).await?;
        make_private_dir(&self.folder(machine))?;
        write_whole(&self.folder(machine).join("mode"), b"own-disk")
    }
}

impl BootControl for ProcessDriver {
    fn boot_mfs<'a>(&'a self, machine: &'a Machine, parameters: &'a BootParameters) -> PowerFuture<'a, ()> {
        Box::pin(async move {
            self.start(machine, parameters)
                .await
                .map_err(|source| error(machine, "boot the memory file system", source))
        })
    }

    fn boot_disk<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        Box::pin(
            async move { self.own_disk(machine).await.map_err(|source| error(machine, "boot the own disk", source)) },
        )
    }
}

impl PowerDriver for ProcessDriver {
    fn shut_down<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        // The own system of a local node is no process: its disk file just lies there, always flushed.
        Box::pin(async move { self.stop(machine).await.map_err(|source| error(machine, "shut-down", source)) })
    }

    fn power_off<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, ()> {
        Box::pin(async move { self.stop(machine).await.map_err(|source| error(machine, "power-off", source)) })
    }

    fn status<'a>(&'a self, machine: &'a Machine) -> PowerFuture<'a, PowerStatus> {
        Box::pin(async move { self.look(machine).map_err(|source| error(machine, "look at the power", source)) })
    }
}

fn error(machine: &Machine, what: &'static str, source: io::Error) -> PowerError {
    PowerError { node: machine.name.clone(), what, source }
}

impl Agent {
    fn lives(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| !stat.dead && stat.start_time == self.start_time)
    }
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug)]
struct Stat {
    dead: bool,
    group: i32,
    start_time: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name stands in parentheses and may hold anything, even a parenthesis.
        let (_, rest) = text.rsplit_once(')')?;
        let words: Vec<_> = rest.split_ascii_whitespace().collect();
        Some(Self {
            dead: matches!(*words.first()?, "Z" | "X"),
            group: words.get(2)?.parse().ok()?,
            start_time: words.get(19)?.parse().ok()?,
        })
    }
}

async fn end_group(group: Pid) -> io::Result<()> {
    for (signal, patience) in [(Signal::TERM, TERM_GRACE), (Signal::KILL, KILL_DEADLINE)] {
        match rustix::process::kill_process_group(group, signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !group_lives(group)? {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the agent's processes do not die: they hang in the kernel"))
}

/// Returns whether a process of the group still runs. Zombies do not: whoever is their parent reaps them.
fn group_lives(group: Pid) -> io::Result<bool> {
    if rustix::process::test_kill_process_group(group) == Err(rustix::io::Errno::SRCH) {
        return Ok(false);
    }
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if Stat::read(pid).is_some_and(|stat| stat.group == group.as_raw_nonzero().get() && !stat.dead) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a small file whole or not at all. Not made durable: it is about processes, which do not survive either.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("new");
    fs::write(&partial, bytes)?;
    fs::rename(&partial, path)
}
