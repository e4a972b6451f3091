//! What a crash of the machine may leave of a transfer: its recorded system calls, replayed up to each of them, written to
//! a real folder in each state that may be left then ([`replay`](super::replay)), and finished there by the real program.
//!
//! In every state nothing is lost: a source that is gone is whole at the destination, and so is whatever has a name there.
//! The transfer is then finished as its user would, by a resume, or by a repair and a resume, and everything is identical.
//! Where the journal is not there, nothing else was done yet, and the transfer is begun anew.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::fs::{XattrFlags, lsetxattr};

use super::replay::{Files, Kind, Left, Metadata};
use super::reseal::{reseal, seal_of};
use super::sigkill::Subject as _;
use super::strace::Call;
use super::syscalls::{Fault, Injection, available, record, watch_reads};
use super::transfers::{CHUNK_BYTES, Transfer};
use crate::tools;

/// What happens to a transfer before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Nothing, and its sources are released.
    InOneGo,
    /// The same with a single file.
    OfAFile,
    /// A chunk of a source cannot be read, and it is resumed.
    Resumed,
    /// What was written cannot be read back, and it is given up. Only what comes then is looked at.
    GivenUp,
}

impl Story {
    const ALL: [Self; 4] = [Self::InOneGo, Self::OfAFile, Self::Resumed, Self::GivenUp];

    const fn name(self) -> &'static str {
        match self {
            Self::InOneGo => "in-one-go",
            Self::OfAFile => "of-a-file",
            Self::Resumed => "resumed",
            Self::GivenUp => "given-up",
        }
    }
}

/// What was tried.
#[derive(Debug, Default)]
pub struct Account {
    /// How many states there are that differ.
    pub states: usize,
    /// How many of them were finished, or should have been.
    pub tried: usize,
    /// What was wrong.
    pub failures: Vec<String>,
}

/// Records transfers, and judges of each so many of the states that a crash may leave.
///
/// # Errors
/// When the programs do not work at all, or cannot be traced here.
pub fn run(folder: &Path, most: usize) -> anyhow::Result<Account> {
    available()?;
    let mut account = Account::default();
    for story in Story::ALL {
        let folder = folder.join(story.name());
        fs::create_dir_all(&folder)?;
        // Traces have paths without links.
        let folder = folder.canonicalize()?;
        let mut transfer = match story {
            Story::InOneGo => Transfer::new(&folder, true)?,
            Story::OfAFile => Transfer::of_a_file(&folder)?,
            Story::Resumed | Story::GivenUp => Transfer::new(&folder, false)?,
        };
        let told = tell(&mut transfer, story, &folder.join("trace"))?;
        judge(&mut transfer, story, &told, most, &mut account)?;
    }
    Ok(account)
}

/// What a transfer did.
struct Told {
    calls: Vec<Call>,
    /// Before these nothing is looked at.
    since: usize,
}

/// Has a transfer go as the story goes.
fn tell(transfer: &mut Transfer, story: Story, trace: &Path) -> anyhow::Result<Told> {
    let failing = match story {
        Story::InOneGo | Story::OfAFile => None,
        Story::Resumed | Story::GivenUp => Some(failing(transfer, story, trace)?),
    };
    transfer.clear()?;
    let mut calls = Vec::new();
    let mut run = |command: &Command, failing: Option<&Injection>| -> anyhow::Result<Output> {
        let ended = record(command, trace, failing)?;
        ensure!(ended.output.status.success() == failing.is_none(), "{}: {}", story.name(), ended.said());
        calls.push(ended.calls.into_iter().filter(changes).collect::<Vec<_>>());
        Ok(ended.output)
    };
    let created = run(&transfer.create(), None)?;
    transfer.take(&String::from_utf8_lossy(&created.stdout));
    run(&transfer.add(), None)?;
    run(&transfer.dispatch(), failing.as_ref())?;
    match story {
        Story::InOneGo | Story::OfAFile => {}
        Story::Resumed => drop(run(&transfer.resume(), None)?),
        Story::GivenUp => drop(run(&transfer.cancel(), None)?),
    }
    let last = calls.last().map_or(0, Vec::len);
    let calls = calls.concat();
    let since = if story == Story::GivenUp { calls.len() - last } else { 0 };
    fs::remove_file(trace).context("remove the trace")?;
    let unknown = calls.iter().find(|call| !Files::understands(call));
    ensure!(unknown.is_none(), "cannot be replayed: {unknown:?}");
    Ok(Told { calls, since })
}

