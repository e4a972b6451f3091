//! The fields of a piece of metadata, of which there may be too few bytes, and its checksum.

use crate::alloc::bytes::{array, be16_at, be32_at, be64_at, has, u8_at, u32_at};
use crate::alloc::crc::{CRC32C_START, crc32c};

/// Bytes with big-endian numbers in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Raw<'_> {
    pub(crate) fn u8(&self, at: usize) -> Option<u8> {
        u8_at(self.0, at)
    }

    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        be16_at(self.0, at)
    }

    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        be32_at(self.0, at)
    }

    pub(crate) fn u64(&self, at: usize) -> Option<u64> {
        be64_at(self.0, at)
    }

    pub(crate) fn uuid(&self, at: usize) -> Option<[u8; 16]> {
        array(self.0, at)
    }

    pub(crate) fn has(&self, at: usize, magic: &[u8]) -> bool {
        has(self.0, at, magic)
    }

    /// Returns true if the little-endian checksum at `at` is that of all bytes with zeros in its own place.
    pub(crate) fn checksum_is_valid(&self, at: usize) -> bool {
        let parts = || Some((self.0.get(..at)?, self.0.get(at.checked_add(4)?..)?, u32_at(self.0, at)?));
        parts().is_some_and(|(before, behind, stated)| {
            !crc32c(crc32c(crc32c(CRC32C_START, before), &[0; 4]), behind) == stated
        })
    }
}
