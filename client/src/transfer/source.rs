//! What is to be transferred: found by walking, identified by a seal, and described by its metadata.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;
use sigs::ByteLen;

use super::record::{ItemKind, Metadata, RawPath, Seal, Timestamp};

/// The longest list of names of attributes, and the longest value: what Linux allows.
const MAX_ATTRIBUTE_BYTES: usize = 64 << 10;
/// How deep directories are followed.
const MAX_DEPTH: usize = 256;

/// Lists a file, a link, or a directory and all that is in it: parents first, otherwise by name.
pub(super) fn walk(
    source: &Path,
    destination: &Path,
    add: &mut dyn FnMut(&Path, &Path, ItemKind) -> io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let mut waiting = vec![(source.to_owned(), destination.to_owned(), 0_usize)];
    while let Some((source, destination, depth)) = waiting.pop() {
        let failed = |error| (source.clone(), error);
        let kind = fs::symlink_metadata(&source).map_err(failed)?.file_type();
        let kind = match () {
            () if kind.is_file() => ItemKind::File,
            () if kind.is_dir() => ItemKind::Directory,
            () if kind.is_symlink() => ItemKind::Link,
            () => {
                let reason = "it is no file, directory or symbolic link";
                return Err((source, io::Error::new(io::ErrorKind::Unsupported, reason)));
            }
        };
        if depth > MAX_DEPTH {
            let reason = format!("it lies more than {MAX_DEPTH} directories deep");
            return Err((source, io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        add(&source, &destination, kind).map_err(failed)?;
        if kind == ItemKind::Directory {
            let names = fs::read_dir(&source).and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
            });
            let mut names = names.map_err(failed)?;
            names.sort();
            // The last one that is pushed comes next.
            let below = names.iter().rev().map(|name| (source.join(name), destination.join(name), depth + 1));
            waiting.extend(below);
        }
    }
    Ok(())
}

/// Returns the seal of what a path names, without following it.
pub(super) fn seal(path: &Path) -> io::Result<Seal> {
    fs::symlink_metadata(path).map(|found| seal_of(&found))
}

pub(super) fn seal_of(found: &fs::Metadata) -> Seal {
    Seal {
        device: found.dev(),
        inode: found.ino(),
        size: ByteLen::new(found.len()),
        modified: Timestamp { seconds: found.mtime(), nanoseconds: nanoseconds(found.mtime_nsec()) },
        changed: Timestamp { seconds: found.ctime(), nanoseconds: nanoseconds(found.ctime_nsec()) },
    }
}

fn nanoseconds(found: i64) -> u32 {
    u32::try_from(found).unwrap_or(0)
}

/// Returns what a path has besides its content; of a link only its owner and times.
pub(super) fn metadata(path: &Path) -> io::Result<Metadata> {
    let found = fs::symlink_metadata(path)?;
    let attributes = if found.is_symlink() { Vec::new() } else { attributes(&File::open(path)?)? };
    Ok(Metadata {
        mode: found.mode() & 0o7777,
        owner: found.uid(),
        group: found.gid(),
        accessed: Timestamp { seconds: found.atime(), nanoseconds: nanoseconds(found.atime_nsec()) },
        modified: Timestamp { seconds: found.mtime(), nanoseconds: nanoseconds(found.mtime_nsec()) },
        attributes,
    })
}

fn attributes(file: &File) -> io::Result<Vec<(RawPath, String)>> {
    let mut names = vec![0; MAX_ATTRIBUTE_BYTES];
    let len = match flistxattr(file, &mut names[..]) {
        Ok(len) => len,
        // Not offered by this file system.
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    let mut value = vec![0; MAX_ATTRIBUTE_BYTES];
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        match fgetxattr(file, name, &mut value[..]) {
            Ok(len) => found.push((RawPath::from(name), hex::encode(&value[..len]))),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Gives an open file or directory its metadata. What only root may give is left out for others, as `cp -a` does.
pub(super) fn apply(file: &File, wanted: &Metadata) -> io::Result<()> {
    let root = rustix::process::geteuid().is_root();
    let allowed = |result: Result<(), Errno>| match result {
        Err(Errno::PERM) if !root => Ok(()),
        // Not offered by this file system.
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => other.map_err(io::Error::from),
    };
    let mode = |bits| rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(bits));
    if !root {
        // An attempt before this one may have set a mode with which attributes cannot be written.
        mode(wanted.mode | 0o700)?;
    }
    let (owner, group) = (rustix::fs::Uid::from_raw(wanted.owner), rustix::fs::Gid::from_raw(wanted.group));
    allowed(rustix::fs::fchown(file, Some(owner), Some(group)))?;
    for (name, value) in &wanted.attributes {
        let value = hex::decode(value).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        allowed(fsetxattr(file, name.as_path(), &value, XattrFlags::empty()))?;
    }
    // After the owner: giving a file away takes the bits that let it run as its owner. After the attributes: it may
    // forbid writing them.
    mode(wanted.mode)?;
    let time = |at: Timestamp| rustix::fs::Timespec { tv_sec: at.seconds, tv_nsec: at.nanoseconds.into() };
    let times = rustix::fs::Timestamps { last_access: time(wanted.accessed), last_modification: time(wanted.modified) };
    Ok(rustix::fs::futimens(file, &times)?)
}
