//! Files and trees onto the file system of who asks: content with holes, permissions, times, symbolic links.
//!
//! Everything in a tree is made relative to an open folder and never through a symbolic link, so nothing an image says
//! leads out of the target. Owners, set-id bits and extended attributes are not copied: they belong to another machine.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use serde::Serialize;
use sigs::ByteLen;

use super::{Entry, FilesError, Found, Kind, Node, Seen, Sink, Volume, shown};
use crate::control::Control;
use crate::io::is_zero;
use crate::package::{Draft, Existing};

/// Zeros of this length become a hole.
const HOLE_BYTES: usize = 4096;
/// How deep a tree may be: each level has a file descriptor open, of which many systems give 1024.
const MOST_DEPTH: usize = 256;

/// How something is copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Write over files that are there.
    pub force: bool,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Regular files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// How long the files are, together.
    pub bytes: ByteLen,
    /// Devices, pipes and sockets, which are left out.
    pub special: u64,
    /// What could not be read, or has a name that no file can have.
    pub failed: u64,
}

/// Copies one file: it appears complete under its name, or not at all.
///
/// # Errors
/// [`FilesError`].
pub fn copy_file(
    volume: &Volume<'_>,
    file: &Node,
    to: &Path,
    options: CopyOptions,
    control: Control<'_>,
) -> Result<CopyReport, FilesError> {
    let name = to.as_os_str().as_encoded_bytes();
    let exists = || FilesError::Exists { path: shown(name) };
    if !options.force && to.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    let draft = Draft::begin(to, existing)?;
    let opened = File::options().write(true).open(draft.temporary_path());
    let target = opened.map_err(|source| FilesError::write(name, source))?;
    fill(volume, file, target, name, control)?;
    if control.cancelled() {
        return Err(FilesError::Cancelled);
    }
    draft.publish()?;
    Ok(CopyReport { files: 1, bytes: file.size(), ..CopyReport::default() })
}

/// Copies a folder with everything below it to `to`, which becomes that folder. `say` is told what is left out and why.
/// What was copied before an error stays there.
///
/// # Errors
/// [`FilesError`] when the target cannot be written, or the folder itself not be read; [`FilesError::Unfinished`] around
/// it when a part was copied.
pub fn copy_tree(
    volume: &Volume<'_>,
    folder: &Found,
    to: &Path,
    options: CopyOptions,
    control: Control<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<CopyReport, FilesError> {
    let entries = volume.entries(&folder.node, 0)?;
    let name = to.as_os_str().as_encoded_bytes();
    let from = if folder.path == b"/" { &[] } else { folder.path.as_slice() };
    let (seen, report) = (Seen::default(), CopyReport::default());
    let mut tree = Tree { volume, from, to: name, options, control, say, seen, held: entries.len(), report };
    tree.seen.enter(&folder.node)?;
    let written = |error| FilesError::write(name, error);
    let made = match rustix::fs::mkdirat(CWD, to, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) if options.force => false,
        Err(Errno::EXIST) => return Err(FilesError::Exists { path: shown(name) }),
        Err(error) => return Err(written(error)),
    };
    let target = rustix::fs::openat(CWD, to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let target = target.map_err(written)?;
    let copied = tree.folder(&target, &folder.node, entries, &[], 0);
    // One flush for all of it; what is not durable is not there.
    let copied = copied.and_then(|()| rustix::fs::syncfs(&target).map_err(written));
    let report = tree.report;
    match copied {
        Ok(()) => Ok(report),
        // A folder that nothing came into is none.
        Err(error) if made && rustix::fs::unlinkat(CWD, to, AtFlags::REMOVEDIR).is_ok() => Err(error),
        // What is there stays: it may be all that can still be had of a disk.
        Err(error) => {
            let CopyReport { files, folders, .. } = report;
            // A folder that is there takes the next copy inside of it, so one that was made would not be continued.
            let next = if made { "remove it before you copy again" } else { "the same copy again finishes it" };
            Err(FilesError::Unfinished { path: shown(name), files, folders, next, source: Box::new(error) })
        }
    }
}

/// A copy under way. Paths in it begin where the copy does.
struct Tree<'a> {
    volume: &'a Volume<'a>,
    from: &'a [u8],
    to: &'a [u8],
    options: CopyOptions,
    control: Control<'a>,
    say: &'a mut dyn FnMut(&str),
    seen: Seen,
    /// How many names the folders have on the way to where the copy is.
    held: usize,
    report: CopyReport,
}

