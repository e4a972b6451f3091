//! Byte ranges in disk order, merged where they touch, in few bytes each.
//!
//! A disk may have tens of millions of allocated extents, and a node has little memory: a range takes two to four
//! bytes here instead of sixteen. Gap and length of each range follow each other as LEB128 numbers; a multiple of 512
//! counts in sectors, which the lowest bit says. Every [`STRIDE`] ranges a mark makes a search possible.

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sigs::{ByteLen, ByteOffset, ByteRange};

/// How many ranges lie between two marks.
const STRIDE: usize = 256;
/// How many ranges a list holds before it starts to swallow the smallest gaps: what the map of an image can hold, too.
const MOST_RANGES: usize = 12 << 20;
/// The first gap size that is swallowed: a block of the finest file system.
const FIRST_GAP: u64 = 1024;

/// Sorted, merged, non-overlapping byte ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    count: usize,
    total: u64,
    end: u64,
}

/// Where the search for a range can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The end of the range before; gaps count from there.
    before: u64,
    /// Where in the bytes the next range is.
    at: usize,
    /// How many bytes the ranges before have together.
    total: u64,
}

impl Extents {
    /// Returns one range, or none when it is empty.
    pub fn of(range: ByteRange) -> Self {
        let mut builder = ExtentsBuilder::new();
        builder.add(range);
        builder.finish()
    }

    /// Returns how many ranges there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Returns true when there is no range.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns how many bytes the ranges have together.
    pub const fn total(&self) -> ByteLen {
        ByteLen::new(self.total)
    }

    /// Returns the end of the last range.
    pub const fn end(&self) -> ByteOffset {
        ByteOffset::new(self.end)
    }

    /// Returns the ranges in disk order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: &self.bytes, before: 0 }
    }

    /// Returns the ranges that end behind `offset`, in disk order; the first may begin before it.
    pub fn from(&self, offset: ByteOffset) -> Iter<'_> {
        let next = self.marks.partition_point(|mark| mark.before <= offset.get());
        let mut ranges = match next.checked_sub(1).and_then(|at| self.marks.get(at)) {
            Some(mark) => Iter { bytes: self.bytes.get(mark.at..).unwrap_or_default(), before: mark.before },
            None => self.iter(),
        };
        loop {
            let here = ranges.clone();
            match ranges.next() {
                Some(range) if end_of(range) <= offset.get() => {}
                _ => return here,
            }
        }
    }

    /// Returns the parts of ranges inside `range`, in disk order.
    pub fn within(&self, range: ByteRange) -> impl Iterator<Item = ByteRange> + '_ {
        let end = ByteOffset::new(end_of(range));
        self.from(range.start)
            .take_while(move |piece| piece.start < end)
            .filter_map(move |piece| ByteRange::between(piece.start.max(range.start), piece.checked_end()?.min(end)))
    }

    fn append(&mut self, start: u64, end: u64) {
        if self.count.is_multiple_of(STRIDE) {
            self.marks.push(Mark { before: self.end, at: self.bytes.len(), total: self.total });
        }
        encode(&mut self.bytes, start - self.end);
        encode(&mut self.bytes, end - start);
        self.count += 1;
        self.total += end - start;
        self.end = end;
    }

    /// Takes back the ranges from the last mark on, and returns where the first of them begins.
    fn take_back(&mut self) -> Option<u64> {
        let mark = self.marks.pop()?;
        let first = Iter { bytes: self.bytes.get(mark.at..).unwrap_or_default(), before: mark.before }.next();
        self.bytes.truncate(mark.at);
        self.count = self.marks.len() * STRIDE;
        self.total = mark.total;
        self.end = mark.before;
        first.map(|range| range.start.get())
    }
}

fn end_of(range: ByteRange) -> u64 {
    range.start.get().saturating_add(range.len.get())
}

fn encode(out: &mut Vec<u8>, value: u64) {
    // Sectors in the upper bits; an odd number of bytes would not fit beside the flag, so it has a bit of a u128.
    let sectors = value.is_multiple_of(512);
    let mut number = if sectors { u128::from(value / 512) << 1 } else { (u128::from(value) << 1) | 1 };
    loop {
        let low = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Iterator over ranges in disk order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    before: u64,
}

impl Iter<'_> {
    fn number(&mut self) -> Option<u64> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if *first < 0x80 {
            // Nearly all numbers are short.
            let value = u64::from(first >> 1);
            return Some(if first & 1 == 0 { value * 512 } else { value });
        }
        let mut number = u128::from(first & 0x7f);
        for shift in (7..77).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u128::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        let value = u64::try_from(number >> 1).ok()?;
        Some(if number & 1 == 0 { value.saturating_mul(512) } else { value })
    }
}

