//! A list of byte ranges in disk order, merged where they touch, that cannot outgrow the memory of a node.

use sigs::{ByteLen, ByteOffset, ByteRange};

/// How many ranges a list holds before it starts to swallow the smallest gaps: 64 MiB of them.
const MOST_RANGES: usize = 4 << 20;
/// The first gap size that is swallowed: a block of the finest file system.
const FIRST_GAP: u64 = 1024;

/// Sorted, merged, non-overlapping ranges.
///
/// When a hostile or hopelessly fragmented file system would need more than [`MOST_RANGES`], gaps below a size
/// that doubles as needed are called allocated too. That is safe (nothing allocated gets lost) and depends on
/// nothing but the ranges, so two surveys of one disk agree.
#[derive(Debug)]
pub(crate) struct RangeList {
    ranges: Vec<ByteRange>,
    most: usize,
    least_gap: u64,
}

impl RangeList {
    /// Makes an empty list.
    pub(crate) fn new() -> Self {
        Self::with_most(MOST_RANGES)
    }

    fn with_most(most: usize) -> Self {
        Self { ranges: Vec::new(), most, least_gap: 0 }
    }

    /// Adds the bytes from `start` to `end`. Ranges come in disk order; they may overlap.
    pub(crate) fn push(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        if !join_last(&mut self.ranges, start, end, self.least_gap) {
            self.ranges.push(range(start, end));
        }
        while self.ranges.len() > self.most {
            self.least_gap = self.least_gap.saturating_mul(2).max(FIRST_GAP);
            let mut fewer: Vec<ByteRange> = Vec::new();
            for old in &self.ranges {
                let (start, end) = (old.start.get(), end_of(*old));
                if !join_last(&mut fewer, start, end, self.least_gap) {
                    fewer.push(range(start, end));
                }
            }
            self.ranges = fewer;
        }
    }

    /// Returns the ranges.
    pub(crate) fn into_vec(self) -> Vec<ByteRange> {
        self.ranges
    }
}

/// Returns how many bytes the ranges have together.
pub(crate) fn total(ranges: &[ByteRange]) -> ByteLen {
    ByteLen::new(ranges.iter().fold(0, |sum, range| range.len.get().saturating_add(sum)))
}

/// Extends the last range to `end` when the gap before `start` is at most `gap`.
fn join_last(ranges: &mut [ByteRange], start: u64, end: u64, gap: u64) -> bool {
    let Some(last) = ranges.last_mut() else { return false };
    if start > end_of(*last).saturating_add(gap) {
        return false;
    }
    *last = range(last.start.get().min(start), end_of(*last).max(end));
    true
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start: ByteOffset::new(start), len: ByteLen::new(end.saturating_sub(start)) }
}

fn end_of(range: ByteRange) -> u64 {
    range.start.get().saturating_add(range.len.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: RangeList) -> Vec<(u64, u64)> {
        list.into_vec().into_iter().map(|range| (range.start.get(), end_of(range))).collect()
    }

    #[test]
    fn touching_ranges_merge_and_empty_ones_vanish() {
        let mut list = RangeList::new();
        for (start, end) in [(0, 10), (10, 20), (25, 25), (30, 40), (35, 38), (39, 50)] {
            list.push(start, end);
        }
        assert_eq!(pairs(list), [(0, 20), (30, 50)]);
    }

    #[test]
    fn a_list_that_grows_too_long_swallows_the_smallest_gaps_only() {
        let mut list = RangeList::with_most(10);
        let mut all = Vec::new();
        let mut at = 0;
        for index in 0..100_u64 {
            let gap = if index % 20 == 0 { 1 << 20 } else { 1024 };
            all.push((at + gap, at + gap + 512));
            at += gap + 512;
        }
        for (start, end) in &all {
            list.push(*start, *end);
        }
        let kept = pairs(list);
        assert_eq!(kept.len(), 5, "{kept:?}");
        for (start, end) in all {
            assert!(kept.iter().any(|(s, e)| *s <= start && end <= *e));
        }
    }
}