/// Returns whether a call changed something on a disk, or made it durable.
fn changes(call: &Call) -> bool {
    let opens = call.name == "openat" && !call.creates() && !call.truncates();
    call.succeeded() && !call.is_talk() && !opens && call.name != "read"
}

/// Returns the call that fails: of a transfer that is resumed the one that reads the second chunk of the large source, of
/// one that is given up the one that reads back the first of what was written of it, when its temporary name is durable.
fn failing(transfer: &mut Transfer, story: Story, trace: &Path) -> anyhow::Result<Injection> {
    let (large, to) = (transfer.path("from/large"), transfer.path("place/to"));
    let ended = watch_reads(&transfer.reset()?, trace)?;
    ensure!(ended.output.status.success(), "it does not work at all: {}", ended.said());
    let (mut counts, mut bytes) = (HashMap::new(), 0);
    for call in ended.calls.iter().filter(|call| call.name == "read") {
        let number: &mut u64 = counts.entry(call.thread).or_default();
        *number += 1;
        let Some(file) = call.file().map(Path::new) else { continue };
        let fails = match story {
            Story::GivenUp => file.parent() == Some(&to),
            Story::Resumed => file == large && bytes >= CHUNK_BYTES,
            Story::InOneGo | Story::OfAFile => false,
        };
        if fails {
            return Ok(Injection { call: "read".to_owned(), number: *number, fault: Fault::Error("EIO") });
        }
        bytes += if file == large { call.done().unwrap_or(0) } else { 0 };
    }
    anyhow::bail!("{} is not read in chunks, or not read back", large.display())
}

/// A state that a crash may leave.
#[derive(Clone, Copy, Debug)]
struct State {
    /// After which call.
    after: usize,
    left: Left,
}

/// What is left under one name, and what it is.
type Seen<'a> = (&'a str, Kind, String, Metadata);

fn seen<'a>(files: &mut Files<'a>, left: Left) -> Vec<Seen<'a>> {
    let names = files.left(left);
    let of = |(path, kind)| {
        (path, kind, files.digest(path, left).unwrap_or_default().to_owned(), files.metadata(path, left))
    };
    names.into_iter().map(of).collect()
}

/// Where everything stands before the first call.
fn before(sources: &[(String, bool)]) -> Files<'_> {
    let mut files = Files::default();
    for (path, is_directory) in sources {
        files.put(path, if *is_directory { Kind::Folder } else { Kind::File });
    }
    files
}

/// Returns all states that differ, and whether anything is in doubt in the end.
fn states(Told { calls, since }: &Told, sources: &[(String, bool)]) -> (Vec<State>, bool) {
    let (mut files, mut known, mut found) = (before(sources), HashSet::new(), Vec::new());
    for (after, call) in calls.iter().enumerate() {
        files.apply(call);
        found.extend(
            Left::ALL
                .into_iter()
                .filter(|left| known.insert(seen(&mut files, *left)))
                .map(|left| State { after, left }),
        );
    }
    found.retain(|state: &State| state.after >= *since);
    let sure = seen(&mut files, Left::ALL[0]);
    let in_doubt = Left::ALL.iter().any(|left| seen(&mut files, *left) != sure);
    (found, in_doubt)
}

fn judge(transfer: &mut Transfer, story: Story, told: &Told, most: usize, account: &mut Account) -> anyhow::Result<()> {
    let (sources, id) = (transfer.sources(), transfer.id().to_owned());
    let (mut states, in_doubt) = states(told, &sources);
    if in_doubt {
        account.failures.push(format!("{}: it ended, and not all of it was flushed", story.name()));
    }
    account.states += states.len();
    // Spread over all of it; the last one is among them.
    let step = states.len().div_ceil(most.max(1)).max(1);
    states = states.into_iter().rev().step_by(step).collect();
    let mut files = before(&sources);
    for (after, call) in told.calls.iter().enumerate() {
        files.apply(call);
        while let Some(state) = states.pop_if(|state| state.after == after) {
            account.tried += 1;
            // One before may have been begun anew.
            transfer.take(&id);
            let care = if account.tried.is_multiple_of(2) { Care::Repair } else { Care::Resume };
            if let Err(error) = finish((transfer, story), &files, &sources, state.left, care) {
                let crash = format!("{}, a crash after call {after}, {}, leaves", story.name(), shown(call));
                account.failures.push(format!("{crash} {:?}: {care}: {error:#}", state.left));
            }
        }
    }
    Ok(())
}

