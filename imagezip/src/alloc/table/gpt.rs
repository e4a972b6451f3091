//! The GUID partition table, for the sector sizes that exist (512 and 4096, and what the medium says).
//!
//! ```text
//! header (sector 1; backup: last sector), little-endian
//!  0 "EFI PART"   8 revision   12 header size   16 CRC-32 of the header with this field zero
//! 24 own sector  32 other copy  40 first usable  48 last usable  56 disk GUID
//! 72 sector of the entries  80 number of entries  84 size of an entry  88 CRC-32 of the entries
//! entry: 0 type  16 GUID  32 first sector  40 last sector  48 attributes  56 name
//! ```

use std::fmt;

use sigs::{ByteLen, ByteRange, SectorSize};

use super::{Kind, Partition, Places, TableDoubt, sectors};
use crate::alloc::bytes::{array, has, u32_at, u64_at};
use crate::alloc::doubt::{Stop, SurveyError};
use crate::alloc::window::Window;

/// Far more than any tool makes (16 KiB), and a bound for what one header can make us read.
const MOST_ENTRY_BYTES: u64 = 1 << 20;
const ENTRY_LEN: u32 = 128;
const UNUSED: [u8; 16] = [0; 16];
const NO_HEADER: &str = "no header";

/// A copy of the table whose checksums are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gpt {
    /// Where the other copy stands.
    pub(crate) other_lba: u64,
    pub(crate) disk_guid: [u8; 16],
    pub(crate) entries: Vec<Entry>,
    /// The sectors of this copy: its header and its entries.
    pub(crate) areas: [ByteRange; 2],
    first_usable: u64,
    last_usable: u64,
}

/// An entry in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    number: u32,
    kind: [u8; 16],
    guid: [u8; 16],
    first: u64,
    last: u64,
}

/// Which copy to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Primary,
    Backup { lba: u64 },
}

/// Why a copy is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    which: &'static str,
    what: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} GPT has {}", self.which, self.what)
    }
}

impl Gpt {
    /// Returns the partitions of the table, and what of the disk is the table.
    pub(crate) fn places(&self, sector_size: SectorSize) -> Result<Places, TableDoubt> {
        let place = |entry: &Entry| {
            let number = entry.number;
            let count = entry.last.checked_sub(entry.first).and_then(|less| less.checked_add(1));
            let usable = entry.first >= self.first_usable && entry.last <= self.last_usable;
            count
                .filter(|_| usable)
                .and_then(|count| sectors(sector_size, entry.first, count))
                .map(|range| Partition { number, range, kind: Kind::of_gpt(entry.kind) })
                .ok_or(TableDoubt::OutOfRange { number })
        };
        Ok(Places {
            partitions: self.entries.iter().map(place).collect::<Result<_, _>>()?,
            reserved: self.areas.to_vec(),
        })
    }
}

/// A copy with the size of the sectors it is for, or why there is none.
pub(crate) type Found = Result<(Gpt, SectorSize), Invalid>;

/// Returns the valid table at the start of the disk.
pub(crate) fn find_primary(disk: &Window<'_>, medium: SectorSize) -> Result<Found, Stop> {
    find(disk, medium, |_| Which::Primary)
}

/// Returns the valid table in the last sector.
pub(crate) fn find_backup(disk: &Window<'_>, medium: SectorSize) -> Result<Found, Stop> {
    let sectors = |size: SectorSize| disk.range().len.get() / u64::from(size.bytes());
    find(disk, medium, |size| Which::Backup { lba: sectors(size).saturating_sub(1) })
}

/// Looks for a copy with each size of sectors; valid ones for two sizes are a doubt.
fn find(disk: &Window<'_>, medium: SectorSize, which: impl Fn(SectorSize) -> Which) -> Result<Found, Stop> {
    let mut answer = read(disk, medium, which(medium))?.map(|gpt| (gpt, medium));
    for size in other_sizes(medium) {
        let candidate = read(disk, size, which(size))?;
        match (&answer, candidate) {
            (Ok(_), Ok(_)) => return Err(TableDoubt::TwoSectorSizes.into()),
            (Err(_), Ok(gpt)) => answer = Ok((gpt, size)),
            // A header with something wrong says more than none.
            (Err(invalid), Err(other)) if invalid.what == NO_HEADER => answer = Err(other),
            (_, Err(_)) => {}
        }
    }
    Ok(answer)
}

