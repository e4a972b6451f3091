//! The superblock of ext2, ext3 and ext4: 1024 bytes at byte 1024.
//!
//! Every field that decides what is allocated is parsed into a value that was checked; a flag that is not on the
//! lists below is a doubt, whatever it means.

use sigs::BlockSize;

use super::ExtDoubt;
use crate::alloc::bytes::{array, u8_at, u16_at, u32_at, u64_at};
use crate::alloc::content::{self, Content};
use crate::alloc::crc::{CRC16_START, CRC32C_START, crc16, crc32c};
use crate::alloc::filesystem::Checksums;

/// Where the superblock stands, in bytes from the start of the partition.
pub(crate) const SUPERBLOCK_AT: u64 = 1024;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_RESIZE_INODE: u32 = 0x10;
/// dir_prealloc, imagic_inodes, has_journal, ext_attr, resize_inode, dir_index, fast_commit, stable_inodes,
/// orphan_file. Not: lazy_bg, the two of the snapshot patches, sparse_super2.
const COMPAT_KNOWN: u32 = 0x1 | 0x2 | COMPAT_HAS_JOURNAL | 0x8 | COMPAT_RESIZE_INODE | 0x20 | 0x400 | 0x800 | 0x1000;

const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_MMP: u32 = 0x100;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
/// filetype, extents, 64bit, mmp, flex_bg, ea_inode, metadata_csum_seed, large_dir, inline_data, encrypt,
/// casefold. Not: compression, recover, journal_dev, meta_bg, dirdata.
const INCOMPAT_KNOWN: u32 = 0x2
    | 0x40
    | INCOMPAT_64BIT
    | INCOMPAT_MMP
    | INCOMPAT_FLEX_BG
    | 0x400
    | INCOMPAT_CSUM_SEED
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;

const RO_SPARSE_SUPER: u32 = 0x1;
const RO_GDT_CSUM: u32 = 0x10;
const RO_METADATA_CSUM: u32 = 0x400;
/// sparse_super, large_file, btree_dir, huge_file, uninit_bg, dir_nlink, extra_isize, quota, metadata_csum,
/// read-only, project, verity. Not: snapshot, bigalloc, replica, shared_blocks, orphan_present.
const RO_KNOWN: u32 =
    RO_SPARSE_SUPER | 0x2 | 0x4 | 0x8 | RO_GDT_CSUM | 0x20 | 0x40 | 0x100 | RO_METADATA_CSUM | 0x1000 | 0x2000 | 0x8000;

const STATE_CLEAN: u16 = 1;
const CHECKSUM_AT: usize = 0x3FC;
const CRC32C_TYPE: u8 = 1;

/// What protects the metadata, with what is mixed into every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    None,
    Descriptors { seed: u16 },
    All { seed: u32 },
}

/// The geometry of a clean file system of which every feature is known.
#[derive(Clone, Debug)]
pub(crate) struct Superblock {
    pub(crate) name: Content,
    pub(crate) block_size: BlockSize,
    /// The first block of the file system: what lies before it belongs to nobody.
    pub(crate) first_block: u64,
    /// The first block behind the file system.
    pub(crate) end_block: u64,
    pub(crate) free_blocks: u64,
    pub(crate) blocks_per_group: u32,
    pub(crate) groups: u32,
    pub(crate) inode_table_blocks: u64,
    pub(crate) reserved_descriptor_blocks: u64,
    pub(crate) descriptor_len: u32,
    pub(crate) sparse_super: bool,
    pub(crate) flex_bg: bool,
    /// The block of multiple mount protection.
    pub(crate) mmp_block: Option<u64>,
    pub(crate) protection: Protection,
}

