//! The block bitmaps: one bit for each cluster of a group (without bigalloc, for each block), set where something in
//! the cluster is allocated.

use std::ops::Range;

use super::ExtDoubt;
use super::bits::Bits;
use super::descriptors::Descriptor;
use super::layout::{Blocks, Layout};
use super::superblock::Superblock;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// How much of bitmaps that lie side by side is read at once, as flex_bg puts them.
const READ_BYTES: u64 = 256 * 1024;

/// Reads the bitmaps in the order of their groups.
#[derive(Debug)]
pub(crate) struct Bitmaps<'a> {
    window: &'a Window<'a>,
    superblock: &'a Superblock,
    layout: &'a Layout,
    /// Some blocks of bitmaps, and the first of them.
    buffer: Vec<u8>,
    buffered: u64,
}

impl<'a> Bitmaps<'a> {
    pub(crate) fn new(window: &'a Window<'a>, superblock: &'a Superblock, layout: &'a Layout) -> Self {
        Self { window, superblock, layout, buffer: Vec::new(), buffered: 0 }
    }

    /// Finds what is allocated in a group, proves it against the descriptor and the layout, and returns how many
    /// clusters are free. `descriptors` are that of the group and those behind it; `allocated` is called in disk order.
    pub(crate) fn read_group(
        &mut self,
        group: u32,
        descriptors: &[Descriptor],
        mut allocated: impl FnMut(Blocks),
    ) -> Result<u64, Stop> {
        let Some(descriptor) = descriptors.first() else { return Err(ExtDoubt::DescriptorsCut.into()) };
        let map = ClusterMap::new(self.superblock, group);
        let metadata = self.layout.inside(map.blocks).map(|piece| map.clusters_of(piece));
        let mut used = 0_u64;
        let mut found = |run: Range<u32>| {
            used += u64::from(run.end - run.start);
            allocated(map.blocks_of(run));
        };
        if descriptor.uninit {
            merged(metadata, &mut found);
        } else {
            let size = self.superblock.block_size.as_usize();
            fill(&mut self.buffer, &mut self.buffered, self.window, size, descriptors)?;
            let at = usize::try_from(descriptor.block_bitmap.saturating_sub(self.buffered)).unwrap_or(usize::MAX);
            let block = at.checked_mul(size).and_then(|at| self.buffer.get(at..)?.get(..size));
            let block = block.ok_or(ExtDoubt::BitmapCut { group })?;
            check(self.superblock, group, descriptor, block, map.clusters)?;
            let bits = Bits::new(block);
            for needed in metadata {
                if let Some(missing) = bits.first_clear(needed) {
                    return Err(ExtDoubt::MetadataFree { block: map.blocks_of(missing..missing).start }.into());
                }
            }
            bits.set_runs(map.clusters, found);
        }
        let free = u64::from(map.clusters).saturating_sub(used);
        if free != u64::from(descriptor.free_clusters) {
            let descriptor = u64::from(descriptor.free_clusters);
            return Err(ExtDoubt::GroupCount { group, bitmap: free, descriptor }.into());
        }
        Ok(free)
    }
}

/// Reads the bitmap of the first descriptor, unless the buffer has it, with those of the next that lie behind it.
fn fill(
    buffer: &mut Vec<u8>,
    buffered: &mut u64,
    window: &Window<'_>,
    size: usize,
    descriptors: &[Descriptor],
) -> Result<(), Stop> {
    let Some(first) = descriptors.first().map(|descriptor| descriptor.block_bitmap) else { return Ok(()) };
    let blocks = u64::try_from(buffer.len() / size).unwrap_or(0);
    if (*buffered..buffered.saturating_add(blocks)).contains(&first) {
        return Ok(());
    }
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let most = (READ_BYTES / size).max(1);
    // Of a group without a bitmap the block is read in passing, and not looked at.
    let follow = (first..).zip(descriptors).take_while(|(block, descriptor)| *block == descriptor.block_bitmap);
    let blocks = u64::try_from(follow.count()).unwrap_or(1).min(most);
    // The layout has proved that the bitmap lies inside the file system, so the product fits.
    *buffer = window.fetch(first.saturating_mul(size), blocks * size)?;
    *buffered = first;
    Ok(())
}

