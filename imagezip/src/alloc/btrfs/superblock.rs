//! The superblock of btrfs: 4 KiB at 64 KiB, with copies at 64 MiB and 256 GiB.
//!
//! A flag that is not on the lists below is a doubt, whatever it means.

use sigs::BlockSize;

use super::BtrfsDoubt;
use super::checksum::BtrfsChecksum;
use super::node::{LEVELS, Pointer};
use crate::alloc::bytes::{array, has, u8_at, u16_at, u32_at, u64_at};
use crate::alloc::doubt::SurveyError;
use crate::alloc::window::Window;

/// Where the superblock and its copies stand.
pub(super) const PLACES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
/// How large it is.
pub(super) const LEN: u64 = 4096;
/// The start of a device is never part of a chunk: boot loaders live there.
pub(super) const RESERVED: u64 = 1 << 20;

const MAGIC: &[u8] = b"_BHRfS_M";
/// Written: the only flag a superblock has on a disk that is not being converted, a seed, or a dump.
const FLAGS: u64 = 1;

const INCOMPAT_METADATA_UUID: u64 = 0x400;
/// mixed_backref, default_subvol, mixed_groups, compress_lzo, compress_zstd, big_metadata, extended_iref, raid56,
/// skinny_metadata, no_holes, metadata_uuid, raid1c34, simple_quota. What raid56 and raid1c34 announce is seen in
/// the chunks. Not: zoned, extent_tree_v2, raid_stripe_tree, remap_tree.
const INCOMPAT_KNOWN: u64 =
    0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | INCOMPAT_METADATA_UUID | 0x800 | 0x1_0000;
const COMPAT_RO_BLOCK_GROUP_TREE: u64 = 0x8;
/// free_space_tree, free_space_tree_valid, verity, block_group_tree.
const COMPAT_RO_KNOWN: u64 = 0x1 | 0x2 | 0x4 | COMPAT_RO_BLOCK_GROUP_TREE;

/// The one device of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) id: u64,
    pub(super) uuid: [u8; 16],
    pub(super) len: u64,
}

/// What the superblock says, of a file system on one device of which every feature is known.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    pub(super) checksum: BtrfsChecksum,
    pub(super) generation: u64,
    /// What tree blocks carry.
    pub(super) file_system: [u8; 16],
    pub(super) device: Device,
    pub(super) used: u64,
    pub(super) sector_size: u64,
    pub(super) node_size: BlockSize,
    pub(super) block_group_tree: bool,
    pub(super) root: Pointer,
    pub(super) chunk_root: Pointer,
    /// What was synced since the last commit, if anything.
    pub(super) log_root: Option<Pointer>,
    pub(super) system_chunks: Vec<u8>,
}

impl Superblock {
    /// Reads the superblock, and its copies as far as they are newer.
    pub(super) fn read(window: &Window<'_>) -> Result<Result<Self, BtrfsDoubt>, SurveyError> {
        let [first, copies @ ..] = PLACES;
        let superblock = match parse(&window.fetch(first, LEN)?, first, window.range().len.get()) {
            Ok(superblock) => superblock,
            Err(doubt) => return Ok(Err(doubt)),
        };
        for place in copies {
            if superblock.is_older_than(&window.fetch(place, LEN)?) {
                return Ok(Err(BtrfsDoubt::NewerCopy));
            }
        }
        Ok(Ok(superblock))
    }

    /// Linux reads the first superblock only, and writes it first. A newer copy comes from a crash between the
    /// two or from damage that somebody means to repair, so nothing is said about what is free.
    fn is_older_than(&self, copy: &[u8]) -> bool {
        has(copy, 0x40, MAGIC)
            && self.checksum.is_valid(copy)
            && u64_at(copy, 0xBC).is_some_and(|flags| array(copy, file_system_at(flags)) == Some(self.file_system))
            && u64_at(copy, 0x48) > Some(self.generation)
    }
}

