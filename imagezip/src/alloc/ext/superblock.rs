//! The superblock of ext2, ext3 and ext4: 1024 bytes at byte 1024.
//!
//! Every field that decides what is allocated is parsed into a value that was checked.

use sigs::BlockSize;

use super::ExtDoubt;
use super::features::{Copies, Features, Protection};
use super::layout::Blocks;
use super::raw::Raw;
use super::state::State;
use crate::alloc::content::{self, Content};
use crate::alloc::doubt::Stop;
use crate::alloc::filesystem::Checksums;
use crate::alloc::window::Window;

/// Where the superblock stands, in bytes from the start of the partition.
pub(crate) const SUPERBLOCK_AT: u64 = 1024;

/// The geometry of a file system of which every feature is known, and how it was left.
#[derive(Clone, Debug)]
pub(crate) struct Superblock {
    pub(crate) name: Content,
    pub(crate) state: State,
    pub(crate) block_size: BlockSize,
    /// The first block of the file system: what lies before it belongs to nobody.
    pub(crate) first_block: u64,
    /// The first block behind the file system.
    pub(crate) end_block: u64,
    pub(crate) free_blocks: u64,
    /// How many blocks a bit of a bitmap stands for: more than one with bigalloc.
    pub(crate) cluster_blocks: u32,
    pub(crate) clusters_per_group: u32,
    pub(crate) groups: u32,
    pub(crate) inodes: Inodes,
    pub(crate) inode_table_blocks: u64,
    pub(crate) reserved_descriptor_blocks: u64,
    pub(crate) descriptor_len: u32,
    /// How many blocks of descriptors stand behind the superblock and its copies. With `meta_bg` the others lie in
    /// the groups they describe.
    pub(crate) descriptor_blocks_in_copy: u32,
    pub(crate) copies: Copies,
    pub(crate) flex_bg: bool,
    /// The block of multiple mount protection.
    pub(crate) mmp_block: Option<u64>,
    pub(crate) protection: Protection,
}

