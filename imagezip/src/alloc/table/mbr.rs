//! The DOS partition table: four entries of 16 bytes at byte 446 of the first sector, and `55 aa` at byte 510.
//!
//! ```text
//! entry: 0 boot flag (00 or 80)  1..4 CHS  4 type  5..8 CHS  8..12 first sector  12..16 sectors
//! ```
//!
//! An extended entry (05, 0f, 85) opens a chain: each link is a sector of the same form, whose first entry is a
//! logical partition (counted from that sector) and whose second is the next link (counted from the extended one);
//! some tools write them the other way round. A link without a partition is what remains of one that was deleted.

use sigs::{ByteRange, SectorSize};

use super::{Kind, Partition, Places, Purpose, TableDoubt, overlap, sectors};
use crate::alloc::bytes::{has, u8_at, u32_at};
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// The type of the entry that keeps old tools away from a GPT.
const PROTECTIVE: u8 = 0xEE;
const EXTENDED: [u8; 3] = [0x05, 0x0F, 0x85];
const ENTRIES_AT: usize = 446;
const ENTRY_LEN: usize = 16;
/// The number Linux gives to the first logical partition.
const FIRST_LOGICAL: u32 = 5;
/// Linux stops here as well.
const MOST_LOGICAL: u32 = 100;

/// An entry that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    kind: u8,
    first: u32,
    count: u32,
}

impl Entry {
    /// Returns true for the entry that announces a GPT.
    pub(crate) fn is_protective(&self) -> bool {
        self.kind == PROTECTIVE
    }

    fn is_extended(&self) -> bool {
        EXTENDED.contains(&self.kind)
    }

    /// Returns true if a protective entry stands where Linux wants it: otherwise it takes it for a partition.
    pub(crate) fn protects(&self) -> bool {
        self.is_protective() && self.first == 1
    }
}

/// Returns true if the sector ends like a boot sector and has anything at all where partitions stand.
pub(crate) fn fills_table(sector: &[u8]) -> bool {
    has(sector, 510, &[0x55, 0xAA]) && sector.get(ENTRIES_AT..510).is_some_and(|area| area.iter().any(|b| *b != 0))
}

/// Returns where the count of sectors stands in a protective entry that covers all of a disk with this last sector.
pub(crate) fn protective_count(sector: &[u8], last: u64) -> Option<u64> {
    let covers = |entry: &Entry| entry.protects() && Ok(entry.count) == u32::try_from(last);
    let index = entries(sector).iter().position(|entry| entry.as_ref().is_some_and(covers))?;
    u64::try_from(ENTRIES_AT + ENTRY_LEN * index + 12).ok()
}

/// Returns the end of the last entry, extended ones included, in sectors.
pub(crate) fn end_of_entries(sector: &[u8]) -> u64 {
    let ends = entries(sector).into_iter().flatten().map(|entry| u64::from(entry.first) + u64::from(entry.count));
    ends.max().unwrap_or(0)
}

/// Returns the four entries of a sector, `None` where one is unused; all `None` when the sector is not a table,
/// which is the case as well when a boot flag is neither 00 nor 80 (then it is boot code).
pub(crate) fn entries(sector: &[u8]) -> [Option<Entry>; 4] {
    let mut entries = [None; 4];
    if !has(sector, 510, &[0x55, 0xAA]) {
        return entries;
    }
    for (slot, at) in entries.iter_mut().zip((ENTRIES_AT..).step_by(ENTRY_LEN)) {
        let fields = (u8_at(sector, at), u8_at(sector, at + 4), u32_at(sector, at + 8), u32_at(sector, at + 12));
        let (Some(flag), Some(kind), Some(first), Some(count)) = fields else { return [None; 4] };
        if flag & 0x7F != 0 {
            return [None; 4];
        }
        // Linux looks at the size alone to see whether an entry is used.
        *slot = (count != 0).then_some(Entry { kind, first, count });
    }
    entries
}

