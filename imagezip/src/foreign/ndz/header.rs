//! One chunk: what its header says, and what is refused for it.

use super::{CHUNK_BYTES, HEADER_BYTES, SECTOR_BYTES};
use crate::alloc::bytes::{array, u16_at, u32_at};

/// The magic number of version 1; that of version N is N - 1 more.
const MAGIC: u32 = 0x6969_6969;
/// A relocation that says how many bytes of the last sector the source had.
const SHORT_SECTOR: u32 = 6;
/// Where version 4 has its checksum, and how much of it a checksum can fill.
pub(super) const CHECKSUM: std::ops::Range<usize> = 72..136;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Version {
    V1,
    V2,
    V3,
    V4,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What is wrong with a chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ChunkDefect {
    #[error("it does not begin like one")]
    Magic,
    #[error("it is cut short: {found} of {needed} bytes are there")]
    CutShort { found: u64, needed: u64 },
    #[error("its header contradicts itself: {0}")]
    Header(&'static str),
    #[error("it is of another version than the first chunk")]
    OtherVersion,
    #[error("it says that it is chunk {0}")]
    OutOfSequence(u32),
    #[error("it says that there are {0} chunks")]
    OtherTotal(u32),
    #[error("its image id is another one than that of the first chunk")]
    OtherImage,
    #[error("the region at sector {0} is out of order or overlaps the one before")]
    Order(u64),
    #[error("the region at sector {0} is not within the sectors that the chunk says it describes")]
    Outside(u64),
    #[error("it is encrypted (cipher {0})")]
    Encrypted(u16),
    #[error("its checksum is of a kind that is not known here ({0:#x})")]
    ChecksumKind(u16),
    #[error("its SHA-1 is another one than the header says")]
    Checksum,
    #[error(
        "it has a relocation of type {0} at sector {1}: part of its content depends on where on a disk it is put; \
         restore it with Emulab's imageunzip and import the result"
    )]
    Relocation(u32, u32),
    #[error("its short sector is not the last one of the image")]
    ShortSector,
    #[error("its content is damaged")]
    Damaged,
    #[error("its content does not end where its regions end")]
    OtherLength,
}

/// Sectors that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) sectors: u64,
}

impl Region {
    pub(super) const fn end(self) -> u64 {
        self.start + self.sectors
    }
}

/// How a chunk can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    None,
    Sha1,
    /// Signed with a key that is not here.
    Signed,
}

/// A header, checked as far as it can be on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: Version,
    /// How many bytes the stream has.
    pub(super) stored: u64,
    pub(super) index: u32,
    /// How many chunks there are, where it says so.
    pub(super) total: u32,
    pub(super) regions: Vec<Region>,
    /// The sectors it describes, free ones included; from version 2 on.
    pub(super) described: Option<(u64, u64)>,
    /// How many bytes of its last sector the source had, where that is not all of them.
    pub(super) short: Option<u64>,
    pub(super) checksum: Checksum,
    pub(super) image_id: Option<[u8; 16]>,
}