/// Returns what a call is and what it is about.
fn shown(call: &Call) -> String {
    // Where paths are given, the descriptor is that of the working directory.
    let place = match call.name.as_str() {
        "openat" => call.path(0),
        name if name.starts_with("rename") => call.path(1),
        _ => call.file().or_else(|| call.path(0)),
    };
    format!("{} of {}", call.name, place.unwrap_or_default())
}

/// What a user does after a crash.
#[derive(Clone, Copy, Debug)]
enum Care {
    Resume,
    /// `fsck --fix` first.
    Repair,
}

impl fmt::Display for Care {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resume => "resumed",
            Self::Repair => "repaired and resumed",
        })
    }
}

/// Makes a state real, looks at it, has the transfer finished, and looks again.
fn finish(
    (transfer, story): (&mut Transfer, Story),
    files: &Files<'_>,
    sources: &[(String, bool)],
    left: Left,
    care: Care,
) -> anyhow::Result<()> {
    write(transfer, files, sources, left).context("write the state")?;
    transfer.check_nothing_lost()?;
    if let Care::Repair = care {
        tools::run(&mut transfer.xfer(&["fsck", "--fix"]))?;
    }
    if story == Story::GivenUp {
        // Done already is as good.
        let ended = transfer.cancel().output().context("start ebb")?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(matches!(ended.status.code(), Some(0 | 6)), "it cannot be given up: {said}");
        transfer.check_given_up()?;
    } else if transfer.journal().exists() {
        transfer.finish()?;
        transfer.check_done()?;
    } else {
        transfer.check_untouched()?;
        let id = tools::output(&mut transfer.create())?;
        transfer.take(&id);
        transfer.finish()?;
        transfer.check_done()?;
    }
    let journals = transfer.journals();
    let more = fs::read_dir(&journals)?.next().is_some();
    ensure!(!more || matches!(care, Care::Resume), "something is left among the journals");
    Ok(())
}

/// Writes a state to the folder of the transfer.
fn write(transfer: &mut Transfer, files: &Files<'_>, sources: &[(String, bool)], left: Left) -> anyhow::Result<()> {
    transfer.clear()?;
    let names = files.left(left);
    let journals = transfer.journals();
    // Before anything is removed: removing one name of a file changes the seal of the others.
    let seals: Vec<_> = sources.iter().map(|(path, _)| (Path::new(path), seal_of(Path::new(path)))).collect();
    let seal = |wanted: &Path| seals.iter().find(|(path, _)| *path == wanted)?.1.clone();
    for (path, is_directory) in sources.iter().rev() {
        if !names.iter().any(|(name, _)| name == path) {
            let removed = if *is_directory { fs::remove_dir(path) } else { fs::remove_file(path) };
            removed.with_context(|| format!("remove {path}"))?;
        }
    }
    let written = names.iter().filter(|(name, _)| sources.iter().all(|(source, _)| source != name));
    let written: Vec<_> = written.collect();
    for (name, kind) in &written {
        let (path, content) = (Path::new(name), files.content(name, left));
        let made = match kind {
            Kind::Folder => fs::create_dir(path),
            Kind::Link => symlink(std::ffi::OsStr::from_bytes(&content), path),
            Kind::File => {
                let content = if path.starts_with(&journals) { reseal(&content, seal) } else { content };
                let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                opened.and_then(|mut file| file.write_all(&content))
            }
        };
        made.with_context(|| format!("write {name}"))?;
    }
    // Folders after what is in them.
    for (name, kind) in written.iter().rev() {
        if *kind != Kind::Link {
            set(Path::new(name), &files.metadata(name, left)).with_context(|| format!("set the metadata of {name}"))?;
        }
    }
    Ok(())
}

fn set(path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    for (name, value) in &metadata.attributes {
        lsetxattr(path, name.as_slice(), value, XattrFlags::empty())?;
    }
    if let Some((owner, group)) = metadata.owner {
        chown(path, Some(owner), Some(group))?;
    }
    if let Some(mode) = metadata.mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    if let Some((seconds, nanoseconds)) = metadata.modified {
        let since = Duration::new(u64::try_from(seconds)?, nanoseconds);
        File::open(path)?.set_modified(SystemTime::UNIX_EPOCH + since)?;
    }
    Ok(())
}
