//! The bitmap of a volume that counts in clusters: what of it is marked, collected piece by piece.

use sigs::{ByteLen, ByteOffset, ByteRange};

use super::ext::bits::Bits;
use crate::extents::{Extents, ExtentsBuilder};

/// How much of a bitmap is looked at at once: whole words.
pub(crate) const PIECE: u64 = 1 << 20;

/// Where the clusters of a volume are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clusters {
    /// Where the first of them begins, in bytes from the start of the partition.
    pub(crate) start: u64,
    /// How long each is.
    pub(crate) size: u64,
    /// How many there are. The reader of the volume proved that all are inside the partition.
    pub(crate) count: u64,
}

impl Clusters {
    /// Returns where a cluster begins; the first has the number 0.
    pub(crate) fn place(self, number: u64) -> u64 {
        self.start.saturating_add(number.saturating_mul(self.size))
    }

    /// Returns the end of the last one.
    pub(crate) fn end(self) -> u64 {
        self.place(self.count)
    }

    /// Returns where `count` clusters lie, or `None` when they are not all there.
    pub(crate) fn range(self, first: u64, count: u64) -> Option<ByteRange> {
        let end = first.checked_add(count).filter(|end| *end <= self.count)?;
        ByteRange::between(ByteOffset::new(self.place(first)), ByteOffset::new(self.place(end)))
    }

    /// Returns how long a bitmap has to be.
    pub(crate) fn bitmap_bytes(self) -> u64 {
        self.count.div_ceil(8)
    }
}

/// Collects marked clusters.
#[derive(Debug)]
pub(crate) struct Marked {
    clusters: Clusters,
    list: ExtentsBuilder,
    seen: u64,
    marked: u64,
}

impl Marked {
    /// Begins with what is in front of the clusters, which is always allocated.
    pub(crate) fn new(clusters: Clusters) -> Self {
        let mut list = ExtentsBuilder::new();
        list.push(0, clusters.start);
        Self { clusters, list, seen: 0, marked: 0 }
    }

    /// Takes the next bytes of the bitmap, the lowest bit first. All but the last piece are whole words.
    pub(crate) fn push(&mut self, mut piece: Vec<u8>) {
        piece.resize(piece.len().next_multiple_of(8), 0);
        let bits = Bits::new(&piece);
        let left = u32::try_from(self.clusters.count.saturating_sub(self.seen)).unwrap_or(u32::MAX);
        let len = bits.len().min(left);
        let (clusters, seen) = (self.clusters, self.seen);
        bits.set_runs(len, |run| {
            let (start, end) = (seen.saturating_add(run.start.into()), seen.saturating_add(run.end.into()));
            self.marked += end - start;
            self.list.push(clusters.place(start), clusters.place(end));
        });
        self.seen = self.seen.saturating_add(len.into());
    }

    /// Returns what is marked, with everything around the clusters, and how many are; `None` when bits are missing.
    pub(crate) fn finish(mut self, partition: ByteLen) -> Option<(Extents, u64)> {
        self.list.push(self.clusters.end(), partition.get());
        (self.seen == self.clusters.count).then(|| (self.list.finish(), self.marked))
    }
}

/// Returns true if all of a range is allocated.
pub(crate) fn holds(allocated: &Extents, range: ByteRange) -> bool {
    let Some(end) = range.checked_end() else { return false };
    let found = allocated.from(range.start).next();
    found.is_some_and(|found| found.start <= range.start && found.checked_end().is_some_and(|there| there >= end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_clusters_become_ranges_across_pieces() {
        let clusters = Clusters { start: 1000, size: 512, count: 70 };
        let mut marked = Marked::new(clusters);
        marked.push(vec![0, 0, 0, 0, 0, 0, 0, 0x80]);
        // The bits behind the last cluster stand for nothing.
        marked.push(vec![0b1110_0001]);
        let (found, count) = marked.finish(ByteLen::new(40_000)).unwrap();
        let pairs: Vec<_> = found.iter().map(|range| (range.start.get(), range.len.get())).collect();
        assert_eq!(pairs, [(0, 1000), (1000 + 63 * 512, 1024), (1000 + 69 * 512, 40_000 - 1000 - 69 * 512)]);
        assert_eq!(count, 3);
        assert!(holds(&found, clusters.range(63, 2).unwrap()) && !holds(&found, clusters.range(62, 2).unwrap()));
        assert!(
            clusters.range(69, 1).is_some() && clusters.range(69, 2).is_none() && clusters.range(u64::MAX, 2).is_none()
        );
        let mut short = Marked::new(clusters);
        short.push(vec![0; 8]);
        assert!(short.finish(ByteLen::new(40_000)).is_none());
    }
}
