//! Whether anything that was read lies where the disk could not be read when its image was made.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use crate::io::ReadAt;

/// A disk that remembers whether one of its bad ranges was read.
#[derive(Debug)]
pub struct BadWatch<'a> {
    disk: &'a dyn ReadAt,
    /// In the order of the disk, apart from each other.
    bad: &'a [ByteRange],
    was_read: AtomicBool,
}

impl<'a> BadWatch<'a> {
    /// Watches over ranges that are in order and apart, as a manifest has them.
    pub fn new(disk: &'a dyn ReadAt, bad: &'a [ByteRange]) -> Self {
        Self { disk, bad, was_read: AtomicBool::new(false) }
    }

    /// Returns true if something was read from a bad range, where there are zeros instead of content.
    pub fn was_read(&self) -> bool {
        self.was_read.load(Ordering::Relaxed)
    }
}

impl ReadAt for BadWatch<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let end = offset.checked_add(ByteLen::of(buf)).unwrap_or(ByteOffset::MAX);
        let next = self.bad.partition_point(|range| range.checked_end().is_some_and(|end| end <= offset));
        if self.bad.get(next).is_some_and(|range| range.start < end) {
            self.was_read.store(true, Ordering::Relaxed);
        }
        self.disk.read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        self.disk.len()
    }

    fn sector_size(&self) -> SectorSize {
        self.disk.sector_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_touches_a_bad_range_counts() {
        let disk = vec![7; 100];
        let range = |start, len| ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) };
        let bad = [range(10, 10), range(50, 5)];
        for (start, len, touches) in
            [(0, 10, false), (20, 30, false), (55, 45, false), (0, 11, true), (19, 1, true), (40, 60, true)]
        {
            let watch = BadWatch::new(&disk, &bad);
            watch.read_exact_at(&mut vec![0; len], ByteOffset::new(start)).unwrap();
            assert_eq!(watch.was_read(), touches, "{start} {len}");
        }
    }
}
