//! What was logged, as far as it decides what is allocated: changes of buffers, and that a place is touched at all.
//!
//! ```text
//! every item     0 kind (16 bit)  2 number of regions (16); all numbers are little-endian but those of an icreate
//! buffer         4 flags (16)  6 sectors (16)  8 sector (64)  16 words of the map  20 the map: a bit for 128 bytes
//! inode         40 sector of its buffer (64)  48 sectors
//! dquot          8 sector of its buffer (64)  16 sectors
//! icreate        4 group  8 block  20 blocks
//! ```

use super::LogDoubt;
use crate::alloc::bytes::{be32_at, u16_at, u32_at, u64_at};
use crate::alloc::xfs::superblock::Superblock;

const KIND_INODE: u16 = 0x123b;
const KIND_BUFFER: u16 = 0x123c;
const KIND_DQUOT: u16 = 0x123d;
const KIND_ICREATE: u16 = 0x123f;
/// Intents and what was done about them: of extents to free, reverse maps, reference counts, block maps, attributes
/// and exchanged maps, and quota turned off. What is still to be freed stays allocated, and what they allocate later
/// they write themselves.
const KINDS_WITHOUT_PLACE: &[u16] =
    &[0x1236, 0x1237, 0x123e, 0x1240, 0x1241, 0x1242, 0x1243, 0x1244, 0x1245, 0x1246, 0x1247, 0x1248, 0x1249];

const FLAG_INODES: u16 = 0x1;
const FLAG_CANCEL: u16 = 0x2;
const BUFFER_KIND_SHIFT: u32 = 11;
const BUFFER_TREE: u16 = 4;
const BUFFER_FREE_SPACE: u16 = 5;
const BUFFER_LIST: u16 = 6;
const BUFFER_INODES: u16 = 7;
const BUFFER_SUPERBLOCK: u16 = 18;
const LAST_BUFFER_KIND: u16 = 20;
const FREE_SPACE_TREES: [&[u8]; 4] = [b"AB3B", b"AB3C", b"ABTB", b"ABTC"];

const PIECE_BYTES: usize = 128;
const MOST_MAP_WORDS: usize = 17;

/// Something that was logged.
#[derive(Debug)]
pub(crate) enum Logged {
    /// A place that replay reads or writes, in bytes.
    Touch(Place),
    /// What was logged of a place before counts for nothing.
    Cancel(Place),
    /// New content for parts of a piece of metadata that decides what is free.
    Change(Box<Change>),
}

/// A place in the file system, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// New content for parts of a place.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) place: Place,
    /// Offsets and bytes.
    pub(crate) parts: Vec<(usize, Vec<u8>)>,
}

/// Which items are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// What is cancelled.
    Cancels(&'a Superblock),
    /// Everything.
    Changes(&'a Superblock),
}

impl Logged {
    /// Returns about how much memory it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        let parts = match self {
            Self::Touch(_) | Self::Cancel(_) => 0,
            Self::Change(change) => change.parts.iter().map(|(_, bytes)| bytes.len().saturating_add(64)).sum(),
        };
        size_of::<Self>().saturating_add(parts)
    }
}

impl Wanted<'_> {
    /// Turns the regions of a complete item, of which there is at least one, into what is wanted of it.
    pub(crate) fn of(&self, regions: &[Vec<u8>]) -> Result<Option<Logged>, LogDoubt> {
        let (first, others) = regions.split_first().ok_or(LogDoubt::Operation("number of regions"))?;
        let kind = u16_at(first, 0).ok_or(LogDoubt::Operation("length"))?;
        let (superblock, cancels) = match self {
            Self::Cancels(superblock) => (superblock, true),
            Self::Changes(superblock) => (superblock, false),
        };
        let logged = match kind {
            KIND_BUFFER => buffer(superblock, first, others)?,
            _ if KINDS_WITHOUT_PLACE.contains(&kind) => return Ok(None),
            KIND_INODE => Logged::Touch(inode(superblock, first)?),
            KIND_DQUOT => Logged::Touch(sectors(superblock, u64_at(first, 8), u32_at(first, 16))?),
            KIND_ICREATE => Logged::Touch(icreate(superblock, first)?),
            other => return Err(LogDoubt::Kind(other)),
        };
        Ok(Some(logged).filter(|logged| !cancels || matches!(logged, Logged::Cancel(_))))
    }
}

