//! GPT: entries and headers, by their magic number, of both sizes of sectors.

use super::{le32, le64, put};
use crate::image::Disk;

const MOST_ENTRY_BYTES: u64 = 1 << 20;

pub(super) fn seal(disk: &mut Disk<'_>) {
    for sector in [512, 4096] {
        for at in [sector, (disk.len / sector).saturating_sub(1) * sector] {
            seal_copy(disk, at, sector);
        }
    }
}

fn seal_copy(disk: &mut Disk<'_>, at: u64, sector: u64) {
    let mut header = disk.read(at, 512);
    if !header.starts_with(b"EFI PART") {
        return;
    }
    let entries_len = u64::from(le32(&header, 80)) * u64::from(le32(&header, 84));
    let entries_at = le64(&header, 72).checked_mul(sector);
    if let Some(entries_at) = entries_at.filter(|_| entries_len <= MOST_ENTRY_BYTES) {
        let entries = disk.read(entries_at, usize::try_from(entries_len).unwrap());
        put(&mut header, 88, &crc32fast::hash(&entries).to_le_bytes());
    }
    put(&mut header, 16, &[0; 4]);
    let len = usize::try_from(le32(&header, 12)).unwrap().min(512);
    let crc = crc32fast::hash(&header[..len]);
    put(&mut header, 16, &crc.to_le_bytes());
    disk.write(at, &header);
}
