//! A file system that was not unmounted: what is allocated once its journal is replayed, without replaying it.
//!
//! The log is read into an overlay, and the ordinary proof is made of what the overlay shows. Bitmaps and descriptors
//! change in the same transactions, so at the end of the log they agree as they do in a file system that was
//! unmounted. Only the free count of the superblock is not kept in the log; it proves nothing here.
//!
//! Allocated is what is allocated after the replay; the log itself; the places it writes to; what fast commits add; and
//! what the bitmaps on the disk have, for who looks at the disk without a replay. Linux then removes what was deleted
//! while it was open, and truncates what it was about to: that frees blocks and takes none.

mod fast_commit;
mod find;
mod replayed;

use std::ops::Range;

use sigs::{ByteLen, ByteRange};

use super::inode::Inode;
use super::state;
use super::superblock::Superblock;
use super::{Ext, ExtDoubt, on_disk};
use crate::alloc::doubt::{Doubt, Stop};
use crate::alloc::filesystem::{Evidence, ReplayedLog};
use crate::alloc::jbd2::{Journal, JournalDoubt, Replay, Write};
use crate::alloc::window::Window;
use crate::extents::{Extents, ExtentsBuilder};
use fast_commit::FastCommits;
use find::Found;
pub(crate) use replayed::Replayed;

/// Reads a file system whose journal has to be replayed.
pub(super) fn read(window: &Window<'_>, superblock: &Superblock) -> Result<Ext, Stop> {
    superblock.state.require_consistent()?;
    let (number, found) = find(window, superblock)?;
    let journal = open(window, superblock, &found)?;
    let replay = replay(&journal, &found)?;
    let overlay = journal.overlay(&replay);
    let replayed = overlay.window().ok_or(ExtDoubt::LargerThanPartition)?;

    let after = after(&replayed, superblock, number, &found)?;
    after.state.require_consistent()?;
    let fast_commits = FastCommits::read(&journal, &replayed, &after, replay.next)?;
    let (proven, _) = Ext::prove(&replayed, &after)?;
    let before = on_disk::allocated(window, superblock, |block| replay.writes_to(block))?;

    let size = u64::from(superblock.block_size.bytes());
    let homes = collect(size, replay.writes.iter().map(|write: &Write| write.home..write.home.saturating_add(1)));
    let log = collect(size, found.place.homes().iter().cloned());
    let fast = collect(size, fast_commits.blocks.iter().cloned());
    let allocated = union(&[&proven.allocated, &before, &homes, &log, &fast]);
    let log = ReplayedLog {
        transactions: replay.transactions,
        blocks: u64::try_from(replay.writes.len()).unwrap_or(u64::MAX),
        revoked: replay.revoked,
        fast_commits: fast_commits.count,
    };
    let partition = window.range().len.get();
    Ok(with_log(proven, log, &allocated, partition))
}

/// Refuses a file system that says it was unmounted although its journal does not.
///
/// Linux then forgets the journal, and e2fsck offers to replay it: what is allocated depends on who comes first.
pub(super) fn require_empty(window: &Window<'_>, superblock: &Superblock) -> Result<(), Stop> {
    let state::Journal::Inode(number) = superblock.state.journal else { return Ok(()) };
    let opened = find::journal(window, superblock, number).and_then(|found| {
        let journal = open(window, superblock, &found)?;
        Ok(journal.is_empty())
    });
    match opened {
        Ok(false) => Err(ExtDoubt::LogNotEmpty.into()),
        Err(Stop::Doubt(doubt @ Doubt::Journal(JournalDoubt::Recorded(_)))) => Err(Stop::Doubt(doubt)),
        // A journal that cannot be found or read has nothing that anybody would replay.
        Ok(true) | Err(Stop::Doubt(_)) => Ok(()),
        Err(Stop::Read(error)) => Err(Stop::Read(error)),
    }
}

/// Finds the journal that has to be replayed, and the number of its inode.
fn find(window: &Window<'_>, superblock: &Superblock) -> Result<(u32, Found), Stop> {
    let state::Journal::Inode(number) = superblock.state.journal else {
        return Err(ExtDoubt::DirtyJournalElsewhere.into());
    };
    Ok((number, find::journal(window, superblock, number)?))
}

/// Finds out what replaying the log would write. It must not write to what says where the rest of it is.
fn replay(journal: &Journal<'_>, found: &Found) -> Result<Replay, Stop> {
    let replay = journal.replay()?;
    let moves = found.nodes.iter().any(|node| replay.writes_to(*node));
    if moves { Err(ExtDoubt::ChangedByLog.into()) } else { Ok(replay) }
}

/// Reads the superblock as it is after the replay; nothing that was needed for it may have changed.
fn after(replayed: &Window<'_>, before: &Superblock, number: u32, found: &Found) -> Result<Superblock, Stop> {
    let after = Superblock::read(replayed)?;
    // Linux has read the superblock and the inode of the journal before it replays.
    let same = before.has_shape_of(&after);
    if !same || Inode::read(replayed, &after, number)?.map() != found.inode.map() {
        return Err(ExtDoubt::ChangedByLog.into());
    }
    Ok(after)
}

fn open<'a>(window: &Window<'a>, superblock: &Superblock, found: &'a Found) -> Result<Journal<'a>, Stop> {
    Journal::open(*window, &found.place, found.blocks, superblock.block_size.bytes())
}

/// Makes extents of blocks in any order.
fn collect(size: u64, blocks: impl Iterator<Item = Range<u64>>) -> Extents {
    let mut blocks: Vec<_> = blocks.collect();
    blocks.sort_unstable_by_key(|range| range.start);
    let mut list = ExtentsBuilder::new();
    for range in blocks {
        list.push(range.start.saturating_mul(size), range.end.saturating_mul(size));
    }
    list.finish()
}

/// Returns what is in any of the lists.
fn union(lists: &[&Extents]) -> Extents {
    let mut fronts: Vec<_> = lists.iter().map(|list| list.iter().peekable()).collect();
    let mut all = ExtentsBuilder::new();
    loop {
        let starts = fronts.iter_mut().enumerate().filter_map(|(at, list)| Some((list.peek()?.start, at)));
        let Some((_, at)) = starts.min() else { return all.finish() };
        if let Some(range) = fronts.get_mut(at).and_then(Iterator::next) {
            all.add(range);
        }
    }
}

/// Puts together what was proven of the overlay and what the log adds.
fn with_log(proven: Ext, log: ReplayedLog, allocated: &Extents, partition: u64) -> Ext {
    // Blocks were compared with the partition, and this only makes sure of it.
    let inside = ByteRange { start: sigs::ByteOffset::ZERO, len: ByteLen::new(partition) };
    let allocated: Extents = allocated.within(inside).collect();
    let mut evidence = proven.evidence;
    if let Evidence::ExtBitmaps { free, journal, .. } = &mut evidence {
        *free = ByteLen::new(partition.saturating_sub(allocated.total().get()));
        *journal = Some(log);
    }
    Ext { name: proven.name, evidence, allocated }
}
