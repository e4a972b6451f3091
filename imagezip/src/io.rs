//! Reading and writing a disk or an image of one: the seam behind which files, devices and failing fakes look alike.

use std::io;

use sigs::{ByteLen, ByteOffset, SectorSize};

/// Reads from a disk, at any place, from several threads at once.
pub trait ReadAt: Send + Sync + std::fmt::Debug {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Whatever the medium says; [`io::ErrorKind::UnexpectedEof`] when the disk ends before `buf` is full.
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()>;

    /// Returns the size of the disk.
    fn len(&self) -> ByteLen;

    /// Returns true for a disk of no bytes.
    fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// Returns the size of a logical sector, as far as the medium knows one.
    fn sector_size(&self) -> SectorSize {
        SectorSize::S512
    }
}
