//! A transfer as a subject: a tree of all that a transfer keeps, copied by `ebb xfer` with one thread.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};

use super::errno;
use super::sigkill::Subject;
use super::syscalls::{Ended, Fault, Injection};
use crate::{site, tools};

/// What is hashed by itself.
pub(super) const CHUNK_BYTES: u64 = 4 << 20;
/// Enough for two chunks.
const LARGE_BYTES: usize = (4 << 20) + 70_000;
/// Extended attributes fit in here.
const MAX_ATTRIBUTES: usize = 4096;

/// What one name of a tree is: everything that is to be the same at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
}

type Tree = BTreeMap<PathBuf, Entry>;

/// A transfer, and what it is to make.
#[derive(Debug)]
pub struct Transfer {
    folder: PathBuf,
    ebb: PathBuf,
    release: bool,
    /// Whether it is of a single file, into a directory that is there: no directory is made, and flushed because of that.
    single: bool,
    large: Vec<u8>,
    id: String,
    expected: Tree,
}

impl Transfer {
    /// Prepares transfers in a folder, which leave their sources or release them.
    ///
    /// # Errors
    /// When the programs are not built, or the folder cannot be written.
    pub fn new(folder: &Path, release: bool) -> anyhow::Result<Self> {
        let ebb = site::programs()?.join("ebb");
        let (folder, large) = (folder.to_owned(), noise(LARGE_BYTES, 1));
        Ok(Self { folder, ebb, release, single: false, large, id: String::new(), expected: Tree::new() })
    }