/// Returns a place inside the file system that was given in sectors.
fn sectors(superblock: &Superblock, first: Option<u64>, count: Option<u32>) -> Result<Place, LogDoubt> {
    let place = || {
        let (start, len) = (first?.checked_mul(512)?, u64::from(count?).checked_mul(512)?);
        let inside = start.checked_add(len)? <= superblock.blocks.checked_mul(superblock.block_bytes())?;
        (inside && len > 0).then_some(Place { start, len })
    };
    place().ok_or(LogDoubt::Item("place"))
}

fn inode(superblock: &Superblock, format: &[u8]) -> Result<Place, LogDoubt> {
    // 32-bit machines leave out the padding.
    let at = match format.len() {
        56 => 40,
        52 => 36,
        _ => return Err(LogDoubt::Item("length")),
    };
    sectors(superblock, u64_at(format, at), u32_at(format, at + 8))
}

fn icreate(superblock: &Superblock, format: &[u8]) -> Result<Place, LogDoubt> {
    let place = || {
        let (group, block, blocks) = (be32_at(format, 4)?, be32_at(format, 8)?, be32_at(format, 20)?);
        let inside = group < superblock.groups && block.checked_add(blocks)? <= superblock.group_len(group);
        let len = u64::from(blocks) * superblock.block_bytes();
        inside.then(|| Place { start: superblock.block_start(group, block), len })
    };
    place().ok_or(LogDoubt::Item("place"))
}

fn buffer(superblock: &Superblock, format: &[u8], regions: &[Vec<u8>]) -> Result<Logged, LogDoubt> {
    let flags = u16_at(format, 4).ok_or(LogDoubt::Item("length"))?;
    let place = sectors(superblock, u64_at(format, 8), u16_at(format, 6).map(u32::from))?;
    if flags & FLAG_CANCEL != 0 {
        return Ok(Logged::Cancel(place));
    }
    let kind = flags >> BUFFER_KIND_SHIFT;
    let len = match kind {
        _ if flags & FLAG_INODES != 0 => return Ok(Logged::Touch(place)),
        BUFFER_TREE => superblock.block_bytes(),
        BUFFER_FREE_SPACE | BUFFER_LIST | BUFFER_INODES | BUFFER_SUPERBLOCK => superblock.sector_bytes,
        1..=LAST_BUFFER_KIND => return Ok(Logged::Touch(place)),
        _ => return Err(LogDoubt::Item("kind of buffer")),
    };
    let parts = parts(place, format, regions)?;
    let start = parts.iter().find(|(at, _)| *at == 0).map(|(_, bytes)| bytes);
    // Trees of other things have the same kind; only what was logged without its start is kept on suspicion.
    let other = |bytes: &Vec<u8>| !FREE_SPACE_TREES.iter().any(|magic| bytes.starts_with(magic));
    if kind == BUFFER_TREE && start.is_some_and(other) {
        return Ok(Logged::Touch(place));
    }
    if place.len != len || !place.start.is_multiple_of(len) {
        return Err(LogDoubt::Item("place"));
    }
    Ok(Logged::Change(Box::new(Change { place, parts })))
}

/// Returns the pieces of a buffer that were logged: each region is a run of set bits of the map, or the start of one.
fn parts(place: Place, format: &[u8], regions: &[Vec<u8>]) -> Result<Vec<(usize, Vec<u8>)>, LogDoubt> {
    let words = u32_at(format, 16).and_then(|words| usize::try_from(words).ok());
    let words = words.filter(|words| *words <= MOST_MAP_WORDS).ok_or(LogDoubt::Item("map"))?;
    let map = format.get(20..20 + words * 4).ok_or(LogDoubt::Item("map"))?;
    let is_set = |bit: usize| map.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
    let bits = words * 32;
    let mut bit = 0;
    let mut parts = Vec::with_capacity(regions.len());
    for region in regions {
        while bit < bits && !is_set(bit) {
            bit += 1;
        }
        let pieces = region.len() / PIECE_BYTES;
        let all_set = (bit..bit.saturating_add(pieces)).all(is_set);
        let end = u64::try_from(bit.saturating_add(pieces).saturating_mul(PIECE_BYTES)).unwrap_or(u64::MAX);
        if region.is_empty() || !region.len().is_multiple_of(PIECE_BYTES) || !all_set || end > place.len {
            return Err(LogDoubt::Item("region"));
        }
        parts.push((bit * PIECE_BYTES, region.clone()));
        bit += pieces;
    }
    if (bit..bits).any(is_set) { Err(LogDoubt::Item("map")) } else { Ok(parts) }
}