impl Tree<'_> {
    /// Fills a folder, and then makes it what it was.
    fn folder(
        &mut self,
        target: &OwnedFd,
        folder: &Node,
        entries: Vec<Entry>,
        path: &[u8],
        depth: usize,
    ) -> Result<(), FilesError> {
        for entry in entries {
            if self.control.cancelled() {
                return Err(FilesError::Cancelled);
            }
            let path = [path, b"/", &entry.name].concat();
            match self.entry(target.as_fd(), &entry, &path, depth) {
                Err(error) if error.is_of_one_file() => {
                    self.report.failed += 1;
                    self.left_out(&path, &error.to_string());
                }
                other => other?,
            }
        }
        finish(target.as_fd(), folder).map_err(|error| self.written(path, error))?;
        self.report.folders += 1;
        Ok(())
    }

    fn entry(&mut self, at: BorrowedFd<'_>, entry: &Entry, path: &[u8], depth: usize) -> Result<(), FilesError> {
        let name = entry.name.as_slice();
        if !is_name(name) {
            self.report.failed += 1;
            self.left_out(path, "no file can have that name");
            return Ok(());
        }
        let node = self.volume.node(entry.inode)?;
        match node.kind() {
            Kind::Folder => self.subfolder(at, name, &node, path, depth),
            Kind::File => {
                self.make_room(at, name, path)?;
                self.file(at, name, &node, path)
            }
            Kind::Link => {
                let target = self.volume.target(&node, self.control)?;
                self.make_room(at, name, path)?;
                let written = |error| self.written(path, error);
                rustix::fs::symlinkat(target.as_slice(), at, name).map_err(written)?;
                rustix::fs::utimensat(at, name, &times(&node), AtFlags::SYMLINK_NOFOLLOW).map_err(written)?;
                self.report.links += 1;
                Ok(())
            }
            kind => {
                self.report.special += 1;
                self.left_out(path, &format!("it is {kind}"));
                Ok(())
            }
        }
    }

    fn subfolder(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        node: &Node,
        path: &[u8],
        depth: usize,
    ) -> Result<(), FilesError> {
        if depth >= MOST_DEPTH {
            return Err(FilesError::Deep { path: shown(&[self.from, path].concat()), most: MOST_DEPTH });
        }
        self.seen.enter(node)?;
        let entries = self.volume.entries(node, self.held)?;
        match rustix::fs::mkdirat(at, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) if self.options.force => {}
            Err(error) => return Err(self.written(path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(at, name, flags, Mode::empty());
        let target = target.map_err(|error| self.written(path, error))?;
        let names = entries.len();
        self.held = self.held.saturating_add(names);
        let filled = self.folder(&target, node, entries, path, depth + 1);
        self.held = self.held.saturating_sub(names);
        filled
    }

    fn file(&mut self, at: BorrowedFd<'_>, name: &[u8], node: &Node, path: &[u8]) -> Result<(), FilesError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(at, name, flags, Mode::RUSR | Mode::WUSR);
        let target = target.map_err(|error| self.written(path, error))?;
        let filled = fill(self.volume, node, target.into(), &[self.to, path].concat(), self.control);
        if filled.is_err() {
            // Half a file is worse than none. It was made here, and what failed is what counts.
            let _ = rustix::fs::unlinkat(at, name, AtFlags::empty());
        }
        filled?;
        self.report.files += 1;
        self.report.bytes = self.report.bytes.checked_add(node.size()).unwrap_or(self.report.bytes);
        Ok(())
    }

    /// Removes what has the name, if that is wanted.
    fn make_room(&self, at: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), FilesError> {
        if !self.options.force {
            return Ok(());
        }
        match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.written(path, error)),
        }
    }

    fn left_out(&mut self, path: &[u8], why: &str) {
        (self.say)(&format!("{} is left out: {why}", shown(&[self.from, path].concat())));
    }

    fn written(&self, path: &[u8], error: Errno) -> FilesError {
        FilesError::write(&[self.to, path].concat(), error)
    }
}

/// Writes content, permissions and times of a file to one that is new and empty.
fn fill(volume: &Volume<'_>, node: &Node, file: File, path: &[u8], control: Control<'_>) -> Result<(), FilesError> {
    let mut target = Sparse { file, at: 0 };
    let written = |source| FilesError::write(path, source);
    volume.read(node, &mut target, control).map_err(|error| match error {
        FilesError::Sink(source) => written(source),
        other => other,
    })?;
    target.file.set_len(node.size().get()).map_err(written)?;
    finish(target.file.as_fd(), node).map_err(|error| written(error.into()))
}

/// Gives a file or a folder the permissions and times it had.
fn finish(target: BorrowedFd<'_>, node: &Node) -> Result<(), Errno> {
    rustix::fs::fchmod(target, Mode::from_raw_mode(u32::from(node.mode() & 0o777)))?;
    rustix::fs::futimens(target, &times(node))
}

fn times(node: &Node) -> Timestamps {
    let modified = node.modified();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() },
    }
}

/// Returns true if a file can have the name, and stays in its folder by it.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

/// A file that is written from its beginning to its end, with holes where there are zeros.
struct Sparse {
    file: File,
    at: u64,
}

impl Sparse {
    fn pass(&mut self, len: ByteLen) -> io::Result<()> {
        self.at = self.at.checked_add(len.get()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(())
    }
}

impl Sink for Sparse {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count =
                |zero| rest.chunks(HOLE_BYTES).take_while(|piece| is_zero(piece) == zero).map(<[u8]>::len).sum();
            let zeros: usize = count(true);
            let len = if zeros > 0 { zeros } else { count(false) };
            let (run, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            if zeros == 0 {
                self.file.write_all_at(run, self.at)?;
            }
            self.pass(ByteLen::of(run))?;
            rest = behind;
        }
        Ok(())
    }

    fn hole(&mut self, len: ByteLen) -> io::Result<()> {
        self.pass(len)
    }
}
