//! The marks of earlier owners, at both ends of a partition.
//!
//! A RAID, ZFS and others have their mark at the end of what is theirs, and whoever looks for owners believes it before
//! the file system. Where that has a FREE block there, the mark of an earlier owner of the target would stay, and the
//! partition would be taken for his.

use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange};

use super::{Failure, Job};
use crate::image::Content;

/// How much of each end may hold a mark: ZFS needs the most, 512 KiB.
const MARK_BYTES: u64 = 1 << 20;

impl Job<'_> {
    /// Makes zeros of the FREE blocks at the ends of partitions, and of the end of a larger target.
    pub(super) fn clear_marks(&self) -> Result<(), Failure> {
        let block = u64::from(self.geometry().block_size.bytes());
        for partition in &self.chain.manifest().partitions {
            let range = ByteRange { start: partition.start, len: partition.len };
            for end in ends_of(range) {
                let first = BlockIndex::new(end.start.get() / block);
                let behind = end.start.get().saturating_add(end.len.get()).div_ceil(block);
                let behind = BlockIndex::new(behind.min(self.geometry().blocks().get()));
                for run in self.plan().runs_in(first, behind).filter(|run| run.content == Content::Free) {
                    self.check_cancelled()?;
                    self.fit.clip(self.range_of(&run)).map_or(Ok(()), |range| self.zero(range))?;
                }
            }
        }
        self.behind().map_or(Ok(()), |range| ends_of(range)[1..].iter().try_for_each(|end| self.zero(*end)))
    }
}

/// Returns the first and the last bytes of a range.
fn ends_of(range: ByteRange) -> [ByteRange; 2] {
    let len = range.len.get().min(MARK_BYTES);
    let last = range.start.get().saturating_add(range.len.get().saturating_sub(len));
    [range.start, ByteOffset::new(last)].map(|start| ByteRange { start, len: ByteLen::new(len) })
}
