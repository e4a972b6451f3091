//! Checksums put right after a change, so that a lie is read and not merely noticed.
//!
//! Whatever is recognised by its magic number in a block that was changed gets a valid checksum, where it stands. Ext has
//! no such numbers: there, everything that the superblock leads to is sealed.

mod btrfs;
mod exfat;
mod ext;
mod gpt;
mod jbd2;
mod lvm;
mod xfs;

use crate::image::Disk;

/// Seals what is in these blocks of a disk, and what depends on it.
pub fn seal(disk: &mut Disk<'_>, touched: &[u64]) {
    jbd2::seal(disk);
    ext::seal(disk);
    for block in touched {
        btrfs::seal(disk, block * 4096);
        xfs::seal(disk, block * 4096);
    }
    xfs::seal_log(disk, touched);
    ext::seal_folders(disk, touched);
    lvm::seal(disk);
    exfat::seal(disk);
    gpt::seal(disk);
}

/// CRC-32C as all of them use it, over pieces that follow each other, from a start value and without inversions.
fn crc32c(start: u32, pieces: &[&[u8]]) -> u32 {
    pieces.iter().fold(start, |crc, piece| !crc32c::crc32c_append(!crc, piece))
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_le_bytes)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    le32(bytes, at).swap_bytes()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