    /// Prepares transfers of a single file, which release it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_a_file(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { single: true, ..Self::new(folder, true)? })
    }

    /// Returns the journal of the transfer that the last reset made.
    pub fn journal(&self) -> PathBuf {
        self.journals().join(format!("{}.journal", self.id))
    }

    /// Returns the folder of journals: not beside the destination, so that nobody flushes its name by chance.
    pub(super) fn journals(&self) -> PathBuf {
        self.path("state").join("journals")
    }

    /// Returns where everything is to go. The source lies in another folder, so that removing it flushes nothing here.
    fn to(&self) -> PathBuf {
        self.path("place").join("to")
    }

    /// Returns the place of something in its folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Prepares a command of `ebb xfer`.
    pub(super) fn xfer(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ebb);
        command.args(["xfer", "--state"]).arg(self.journals()).args(arguments).current_dir(&self.folder);
        command.env_remove("EBB_XFER_LIMIT").env_remove("EBB_XFER_RESERVE");
        command
    }

    /// Nothing is lost, at no moment: a source that is gone is whole at the destination, and so is whatever has a name there.
    /// Directories get their metadata last.
    pub(super) fn check_nothing_lost(&self) -> anyhow::Result<()> {
        let (from, to) = (tree(&self.path("from"))?, tree(&self.to())?);
        for (name, expected) in &self.expected {
            let (source, copy) = (from.get(name), to.get(name));
            let arrived = copy == Some(expected);
            let kept = if is_file(expected) { source == Some(expected) } else { source.is_some() };
            ensure!(arrived || kept, "{} is lost", shown(name));
            ensure!(arrived || copy.is_none() || is_directory(expected), "{} is not whole under its name", shown(name));
        }
        let foreign = to.keys().find(|name| !self.expected.contains_key(*name) && !is_temporary(name));
        ensure!(foreign.is_none(), "{foreign:?} is not of this transfer");
        Ok(())
    }

    /// Checks that nothing was done yet.
    pub(super) fn check_untouched(&self) -> anyhow::Result<()> {
        ensure!(!self.to().exists(), "something is at the destination, and no journal speaks of it");
        ensure!(tree(&self.path("from"))? == self.expected, "the source changed, and no journal speaks of it");
        Ok(())
    }

    /// Returns the paths of the sources, those of directories before what is in them, and whether each is a directory.
    pub(super) fn sources(&self) -> Vec<(String, bool)> {
        let from = self.path("from");
        // The root itself is the empty name.
        let path = |name: &Path| if name.as_os_str().is_empty() { from.clone() } else { from.join(name) };
        self.expected.iter().map(|(name, entry)| (path(name).display().to_string(), is_directory(entry))).collect()
    }

    /// Returns the name of the transfer.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Has it finished, as a user would.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let standing = tools::output(&mut self.xfer(&["status", &self.id, "--format", "json"]))?;
        let view: serde_json::Value = serde_json::from_str(&standing)?;
        if view["attempt"] != 0 {
            return tools::run(&mut self.resume());
        }
        // Before the first attempt is on record there is nothing to be resumed; and what was added may be, or not.
        tools::run(&mut self.add())?;
        tools::run(&mut self.dispatch())
    }

    /// Checks that everything arrived and nothing else, and frees it.
    pub(super) fn check_done(&self) -> anyhow::Result<()> {
        let to = tree(&self.to())?;
        for (name, expected) in &self.expected {
            let found = to.get(name).with_context(|| format!("{} did not arrive", name.display()))?;
            ensure!(found.content == expected.content, "{} has another content", name.display());
            ensure!(found == expected, "{} differs: {:?}", name.display(), (found.mode, found.owner, found.modified));
        }
        let more: Vec<_> = to.keys().filter(|name| !self.expected.contains_key(*name)).collect();
        ensure!(more.is_empty(), "left behind: {more:?}");
        self.check_no_temporaries()?;
        ensure!(
            self.path("from").exists() != self.release,
            "the source is {}",
            if self.release { "there" } else { "gone" }
        );
        ensure!(self.release || tree(&self.path("from"))? == self.expected, "the source changed");
        tools::run(&mut self.xfer(&["test", &self.id]))?;
        tools::run(&mut self.xfer(&["free", &self.id]))
    }

    /// Checks that nothing is left of a transfer that was given up but what has its name, and frees it.
    pub(super) fn check_given_up(&self) -> anyhow::Result<()> {
        self.check_nothing_lost()?;
        self.check_no_temporaries()?;
        ensure!(tree(&self.path("from"))? == self.expected, "the source changed");
        tools::run(&mut self.xfer(&["free", &self.id]))
    }

    fn check_no_temporaries(&self) -> anyhow::Result<()> {
        let all = tree(&self.path("place"))?;
        let temporary = all.keys().find(|name| is_temporary(name));
        ensure!(temporary.is_none(), "left behind: {temporary:?}");
        Ok(())
    }

    /// Makes the sources anew, and removes what an earlier transfer left.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        for name in ["place", "state"] {
            remove(&self.path(name))?;
        }
        fs::create_dir(self.path("place"))?;
        if self.release || self.expected.is_empty() {
            let from = self.path("from");
            remove(&from)?;
            if self.single {
                fs::write(&from, noise(700, 2))?;
                File::open(&from)?.set_modified(SystemTime::UNIX_EPOCH)?;
            } else {
                make_tree(&from, &self.large)?;
            }
            self.expected = tree(&from)?;
        }
        Ok(())
    }

    /// Prepares the command that creates a transfer and prints its name.
    pub(super) fn create(&self) -> Command {
        let mut create = vec!["create", "--kind", "sync"];
        create.extend(self.release.then_some("--release-sources"));
        self.xfer(&create)
    }

    /// Goes on with the transfer of this name.
    pub(super) fn take(&mut self, id: &str) {
        id.trim().clone_into(&mut self.id);
    }

    /// Prepares the command that adds the sources.
    pub(super) fn add(&self) -> Command {
        self.xfer(&["add", "-T", &self.id, "from", "place/to"])
    }

    /// Prepares the first attempt.
    pub(super) fn dispatch(&self) -> Command {
        self.xfer(&["dispatch", &self.id])
    }

    /// Prepares its end.
    pub(super) fn cancel(&self) -> Command {
        self.xfer(&["cancel", &self.id])
    }

    /// Prepares another attempt.
    pub(super) fn resume(&self) -> Command {
        self.xfer(&["resume", &self.id])
    }
}

