//! The superblock: one sector at the start of every allocation group; the first is the one that counts.
//!
//! ```text
//!   0 "XFSB"  4 block size  8 blocks  32 UUID  48 start of the log  56 root inode  84 blocks per group  88 groups
//!  96 log blocks  100 version and flags  102 sector size  104 inode size  120 log2: block, sector, inode, inodes per
//! block, group  126 in progress  144 free blocks  200 more flags (4), 204 the same  208 compat  212 ro_compat
//! 216 incompat  220 log_incompat  224 checksum  248 UUID of the metadata; numbers are big-endian, the checksum is not
//! ```
//!
//! Every field that decides what is allocated is parsed into a value that was checked; a flag that is not on the
//! lists below is a doubt, whatever it means.

use sigs::BlockSize;

use super::doubt::XfsDoubt;
use super::raw::Raw;

/// The least that has to be read to know the size of a sector.
pub(crate) const LEAST_BYTES: u64 = 512;
const MAGIC: &[u8] = b"XFSB";
const CHECKSUM_AT: usize = 224;

/// attr, nlink, quota, align, dalign, log v2, sector, extflg, dir v2, ASCII case-insensitive, more bits. Not: shared.
const VERSION_FLAGS_KNOWN: u16 =
    0x0010 | 0x0020 | 0x0040 | 0x0080 | 0x0100 | LOG_V2 | 0x0800 | 0x1000 | DIR_V2 | 0x4000 | MORE;
const LOG_V2: u16 = 0x0400;
const DIR_V2: u16 = 0x2000;
const MORE: u16 = 0x8000;
/// lazy counters, attr2, 32-bit project ids, ftype; the bit of checksums is for version 5 only. Not: parent pointers.
const MORE_KNOWN: u32 = MORE_LAZY | 0x8 | 0x80 | 0x200;
const MORE_LAZY: u32 = 0x2;
const MORE_CHECKSUMS: u32 = 0x100;

const RO_RMAP: u32 = 0x2;
/// finobt, rmapbt, reflink, inobtcount.
const RO_KNOWN: u32 = 0x1 | RO_RMAP | 0x4 | 0x8;
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDS_REPAIR: u32 = 0x10;
/// ftype, sparse inodes, metadata UUID, bigtime, nrext64, exchange-range, parent pointers. Not: metadata directories
/// (with real-time groups), zoned, zone gaps.
const INCOMPAT_KNOWN: u32 = 0x1 | 0x2 | INCOMPAT_META_UUID | 0x8 | 0x20 | 0x40 | 0x80;
/// Logged extended attributes.
const LOG_INCOMPAT_KNOWN: u32 = 0x1;

/// mkfs.xfs has never made smaller groups; it bounds the number of groups a hostile superblock can claim.
const LEAST_GROUP_BYTES: u64 = 16 << 20;
const LEAST_GROUP_BLOCKS: u32 = 64;
/// What the format allows.
const MOST_GROUP_BYTES: u64 = 1 << 40;
const LEAST_LOG_BLOCKS: u64 = 512;
const MOST_LOG_BYTES: u64 = 2 << 30;

/// The geometry of a file system of which every feature is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) block_size: BlockSize,
    pub(crate) sector_bytes: u64,
    pub(crate) blocks: u64,
    /// How many blocks every group has but the last.
    pub(crate) group_blocks: u32,
    pub(crate) groups: u32,
    pub(crate) log: LogPlace,
    /// The block that holds the root folder, as group and block in it.
    pub(crate) root: (u32, u32),
    /// Whether every piece of metadata carries a checksum, its place and the UUID: version 5.
    pub(crate) checksums: bool,
    /// Whether the free blocks of the groups count what their trees occupy.
    pub(crate) lazy: bool,
    pub(crate) rmap: bool,
    /// The UUID in the metadata.
    pub(crate) uuid: [u8; 16],
}

/// The log inside the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPlace {
    pub(crate) group: u32,
    pub(crate) first: u32,
    pub(crate) blocks: u32,
    /// The UUID its records carry.
    pub(crate) uuid: [u8; 16],
}

/// Whether the bytes come from the medium with a checksum, or from the log, which has none for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    Verify,
    Structure,
}

impl Superblock {
    /// Returns the size of a sector, which is how long a superblock is.
    pub(crate) fn sector_bytes(bytes: &[u8]) -> Result<u64, XfsDoubt> {
        let raw = Raw(bytes);
        let sector = u64::from(raw.u16(102).ok_or(XfsDoubt::Geometry("length"))?);
        let log2 = raw.u8(121).ok_or(XfsDoubt::Geometry("length"))?;
        require((512..=32768).contains(&sector) && 1_u64.checked_shl(log2.into()) == Some(sector), "sector size")?;
        Ok(sector)
    }