impl Header {
    /// Parses the header area of a chunk.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ChunkDefect> {
        let short = || ChunkDefect::CutShort { found: sigs::ByteLen::of(bytes).get(), needed: HEADER_BYTES };
        let word = |at: usize| u32_at(bytes, at).ok_or_else(short);
        let version = match word(0)?.checked_sub(MAGIC) {
            Some(0) => Version::V1,
            Some(1) => Version::V2,
            Some(2) => Version::V3,
            Some(3) => Version::V4,
            _ => return Err(ChunkDefect::Magic),
        };
        if sigs::ByteLen::of(bytes).get() < HEADER_BYTES {
            return Err(short());
        }
        let (fixed, relocations) = match version {
            Version::V1 => (24, 0),
            Version::V2 | Version::V3 => (36, word(32)?),
            Version::V4 => (344, word(32)?),
        };
        let stored = u64::from(word(4)?);
        let count = word(20)?;
        if u64::from(word(16)?) != HEADER_BYTES {
            return Err(ChunkDefect::Header("the size of its header area"));
        }
        if stored == 0 || stored > CHUNK_BYTES - HEADER_BYTES {
            return Err(ChunkDefect::Header("the size of its content"));
        }
        let tables = u64::from(count) * 8 + u64::from(relocations) * 16;
        if count == 0 || fixed + tables > HEADER_BYTES {
            return Err(ChunkDefect::Header("the number of its regions or relocations"));
        }
        let described = match version {
            Version::V1 => None,
            Version::V2 | Version::V3 | Version::V4 => Some((u64::from(word(24)?), u64::from(word(28)?))),
        };
        let at = super::index_of(fixed);
        let regions = regions(bytes, at, count, described)?;
        let after = at + regions.len() * 8;
        let (checksum, image_id) = match version {
            Version::V4 => (checksum(bytes)?, array(bytes, 328)),
            Version::V1 | Version::V2 | Version::V3 => (Checksum::None, None),
        };
        let short = short_sector(bytes, after, relocations, &regions)?;
        let (index, total) = (word(8)?, word(12)?);
        Ok(Self { version, stored, index, total, regions, described, short, checksum, image_id })
    }

    /// Returns the first sector after the last region.
    pub(super) fn end(&self) -> u64 {
        self.regions.last().map_or(0, |region| region.end())
    }

    /// Returns how many bytes the stream expands to.
    pub(super) fn expanded(&self) -> u64 {
        self.regions.iter().fold(0, |sum, region| region.sectors.saturating_mul(SECTOR_BYTES).saturating_add(sum))
    }
}

fn regions(bytes: &[u8], at: usize, count: u32, described: Option<(u64, u64)>) -> Result<Vec<Region>, ChunkDefect> {
    let tables = bytes.get(at..).unwrap_or_default();
    let mut regions: Vec<Region> = Vec::new();
    for raw in tables.chunks_exact(8).take(usize::try_from(count).unwrap_or(0)) {
        let word = |at: usize| u32_at(raw, at).map_or(0, u64::from);
        let region = Region { start: word(0), sectors: word(4) };
        let before = regions.last().map_or(0, |region: &Region| region.end());
        // A sector number has 32 bits; so has the first one behind the last.
        if region.sectors == 0 || region.start < before || region.end() > u64::from(u32::MAX) {
            return Err(ChunkDefect::Order(region.start));
        }
        if described.is_some_and(|(first, end)| region.start < first || region.end() > end) {
            return Err(ChunkDefect::Outside(region.start));
        }
        regions.push(region);
    }
    Ok(regions)
}

/// Returns how a chunk of version 4 can be checked; refuses one that is encrypted.
fn checksum(bytes: &[u8]) -> Result<Checksum, ChunkDefect> {
    let cipher = u16_at(bytes, 36).unwrap_or(0);
    if cipher != 0 {
        return Err(ChunkDefect::Encrypted(cipher));
    }
    match u16_at(bytes, 38).unwrap_or(0) {
        0 => Ok(Checksum::None),
        1 => Ok(Checksum::Sha1),
        0x8001 => Ok(Checksum::Signed),
        other => Err(ChunkDefect::ChecksumKind(other)),
    }
}

/// Reads the relocations: only the one that says that the last sector is short can be followed.
fn short_sector(bytes: &[u8], at: usize, count: u32, regions: &[Region]) -> Result<Option<u64>, ChunkDefect> {
    let mut short = None;
    let tables = bytes.get(at..).unwrap_or_default();
    for raw in tables.chunks_exact(16).take(usize::try_from(count).unwrap_or(0)) {
        let word = |at: usize| u32_at(raw, at).unwrap_or(0);
        let (kind, sector, offset, size) = (word(0), word(4), word(8), u64::from(word(12)));
        if kind != SHORT_SECTOR {
            return Err(ChunkDefect::Relocation(kind, sector));
        }
        let last = regions.last().map_or(0, |region| region.end());
        if short.is_some() || u64::from(sector) + 1 != last || offset != 0 || size == 0 || size >= SECTOR_BYTES {
            return Err(ChunkDefect::ShortSector);
        }
        short = Some(size);
    }
    Ok(short)
}
