//! What of a GPT follows from the size of the disk: the backup copy at its end, and the fields that say where that is.
//!
//! Only a backup that is exactly what the primary copy implies is derived from it and can be made anew elsewhere.
//! Anything else, a byte behind the header included, is content like any other.

use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use super::mbr;
use crate::alloc::bytes::{u32_at, u64_at};
use crate::alloc::doubt::SurveyError;
use crate::alloc::window::Window;
use crate::fit::{FixUp, FixUpKind};

/// The longest list of entries that is made anew, far more than any tool makes (16 KiB): it has to lie in the last MiB.
const MOST_ENTRY_BYTES: u64 = 512 << 10;

/// A valid backup GPT, and what is needed to make another one.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    sector: u64,
    /// The primary header.
    header: Vec<u8>,
    entries: Vec<u8>,
    /// Where the count of sectors stands in a protective MBR that covers the whole disk.
    protective: Option<u64>,
    /// The bytes of the header and of the entries.
    areas: [ByteRange; 2],
}

/// Bytes of a disk that are other than in the saved state.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) fix_up: FixUp,
    pub(crate) bytes: Vec<u8>,
}

impl Backup {
    /// Finds the backup of a disk whose primary GPT is valid for this sector size.
    pub(crate) fn find(disk: &Window<'_>, sector_size: SectorSize) -> Result<Option<Self>, SurveyError> {
        let sector = u64::from(sector_size.bytes());
        let first = disk.fetch(0, 512)?;
        let primary = disk.fetch(sector, sector)?;
        let Some((header, own_lba, copy_lba, entries_lba, entries_len)) = fields(&primary) else { return Ok(None) };
        if own_lba != 1 || entries_len > MOST_ENTRY_BYTES {
            return Ok(None);
        }
        let Some(copy_at) = copy_lba.checked_mul(sector) else { return Ok(None) };
        let copy = disk.fetch(copy_at, sector)?;
        let copy_entries_lba = u64_at(&copy, 72).unwrap_or(0);
        let places = entries_lba.checked_mul(sector).zip(copy_entries_lba.checked_mul(sector));
        let Some((entries_at, copy_entries_at)) = places else { return Ok(None) };
        let entries = disk.fetch(entries_at, entries_len)?;
        let last_usable = u64_at(header, 48).unwrap_or(0);
        let implied = header_for(header, copy_lba, 1, copy_entries_lba, last_usable);
        let same = copy.starts_with(&implied) && ByteLen::of(&entries).get() == entries_len;
        if !same || disk.fetch(copy_entries_at, entries_len)? != entries {
            return Ok(None);
        }
        let area = |start, bytes: &[u8]| ByteRange { start: ByteOffset::new(start), len: ByteLen::of(bytes) };
        let areas = [area(copy_at, header), area(copy_entries_at, &entries)];
        let protective = mbr::protective_count(&first, copy_lba);
        Ok(Some(Self { sector, header: header.to_vec(), entries, protective, areas }))
    }

    /// Returns the bytes of the backup.
    pub(crate) const fn areas(&self) -> [ByteRange; 2] {
        self.areas
    }

    /// Returns the least size of a disk whose content, partitions included, reaches to `end`.
    pub(crate) fn least(&self, end: u64) -> u64 {
        let first_usable = u64_at(&self.header, 40).unwrap_or(0).saturating_mul(self.sector);
        let table_end = u64_at(&self.header, 72).unwrap_or(0).saturating_add(self.entry_sectors());
        let end = end.max(first_usable).max(table_end.saturating_mul(self.sector));
        let room = self.entry_sectors().saturating_add(1).saturating_mul(self.sector);
        end.checked_next_multiple_of(self.sector).unwrap_or(u64::MAX).saturating_add(room)
    }

    fn entry_sectors(&self) -> u64 {
        ByteLen::of(&self.entries).get().div_ceil(self.sector)
    }

    /// Returns what has to be changed on a disk of `disk_bytes`, at least [`Backup::least`]: later patches go over
    /// earlier ones.
    pub(crate) fn patches(&self, disk_bytes: u64) -> Vec<Patch> {
        let last = (disk_bytes / self.sector).saturating_sub(1);
        let entries_lba = last.saturating_sub(self.entry_sectors());
        let last_usable = entries_lba.saturating_sub(1);
        let primary_entries = u64_at(&self.header, 72).unwrap_or(0);
        let patch = |kind, start: u64, bytes: Vec<u8>| {
            let range = ByteRange { start: ByteOffset::new(start), len: ByteLen::of(&bytes) };
            Patch { fix_up: FixUp { kind, range }, bytes }
        };
        let at = |lba: u64| lba.saturating_mul(self.sector);
        let mut patches = Vec::new();
        for area in self.areas {
            // What lies behind the end of a smaller disk is gone anyway.
            let len = disk_bytes.saturating_sub(area.start.get()).min(area.len.get());
            if let Some(len) = ByteLen::new(len).to_usize().filter(|len| *len > 0) {
                patches.push(patch(FixUpKind::OldBackupGpt, area.start.get(), vec![0; len]));
            }
        }
        patches.push(patch(FixUpKind::BackupGpt, at(entries_lba), self.entries.clone()));
        let backup = header_for(&self.header, last, 1, entries_lba, last_usable);
        patches.push(patch(FixUpKind::BackupGpt, at(last), backup));
        if let Some(place) = self.protective {
            let count = u32::try_from(last).unwrap_or(u32::MAX);
            patches.push(patch(FixUpKind::ProtectiveMbr, place, count.to_le_bytes().to_vec()));
        }
        let primary = header_for(&self.header, 1, last, primary_entries, last_usable);
        patches.push(patch(FixUpKind::PrimaryGpt, self.sector, primary));
        patches
    }
}

/// Returns the header of a copy, its own place, that of the other copy and of its entries, and how long those are.
fn fields(sector: &[u8]) -> Option<(&[u8], u64, u64, u64, u64)> {
    let len = usize::try_from(u32_at(sector, 12)?).ok()?;
    let header = sector.get(..len).filter(|header| header.len() >= 92)?;
    let entries_len = u64::from(u32_at(header, 80)?).checked_mul(u64::from(u32_at(header, 84)?))?;
    Some((header, u64_at(header, 24)?, u64_at(header, 32)?, u64_at(header, 72)?, entries_len))
}

/// Returns a header with these places in it, and its checksum.
fn header_for(header: &[u8], own: u64, other: u64, entries: u64, last_usable: u64) -> Vec<u8> {
    let mut made = header.to_vec();
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = made.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    for (at, value) in [(24, own), (32, other), (48, last_usable), (72, entries)] {
        put(at, &value.to_le_bytes());
    }
    put(16, &[0; 4]);
    let checksum = crc32fast::hash(&made);
    if let Some(field) = made.get_mut(16..20) {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
    made
}
