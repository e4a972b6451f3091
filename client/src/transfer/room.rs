//! Room for what arrives, asked for before the first byte: a transfer that cannot fit is refused while nothing was
//! written, and never takes what the administrator of the file system wants left free.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sigs::ByteLen;

use super::TransferError;
use super::journal::folder_of;
use super::record::ItemKind;
use super::state::{Item, Sealed, State};

/// What is left free on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reserve {
    /// So many bytes.
    Bytes(ByteLen),
    /// So many hundredths of it.
    Percent(Percent),
}

/// From 0 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(u8);

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(value: u8) -> Result<Self, String> {
        if value < 100 { Ok(Self(value)) } else { Err(format!("{value}% leaves no room for anything")) }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl Reserve {
    fn of(self, all: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.get(),
            // Rounded up, and exact whatever the size.
            Self::Percent(Percent(percent)) => {
                u64::try_from((u128::from(all) * u128::from(percent)).div_ceil(100)).unwrap_or(u64::MAX)
            }
        }
    }
}

/// A file system that has not the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// How many bytes more it would take.
    pub missing: ByteLen,
    /// How many are needed.
    pub needed: ByteLen,
    /// How many are free for ordinary users.
    pub free: ByteLen,
    /// How many of these are to stay free.
    pub reserve: ByteLen,
}

/// Returns what is wrong with needing so many bytes, if anything.
fn judge(needed: u64, free: u64, all: u64, reserve: Option<Reserve>) -> Result<(), NoRoom> {
    let kept = reserve.map_or(0, |reserve| reserve.of(all));
    let missing = needed.saturating_sub(free.saturating_sub(kept));
    // Nothing takes no room, however little there is.
    if missing == 0 {
        return Ok(());
    }
    let [missing, needed, free, reserve] = [missing, needed, free, kept].map(ByteLen::new);
    Err(NoRoom { missing, needed, free, reserve })
}

/// Asks whether so many bytes more fit on the file system of a folder.
pub(super) fn admit(folder: &Path, needed: ByteLen, reserve: Option<Reserve>) -> Result<(), TransferError> {
    let found = statvfs(folder).map_err(|error| TransferError::Io {
        action: "ask for the room at",
        path: folder.to_owned(),
        source: error.into(),
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    judge(needed.get(), bytes(found.f_bavail), bytes(found.f_blocks), reserve)
        .map_err(|lack| TransferError::NoRoom { folder: folder.to_owned(), lack })
}

/// Asks whether everything that is still to be copied fits, on each of the file systems it goes to.
pub(super) fn admit_all(state: &State) -> Result<(), TransferError> {
    let mut needs: HashMap<u64, (PathBuf, u64)> = HashMap::new();
    let mut folders: HashMap<&Path, (PathBuf, u64)> = HashMap::new();
    for (number, item) in (0..).zip(&state.items) {
        if item.kind != ItemKind::File || item.arrived() {
            continue;
        }
        let (Some(path), Some(temporary)) = (item.destination.path(), item.temporary(state.id, number)) else {
            continue;
        };
        let folder = folder_of(path);
        let size = item.sealed.as_ref().map_or_else(|| size_now(item), Sealed::size).get();
        let there = allocated(&temporary);
        let (existing, device) = match folders.get(folder) {
            Some(known) => known.clone(),
            None => {
                let known = existing(folder)?;
                folders.entry(folder).or_insert(known).clone()
            }
        };
        let (_, need) = needs.entry(device).or_insert((existing, 0));
        *need = need.saturating_add(size.saturating_sub(there));
    }
    for (folder, needed) in needs.into_values() {
        admit(&folder, ByteLen::new(needed), state.options.reserve)?;
    }
    Ok(())
}

/// Returns how many bytes a file has now that was not looked at yet. What is gone has none; that is an error of its own,
/// later. So has what only a boss knows.
pub(super) fn size_now(item: &Item) -> ByteLen {
    let found = item.source.path().and_then(|path| fs::symlink_metadata(path).ok());
    ByteLen::new(found.map_or(0, |found| found.len()))
}

/// The nearest folder that is there by now, and its file system: those below it will be made.
fn existing(folder: &Path) -> Result<(PathBuf, u64), TransferError> {
    for place in folder.ancestors() {
        match fs::metadata(place) {
            Ok(found) => return Ok((place.to_owned(), found.dev())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(TransferError::Io { action: "look at", path: place.to_owned(), source }),
        }
    }
    let source = io::Error::from(io::ErrorKind::NotFound);
    Err(TransferError::Io { action: "find", path: folder.to_owned(), source })
}

/// Returns how many bytes a file has on its medium.
fn allocated(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |found| found.blocks().saturating_mul(512))
}

/// Takes the room of a file before its first byte is written. What is there of it up to `kept` stays when there is none.
pub(super) fn take(
    file: &File,
    path: &Path,
    len: ByteLen,
    kept: ByteLen,
    reserve: Option<Reserve>,
) -> Result<(), TransferError> {
    let more = len.get().saturating_sub(allocated(path));
    admit(folder_of(path), ByteLen::new(more), reserve)?;
    if len.is_zero() {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, len.get()) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => {
            // Others may need what was taken in vain. The first error is the one to tell.
            drop(file.set_len(kept.get()));
            Err(TransferError::Io { action: "make room for", path: path.to_owned(), source: error.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_exact() {
        let all = 1000;
        let percent = |value| Some(Reserve::Percent(Percent::try_from(value).unwrap()));
        let bytes = |value| Some(Reserve::Bytes(ByteLen::new(value)));
        for (needed, free, reserve, missing) in [
            (100, 100, None, 0),
            (101, 100, None, 1),
            (50, 100, percent(5), 0),
            (51, 100, percent(5), 1),
            (60, 100, bytes(40), 0),
            (60, 100, bytes(41), 1),
            (1, 10, percent(50), 1),
            (0, 0, percent(50), 0),
            (u64::MAX, 0, bytes(u64::MAX), u64::MAX),
        ] {
            let lack = judge(needed, free, all, reserve).map_or_else(|lack| lack.missing.get(), |()| 0);
            assert_eq!(lack, missing, "{needed} {free} {reserve:?}");
        }
        assert_eq!(Reserve::Percent(Percent(99)).of(u64::MAX), u64::MAX / 100 * 99 + 15);
        assert!(Percent::try_from(100).is_err());
    }
}
