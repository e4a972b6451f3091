//! exFAT and NTFS: the checksum of the boot region, and the copies that have to be the same.

use super::le64;
use crate::image::Disk;

const MOST_SECTOR: u8 = 12;

pub(super) fn seal(disk: &mut Disk<'_>) {
    let boot = disk.read(0, 512);
    match &boot[3..11] {
        b"EXFAT   " if boot[108] <= MOST_SECTOR => seal_regions(disk, 1 << boot[108]),
        b"NTFS    " => disk.write(le64(&boot, 40).saturating_mul(512), &boot),
        _ => {}
    }
}

/// The last of twelve sectors repeats the sum of the others; the copy follows.
fn seal_regions(disk: &mut Disk<'_>, sector: usize) {
    let mut region = disk.read(0, sector * 12);
    let sum = region[..sector * 11].iter().enumerate().fold(0_u32, |sum, (at, byte)| match at {
        // Flags and percentage in use change without it.
        106 | 107 | 112 => sum,
        _ => sum.rotate_right(1).wrapping_add(u32::from(*byte)),
    });
    region[sector * 11..].as_chunks_mut::<4>().0.iter_mut().for_each(|word| *word = sum.to_le_bytes());
    disk.write(0, &region);
    disk.write(u64::try_from(region.len()).unwrap(), &region);
}
