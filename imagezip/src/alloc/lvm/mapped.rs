//! A logical volume that reads like a disk: pieces of a physical volume, one behind the other.

use std::io;

use sigs::{ByteLen, ByteOffset, SectorSize};

use crate::alloc::window::Window;
use crate::io::ReadAt;

/// Bytes that lie together in a logical volume and on the physical one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) len: u64,
}

/// A logical volume.
#[derive(Debug)]
pub(crate) struct Mapped<'a> {
    physical: Window<'a>,
    /// In the order of the volume, without gaps, inside the physical volume.
    parts: Vec<Part>,
}

impl<'a> Mapped<'a> {
    pub(super) fn new(physical: Window<'a>, parts: Vec<Part>) -> Self {
        Self { physical, parts }
    }

    /// Returns where on the underlying disk a byte of the volume lies; its own place when it is not in the volume.
    pub(super) fn place(&self, offset: ByteOffset) -> ByteOffset {
        let found = self.part(offset.get()).and_then(|(place, _)| self.physical.range().start.get().checked_add(place));
        found.map_or(offset, ByteOffset::new)
    }

    /// Returns where a byte lies on the physical volume, and how many follow it there.
    fn part(&self, offset: u64) -> Option<(u64, u64)> {
        let index = self.parts.partition_point(|part| part.logical <= offset).checked_sub(1)?;
        let part = self.parts.get(index)?;
        let inside = offset.checked_sub(part.logical)?;
        let left = part.len.checked_sub(inside).filter(|left| *left > 0)?;
        Some((part.physical.checked_add(inside)?, left))
    }
}

impl ReadAt for Mapped<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let (mut at, mut buf) = (offset.get(), buf);
        while !buf.is_empty() {
            let (place, left) = self.part(at).ok_or_else(end)?;
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let (piece, rest) = buf.split_at_mut(take);
            self.physical.read_exact_at(piece, ByteOffset::new(place))?;
            at = at.checked_add(ByteLen::of(piece).get()).ok_or_else(end)?;
            buf = rest;
        }
        Ok(())
    }

    fn len(&self) -> ByteLen {
        ByteLen::new(self.parts.last().map_or(0, |part| part.logical.saturating_add(part.len)))
    }

    fn sector_size(&self) -> SectorSize {
        self.physical.sector_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_read_as_one_disk() {
        let disk = (0..100).collect::<Vec<u8>>();
        let window = Window::whole(&disk);
        let part = |logical, physical, len| Part { logical, physical, len };
        let parts = [part(0, 50, 10), part(10, 20, 5), part(15, 90, 10)];
        let mapped = Mapped::new(window, parts.to_vec());
        let mut buf = [0; 25];
        mapped.read_exact_at(&mut buf, ByteOffset::ZERO).unwrap();
        let expected = (50..60).chain(20..25).chain(90..100).collect::<Vec<u8>>();
        assert_eq!(buf.as_slice(), expected);
        assert_eq!(mapped.len().get(), 25);
        mapped.read_exact_at(&mut buf[..3], ByteOffset::new(13)).unwrap();
        assert_eq!(buf[..3], [23, 24, 90]);
        assert!(mapped.read_exact_at(&mut buf, ByteOffset::new(1)).is_err());
        assert!(mapped.read_exact_at(&mut buf[..1], ByteOffset::MAX).is_err());
        assert_eq!(mapped.place(ByteOffset::new(14)).get(), 24);
        assert_eq!(mapped.place(ByteOffset::new(25)).get(), 25);
        assert!(Mapped::new(window, Vec::new()).is_empty());
    }
}
