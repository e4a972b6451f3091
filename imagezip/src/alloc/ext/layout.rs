//! Where the metadata of a file system lies: what every bitmap must show as allocated, and all that a group
//! without a bitmap has.

use super::ExtDoubt;
use super::descriptors::Descriptor;
use super::superblock::Superblock;

/// Blocks from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Blocks {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The metadata of all groups, in disk order, without overlaps.
#[derive(Debug)]
pub(crate) struct Layout {
    metadata: Vec<Blocks>,
}

impl Layout {
    /// Collects the metadata of all groups and proves that no two pieces share a block.
    pub(crate) fn new(superblock: &Superblock, descriptors: &[Descriptor]) -> Result<Self, ExtDoubt> {
        let mut metadata = Vec::with_capacity(descriptors.len().saturating_mul(4));
        let copy = 1 + superblock.descriptor_blocks() + superblock.reserved_descriptor_blocks;
        for (group, descriptor) in (0..).zip(descriptors) {
            let (first, end) = superblock.group_blocks(group);
            if superblock.has_copy(group) {
                // Only the last group can be too short for it, and then nothing can be said about it.
                let blocks = Blocks { start: first, end: first.saturating_add(copy) };
                metadata.push(Some(blocks).filter(|blocks| blocks.end <= end).ok_or(ExtDoubt::Pointer { group })?);
            }
            // Only flex_bg lets the metadata of a group live in another.
            let home = if superblock.flex_bg {
                Blocks { start: superblock.first_block, end: superblock.end_block }
            } else {
                Blocks { start: first, end }
            };
            for (start, len) in [
                (descriptor.block_bitmap, 1),
                (descriptor.inode_bitmap, 1),
                (descriptor.inode_table, superblock.inode_table_blocks),
            ] {
                let end = start.checked_add(len).filter(|end| start >= home.start && *end <= home.end);
                metadata.push(Blocks { start, end: end.ok_or(ExtDoubt::Pointer { group })? });
            }
        }
        if let Some(start) = superblock.mmp_block {
            let inside = start >= superblock.first_block && start < superblock.end_block;
            metadata.push(Blocks { start, end: start.saturating_add(1) });
            inside.then_some(()).ok_or(ExtDoubt::Pointer { group: 0 })?;
        }
        metadata.sort_unstable();
        for pair in metadata.windows(2) {
            if let [first, second] = pair
                && first.end > second.start
            {
                return Err(ExtDoubt::SharedMetadata { block: second.start });
            }
        }
        Ok(Self { metadata })
    }

    /// Returns the pieces of metadata between two blocks, cut to them, in disk order.
    pub(crate) fn between(&self, start: u64, end: u64) -> impl Iterator<Item = Blocks> + '_ {
        let from = self.metadata.partition_point(|blocks| blocks.end <= start);
        self.metadata
            .iter()
            .skip(from)
            .take_while(move |blocks| blocks.start < end)
            .map(move |blocks| Blocks { start: blocks.start.max(start), end: blocks.end.min(end) })
    }
}
