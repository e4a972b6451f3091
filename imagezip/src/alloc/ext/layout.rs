//! Where the metadata of a file system lies: what every bitmap must show as allocated, and all that a group
//! without a bitmap has.

use super::ExtDoubt;
use super::descriptors::Descriptor;
use super::superblock::Superblock;

/// How many runs of metadata are kept: 32 MiB of them. A file system of 64 TiB has a fiftieth of that, or a quarter
/// without flex_bg; one that needs more is not made by any tool.
const MOST_RUNS: usize = 2 << 20;
/// How many of the last runs are tried for the next piece. The pieces of a group either follow each other, or, with
/// flex_bg, each follows that of its kind of the group before.
const OPEN_RUNS: usize = 4;

/// Blocks from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Blocks {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Blocks {
    /// Returns how many there are.
    pub(crate) const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Returns true if all of `other` is among them.
    const fn contain(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// The metadata of all groups, in disk order, without overlaps.
#[derive(Debug)]
pub(crate) struct Layout {
    metadata: Vec<Blocks>,
}

/// Collects the metadata of one group after the other.
#[derive(Debug)]
pub(crate) struct Collector<'a> {
    superblock: &'a Superblock,
    runs: Vec<Blocks>,
}

impl<'a> Collector<'a> {
    /// Begins with what belongs to no group.
    pub(crate) fn new(superblock: &'a Superblock) -> Result<Self, ExtDoubt> {
        let mut collector = Self { superblock, runs: Vec::new() };
        if let Some(start) = superblock.mmp_block {
            let block = Blocks { start, end: start.saturating_add(1) };
            if !collector.everything().contain(block) {
                return Err(ExtDoubt::Pointer { group: 0 });
            }
            collector.add(block)?;
        }
        Ok(collector)
    }

    /// Adds the metadata of a group: its copies, and what its descriptor points at.
    pub(crate) fn add_group(&mut self, group: u32, descriptor: &Descriptor) -> Result<(), ExtDoubt> {
        let own = self.superblock.group_blocks(group);
        let copy = self.superblock.copy_blocks(group);
        if copy.len() > 0 {
            // Only the last group can be too short for it, and then nothing can be said about it.
            if !own.contain(copy) {
                return Err(ExtDoubt::Pointer { group });
            }
            self.add(copy)?;
        }
        // Only flex_bg lets the metadata of a group live in another.
        let home = if self.superblock.flex_bg { self.everything() } else { own };
        for (start, len) in [
            (descriptor.block_bitmap, 1),
            (descriptor.inode_bitmap, 1),
            (descriptor.inode_table, self.superblock.inode_table_blocks),
        ] {
            let piece = start.checked_add(len).map(|end| Blocks { start, end }).filter(|piece| home.contain(*piece));
            self.add(piece.ok_or(ExtDoubt::Pointer { group })?)?;
        }
        Ok(())
    }

    /// Proves that no two pieces share a block.
    pub(crate) fn finish(self) -> Result<Layout, ExtDoubt> {
        let mut metadata = self.runs;
        metadata.sort_unstable();
        // A run is made of pieces that follow each other, so only two runs can share a block.
        let shared = metadata.array_windows().find(|[first, second]| first.end > second.start);
        match shared {
            Some([_, second]) => Err(ExtDoubt::SharedMetadata { block: second.start }),
            None => Ok(Layout { metadata }),
        }
    }

    fn everything(&self) -> Blocks {
        Blocks { start: self.superblock.first_block, end: self.superblock.end_block }
    }

    fn add(&mut self, piece: Blocks) -> Result<(), ExtDoubt> {
        if let Some(run) = self.runs.iter_mut().rev().take(OPEN_RUNS).find(|run| run.end == piece.start) {
            run.end = piece.end;
        } else if self.runs.len() < MOST_RUNS {
            self.runs.push(piece);
        } else {
            return Err(ExtDoubt::Scattered);
        }
        Ok(())
    }
}

impl Layout {
    /// Returns the pieces of metadata between two blocks, cut to them, in disk order.
    pub(crate) fn inside(&self, range: Blocks) -> impl Iterator<Item = Blocks> + '_ {
        let from = self.metadata.partition_point(|blocks| blocks.end <= range.start);
        self.metadata
            .iter()
            .skip(from)
            .take_while(move |blocks| blocks.start < range.end)
            .map(move |blocks| Blocks { start: blocks.start.max(range.start), end: blocks.end.min(range.end) })
    }
}
