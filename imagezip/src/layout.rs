//! What the engine needs to know of a disk before it reads it: its sectors and which bytes are allocated.

use sigs::manifest::PartitionSummary;
use sigs::{ByteLen, ByteOffset, ByteRange, CHUNK_BYTES, ChunkIndex, SectorSize};

use crate::alloc::{Survey, Treatment};
use crate::extents::Extents;
use crate::io::ReadAt;

/// How much evidence of all partitions together goes into a manifest, which has a bound of its own. Only a disk with
/// thousands of logical volumes has more; what does not fit is left out.
const MOST_EVIDENCE: usize = 1 << 20;

/// The allocated ranges of a disk, in order, not touching each other, all inside the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    disk_bytes: ByteLen,
    sector_size: SectorSize,
    allocated: Extents,
    partitions: Vec<PartitionSummary>,
}

/// Ranges that leave the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("something is allocated up to byte {end} of a disk of {disk_bytes}")]
pub struct BadLayout {
    end: ByteOffset,
    disk_bytes: ByteLen,
}

impl Layout {
    /// Takes the answer of a survey.
    ///
    /// # Errors
    /// [`BadLayout`] when the ranges leave the disk.
    pub fn new(
        disk_bytes: ByteLen,
        sector_size: SectorSize,
        allocated: Extents,
        partitions: Vec<PartitionSummary>,
    ) -> Result<Self, BadLayout> {
        let end = allocated.end();
        if end.get() > disk_bytes.get() {
            return Err(BadLayout { end, disk_bytes });
        }
        Ok(Self { disk_bytes, sector_size, allocated, partitions })
    }

    /// Takes the answer of a survey of a disk of `disk_bytes`.
    ///
    /// # Errors
    /// [`BadLayout`] when it is not that of such a disk.
    pub fn from_survey(disk_bytes: ByteLen, survey: &Survey) -> Result<Self, BadLayout> {
        let mut room = MOST_EVIDENCE;
        let partitions = survey.partitions.iter().map(|partition| {
            let (whole, evidence) = match &partition.treatment {
                Treatment::Whole { reason } => (Some(reason.clone()), None),
                Treatment::Proven { evidence } => {
                    let text = serde_json::to_string(evidence).ok().filter(|text| text.len() <= room);
                    room -= text.as_ref().map_or(0, String::len);
                    (None, text)
                }
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
        let allocated = Extents::of(all);
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
    pub const fn allocated(&self) -> &Extents {
        &self.allocated
    }

    /// Returns how many bytes are allocated.
    pub const fn allocated_bytes(&self) -> ByteLen {
        self.allocated.total()
    }

    /// Returns what was found in each partition.
    pub fn partitions(&self) -> &[PartitionSummary] {
        &self.partitions
    }

    /// Returns the parts of allocated ranges inside `range`, in order.
    pub(crate) fn within(&self, range: ByteRange) -> impl Iterator<Item = ByteRange> + '_ {
        self.allocated.within(range)
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
        Layout::new(ByteLen::new(10 << 20), SectorSize::S512, ranges.into_iter().collect(), Vec::new())
    }

    #[test]
    fn ranges_are_inside() {
        assert!(layout(vec![range(0, 5), range(5, 5)]).is_ok());
        assert!(layout(vec![range(10 << 20, 1)]).is_err());
        assert!(layout(vec![range(u64::MAX - 5, 2)]).is_err());
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