/// Returns the primary and the logical partitions, and the sectors that describe the latter.
pub(crate) fn places(disk: &Window<'_>, sector_size: SectorSize, entries: &[Option<Entry>; 4]) -> Result<Places, Stop> {
    let mut places = Places::default();
    let mut extended = None;
    for (number, entry) in (1..).zip(entries) {
        let Some(entry) = entry else { continue };
        if entry.is_extended() {
            if extended.replace((number, *entry)).is_some() {
                return Err(TableDoubt::TwoExtended.into());
            }
        } else {
            places.partitions.push(partition(number, entry, 0, sector_size)?);
        }
    }
    if let Some((number, entry)) = extended {
        let outer = place(number, &entry, 0, sector_size)?;
        if outer.checked_end().is_none_or(|end| end.get() > disk.range().len.get()) {
            return Err(TableDoubt::OutOfRange { number }.into());
        }
        if let Some(primary) = places.partitions.iter().find(|primary| overlap(primary.range, outer)) {
            return Err(TableDoubt::Overlap { first: primary.number, second: number }.into());
        }
        let logical = logical(disk, sector_size, entry.first)?;
        let outside = |range: ByteRange| range.start < outer.start || range.checked_end() > outer.checked_end();
        if let Some(partition) = logical.partitions.iter().find(|partition| outside(partition.range)) {
            return Err(TableDoubt::OutOfRange { number: partition.number }.into());
        }
        places.partitions.extend(logical.partitions);
        places.reserved.extend(logical.reserved);
    }
    Ok(places)
}

/// Compares a DOS table that protects a GPT with that. A hybrid has some of the partitions in both, so that systems
/// that do not know the GPT see them; the stricter of the two types counts.
pub(crate) fn reconcile(
    entries: &[Option<Entry>; 4],
    sector_size: SectorSize,
    places: &mut Places,
) -> Result<(), TableDoubt> {
    for (number, entry) in (1..).zip(entries) {
        let Some(entry) = entry.as_ref().filter(|entry| !entry.is_protective()) else { continue };
        let known = partition(number, entry, 0, sector_size)?;
        let twin = places.partitions.iter_mut().find(|twin| twin.range == known.range);
        match (twin, known.kind.purpose) {
            (Some(twin), Purpose::Other) => twin.kind.purpose = Purpose::Other,
            (Some(_), _) => {}
            (None, _) => return Err(TableDoubt::Hybrid { number }),
        }
    }
    Ok(())
}

fn logical(disk: &Window<'_>, sector_size: SectorSize, extended: u32) -> Result<Places, Stop> {
    let mut places = Places::default();
    let mut number = FIRST_LOGICAL;
    let mut link = u64::from(extended);
    for _ in 0..MOST_LOGICAL {
        let broken = || TableDoubt::Chain { sector: link };
        let at = sectors(sector_size, link, 1).ok_or_else(broken)?;
        let sector = disk.fetch(at.start.get(), 512)?;
        places.reserved.push(at);
        if !has(&sector, 510, &[0x55, 0xAA]) {
            return Err(broken().into());
        }
        let [first, second, None, None] = entries(&sector) else { return Err(broken().into()) };
        if fills_table(&sector) && first.is_none() && second.is_none() {
            return Err(broken().into());
        }
        // Some tools put the link first; Linux takes it from wherever it is.
        let (entry, next) = match (first, second) {
            (Some(first), None) if first.is_extended() => (None, Some(first)),
            (Some(first), Some(second)) if first.is_extended() => (Some(second), Some(first)),
            other => other,
        };
        if let Some(entry) = entry {
            if entry.is_extended() || entry.is_protective() {
                return Err(broken().into());
            }
            places.partitions.push(partition(number, &entry, link, sector_size)?);
            number += 1;
        }
        let Some(entry) = next else { return Ok(places) };
        if !entry.is_extended() {
            return Err(broken().into());
        }
        link = u64::from(extended) + u64::from(entry.first);
    }
    Err(TableDoubt::Loop.into())
}

fn partition(number: u32, entry: &Entry, base: u64, sector_size: SectorSize) -> Result<Partition, TableDoubt> {
    if entry.kind == 0 {
        return Err(TableDoubt::Untyped { number });
    }
    Ok(Partition { number, range: place(number, entry, base, sector_size)?, kind: Kind::of_mbr(entry.kind) })
}

fn place(number: u32, entry: &Entry, base: u64, sector_size: SectorSize) -> Result<ByteRange, TableDoubt> {
    // Sector 0 of a table is the table itself.
    let range = base.checked_add(u64::from(entry.first)).filter(|_| entry.first != 0);
    range.and_then(|first| sectors(sector_size, first, u64::from(entry.count))).ok_or(TableDoubt::OutOfRange { number })
}
