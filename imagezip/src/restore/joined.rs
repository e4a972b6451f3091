//! Reading many ranges that lie near each other with few reads.

use sigs::{ByteLen, ByteOffset, ByteRange};

use super::{Failure, Job, place_in};
use crate::io::AlignedBuffer;

/// What lies between two ranges is read along when it is no more than this: cheaper than another read.
pub(super) const GAP_BYTES: u64 = 64 << 10;
/// How much is read at once at most, unless a single range is longer.
const MOST_BYTES: u64 = 1 << 20;

impl Job<'_> {
    /// Reads ranges of the target from its medium, given in disk order, and hands each to `visit` with its number in `parts`.
    ///
    /// Where a read fails, each range is read by itself: what lies between them need not be readable.
    pub(super) fn read_joined<E>(
        &self,
        parts: &[ByteRange],
        buffer: &mut AlignedBuffer,
        mut visit: impl FnMut(usize, Result<&[u8], Failure>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = 0;
        while let Some(first) = parts.get(next) {
            let (count, whole) = join(*first, &parts[next + 1..]);
            let numbers = next..next + count;
            next = numbers.end;
            if count > 1 && self.fill(buffer, whole).is_ok() {
                for number in numbers {
                    let place = place_in(whole.start, parts[number]).unwrap_or_default();
                    visit(number, Ok(&buffer[place]))?;
                }
                continue;
            }
            for number in numbers {
                let read = self.fill(buffer, parts[number]);
                visit(number, read.map(|()| &buffer[..]))?;
            }
        }
        Ok(())
    }

    fn fill(&self, buffer: &mut AlignedBuffer, range: ByteRange) -> Result<(), Failure> {
        buffer.resize(range.len.to_usize().unwrap_or(0));
        self.read_back_at(buffer, range.start)
    }
}

/// Returns how many ranges are read together, and what is read for them.
fn join(first: ByteRange, rest: &[ByteRange]) -> (usize, ByteRange) {
    let (mut count, mut whole) = (1, first);
    for range in rest {
        let gap = whole.checked_end().and_then(|end| range.start.checked_since(end));
        let end = range.checked_end().unwrap_or(ByteOffset::MAX);
        let joined = ByteRange::between(first.start, end);
        let near = gap.is_some_and(|gap| gap <= ByteLen::new(GAP_BYTES));
        match joined.filter(|joined| near && joined.len <= ByteLen::new(MOST_BYTES)) {
            Some(joined) => (count, whole) = (count + 1, joined),
            None => break,
        }
    }
    (count, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) }
    }

    #[test]
    fn what_is_near_is_read_together_up_to_a_mebibyte() {
        let near = [range(4096, 4096), range(4096 + 4096 + GAP_BYTES, 512), range(90_000, 8)];
        assert_eq!(join(near[0], &near[1..]), (3, range(4096, 90_008 - 4096)));
        let far = [range(0, 4096), range(4097 + GAP_BYTES, 4096)];
        assert_eq!(join(far[0], &far[1..]), (1, range(0, 4096)));
        let long = [range(0, MOST_BYTES - 4096), range(MOST_BYTES - 4096, 4096), range(MOST_BYTES, 1)];
        assert_eq!(join(long[0], &long[1..]), (2, range(0, MOST_BYTES)));
        assert_eq!(join(range(0, 4 << 20), &[range(4 << 20, 1)]), (1, range(0, 4 << 20)));
    }
}