impl Superblock {
    /// Parses the superblock of a file system in a partition of `partition` bytes.
    pub(crate) fn parse(bytes: &[u8], partition: u64) -> Result<Self, ExtDoubt> {
        let raw = Raw(bytes);
        let features = Features::parse(&raw)?;
        let protection = features.protection(&raw)?;
        refuse_unclean(&raw)?;

        let log_block_size = raw.u32(0x18)?;
        let size = (log_block_size <= 6).then(|| BlockSize::new(1024_u32 << log_block_size));
        let Some(Ok(block_size)) = size else { return Err(ExtDoubt::Geometry("block size")) };
        let bytes_per_block = u64::from(block_size.bytes());

        let first_block = u64::from(raw.u32(0x14)?);
        require(first_block == u64::from(block_size.bytes() == 1024), "first data block")?;
        let end_block = features.wide(&raw, 0x04, 0x150)?;
        let free_blocks = features.wide(&raw, 0x0C, 0x158)?;
        let fits = end_block.checked_mul(bytes_per_block).is_some_and(|end| end <= partition);
        if !fits {
            return Err(ExtDoubt::LargerThanPartition);
        }
        let blocks_per_group = raw.u32(0x20)?;
        // A bitmap is one block, and checksums cover whole bytes of it; mke2fs makes no groups below 256.
        let groups_sane = blocks_per_group >= 256
            && blocks_per_group % 8 == 0
            && u64::from(blocks_per_group) <= bytes_per_block.saturating_mul(8);
        require(groups_sane, "blocks per group")?;
        // Clusters (or fragments, in ext2) of more than a block came with bigalloc.
        require(raw.u32(0x1C)? == log_block_size && raw.u32(0x24)? == blocks_per_group, "cluster size")?;
        let blocks = end_block.checked_sub(first_block).filter(|blocks| *blocks > 0);
        let blocks = blocks.ok_or(ExtDoubt::Geometry("number of blocks"))?;
        let groups = u32::try_from(blocks.div_ceil(u64::from(blocks_per_group)))
            .map_err(|_| ExtDoubt::Geometry("number of groups"))?;

        let inodes_per_group = raw.u32(0x28)?;
        let inodes = u64::from(groups).checked_mul(u64::from(inodes_per_group));
        let inodes_sane = inodes_per_group > 0
            && u64::from(inodes_per_group) <= bytes_per_block.saturating_mul(8)
            && inodes == Some(u64::from(raw.u32(0x00)?));
        require(inodes_sane, "number of inodes")?;
        let inode_size = if features.revision == 0 { 128 } else { u32::from(raw.u16(0x58)?) };
        let inode_sane = inode_size.is_power_of_two() && inode_size >= 128 && inode_size <= block_size.bytes();
        require(inode_sane, "inode size")?;

        let reserved = u64::from(raw.u16(0xCE)?);
        let resizable = features.compat & COMPAT_RESIZE_INODE != 0;
        require((reserved == 0 || resizable) && reserved <= bytes_per_block / 4, "reserved descriptor blocks")?;

        Ok(Self {
            name: content::ext_claim(bytes).unwrap_or(Content::Ext4),
            block_size,
            first_block,
            end_block,
            free_blocks,
            blocks_per_group,
            groups,
            inode_table_blocks: (u64::from(inodes_per_group) * u64::from(inode_size)).div_ceil(bytes_per_block),
            reserved_descriptor_blocks: reserved,
            descriptor_len: features.descriptor_len(&raw)?,
            sparse_super: features.ro_compat & RO_SPARSE_SUPER != 0,
            flex_bg: features.incompat & INCOMPAT_FLEX_BG != 0,
            mmp_block: if features.incompat & INCOMPAT_MMP != 0 { Some(raw.u64(0x168)?) } else { None },
            protection,
        })
    }

    /// Returns which checksums were valid.
    pub(crate) fn checksums(&self) -> Checksums {
        match self.protection {
            Protection::None => Checksums::None,
            Protection::Descriptors { .. } => Checksums::Descriptors,
            Protection::All { .. } => Checksums::All,
        }
    }

    /// Returns the first block of a group and the first behind it.
    pub(crate) fn group_blocks(&self, group: u32) -> (u64, u64) {
        let size = u64::from(self.blocks_per_group);
        let first = self.first_block + u64::from(group) * size;
        (first, (first + size).min(self.end_block))
    }

    /// Returns how many blocks one copy of the descriptors has.
    pub(crate) fn descriptor_blocks(&self) -> u64 {
        (u64::from(self.groups) * u64::from(self.descriptor_len)).div_ceil(u64::from(self.block_size.bytes()))
    }

    /// Returns true if a group begins with a copy of superblock and descriptors.
    pub(crate) fn has_copy(&self, group: u32) -> bool {
        let is_power_of = |base: u32| {
            let mut power = base;
            while power < group {
                let Some(next) = power.checked_mul(base) else { return false };
                power = next;
            }
            power == group
        };
        !self.sparse_super || group <= 1 || is_power_of(3) || is_power_of(5) || is_power_of(7)
    }
}