fn parse(bytes: &[u8], place: u64, partition: u64) -> Result<Superblock, BtrfsDoubt> {
    let raw = Raw(bytes);
    let number = raw.u16(0xC4)?;
    let checksum = BtrfsChecksum::of_number(number).ok_or(BtrfsDoubt::ChecksumKind(number))?;
    if !has(bytes, 0x40, MAGIC) || !checksum.is_valid(bytes) {
        return Err(BtrfsDoubt::SuperblockChecksum);
    }
    let incompat = refuse_features(&raw)?;
    require(raw.u64(0x30)? == place, "place of the superblock")?;
    let sector_size = u64::from(raw.u32(0x90)?);
    let node_size = u64::from(raw.u32(0x94)?);
    let is_size = |size: u64| size.is_power_of_two() && (4096..=65536).contains(&size);
    require(is_size(sector_size), "sector size")?;
    require(is_size(node_size) && node_size >= sector_size, "node size")?;
    let generation = raw.u64(0x48)?;
    require(generation < u64::MAX, "generation")?;
    let devices = raw.u64(0x88)?;
    if devices != 1 {
        return Err(BtrfsDoubt::Devices(devices));
    }
    let device = Device { id: raw.u64(0xC9)?, uuid: raw.uuid(0xC9 + 66)?, len: raw.u64(0xC9 + 8)? };
    if device.len > partition {
        return Err(BtrfsDoubt::LargerThanPartition);
    }
    require(raw.u64(0x70)? == device.len && device.len >= RESERVED, "size")?;
    let file_system = raw.uuid(file_system_at(incompat))?;
    require(raw.uuid(0xC9 + 82)? == file_system, "device")?;
    Ok(Superblock {
        checksum,
        generation,
        file_system,
        device,
        used: raw.u64(0x78)?,
        sector_size,
        node_size: BlockSize::new(raw.u32(0x94)?).map_err(|_| BtrfsDoubt::Geometry("node size"))?,
        block_group_tree: raw.u64(0xB4)? & COMPAT_RO_BLOCK_GROUP_TREE != 0,
        root: raw.pointer(0x50, generation, 0xC6)?,
        chunk_root: raw.pointer(0x58, raw.u64(0xA4)?, 0xC7)?,
        // The log belongs to the transaction that was not committed.
        log_root: match raw.u64(0x60)? {
            0 => None,
            _ => Some(raw.pointer(0x60, generation.saturating_add(1), 0xC8)?),
        },
        system_chunks: raw.system_chunks()?,
    })
}

/// Returns where the UUID stands that tree blocks carry; the other one is only what people see.
fn file_system_at(incompat: u64) -> usize {
    if incompat & INCOMPAT_METADATA_UUID != 0 { 0x23B } else { 0x20 }
}

/// Refuses what is not known, and returns the incompat flags.
fn refuse_features(raw: &Raw<'_>) -> Result<u64, BtrfsDoubt> {
    let flags = raw.u64(0x38)?;
    if flags != FLAGS {
        return Err(BtrfsDoubt::Flags(flags));
    }
    for (set, at, known) in
        [("compat", 0xAC, 0), ("compat_ro", 0xB4, COMPAT_RO_KNOWN), ("incompat", 0xBC, INCOMPAT_KNOWN)]
    {
        let flags = raw.u64(at)? & !known;
        if flags != 0 {
            return Err(BtrfsDoubt::Feature { set, flags });
        }
    }
    raw.u64(0xBC)
}

fn require(holds: bool, what: &'static str) -> Result<(), BtrfsDoubt> {
    if holds { Ok(()) } else { Err(BtrfsDoubt::Geometry(what)) }
}

/// The bytes, of which there may be too few.
struct Raw<'a>(&'a [u8]);

impl Raw<'_> {
    fn get<T>(&self, value: Option<T>) -> Result<T, BtrfsDoubt> {
        value.ok_or(BtrfsDoubt::Geometry("length of the superblock"))
    }

    fn u16(&self, at: usize) -> Result<u16, BtrfsDoubt> {
        self.get(u16_at(self.0, at))
    }

    fn u32(&self, at: usize) -> Result<u32, BtrfsDoubt> {
        self.get(u32_at(self.0, at))
    }

    fn u64(&self, at: usize) -> Result<u64, BtrfsDoubt> {
        self.get(u64_at(self.0, at))
    }

    fn uuid(&self, at: usize) -> Result<[u8; 16], BtrfsDoubt> {
        self.get(array(self.0, at))
    }

    fn pointer(&self, at: usize, generation: u64, level_at: usize) -> Result<Pointer, BtrfsDoubt> {
        let level = self.get(u8_at(self.0, level_at))?;
        require(level < LEVELS, "level of a tree")?;
        Ok(Pointer { logical: self.u64(at)?, generation, level })
    }

    fn system_chunks(&self) -> Result<Vec<u8>, BtrfsDoubt> {
        let len = usize::try_from(self.u32(0xA0)?).ok().filter(|len| *len <= 2048);
        let end = len.and_then(|len| len.checked_add(0x32B));
        self.get(end.and_then(|end| self.0.get(0x32B..end)).map(<[u8]>::to_vec))
    }
}
