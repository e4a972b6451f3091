//! All directories: every cluster that an entry names is marked.

use sigs::ByteRange;

use super::ExfatDoubt;
use super::chains::Chains;
use super::directory::{Allocation, Entry, LEN, Reader, doubt};
use crate::alloc::clusters::{PIECE, holds};
use crate::alloc::doubt::Stop;
use crate::extents::Extents;

/// Returns the root directory.
fn root(chains: &mut Chains<'_>) -> Result<Allocation, Stop> {
    let first = chains.boot.root;
    let len = chains.count(first)?.saturating_mul(chains.boot.clusters.size);
    Ok(Allocation { first, len, chained: true })
}

/// Finds the bitmap.
pub(super) fn bitmap(chains: &mut Chains<'_>) -> Result<Allocation, Stop> {
    let mut found = Vec::new();
    let root = root(chains)?;
    entries(chains, root, |entry| {
        if let Entry::Bitmap(allocation) = entry {
            found.push(allocation);
        }
    })?;
    let [bitmap] = found.as_slice() else { return Err(ExfatDoubt::Bitmap.into()) };
    Ok(*bitmap)
}

/// Looks at everything that directories name, and returns how many things have clusters.
pub(super) fn check(chains: &mut Chains<'_>, allocated: &Extents, marked: u64) -> Result<u64, Stop> {
    let mut left = marked;
    let mut count = 0;
    // Every directory has a cluster of its own, or `left` runs out: the list is bounded, and so is the work.
    let mut directories = vec![root(chains)?];
    take(chains, directories.first().copied(), allocated, &mut left, marked)?;
    while let Some(directory) = directories.pop() {
        let mut contents = Vec::new();
        entries(chains, directory, |entry| match entry {
            Entry::Bitmap(allocation) => contents.push((allocation, false)),
            Entry::Content { allocation, directory } => contents.push((allocation, directory)),
            Entry::End | Entry::Nothing => {}
        })?;
        for (allocation, is_directory) in contents {
            take(chains, Some(allocation), allocated, &mut left, marked)?;
            count += 1;
            if is_directory {
                directories.push(allocation);
            }
        }
    }
    Ok(count)
}

/// Checks that all of an allocation is marked, and counts its clusters off those that are.
fn take(
    chains: &mut Chains<'_>,
    allocation: Option<Allocation>,
    allocated: &Extents,
    left: &mut u64,
    marked: u64,
) -> Result<(), Stop> {
    let Some(allocation) = allocation else { return Ok(()) };
    let clusters = chains.boot.clusters;
    chains.follow(allocation, |_, place: ByteRange| {
        if !holds(allocated, place) {
            return Err(ExfatDoubt::NotMarked { cluster: allocation.first }.into());
        }
        *left = left.checked_sub(place.len.get() / clusters.size).ok_or(ExfatDoubt::Shared { marked })?;
        Ok(())
    })
}

/// Calls `each` with the entries of a directory.
fn entries(chains: &mut Chains<'_>, directory: Allocation, mut each: impl FnMut(Entry)) -> Result<(), Stop> {
    let mut reader = Reader::default();
    let mut ended = false;
    chains.follow(directory, |window, place| {
        let mut at = 0;
        while at < place.len.get() && !ended {
            let len = PIECE.min(place.len.get() - at);
            let piece = window.fetch(place.start.get() + at, len)?;
            for bytes in piece.chunks(LEN) {
                let entry = reader.read(bytes).map_err(|what| doubt(directory.first, what))?;
                if entry == Entry::End {
                    ended = true;
                    break;
                }
                each(entry);
            }
            at += len;
        }
        Ok(())
    })?;
    if reader.is_complete() { Ok(()) } else { Err(doubt(directory.first, "ends within a file").into()) }
}