    /// Parses a superblock of one sector, in a partition of `partition` bytes.
    pub(crate) fn parse(bytes: &[u8], partition: u64, trust: Trust) -> Result<Self, XfsDoubt> {
        let raw = Raw(bytes);
        let sector_bytes = Self::sector_bytes(bytes)?;
        require(raw.has(0, MAGIC), "magic number")?;
        let features = Features::parse(&raw)?;
        if features.checksums && trust == Trust::Verify && !raw.checksum_is_valid(CHECKSUM_AT) {
            return Err(XfsDoubt::SuperblockChecksum);
        }
        let field = |value: Option<u32>| value.ok_or(XfsDoubt::Geometry("length"));
        let wide = |value: Option<u64>| value.ok_or(XfsDoubt::Geometry("length"));
        let log2 = |at: usize| raw.u8(at).ok_or(XfsDoubt::Geometry("length"));
        if log2(126)? != 0 {
            return Err(XfsDoubt::InProgress);
        }

        let size = field(raw.u32(4))?;
        let block_size = BlockSize::new(size).map_err(|_| XfsDoubt::Geometry("block size"))?;
        let block_bytes = u64::from(size);
        let block_sane = size.is_power_of_two()
            && (512..=65536).contains(&size)
            && 1_u32.checked_shl(log2(120)?.into()) == Some(size)
            && block_bytes >= sector_bytes;
        require(block_sane, "block size")?;

        let (blocks, group_blocks, groups) = (wide(raw.u64(8))?, field(raw.u32(84))?, field(raw.u32(88))?);
        if blocks.checked_mul(block_bytes).is_none_or(|end| end > partition) {
            return Err(XfsDoubt::LargerThanPartition);
        }
        let group_bytes = u64::from(group_blocks).saturating_mul(block_bytes);
        require(
            group_blocks >= LEAST_GROUP_BLOCKS && (LEAST_GROUP_BYTES..=MOST_GROUP_BYTES).contains(&group_bytes),
            "size of allocation groups",
        )?;
        let group_log2 = log2(124)?;
        require(
            group_log2 < 32 && u64::from(group_blocks).next_power_of_two() == 1 << group_log2,
            "size of allocation groups",
        )?;
        require(u64::from(groups) == blocks.div_ceil(u64::from(group_blocks)), "number of allocation groups")?;

        let place = |number: u64| {
            let group = u32::try_from(number >> group_log2).ok().filter(|group| *group < groups)?;
            let block = u32::try_from(number & ((1 << group_log2) - 1)).ok()?;
            let end = (u64::from(group) * u64::from(group_blocks)).checked_add(u64::from(block))?;
            (block < group_blocks && end < blocks).then_some((group, block))
        };
        let inode_size = raw.u16(104).ok_or(XfsDoubt::Geometry("length"))?;
        let (inode_log2, per_block_log2) = (log2(122)?, log2(123)?);
        let inodes_sane = (256..=2048).contains(&inode_size)
            && 1_u16.checked_shl(inode_log2.into()) == Some(inode_size)
            && inode_log2.checked_add(per_block_log2) == Some(log2(120)?);
        require(inodes_sane, "inode size")?;
        let root = place(wide(raw.u64(56))? >> per_block_log2).ok_or(XfsDoubt::Geometry("root inode"))?;

        let log_start = wide(raw.u64(48))?;
        if log_start == 0 {
            return Err(XfsDoubt::ExternalLog);
        }
        let (group, first) = place(log_start).ok_or(XfsDoubt::Geometry("place of the log"))?;
        let log_blocks = field(raw.u32(96))?;
        let end = (u64::from(group) * u64::from(group_blocks)) + u64::from(first) + u64::from(log_blocks);
        let log_sane = u64::from(log_blocks) >= LEAST_LOG_BLOCKS
            && u64::from(log_blocks) * block_bytes <= MOST_LOG_BYTES
            && u64::from(first) + u64::from(log_blocks) <= u64::from(group_blocks)
            && end <= blocks;
        require(log_sane, "size of the log")?;
        let user_uuid = raw.uuid(32).ok_or(XfsDoubt::Geometry("length"))?;
        let uuid = if features.meta_uuid { raw.uuid(248) } else { Some(user_uuid) };
        Ok(Self {
            block_size,
            sector_bytes,
            blocks,
            group_blocks,
            groups,
            log: LogPlace { group, first, blocks: log_blocks, uuid: user_uuid },
            root,
            checksums: features.checksums,
            lazy: features.lazy,
            rmap: features.rmap,
            uuid: uuid.ok_or(XfsDoubt::Geometry("length"))?,
        })
    }