impl Superblock {
    /// Reads the primary superblock.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        Ok(Self::parse(&window.fetch(SUPERBLOCK_AT, 1024)?, window.range().len.get())?)
    }

    /// Parses the superblock of a file system in a partition of `partition` bytes.
    fn parse(bytes: &[u8], partition: u64) -> Result<Self, ExtDoubt> {
        let raw = Raw::new(bytes);
        let features = Features::parse(&raw)?;
        let protection = features.protection(&raw)?;
        let copy_of = raw.u16(0x5A)?;
        if copy_of != 0 {
            return Err(ExtDoubt::BackupSuperblock { group: copy_of });
        }
        let state = State::parse(&raw, features)?;

        let sizes = Sizes::parse(&raw, features)?;
        let block_bytes = u64::from(sizes.block_size.bytes());
        let first_block = u64::from(raw.u32(0x14)?);
        require(first_block == u64::from(sizes.block_size.bytes() * sizes.cluster_blocks == 1024), "first data block")?;
        let end_block = wide(&raw, features, 0x04, 0x150)?;
        if end_block.checked_mul(block_bytes).is_none_or(|end| end > partition) {
            return Err(ExtDoubt::LargerThanPartition);
        }
        let blocks = end_block.checked_sub(first_block).filter(|blocks| *blocks > 0);
        let blocks = blocks.ok_or(ExtDoubt::Geometry("number of blocks"))?;
        let per_group = u64::from(sizes.clusters_per_group) * u64::from(sizes.cluster_blocks);
        let groups = u32::try_from(blocks.div_ceil(per_group)).map_err(|_| ExtDoubt::Geometry("number of groups"))?;

        let reserved = u64::from(raw.u16(0xCE)?);
        let reserved_sane = (reserved == 0 || features.is_resizable()) && reserved <= block_bytes / 4;
        require(reserved_sane, "reserved descriptor blocks")?;
        let descriptor_len = descriptor_len(&raw, features)?;
        let inodes = Inodes::parse(&raw, features, sizes.block_size, groups)?;

        let mut superblock = Self {
            name: content::ext_claim(bytes).unwrap_or(Content::Ext4),
            state,
            block_size: sizes.block_size,
            first_block,
            end_block,
            free_blocks: wide(&raw, features, 0x0C, 0x158)?,
            cluster_blocks: sizes.cluster_blocks,
            clusters_per_group: sizes.clusters_per_group,
            groups,
            inodes,
            inode_table_blocks: inodes.table_blocks(sizes.block_size),
            reserved_descriptor_blocks: reserved,
            descriptor_len,
            descriptor_blocks_in_copy: 0,
            copies: features.copies(&raw)?,
            flex_bg: features.flex_bg(),
            mmp_block: if features.mmp() { Some(raw.u64(0x168)?) } else { None },
            protection,
        };
        let all = superblock.descriptor_blocks();
        superblock.descriptor_blocks_in_copy = if features.meta_bg() { raw.u32(0x104)? } else { all };
        require(superblock.descriptor_blocks_in_copy <= all, "first meta group")?;
        Ok(superblock)
    }

    /// Returns true if `other` lays out its blocks in the same way and has the same journal; it may have more groups.
    pub(crate) fn has_shape_of(&self, other: &Self) -> bool {
        let shape = |superblock: &Self| {
            (
                (superblock.block_size, superblock.first_block, superblock.cluster_blocks, superblock.flex_bg),
                (superblock.clusters_per_group, superblock.inodes, superblock.descriptor_len),
                (superblock.protection, superblock.state.journal),
            )
        };
        shape(self) == shape(other)
    }

    /// Returns which checksums were valid.
    pub(crate) fn checksums(&self) -> Checksums {
        match self.protection {
            Protection::None => Checksums::None,
            Protection::Descriptors { .. } => Checksums::Descriptors,
            Protection::All { .. } => Checksums::All,
        }
    }

    /// Returns the blocks of a group.
    pub(crate) fn group_blocks(&self, group: u32) -> Blocks {
        let size = u64::from(self.clusters_per_group) * u64::from(self.cluster_blocks);
        let start = self.first_block + u64::from(group) * size;
        Blocks { start, end: (start + size).min(self.end_block) }
    }

    /// Returns how many descriptors a block holds.
    pub(crate) fn descriptors_per_block(&self) -> u32 {
        // The length is a power of two up to 1024, the least size of a block.
        self.block_size.bytes() / self.descriptor_len
    }

    /// Returns how many blocks all descriptors take.
    pub(crate) fn descriptor_blocks(&self) -> u32 {
        self.groups.div_ceil(self.descriptors_per_block())
    }

    /// Returns the place of a block of the primary descriptors.
    pub(crate) fn descriptor_block(&self, index: u32) -> u64 {
        if index < self.descriptor_blocks_in_copy {
            return self.first_of(0) + 1 + u64::from(index);
        }
        // Groups are numbered with 32 bits, and the index is that of a block with descriptors of some of them.
        let group = index.saturating_mul(self.descriptors_per_block());
        self.first_of(group) + u64::from(self.copies.include(group))
    }

    /// Returns what a group begins with: copies of the superblock and of descriptors, and what is kept for more.
    pub(crate) fn copy_blocks(&self, group: u32) -> Blocks {
        let copy = self.copies.include(group);
        let per_block = self.descriptors_per_block();
        let in_block = group % per_block;
        let descriptors = if group / per_block < self.descriptor_blocks_in_copy {
            let all = u64::from(self.descriptor_blocks_in_copy) + self.reserved_descriptor_blocks;
            if copy { all } else { 0 }
        } else {
            // The first group described by a block has it, the second and the last a copy of it.
            u64::from(in_block <= 1 || in_block == per_block - 1)
        };
        let start = self.first_of(group);
        Blocks { start, end: start.saturating_add(u64::from(copy) + descriptors) }
    }

    /// Returns where the copies of a group begin.
    fn first_of(&self, group: u32) -> u64 {
        // With blocks of 1 KiB the superblock is in block 1, even where clusters let the first group begin with 0.
        let least = u64::from(self.block_size.bytes() == 1024);
        self.group_blocks(group).start.max(least)
    }
}

