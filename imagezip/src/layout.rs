//! What the engine needs to know of a disk before it reads it: its sectors and which bytes are allocated.

use sigs::manifest::PartitionSummary;
use sigs::{ByteLen, ByteOffset, ByteRange, CHUNK_BYTES, ChunkIndex, SectorSize};

use crate::alloc::{Survey, Treatment};
use crate::io::ReadAt;

/// The allocated ranges of a disk, in order, not touching each other, all inside the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    disk_bytes: ByteLen,
    sector_size: SectorSize,
    allocated: Vec<ByteRange>,
    partitions: Vec<PartitionSummary>,
}

/// Ranges that are not in order, overlap, or leave the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("allocated range {index} at {start} is out of order or leaves the disk", start = range.start)]
pub struct BadLayout {
    index: usize,
    range: ByteRange,
}

impl Layout {
    /// Takes the answer of a survey.
    ///
    /// # Errors
    /// [`BadLayout`] when the ranges are not in order or leave the disk.
    pub fn new(
        disk_bytes: ByteLen,
        sector_size: SectorSize,
        allocated: Vec<ByteRange>,
        partitions: Vec<PartitionSummary>,
    ) -> Result<Self, BadLayout> {
        let mut reached = ByteOffset::ZERO;
        for (index, range) in allocated.iter().enumerate() {
            let end = range.checked_end().filter(|end| end.get() <= disk_bytes.get() && range.start >= reached);
            reached = end.filter(|_| !range.len.is_zero()).ok_or(BadLayout { index, range: *range })?;
        }
        Ok(Self { disk_bytes, sector_size, allocated, partitions })
    }

    /// Takes the answer of a survey of a disk of `disk_bytes`.
    ///
    /// # Errors
    /// [`BadLayout`] when it is not that of such a disk.
    pub fn from_survey(disk_bytes: ByteLen, survey: &Survey) -> Result<Self, BadLayout> {
        let partitions = survey.partitions.iter().map(|partition| {
            let (whole, evidence) = match &partition.treatment {
                Treatment::Whole { reason } => (Some(reason.clone()), None),
                Treatment::Proven { evidence } => (None, serde_json::to_string(evidence).ok()),
            };
            PartitionSummary {
                number: partition.number,
                start: partition.range.start,
                len: partition.range.len,
                kind: partition.kind.clone(),
                content: partition.content.to_string(),
                allocated: partition.allocated,
                whole,
                evidence,
            }
        });
        Self::new(disk_bytes, survey.sector_size, survey.allocated.clone(), partitions.collect())
    }

    /// Takes everything as allocated.
    pub fn whole(disk: &dyn ReadAt) -> Self {
        let all = ByteRange { start: ByteOffset::ZERO, len: disk.len() };
        let allocated = if disk.is_empty() { Vec::new() } else { vec![all] };
        Self { disk_bytes: disk.len(), sector_size: disk.sector_size(), allocated, partitions: Vec::new() }
    }

    /// Returns the size of the disk.
    pub const fn disk_bytes(&self) -> ByteLen {
        self.disk_bytes
    }

    /// Returns the size of a logical sector.
    pub const fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// Returns the allocated ranges.
    pub fn allocated(&self) -> &[ByteRange] {
        &self.allocated
    }

    /// Returns how many bytes are allocated.
    pub fn allocated_bytes(&self) -> ByteLen {
        ByteLen::new(self.allocated.iter().map(|range| range.len.get()).sum())
    }

    /// Returns what was found in each partition.
    pub fn partitions(&self) -> &[PartitionSummary] {
        &self.partitions
    }

    /// Returns the parts of allocated ranges inside `range`, in order.
    pub(crate) fn within(&self, range: ByteRange) -> impl Iterator<Item = ByteRange> + '_ {
        let end = ByteOffset::new(range.start.get().saturating_add(range.len.get()));
        let first = self.allocated.partition_point(|piece| piece.checked_end().is_none_or(|end| end <= range.start));
        self.allocated[first..]
            .iter()
            .take_while(move |piece| piece.start < end)
            .filter_map(move |piece| ByteRange::between(piece.start.max(range.start), piece.checked_end()?.min(end)))
    }

    /// Returns the chunks that have an allocated byte, in order; chunks without one cost nothing.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = ChunkIndex> + '_ {
        let size = u64::from(CHUNK_BYTES);
        let mut next = 0;
        self.allocated
            .iter()
            .flat_map(move |range| {
                let first = (range.start.get() / size).max(next);
                // Ranges are not empty and lie inside the disk.
                let end = (range.start.get() + range.len.get()).div_ceil(size);
                next = end.max(next);
                first..end
            })
            .map(ChunkIndex::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) }
    }

    fn layout(ranges: Vec<ByteRange>) -> Result<Layout, BadLayout> {
        Layout::new(ByteLen::new(10 << 20), SectorSize::S512, ranges, Vec::new())
    }

    #[test]
    fn ranges_are_in_order_and_inside() {
        assert!(layout(vec![range(0, 5), range(5, 5)]).is_ok());
        assert!(layout(vec![range(0, 6), range(5, 5)]).is_err());
        assert!(layout(vec![range(0, 0)]).is_err());
        assert!(layout(vec![range(10 << 20, 1)]).is_err());
        assert!(layout(vec![range(u64::MAX, 2)]).is_err());
    }

    #[test]
    fn only_chunks_with_something_in_them_are_visited_and_each_once() {
        let mib = 1 << 20;
        let layout = layout(vec![range(10, 5), range(20, 5), range(mib - 1, 2), range(5 * mib, 3 * mib)]).unwrap();
        assert_eq!(layout.chunks().map(ChunkIndex::get).collect::<Vec<_>>(), [0, 1, 5, 6, 7]);
        assert_eq!(layout.within(range(12, 10)).collect::<Vec<_>>(), [range(12, 3), range(20, 2)]);
        assert_eq!(layout.within(range(25, 10)).count(), 0);
        assert_eq!(layout.within(range(6 * mib, mib)).collect::<Vec<_>>(), [range(6 * mib, mib)]);
    }
}
