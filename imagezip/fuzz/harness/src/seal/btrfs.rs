//! btrfs: superblocks by their magic number, tree blocks of 4 KiB by the id of the file system, CRC-32C.

use super::{crc32c, put};
use crate::image::{BLOCK, Disk};

const SUPERBLOCK_AT: u64 = 64 << 10;

pub(super) fn seal(disk: &mut Disk<'_>, at: u64) {
    let superblock = disk.read(SUPERBLOCK_AT, BLOCK);
    let mut block = disk.read(at, BLOCK);
    let magic = |block: &[u8]| &block[64..72] == b"_BHRfS_M";
    // A tree block names the file system where the superblock does.
    if magic(&block) || magic(&superblock) && block[32..48] == superblock[32..48] {
        let crc = !crc32c(u32::MAX, &[&block[32..]]);
        put(&mut block, 0, &crc.to_le_bytes());
        disk.write(at, &block[..4]);
    }
}
