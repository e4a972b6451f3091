//! The group descriptors: where the bitmaps and inode tables are, and how much each group has free.
//!
//! ```text
//!  0 block bitmap  4 inode bitmap  8 inode table  12 free blocks (16 bit)  18 flags  24 block bitmap checksum (16)
//! 30 checksum (16); with 64 bytes or more the upper halves: 32, 36, 40, 44, 56
//! ```

use super::ExtDoubt;
use super::features::Protection;
use super::superblock::Superblock;
use crate::alloc::bytes::{u16_at, u32_at};
use crate::alloc::crc::{crc16, crc32c};

const FLAG_BLOCK_UNINIT: u16 = 0x2;
/// inode_uninit, block_uninit, inode_zeroed.
const FLAGS_KNOWN: u16 = 0x7;
const CHECKSUM_AT: usize = 30;

/// What is believed of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) block_bitmap: u64,
    pub(crate) inode_bitmap: u64,
    pub(crate) inode_table: u64,
    /// Free blocks; with bigalloc, free clusters.
    pub(crate) free_clusters: u32,
    /// The group has metadata only and its bitmap was never written.
    pub(crate) uninit: bool,
    /// The checksum of the bitmap as far as the descriptor has room for it.
    pub(crate) bitmap_checksum: u32,
    wide: bool,
}

impl Descriptor {
    /// Parses the descriptor of `group`, after its checksum.
    pub(crate) fn parse(superblock: &Superblock, group: u32, bytes: &[u8]) -> Result<Self, ExtDoubt> {
        let read = || {
            let wide = superblock.descriptor_len >= 64;
            let double = |low, high| {
                let high = if wide { u32_at(bytes, high)? } else { 0 };
                Some(u64::from(u32_at(bytes, low)?) | (u64::from(high) << 32))
            };
            let single = |low, high| {
                let high = if wide { u16_at(bytes, high)? } else { 0 };
                Some(u32::from(u16_at(bytes, low)?) | (u32::from(high) << 16))
            };
            let flags = u16_at(bytes, 18)?;
            let descriptor = Self {
                block_bitmap: double(0, 32)?,
                inode_bitmap: double(4, 36)?,
                inode_table: double(8, 40)?,
                free_clusters: single(12, 44)?,
                uninit: flags & FLAG_BLOCK_UNINIT != 0,
                bitmap_checksum: single(24, 56)?,
                wide,
            };
            let checksum = u16_at(bytes, CHECKSUM_AT)?;
            let expected = expected_checksum(superblock, group, bytes)?;
            Some((descriptor, flags, expected.is_none_or(|expected| expected == checksum)))
        };
        let Some((descriptor, flags, valid)) = read() else { return Err(ExtDoubt::DescriptorsCut) };
        if !valid {
            return Err(ExtDoubt::DescriptorChecksum { group });
        }
        // Where the format has no checksum of descriptors it has no such flags either.
        if flags & !FLAGS_KNOWN != 0 || (descriptor.uninit && superblock.protection == Protection::None) {
            return Err(ExtDoubt::DescriptorFlags { group, flags });
        }
        Ok(descriptor)
    }

    /// Returns true if `bitmap`, the used part of the bitmap block, has the checksum the descriptor wants.
    pub(crate) fn bitmap_is_valid(&self, protection: Protection, bitmap: &[u8]) -> bool {
        let Protection::All { seed } = protection else { return true };
        let checksum = crc32c(seed, bitmap);
        if self.wide { checksum == self.bitmap_checksum } else { checksum & 0xFFFF == self.bitmap_checksum }
    }
}

/// Returns the checksum a descriptor should have: the outer `None` for one that is cut short, the inner for a format
/// without.
fn expected_checksum(superblock: &Superblock, group: u32, bytes: &[u8]) -> Option<Option<u16>> {
    let before = bytes.get(..CHECKSUM_AT)?;
    let behind = bytes.get(CHECKSUM_AT + 2..)?;
    let number = group.to_le_bytes();
    Some(match superblock.protection {
        Protection::None => None,
        Protection::Descriptors { seed } => Some(crc16(crc16(crc16(seed, &number), before), behind)),
        Protection::All { seed } => {
            let crc = crc32c(crc32c(crc32c(crc32c(seed, &number), before), &[0, 0]), behind);
            let [a, b, ..] = crc.to_le_bytes();
            Some(u16::from_le_bytes([a, b]))
        }
    })
}