impl Iterator for Iter<'_> {
    type Item = ByteRange;

    fn next(&mut self) -> Option<ByteRange> {
        let start = self.before.saturating_add(self.number()?);
        let len = self.number()?;
        self.before = start.saturating_add(len);
        Some(ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) })
    }
}

impl<'a> IntoIterator for &'a Extents {
    type Item = ByteRange;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Serialize for Extents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count))?;
        for range in self {
            list.serialize_element(&range)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Extents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<ByteRange>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl FromIterator<ByteRange> for Extents {
    /// Ranges should come in disk order; see [`ExtentsBuilder::push`].
    fn from_iter<I: IntoIterator<Item = ByteRange>>(ranges: I) -> Self {
        let mut builder = ExtentsBuilder::new();
        ranges.into_iter().for_each(|range| builder.add(range));
        builder.finish()
    }
}

/// Collects ranges, such that nothing that was pushed is ever missing.
///
/// When a hostile or hopelessly fragmented file system would need more than [`MOST_RANGES`], gaps below a size
/// that doubles as needed are called allocated too. That is safe (nothing allocated gets lost) and depends on
/// nothing but the ranges, so two surveys of one disk agree.
#[derive(Debug)]
pub struct ExtentsBuilder {
    done: Extents,
    pending: Option<(u64, u64)>,
    most: usize,
    least_gap: u64,
}

impl Default for ExtentsBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ExtentsBuilder {
    /// Makes an empty list.
    pub fn new() -> Self {
        Self::with_most(MOST_RANGES)
    }

    fn with_most(most: usize) -> Self {
        Self { done: Extents::default(), pending: None, most, least_gap: 0 }
    }

    /// Adds a range; see [`ExtentsBuilder::push`].
    pub fn add(&mut self, range: ByteRange) {
        self.push(range.start.get(), end_of(range));
    }

    /// Adds the bytes from `start` to `end`. Ranges come in disk order; they may overlap. One that comes out of order
    /// is taken as well, at the price that some gaps near it are called allocated.
    pub(crate) fn push(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        match &mut self.pending {
            None => self.pending = Some((start, end)),
            Some((_, last)) if start >= *last && start - *last > self.least_gap => self.next(start, end),
            Some((first, last)) => (*first, *last) = ((*first).min(start), (*last).max(end)),
        }
    }

    fn next(&mut self, start: u64, end: u64) {
        self.settle();
        self.pending = Some((start, end));
        while self.done.count > self.most {
            self.widen();
        }
    }

    /// Puts the pending range behind the others.
    fn settle(&mut self) {
        let Some((mut start, end)) = self.pending.take() else { return };
        while self.done.count > 0 && start <= self.done.end {
            start = start.min(self.done.take_back().unwrap_or(0));
        }
        self.done.append(start, end.max(start));
    }

    /// Swallows the smallest gaps.
    fn widen(&mut self) {
        self.least_gap = self.least_gap.saturating_mul(2).max(FIRST_GAP);
        let old = std::mem::take(&mut self.done);
        let mut fewer = Self { least_gap: self.least_gap, ..Self::with_most(usize::MAX) };
        old.iter().for_each(|range| fewer.add(range));
        if let (Some((_, last)), Some((start, end))) = (fewer.pending, self.pending)
            && start.saturating_sub(last) <= self.least_gap
        {
            fewer.push(start, end);
            self.pending = fewer.pending.take();
        }
        fewer.settle();
        self.done = fewer.done;
    }

    /// Returns the ranges.
    pub fn finish(mut self) -> Extents {
        self.settle();
        self.done.bytes.shrink_to_fit();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(extents: &Extents) -> Vec<(u64, u64)> {
        extents.iter().map(|range| (range.start.get(), end_of(range))).collect()
    }

    fn built(builder: &mut ExtentsBuilder, ranges: &[(u64, u64)]) -> Extents {
        ranges.iter().for_each(|(start, end)| builder.push(*start, *end));
        std::mem::take(builder).finish()
    }

    #[test]
    fn touching_ranges_merge_and_empty_ones_vanish() {
        let ranges = [(0, 10), (10, 20), (25, 25), (30, 40), (35, 38), (39, 50), (1024, 4096)];
        let extents = built(&mut ExtentsBuilder::new(), &ranges);
        assert_eq!(pairs(&extents), [(0, 20), (30, 50), (1024, 4096)]);
        assert_eq!((extents.len(), extents.total().get(), extents.end().get()), (3, 3112, 4096));
    }

    #[test]
    fn a_list_that_grows_too_long_swallows_the_smallest_gaps_only() {
        let mut all = Vec::new();
        let mut at = 0;
        for index in 0..100_u64 {
            let gap = if index % 20 == 0 { 1 << 20 } else { 1024 };
            all.push((at + gap, at + gap + 512));
            at += gap + 512;
        }
        let extents = built(&mut ExtentsBuilder::with_most(10), &all);
        let kept = pairs(&extents);
        assert_eq!(kept.len(), 5, "{kept:?}");
        for (start, end) in all {
            assert!(kept.iter().any(|(s, e)| *s <= start && end <= *e));
        }
    }

    #[test]
    fn the_ends_of_the_number_range_are_kept() {
        let far = u64::MAX;
        let ranges = [(0, 1), (far - 3, far - 1)];
        assert_eq!(pairs(&built(&mut ExtentsBuilder::new(), &ranges)), ranges);
        assert_eq!(pairs(&built(&mut ExtentsBuilder::new(), &[(1, far)])), [(1, far)]);
    }

    #[test]
    fn ten_million_small_extents_take_a_few_bytes_each() {
        let mut builder = ExtentsBuilder::new();
        (0..10_000_000_u64).for_each(|n| builder.push(n * 8192, n * 8192 + 4096));
        let extents = builder.finish();
        assert_eq!(extents.len(), 10_000_000);
        assert!(extents.bytes.len() <= 21_000_000, "{}", extents.bytes.len());
        let place = ByteOffset::new(8192 * 7_777_777 + 4096);
        assert_eq!(extents.from(place).next().map(|range| range.start.get()), Some(8192 * 7_777_778));
    }

    proptest! {
        #[test]
        fn searches_agree_with_a_plain_list(
            steps in prop::collection::vec((1_u64..3000, 1_u64..3000), 0..900),
            sector in any::<bool>(),
            asked in 0_u64..4_000_000,
            len in 1_u64..100_000,
        ) {
            let unit = if sector { 512 } else { 1 };
            let mut at = 0;
            let ranges: Vec<_> = steps.iter().map(|(gap, len)| {
                let start = at + gap * unit;
                at = start + len * unit;
                (start, at)
            }).collect();
            let extents = built(&mut ExtentsBuilder::new(), &ranges);
            prop_assert_eq!(pairs(&extents), ranges.clone());
            let from: Vec<_> = extents.from(ByteOffset::new(asked)).map(|r| (r.start.get(), end_of(r))).collect();
            let expected: Vec<_> = ranges.iter().copied().filter(|(_, end)| *end > asked).collect();
            prop_assert_eq!(from, expected);
            let window = ByteRange { start: ByteOffset::new(asked), len: ByteLen::new(len) };
            let parts: Vec<_> = extents.within(window).map(|r| (r.start.get(), end_of(r))).collect();
            let expected: Vec<_> = ranges.iter()
                .map(|(start, end)| ((*start).max(asked), (*end).min(asked + len)))
                .filter(|(start, end)| start < end)
                .collect();
            prop_assert_eq!(parts, expected);
        }

        #[test]
        fn nothing_pushed_is_missing_in_any_order_under_any_limit(
            ranges in prop::collection::vec((0_u64..20_000, 1_u64..40), 0..1200),
            most in 1_usize..700,
        ) {
            let ranges: Vec<_> = ranges.iter().map(|(start, len)| (*start, start + len)).collect();
            let kept = pairs(&built(&mut ExtentsBuilder::with_most(most), &ranges));
            prop_assert!(kept.windows(2).all(|pair| pair[0].1 < pair[1].0), "in order, not touching");
            for (start, end) in ranges {
                prop_assert!(kept.iter().any(|(s, e)| *s <= start && end <= *e), "{start}..{end}");
            }
        }
    }
}
