//! LVM2: the label in one of the first four sectors, and metadata areas by their magic number.

use super::le64;
use crate::image::Disk;

const START: u32 = 0xF597_A6CF;
const MOST_TEXT: usize = 64 << 10;

pub(super) fn seal(disk: &mut Disk<'_>) {
    let mut labelled = false;
    for at in (0..2048).step_by(512) {
        let sector = disk.read(at, 512);
        if sector.starts_with(b"LABELONE") {
            disk.write(at + 16, &crc(&[&sector[20..]]).to_le_bytes());
            labelled = true;
        }
    }
    let places = disk.places();
    for at in places.iter().map(|block| block * 4096).filter(|_| labelled) {
        let mut header = disk.read(at, 512);
        if header[4..20] != *b" LVM2 x[5A%r0N*>" {
            continue;
        }
        // The text of the slot that counts goes on behind the header where the area ends.
        let (size, offset, len) = (le64(&header, 32), le64(&header, 40), le64(&header, 48));
        let len = usize::try_from(len).unwrap_or(MOST_TEXT).min(MOST_TEXT);
        let first = usize::try_from(size.saturating_sub(offset)).unwrap_or(MOST_TEXT).min(len);
        let text = disk.read(at.saturating_add(offset), first);
        let rest = disk.read(at + 512, len - first);
        header[56..60].copy_from_slice(&crc(&[&text, &rest]).to_le_bytes());
        let sum = crc(&[&header[4..]]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        disk.write(at, &header);
    }
}

fn crc(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!START);
    pieces.iter().for_each(|piece| hasher.update(piece));
    !hasher.finalize()
}