impl Subject for Transfer {
    fn name(&self) -> &'static str {
        match (self.release, self.single) {
            (true, true) => "transfer-of-a-file",
            (true, false) => "transfer-and-release",
            (false, _) => "transfer",
        }
    }

    fn wakes_by_write(&self) -> bool {
        true
    }

    fn reset(&mut self) -> anyhow::Result<Command> {
        self.clear()?;
        let id = tools::output(&mut self.create())?;
        self.take(&id);
        tools::run(&mut self.add())?;
        Ok(self.dispatch())
    }

    fn judge(&mut self, injection: &Injection, ended: &Ended) -> anyhow::Result<()> {
        self.check_nothing_lost()?;
        if let Fault::Error(error) = injection.fault {
            errno::check(error, ended)?;
        }
        self.finish().context("finish it")?;
        self.check_done()
    }
}

fn is_file(entry: &Entry) -> bool {
    entry.mode & 0o170_000 == 0o100_000
}

fn is_directory(entry: &Entry) -> bool {
    entry.mode & 0o170_000 == 0o040_000
}

/// Returns the name of something of a tree; that of its root is empty.
fn shown(name: &Path) -> String {
    if name.as_os_str().is_empty() { "all of it".to_owned() } else { name.display().to_string() }
}

fn is_temporary(name: &Path) -> bool {
    name.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".ebb-"))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes files of several sizes, one with two names, one that is read-only and has attributes; an empty directory; a link.
fn make_tree(path: &Path, large: &[u8]) -> anyhow::Result<()> {
    let deep = path.join("deep");
    fs::create_dir_all(deep.join("empty"))?;
    fs::write(path.join("large"), large)?;
    fs::write(deep.join("small"), noise(700, 2))?;
    fs::write(deep.join("none"), b"")?;
    fs::hard_link(deep.join("small"), deep.join("the same"))?;
    symlink("../large", deep.join("link"))?;
    lsetxattr(path.join("large"), "user.ebb", b"kept", XattrFlags::empty()).context("set an attribute")?;
    fs::set_permissions(path.join("large"), Permissions::from_mode(0o440))?;
    fs::set_permissions(deep.join("empty"), Permissions::from_mode(0o500))?;
    // Directories after what is in them.
    let names = ["large", "deep/small", "deep/none", "deep/empty", "deep", "."];
    for (seconds, place) in (1_000_000_000..).zip(names.map(|name| path.join(name))) {
        File::open(&place)?.set_modified(SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789))?;
    }
    Ok(())
}

/// Returns bytes that are not the same anywhere.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

/// Reads a tree; nothing when there is none.
fn tree(root: &Path) -> anyhow::Result<Tree> {
    let mut found = Tree::new();
    let mut waiting = if root.exists() { vec![root.to_owned()] } else { Vec::new() };
    while let Some(path) = waiting.pop() {
        let entry = entry(&path, &mut waiting).with_context(|| format!("read {}", path.display()))?;
        found.insert(path.strip_prefix(root)?.to_owned(), entry);
    }
    Ok(found)
}

fn entry(path: &Path, waiting: &mut Vec<PathBuf>) -> anyhow::Result<Entry> {
    let metadata = path.symlink_metadata()?;
    let content = match metadata.file_type() {
        kind if kind.is_dir() => {
            for below in fs::read_dir(path)? {
                waiting.push(below?.path());
            }
            Vec::new()
        }
        kind if kind.is_symlink() => fs::read_link(path)?.into_os_string().into_encoded_bytes(),
        _ => fs::read(path)?,
    };
    // The times of a link are its own.
    let modified = if metadata.is_symlink() { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) };
    let owner = (metadata.uid(), metadata.gid());
    Ok(Entry { mode: metadata.mode(), owner, modified, attributes: attributes(path)?, content })
}

fn attributes(path: &Path) -> anyhow::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; MAX_ATTRIBUTES];
    let len = llistxattr(path, &mut names[..])?;
    let mut found = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; MAX_ATTRIBUTES];
        let len = lgetxattr(path, name, &mut value[..])?;
        value.truncate(len);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}
