//! A part of a disk that reads like a disk: what `--partition` works on, and what every parser is given.

use std::io;

use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use super::doubt::SurveyError;
use crate::io::ReadAt;

/// A range of another disk. Nothing outside it can be read.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    disk: &'a dyn ReadAt,
    range: ByteRange,
}

impl<'a> Window<'a> {
    /// Makes a window on `range`, or `None` when that is not a part of the disk.
    pub fn new(disk: &'a dyn ReadAt, range: ByteRange) -> Option<Self> {
        let inside = range.checked_end()?.get() <= disk.len().get();
        inside.then_some(Self { disk, range })
    }

    /// Makes a window on all of a disk.
    pub fn whole(disk: &'a dyn ReadAt) -> Self {
        Self { disk, range: ByteRange { start: ByteOffset::ZERO, len: disk.len() } }
    }

    /// Returns where on the underlying disk the window lies.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// Reads up to `len` bytes from `offset`; fewer (perhaps none) where the window ends before.
    ///
    /// The caller bounds `len`: it is a constant, or was compared with the length of the window.
    pub(crate) fn fetch(&self, offset: u64, len: u64) -> Result<Vec<u8>, SurveyError> {
        let available = self.range.len.get().saturating_sub(offset).min(len);
        let place = ByteOffset::new(self.range.start.get().saturating_add(offset));
        let failed = |source| SurveyError::Read { offset: place, source };
        let size = usize::try_from(available).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        let mut bytes = vec![0; size];
        if size > 0 {
            self.disk.read_exact_at(&mut bytes, place).map_err(failed)?;
        }
        Ok(bytes)
    }
}

impl ReadAt for Window<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let inside = offset.checked_add(ByteLen::of(buf)).is_some_and(|end| end.get() <= self.range.len.get());
        let place = self.range.start.checked_add(ByteLen::new(offset.get()));
        match place {
            Some(place) if inside => self.disk.read_exact_at(buf, place),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn len(&self) -> ByteLen {
        self.range.len
    }

    fn sector_size(&self) -> SectorSize {
        self.disk.sector_size()
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        let Some(start) = self.range.start.checked_add(ByteLen::new(range.start.get())) else {
            return Ok(Some(range.start));
        };
        let found = self.disk.next_data(ByteRange { start, len: range.len })?;
        Ok(found.map(|found| ByteOffset::new(found.get().saturating_sub(self.range.start.get()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) }
    }

    #[test]
    fn reads_its_part_and_nothing_else() {
        let disk = (0..100).collect::<Vec<u8>>();
        let window = Window::new(&disk, range(10, 20)).unwrap();
        let mut buf = [0; 4];
        window.read_exact_at(&mut buf, ByteOffset::new(16)).unwrap();
        assert_eq!(buf, [26, 27, 28, 29]);
        let past = window.read_exact_at(&mut buf, ByteOffset::new(17)).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
        assert!(window.read_exact_at(&mut buf, ByteOffset::MAX).is_err());
        assert_eq!(window.len().get(), 20);
        assert_eq!(window.fetch(18, 10).unwrap(), [28, 29]);
        assert!(window.fetch(u64::MAX, u64::MAX).unwrap().is_empty());
    }

    #[test]
    fn is_part_of_the_disk_or_is_not() {
        let disk = vec![0_u8; 100];
        assert!(Window::new(&disk, range(0, 100)).is_some());
        assert!(Window::new(&disk, range(100, 0)).is_some());
        assert!(Window::new(&disk, range(1, 100)).is_none());
        assert!(Window::new(&disk, range(u64::MAX, 2)).is_none());
    }
}