/// The sizes of blocks, clusters and groups.
struct Sizes {
    block_size: BlockSize,
    cluster_blocks: u32,
    clusters_per_group: u32,
}

impl Sizes {
    fn parse(raw: &Raw<'_>, features: Features) -> Result<Self, ExtDoubt> {
        let log_block_size = raw.u32(0x18)?;
        let size = (log_block_size <= 6).then(|| BlockSize::new(1024_u32 << log_block_size));
        let Some(Ok(block_size)) = size else { return Err(ExtDoubt::Geometry("block size")) };
        // Clusters (or fragments, in ext2) of more than a block came with bigalloc; Linux has them up to 1 GiB.
        let log_cluster_size = raw.u32(0x1C)?;
        let ratio = log_cluster_size.checked_sub(log_block_size).filter(|ratio| *ratio == 0 || features.bigalloc());
        let ratio = ratio.filter(|_| log_cluster_size <= 20).ok_or(ExtDoubt::Geometry("cluster size"))?;
        let cluster_blocks = 1_u32 << ratio;

        let (blocks_per_group, clusters_per_group) = (raw.u32(0x20)?, raw.u32(0x24)?);
        // A bitmap is one block, and checksums cover whole bytes of it; mke2fs makes no groups below 256.
        let groups_sane = blocks_per_group >= 256
            && clusters_per_group >= 8
            && clusters_per_group % 8 == 0
            && u64::from(clusters_per_group) <= u64::from(block_size.bytes()) * 8;
        require(groups_sane, "blocks per group")?;
        require(clusters_per_group.checked_mul(cluster_blocks) == Some(blocks_per_group), "clusters per group")?;
        Ok(Self { block_size, cluster_blocks, clusters_per_group })
    }
}

/// The inodes of each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inodes {
    pub(crate) per_group: u32,
    /// The size of one.
    pub(crate) bytes: u32,
}

impl Inodes {
    fn parse(raw: &Raw<'_>, features: Features, block_size: BlockSize, groups: u32) -> Result<Self, ExtDoubt> {
        let per_group = raw.u32(0x28)?;
        let all = u64::from(groups).checked_mul(u64::from(per_group));
        let sane = per_group > 0
            && u64::from(per_group) <= u64::from(block_size.bytes()) * 8
            && all == Some(u64::from(raw.u32(0x00)?));
        require(sane, "number of inodes")?;
        let bytes = if features.revision == 0 { 128 } else { u32::from(raw.u16(0x58)?) };
        require(bytes.is_power_of_two() && bytes >= 128 && bytes <= block_size.bytes(), "inode size")?;
        Ok(Self { per_group, bytes })
    }

    /// Returns how many blocks those of a group take.
    fn table_blocks(self, block_size: BlockSize) -> u64 {
        (u64::from(self.per_group) * u64::from(self.bytes)).div_ceil(u64::from(block_size.bytes()))
    }
}

fn descriptor_len(raw: &Raw<'_>, features: Features) -> Result<u32, ExtDoubt> {
    if !features.is_64bit() {
        return Ok(32);
    }
    let len = u32::from(raw.u16(0xFE)?);
    require(len.is_power_of_two() && (64..=1024).contains(&len), "descriptor size")?;
    Ok(len)
}

/// Reads a number whose upper half counts only with 64bit; without, Linux and e2fsprogs would disagree.
fn wide(raw: &Raw<'_>, features: Features, low: usize, high: usize) -> Result<u64, ExtDoubt> {
    let (low, high) = (u64::from(raw.u32(low)?), u64::from(raw.u32(high)?));
    require(high == 0 || features.is_64bit(), "upper half of a number")?;
    Ok(low | (high << 32))
}

fn require(holds: bool, what: &'static str) -> Result<(), ExtDoubt> {
    if holds { Ok(()) } else { Err(ExtDoubt::Geometry(what)) }
}
