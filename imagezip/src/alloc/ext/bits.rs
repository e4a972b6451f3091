//! The bits of a bitmap, looked at 64 at a time.

use std::ops::Range;

const WORD_BITS: u32 = u64::BITS;

/// A bitmap; the first bit is the lowest of the first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits<'a>(&'a [[u8; 8]]);

impl<'a> Bits<'a> {
    /// Takes whole words; a block of a file system has no others.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    /// Returns how many there are.
    pub(crate) fn len(self) -> u32 {
        // A block has at most 64 KiB.
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_mul(WORD_BITS)
    }

    /// Calls `found` with every run of set bits among the first `len`, in order.
    pub(crate) fn set_runs(self, len: u32, mut found: impl FnMut(Range<u32>)) {
        let mut run: Option<u32> = None;
        for (first, word) in (0..len).step_by(64).zip(self.0) {
            let word = u64::from_le_bytes(*word) & low_bits(len - first);
            match (word, run) {
                (0, None) | (u64::MAX, Some(_)) => continue,
                (u64::MAX, None) => {
                    run = Some(first);
                    continue;
                }
                (_, _) => {}
            }
            let mut bit = 0;
            while bit < WORD_BITS {
                let rest = word >> bit;
                if let Some(start) = run {
                    bit += rest.trailing_ones();
                    if bit < WORD_BITS {
                        found(start..first + bit);
                        run = None;
                    }
                } else {
                    bit = bit.saturating_add(rest.trailing_zeros());
                    run = (bit < WORD_BITS).then_some(first + bit);
                }
            }
        }
        if let Some(start) = run {
            found(start..len);
        }
    }

    /// Returns the first bit in `range` that is not set; one behind the end is not.
    pub(crate) fn first_clear(self, range: Range<u32>) -> Option<u32> {
        let mut at = range.start;
        while at < range.end {
            let place = usize::try_from(at / WORD_BITS).ok()?;
            let Some(word) = self.0.get(place) else { return Some(at) };
            let bit = at % WORD_BITS;
            let ones = (u64::from_le_bytes(*word) >> bit).trailing_ones();
            // The bits that the shift moved in are zeros.
            if bit + ones < WORD_BITS {
                return Some(at + ones).filter(|clear| *clear < range.end);
            }
            at += ones;
        }
        None
    }
}

/// Returns a word with the lowest `count` bits set, or all.
const fn low_bits(count: u32) -> u64 {
    if count >= WORD_BITS { u64::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit.
    fn is_set(bytes: &[u8], bit: u32) -> bool {
        bytes.get(usize::try_from(bit / 8).unwrap()).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    fn naive_runs(bytes: &[u8], len: u32) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for bit in (0..len).filter(|bit| is_set(bytes, *bit)) {
            match runs.last_mut() {
                Some(last) if last.end == bit => last.end += 1,
                _ => runs.push(bit..bit + 1),
            }
        }
        runs
    }

    fn bitmap() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(0_u8), 4 => Just(0xFF), 1 => any::<u8>()];
        let word = prop_oneof![
            Just(vec![0; 8]),
            Just(vec![0xFF; 8]),
            prop::collection::vec(byte, 8..=8),
            prop::collection::vec(any::<u8>(), 8..=8),
        ];
        prop::collection::vec(word, 0..12).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn as_bit_by_bit(bytes in bitmap(), len in 0..800_u32, from in 0..800_u32) {
            let bits = Bits::new(&bytes);
            let all = u32::try_from(bytes.len() * 8).unwrap();
            prop_assert_eq!(bits.len(), all);
            let len = len.min(all);
            let mut runs = Vec::new();
            bits.set_runs(len, |run| runs.push(run));
            prop_assert_eq!(runs, naive_runs(&bytes, len));
            prop_assert_eq!(bits.first_clear(from..len), (from..len).find(|bit| !is_set(&bytes, *bit)));
            prop_assert_eq!(bits.first_clear(0..all + 1), (0..all + 1).find(|bit| !is_set(&bytes, *bit)));
        }
    }
}