    /// Returns the number of free blocks a superblock states; it holds only where the file system was unmounted.
    pub(crate) fn free_blocks(bytes: &[u8]) -> Result<u64, XfsDoubt> {
        Raw(bytes).u64(144).ok_or(XfsDoubt::Geometry("length"))
    }

    /// Proves that the superblock at the start of another group is a copy of this one, as far as both never change.
    pub(crate) fn check_copy(&self, bytes: &[u8], group: u32) -> Result<(), XfsDoubt> {
        let raw = Raw(bytes);
        let same = raw.has(0, MAGIC)
            && raw.u32(4) == Some(self.block_size.bytes())
            && raw.u32(84) == Some(self.group_blocks)
            && raw.u16(102).map(u64::from) == Some(self.sector_bytes);
        if !same {
            return Err(XfsDoubt::Copy { group });
        }
        if self.checksums && !raw.checksum_is_valid(CHECKSUM_AT) {
            return Err(XfsDoubt::Checksum { what: "superblock", group });
        }
        Ok(())
    }

    /// Returns how many bytes a block has.
    pub(crate) fn block_bytes(&self) -> u64 {
        u64::from(self.block_size.bytes())
    }

    /// Returns how many blocks a group has.
    pub(crate) fn group_len(&self, group: u32) -> u32 {
        let before = u64::from(group) * u64::from(self.group_blocks);
        u32::try_from(self.blocks.saturating_sub(before)).unwrap_or(u32::MAX).min(self.group_blocks)
    }

    /// Returns where a group begins, in bytes from the start of the partition.
    pub(crate) fn group_start(&self, group: u32) -> u64 {
        // The blocks of all groups were compared with the length of the partition, so nothing overflows.
        u64::from(group) * u64::from(self.group_blocks) * self.block_bytes()
    }

    /// Returns where a block begins, in bytes from the start of the partition.
    pub(crate) fn block_start(&self, group: u32, block: u32) -> u64 {
        self.group_start(group) + u64::from(block) * self.block_bytes()
    }

    /// Returns how many blocks at the start of each group hold its four headers.
    pub(crate) fn header_blocks(&self) -> u32 {
        u32::try_from((4 * self.sector_bytes).div_ceil(self.block_bytes())).unwrap_or(u32::MAX)
    }
}

struct Features {
    checksums: bool,
    lazy: bool,
    rmap: bool,
    meta_uuid: bool,
}

impl Features {
    fn parse(raw: &Raw<'_>) -> Result<Self, XfsDoubt> {
        let read = || Some((raw.u16(100)?, raw.u32(200)?, raw.u32(204)?));
        let (word, more, copy) = read().ok_or(XfsDoubt::Geometry("length"))?;
        let (version, flags) = (word & 0xF, word & !0xF);
        if version != 4 && version != 5 {
            return Err(XfsDoubt::Version(version));
        }
        known("version", u32::from(flags), u32::from(VERSION_FLAGS_KNOWN))?;
        if flags & DIR_V2 == 0 {
            return Err(XfsDoubt::Version(version));
        }
        // Some kernels wrote these flags to the wrong place, and then it is not known which of the two is right.
        let more = if flags & MORE == 0 { 0 } else { more };
        if version == 4 {
            known("version", more, MORE_KNOWN)?;
            require(flags & MORE == 0 || copy == more, "copy of the version flags")?;
            return Ok(Self { checksums: false, lazy: more & MORE_LAZY != 0, rmap: false, meta_uuid: false });
        }
        known("version", more, MORE_KNOWN | MORE_CHECKSUMS)?;
        let read = || Some((raw.u32(208)?, raw.u32(212)?, raw.u32(216)?, raw.u32(220)?));
        let (compat, ro_compat, incompat, log_incompat) = read().ok_or(XfsDoubt::Geometry("length"))?;
        if incompat & INCOMPAT_NEEDS_REPAIR != 0 {
            return Err(XfsDoubt::NeedsRepair);
        }
        known("compat", compat, 0)?;
        known("ro_compat", ro_compat, RO_KNOWN)?;
        known("incompat", incompat, INCOMPAT_KNOWN)?;
        known("log_incompat", log_incompat, LOG_INCOMPAT_KNOWN)?;
        Ok(Self {
            checksums: true,
            lazy: true,
            rmap: ro_compat & RO_RMAP != 0,
            meta_uuid: incompat & INCOMPAT_META_UUID != 0,
        })
    }
}

fn known(set: &'static str, flags: u32, known: u32) -> Result<(), XfsDoubt> {
    let flags = flags & !known;
    if flags == 0 { Ok(()) } else { Err(XfsDoubt::Feature { set, flags }) }
}

fn require(holds: bool, what: &'static str) -> Result<(), XfsDoubt> {
    if holds { Ok(()) } else { Err(XfsDoubt::Geometry(what)) }
}
