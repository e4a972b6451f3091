//! ext2, ext3 and ext4, read strictly: from the primary superblock, its descriptors and the block bitmaps.
//!
//! The answer is believed when the file system is clean, every feature flag is known, every checksum the format
//! has is valid, the bitmaps count what the descriptors say and these what the superblock says, and everything
//! the descriptors point at is inside, not shared, and allocated. A group whose bitmap was never written
//! (BLOCK_UNINIT) has exactly its metadata allocated: the copies of superblock and descriptors in it and
//! whatever flex_bg put there for other groups. With bigalloc all of this counts in clusters.
//!
//! - [`superblock`], [`features`], [`raw`]: geometry, with every flag accounted for
//! - [`state`]: whether it was left in order
//! - [`descriptors`], [`table`]: one group descriptor, and the table of them wherever its parts lie
//! - [`layout`]: where all metadata is
//! - [`bitmaps`], [`bits`]: what is allocated in one group
//! - [`journal`], [`on_disk`]: what is allocated once the journal of a file system in use is replayed
//! - [`inode`], [`mapping`]: an inode, and which blocks it has
//!
//! The table is read twice, once for the layout and once beside the bitmaps, so that memory holds little of it.

mod bitmaps;
pub(crate) mod bits;
mod descriptors;
mod doubt;
mod features;
pub(crate) mod inode;
pub(crate) mod journal;
mod layout;
pub(crate) mod mapping;
mod on_disk;
mod raw;
mod state;
pub(crate) mod superblock;
mod table;

use sigs::{ByteLen, ByteRange};

use super::content::Content;
use super::doubt::Stop;
use super::filesystem::{Evidence, FileSystem};
use super::window::Window;
use crate::extents::{Extents, ExtentsBuilder};
use bitmaps::Bitmaps;
pub use doubt::ExtDoubt;
use layout::{Blocks, Collector, Layout};
pub(crate) use superblock::{SUPERBLOCK_AT, Superblock};

/// A file system that proved what it has allocated.
#[derive(Debug)]
pub struct Ext {
    name: Content,
    evidence: Evidence,
    allocated: Extents,
}

impl Ext {
    /// Reads a file system that was left in order, or one whose journal puts it in order.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let superblock = Superblock::read(window)?;
        if superblock.state.needs_recovery() {
            return journal::read(window, &superblock);
        }
        superblock.state.require_consistent()?;
        journal::require_empty(window, &superblock)?;
        let (found, free) = Self::prove(window, &superblock)?;
        if free != superblock.free_blocks {
            return Err(ExtDoubt::TotalCount { bitmaps: free, superblock: superblock.free_blocks }.into());
        }
        Ok(found)
    }

    /// Reads descriptors and bitmaps, in whatever state the file system is; returns the proof, and how many blocks are
    /// free according to the bitmaps. Only a file system that was unmounted has that number in its superblock.
    pub(crate) fn prove(window: &Window<'_>, superblock: &Superblock) -> Result<(Self, u64), Stop> {
        let layout = read_layout(window, superblock)?;
        let mut bitmaps = Bitmaps::new(window, superblock, &layout);

        let partition = window.range().len.get();
        let block_size = u64::from(superblock.block_size.bytes());
        let mut list = ExtentsBuilder::new();
        // The blocks were compared with the length of the partition, so no product overflows.
        list.push(0, superblock.first_block * block_size);
        let mut free = 0_u64;
        let mut uninit_groups = 0;
        for batch in table::batches(window, superblock) {
            let batch = batch?;
            for (group, at) in (batch.first..).zip(0..batch.descriptors.len()) {
                let descriptors = batch.descriptors.get(at..).unwrap_or_default();
                free += bitmaps.read_group(group, descriptors, |blocks: Blocks| {
                    list.push(blocks.start * block_size, blocks.end * block_size);
                })?;
                uninit_groups += u64::from(descriptors.first().is_some_and(|descriptor| descriptor.uninit));
            }
        }
        list.push(superblock.end_block * block_size, partition);

        let allocated = list.finish();
        let evidence = Evidence::ExtBitmaps {
            checksums: superblock.checksums(),
            block_size: superblock.block_size,
            groups: u64::from(superblock.groups),
            uninit_groups,
            journal: None,
            free: ByteLen::new(partition.saturating_sub(allocated.total().get())),
        };
        // The superblock counts blocks, and a cluster cut by the end of the file system as a whole one.
        Ok((Self { name: superblock.name, evidence, allocated }, free * u64::from(superblock.cluster_blocks)))
    }
}

/// Reads the table of descriptors for where the metadata is.
fn read_layout(window: &Window<'_>, superblock: &Superblock) -> Result<Layout, Stop> {
    let mut collector = Collector::new(superblock)?;
    for batch in table::batches(window, superblock) {
        let batch = batch?;
        for (group, descriptor) in (batch.first..).zip(&batch.descriptors) {
            collector.add_group(group, descriptor)?;
        }
    }
    Ok(collector.finish()?)
}

impl FileSystem for Ext {
    fn name(&self) -> Content {
        self.name
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        Box::new(self.allocated.iter())
    }
}