struct Features {
    revision: u32,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

impl Features {
    fn parse(raw: &Raw<'_>) -> Result<Self, ExtDoubt> {
        let revision = raw.u32(0x4C)?;
        let (compat, incompat, ro_compat) = (raw.u32(0x5C)?, raw.u32(0x60)?, raw.u32(0x64)?);
        // Revision 0 has no feature flags; where they stand nothing may be.
        if revision > 1 || (revision == 0 && (compat | incompat | ro_compat) != 0) {
            return Err(ExtDoubt::Revision(revision));
        }
        if incompat & INCOMPAT_RECOVER != 0 {
            return Err(ExtDoubt::DirtyJournal);
        }
        for (set, known, what) in [
            (compat, COMPAT_KNOWN, "compat"),
            (incompat, INCOMPAT_KNOWN, "incompat"),
            (ro_compat, RO_KNOWN, "ro_compat"),
        ] {
            if set & !known != 0 {
                return Err(ExtDoubt::Feature { set: what, flags: set & !known });
            }
        }
        // A journal of its own is inode 8; with another, or with one on another device, all bets are off.
        if compat & COMPAT_HAS_JOURNAL != 0 && raw.u32(0xE0)? != 8 {
            return Err(ExtDoubt::OtherJournal);
        }
        Ok(Self { revision, compat, incompat, ro_compat })
    }

    fn protection(&self, raw: &Raw<'_>) -> Result<Protection, ExtDoubt> {
        let uuid: [u8; 16] = raw.get(array(raw.0, 0x68))?;
        match (self.ro_compat & RO_METADATA_CSUM != 0, self.ro_compat & RO_GDT_CSUM != 0) {
            (true, true) => Err(ExtDoubt::TwoChecksums),
            (false, true) => Ok(Protection::Descriptors { seed: crc16(CRC16_START, &uuid) }),
            (false, false) => Ok(Protection::None),
            (true, false) => {
                let covered = raw.get(raw.0.get(..CHECKSUM_AT))?;
                let kind_known = raw.get(u8_at(raw.0, 0x175))? == CRC32C_TYPE;
                if !kind_known || raw.u32(CHECKSUM_AT)? != crc32c(CRC32C_START, covered) {
                    return Err(ExtDoubt::SuperblockChecksum);
                }
                let seeded = self.incompat & INCOMPAT_CSUM_SEED != 0;
                let seed = if seeded { raw.u32(0x270)? } else { crc32c(CRC32C_START, &uuid) };
                Ok(Protection::All { seed })
            }
        }
    }

    /// Reads a number whose upper half counts only with 64bit; without, Linux and e2fsprogs would disagree.
    fn wide(&self, raw: &Raw<'_>, low: usize, high: usize) -> Result<u64, ExtDoubt> {
        let (low, high) = (u64::from(raw.u32(low)?), u64::from(raw.u32(high)?));
        require(high == 0 || self.incompat & INCOMPAT_64BIT != 0, "upper half of a number")?;
        Ok(low | (high << 32))
    }

    fn descriptor_len(&self, raw: &Raw<'_>) -> Result<u32, ExtDoubt> {
        if self.incompat & INCOMPAT_64BIT == 0 {
            return Ok(32);
        }
        // The format allows larger ones; nobody makes them.
        require(raw.u16(0xFE)? == 64, "descriptor size")?;
        Ok(64)
    }
}

fn refuse_unclean(raw: &Raw<'_>) -> Result<(), ExtDoubt> {
    let copy_of = raw.u16(0x5A)?;
    if copy_of != 0 {
        return Err(ExtDoubt::BackupSuperblock { group: copy_of });
    }
    let state = raw.u16(0x3A)?;
    if state != STATE_CLEAN {
        return Err(ExtDoubt::Unclean { state });
    }
    let errors = raw.u32(0x194)?;
    if errors != 0 {
        return Err(ExtDoubt::Errors(errors));
    }
    Ok(())
}

fn require(holds: bool, what: &'static str) -> Result<(), ExtDoubt> {
    if holds { Ok(()) } else { Err(ExtDoubt::Geometry(what)) }
}

/// The bytes, of which there may be too few.
struct Raw<'a>(&'a [u8]);

impl Raw<'_> {
    fn get<T>(&self, value: Option<T>) -> Result<T, ExtDoubt> {
        value.ok_or(ExtDoubt::Geometry("length of the superblock"))
    }

    fn u16(&self, at: usize) -> Result<u16, ExtDoubt> {
        self.get(u16_at(self.0, at))
    }

    fn u32(&self, at: usize) -> Result<u32, ExtDoubt> {
        self.get(u32_at(self.0, at))
    }

    fn u64(&self, at: usize) -> Result<u64, ExtDoubt> {
        self.get(u64_at(self.0, at))
    }
}