/// Checks what can be checked of a bitmap before its content is believed.
fn check(
    superblock: &Superblock,
    group: u32,
    descriptor: &Descriptor,
    block: &[u8],
    clusters: u32,
) -> Result<(), ExtDoubt> {
    // A group has a multiple of 8 clusters.
    let used = usize::try_from(superblock.clusters_per_group / 8).ok().and_then(|len| block.get(..len));
    let used = used.ok_or(ExtDoubt::BitmapCut { group })?;
    if !descriptor.bitmap_is_valid(superblock.protection, used) {
        return Err(ExtDoubt::BitmapChecksum { group });
    }
    // Everything that writes a bitmap sets the bits that stand for nothing. Where they are not set, this is
    // something else, say zeros from a disk that lost a block.
    let bits = Bits::new(block);
    match bits.first_clear(clusters..bits.len()) {
        Some(_) => Err(ExtDoubt::Padding { group }),
        None => Ok(()),
    }
}

/// The clusters of a group, counted from its first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterMap {
    blocks: Blocks,
    ratio: u32,
    pub(crate) clusters: u32,
}

impl ClusterMap {
    pub(crate) fn new(superblock: &Superblock, group: u32) -> Self {
        let blocks = superblock.group_blocks(group);
        let ratio = superblock.cluster_blocks;
        // The last cluster of the file system may be cut. A group has no more than 2^32 blocks.
        let clusters = u32::try_from(blocks.len().div_ceil(u64::from(ratio))).unwrap_or(u32::MAX);
        Self { blocks, ratio, clusters }
    }

    /// Returns the clusters that have a block of `piece`, which lies in the group.
    fn clusters_of(self, piece: Blocks) -> Range<u32> {
        let ratio = u64::from(self.ratio);
        let cluster = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let start = piece.start.saturating_sub(self.blocks.start) / ratio;
        let end = piece.end.saturating_sub(self.blocks.start).div_ceil(ratio);
        cluster(start)..cluster(end)
    }

    /// Returns the blocks of some clusters.
    pub(crate) fn blocks_of(self, clusters: Range<u32>) -> Blocks {
        let block = |cluster: u32| {
            let block = self.blocks.start.saturating_add(u64::from(cluster) * u64::from(self.ratio));
            block.min(self.blocks.end)
        };
        Blocks { start: block(clusters.start), end: block(clusters.end) }
    }
}

/// Calls `found` with sorted pieces, those joined that touch or share a cluster.
fn merged(pieces: impl Iterator<Item = Range<u32>>, mut found: impl FnMut(Range<u32>)) {
    let mut run: Option<Range<u32>> = None;
    for piece in pieces {
        match &mut run {
            Some(run) if run.end >= piece.start => run.end = run.end.max(piece.end),
            _ => {
                if let Some(run) = run.replace(piece) {
                    found(run);
                }
            }
        }
    }
    run.map(found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_where_they_touch_or_share_a_cluster() {
        let join = |pieces: Vec<Range<u32>>| {
            let mut runs = Vec::new();
            merged(pieces.into_iter(), |run| runs.push(run));
            runs
        };
        assert_eq!(join(vec![0..2, 2..3, 5..6, 5..8, 6..7, 9..10]), [0..3, 5..8, 9..10]);
        assert_eq!(join(vec![]), []);
    }

    #[test]
    fn a_cluster_has_all_blocks_that_touch_it() {
        let map = ClusterMap { blocks: Blocks { start: 1000, end: 1030 }, ratio: 8, clusters: 4 };
        assert_eq!(map.clusters_of(Blocks { start: 1007, end: 1009 }), 0..2);
        assert_eq!(map.clusters_of(Blocks { start: 1008, end: 1016 }), 1..2);
        assert_eq!(map.blocks_of(1..2), Blocks { start: 1008, end: 1016 });
        assert_eq!(map.blocks_of(3..4), Blocks { start: 1024, end: 1030 }, "the last one is cut");
    }
}
