//! XFS, read strictly: the superblock, and in each allocation group its headers and both trees of free space.
//!
//! The answer is believed when every feature flag is known, every checksum the format has is valid, every piece of
//! metadata says that it belongs where it is, both trees hold the same extents, these count what the header of
//! their group says, and all groups together what the superblock says. Free is exactly what the trees hold: blocks
//! set aside for the trees, the trees themselves, free inodes and the log are data.
//!
//! A file system that was not unmounted is read as a replay of its log would leave it. The replay is computed beside
//! the disk, as Linux does it; of what the log says, only the metadata that decides what is free is kept. Free is
//! then what is free before and after, and what the replay does not touch.

mod common;
mod doubt;
mod group;
mod headers;
mod log;
mod overlay;
mod raw;
mod sequence;
mod superblock;
mod tree;
mod view;

use sigs::{ByteLen, ByteRange};

use super::content::Content;
use super::doubt::Stop;
use super::filesystem::{Evidence, FileSystem, XfsLog};
use super::window::Window;
use crate::extents::{Extents, ExtentsBuilder};
pub use doubt::XfsDoubt;
use group::Group;
pub use log::LogDoubt;
use log::{Log, Replay, State};
use superblock::{Superblock, Trust};
use tree::Free;
use view::View;

/// A file system that proved what it has allocated.
#[derive(Debug)]
pub struct Xfs {
    evidence: Evidence,
    allocated: Extents,
}

impl Xfs {
    /// Reads the whole proof: superblock, log, one group after the other.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let partition = window.range().len.get();
        let sector = Superblock::sector_bytes(&window.fetch(0, superblock::LEAST_BYTES)?)?;
        let bytes = window.fetch(0, sector)?;
        let superblock = Superblock::parse(&bytes, partition, Trust::Verify)?;
        let log = Log::new(window, &superblock);
        let (allocated, log) = match log.state()? {
            State::Clean(end) => {
                let view = View { window, superblock: &superblock, overlay: None, newest: end.sequence() };
                (unmounted(view, Superblock::free_blocks(&bytes)?)?, XfsLog::Clean)
            }
            State::Dirty(end) => {
                let replay = log.replay(&end, &superblock)?;
                let medium = View { window, superblock: &superblock, overlay: None, newest: end.sequence() };
                (replayed(medium, &replay)?, XfsLog::Replayed { transactions: replay.transactions })
            }
        };
        let evidence = Evidence::XfsTrees {
            checksums: superblock.checksums,
            block_size: superblock.block_size,
            groups: u64::from(superblock.groups),
            log,
            free: ByteLen::new(partition.saturating_sub(allocated.total().get())),
        };
        Ok(Self { evidence, allocated })
    }
}

/// Returns what is allocated in a file system that was unmounted.
fn unmounted(view: View<'_>, stated: u64) -> Result<Extents, Stop> {
    let mut free = FreeSpace::new(view.superblock, &[]);
    let mut counted = 0_u64;
    for number in 0..view.superblock.groups {
        let group = Group::open(view, number)?;
        group.prove(|run| free.add(number, run))?;
        counted = counted.saturating_add(group.counted_free());
    }
    if counted != stated {
        return Err(XfsDoubt::TotalCount { groups: counted, superblock: stated }.into());
    }
    Ok(free.rest(view.window.range().len.get()))
}

/// Returns what is allocated before or after a replay of the log, and all that it touches.
fn replayed(medium: View<'_>, replay: &Replay) -> Result<Extents, Stop> {
    let superblock = medium.superblock;
    let view = View { overlay: Some(&replay.overlay), ..medium };
    if let Some(bytes) = replay.overlay.get(0, superblock.sector_bytes)
        && Superblock::parse(bytes, medium.window.range().len.get(), Trust::Structure)? != *superblock
    {
        return Err(XfsDoubt::LogChangesGeometry.into());
    }
    let mut free = FreeSpace::new(superblock, replay.touched.from(0));
    for number in 0..superblock.groups {
        let group = Group::open(view, number)?;
        let (start, len) = (superblock.group_start(number), superblock.group_len(number));
        let end = start + u64::from(len) * superblock.block_bytes();
        if replay.overlay.is_empty_between(start, end) {
            group.prove(|run| free.add(number, run))?;
            continue;
        }
        group.prove(|_| {})?;
        // Written back in part, what is on the medium may not fit together. Then only the replay counts.
        let before = Group::open(medium, number).and_then(|group| group.prove(|_| {}).map(|()| group));
        match before {
            Ok(before) => common::each(group.free(), before.free(), |run| free.add(number, run))?,
            Err(Stop::Doubt(_)) => {
                for run in group.free() {
                    free.add(number, run?);
                }
            }
            Err(stop @ Stop::Read(_)) => return Err(stop),
        }
    }
    Ok(free.rest(medium.window.range().len.get()))
}

impl FileSystem for Xfs {
    fn name(&self) -> Content {
        Content::Xfs
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        Box::new(self.allocated.iter())
    }
}

/// Turns what is free into what is not.
#[derive(Debug)]
struct FreeSpace<'a> {
    superblock: &'a Superblock,
    /// What is not free whatever the trees say: places in bytes, in order.
    taken: &'a [(u64, u64)],
    allocated: ExtentsBuilder,
    behind: u64,
}

impl<'a> FreeSpace<'a> {
    fn new(superblock: &'a Superblock, taken: &'a [(u64, u64)]) -> Self {
        Self { superblock, taken, allocated: ExtentsBuilder::new(), behind: 0 }
    }

    /// Takes an extent of a group as free. They come in order.
    fn add(&mut self, group: u32, run: Free) {
        let mut start = self.superblock.block_start(group, run.first);
        let end = self.superblock.block_start(group, run.end());
        while let Some((first, rest)) = self.taken.split_first()
            && first.0 < end
        {
            self.gap(start, first.0);
            start = start.max(first.1);
            if first.1 > end {
                break;
            }
            self.taken = rest;
        }
        self.gap(start, end);
    }

    fn gap(&mut self, start: u64, end: u64) {
        if start < end {
            self.allocated.push(self.behind, start);
            self.behind = end;
        }
    }

    /// Returns all bytes up to `end` that are not free.
    fn rest(mut self, end: u64) -> Extents {
        self.allocated.push(self.behind, end);
        self.allocated.finish()
    }
}
