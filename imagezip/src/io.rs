//! Reading and writing a disk or an image of one: the seam behind which files, devices and failing fakes look alike.

use std::io;

pub use sigs::source::ReadAt;
use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

mod aligned;
mod device;
mod direct;
pub mod fake;
pub(crate) mod patient;
mod sys;

pub(crate) use aligned::AlignedBuffer;
pub use device::{Disk, DiskError, DiskKind};
pub use direct::DirectDisk;

/// How much is written at once where zeros have to be written out.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Writes to a disk, at any place, from several threads at once.
///
/// Nothing is durable before [`DiskIo::flush`] returns. A flush that failed is final: what was written before it may
/// be lost although a later flush succeeds, so nobody calls it again.
pub trait DiskIo: ReadAt {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Whatever the medium says.
    fn write_all_at(&self, bytes: &[u8], offset: ByteOffset) -> io::Result<()>;

    /// Makes a range read as zeros, by the cheapest means the medium has.
    ///
    /// # Errors
    /// Whatever the medium says.
    fn zero(&self, range: ByteRange) -> io::Result<()> {
        write_zeros(self, range)
    }

    /// Tells a medium that has holes that a range of them will be written, so that it finds one place for all of it, or
    /// no place before anything is written. Does nothing where that is no gain.
    ///
    /// # Errors
    /// Whatever the medium says.
    fn allocate(&self, _range: ByteRange) -> io::Result<()> {
        Ok(())
    }

    /// Makes a medium that has holes one hole again, which gives back what [`DiskIo::allocate`] took. Its content is gone.
    ///
    /// # Errors
    /// Whatever the medium says.
    fn deallocate(&self) -> io::Result<()> {
        Ok(())
    }

    /// Tells the medium that a range is not needed. What it reads as afterwards is up to the medium.
    ///
    /// # Errors
    /// Whatever the medium says; a medium that cannot discard does nothing.
    fn discard(&self, range: ByteRange) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// Whatever the medium says; final.
    fn flush(&self) -> io::Result<()>;

    /// Forgets cached content of a range, so that the next read comes from the medium. Only flushed content goes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn drop_cache(&self, range: ByteRange) -> io::Result<()>;

    /// Fills `buf` from `offset` with what the medium has, whatever a cache says: for proofs. What was written before and
    /// not flushed may be flushed by it.
    ///
    /// # Errors
    /// Whatever the medium says. No cache answers in its place.
    fn read_from_medium(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }

    /// Returns true when reads and writes wait for the medium, so that others are wanted to use the processor meanwhile.
    fn waits(&self) -> bool {
        false
    }

    /// Returns the sector size where it is a fact of hardware; a regular file has none of its own.
    fn hard_sector_size(&self) -> Option<SectorSize> {
        None
    }
}

/// Makes a range read as zeros by writing them.
fn write_zeros<D: DiskIo + ?Sized>(disk: &D, range: ByteRange) -> io::Result<()> {
    let overflow = || io::Error::from(io::ErrorKind::InvalidInput);
    let (mut offset, mut left) = (range.start, range.len);
    while !left.is_zero() {
        let take = left.to_usize().unwrap_or(usize::MAX).min(ZEROS.len());
        let piece = &ZEROS[..take];
        disk.write_all_at(piece, offset)?;
        offset = offset.checked_add(ByteLen::of(piece)).ok_or_else(overflow)?;
        left = ByteLen::new(left.get() - ByteLen::of(piece).get());
    }
    Ok(())
}

/// Returns true when all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (pieces, rest) = bytes.as_chunks::<128>();
    let clear = |piece: &[u8; 128]| {
        let (words, _) = piece.as_chunks::<8>();
        words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word)) == 0
    };
    pieces.iter().all(clear) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_bit_is_not_zero_wherever_it_is() {
        for len in [0, 1, 127, 128, 129, 1000] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for place in 0..len {
                bytes[place] = 0x20;
                assert!(!is_zero(&bytes), "{place} of {len}");
                bytes[place] = 0;
            }
        }
    }
}