fn other_sizes(medium: SectorSize) -> impl Iterator<Item = SectorSize> {
    [SectorSize::S512, SectorSize::S4096].into_iter().filter(move |size| *size != medium)
}

/// Reads one copy.
pub(crate) fn read(
    disk: &Window<'_>,
    sector_size: SectorSize,
    which: Which,
) -> Result<Result<Gpt, Invalid>, SurveyError> {
    let (name, lba) = match which {
        Which::Primary => ("primary", 1),
        Which::Backup { lba } => ("backup", lba),
    };
    let invalid = |what| Invalid { which: name, what };
    let Some(at) = sectors(sector_size, lba, 1) else { return Ok(Err(invalid("no place on the disk"))) };
    let sector = disk.fetch(at.start.get(), at.len.get())?;
    let header = match Header::parse(&sector, lba) {
        Ok(header) => header,
        Err(what) => return Ok(Err(invalid(what))),
    };
    let Some(place) = sectors(sector_size, header.entries_lba, 1) else {
        return Ok(Err(invalid("its entries outside the disk")));
    };
    let table = disk.fetch(place.start.get(), header.entries_len)?;
    if u64::try_from(table.len()) != Ok(header.entries_len) {
        return Ok(Err(invalid("its entries outside the disk")));
    }
    if crc32fast::hash(&table) != header.entries_crc {
        return Ok(Err(invalid("a wrong checksum of its entries")));
    }
    let entries = (1..).zip(table.chunks(header.entry_len)).filter_map(|(number, bytes)| Entry::parse(number, bytes));
    Ok(Ok(Gpt {
        other_lba: header.other_lba,
        disk_guid: header.disk_guid,
        entries: entries.collect(),
        areas: [at, ByteRange { start: place.start, len: ByteLen::of(&table) }],
        first_usable: header.first_usable,
        last_usable: header.last_usable,
    }))
}

impl Entry {
    fn parse(number: u32, bytes: &[u8]) -> Option<Self> {
        let kind = array(bytes, 0)?;
        (kind != UNUSED).then_some(())?;
        Some(Self { number, kind, guid: array(bytes, 16)?, first: u64_at(bytes, 32)?, last: u64_at(bytes, 40)? })
    }
}

struct Header {
    other_lba: u64,
    first_usable: u64,
    last_usable: u64,
    disk_guid: [u8; 16],
    entries_lba: u64,
    entries_len: u64,
    entry_len: usize,
    entries_crc: u32,
}

impl Header {
    fn parse(sector: &[u8], lba: u64) -> Result<Self, &'static str> {
        if !has(sector, 0, b"EFI PART") {
            return Err(NO_HEADER);
        }
        if u32_at(sector, 8) != Some(0x0001_0000) {
            return Err("an unknown revision");
        }
        let size = u32_at(sector, 12).and_then(|size| usize::try_from(size).ok()).ok_or(NO_HEADER)?;
        let header = sector.get(..size).filter(|header| header.len() >= 92).ok_or("an impossible header size")?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(header.get(..16).ok_or(NO_HEADER)?);
        hasher.update(&[0; 4]);
        hasher.update(header.get(20..).ok_or(NO_HEADER)?);
        if u32_at(header, 16) != Some(hasher.finalize()) {
            return Err("a wrong checksum of its header");
        }
        if u64_at(header, 24) != Some(lba) {
            return Err("a header that belongs elsewhere");
        }
        let count = u32_at(header, 80).ok_or(NO_HEADER)?;
        let entry_len = u32_at(header, 84).ok_or(NO_HEADER)?;
        let entries_len = u64::from(count) * u64::from(entry_len);
        if entry_len < ENTRY_LEN || !entry_len.is_power_of_two() || entries_len > MOST_ENTRY_BYTES {
            return Err("an impossible number or size of entries");
        }
        Ok(Self {
            other_lba: u64_at(header, 32).ok_or(NO_HEADER)?,
            first_usable: u64_at(header, 40).ok_or(NO_HEADER)?,
            last_usable: u64_at(header, 48).ok_or(NO_HEADER)?,
            disk_guid: array(header, 56).ok_or(NO_HEADER)?,
            entries_lba: u64_at(header, 72).ok_or(NO_HEADER)?,
            entries_len,
            entry_len: usize::try_from(entry_len).map_err(|_| NO_HEADER)?,
            entries_crc: u32_at(header, 88).ok_or(NO_HEADER)?,
        })
    }
}
