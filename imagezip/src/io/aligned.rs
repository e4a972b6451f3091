//! Memory that lies as direct IO wants it.

use std::ops::{Deref, DerefMut};

/// What every medium takes as the alignment of memory, and every file system as that of places in a file.
pub(super) const PAGE: usize = 4096;

/// Bytes that begin at the start of a page of memory, so that a medium can read and write them without a copy.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuffer {
    /// One page more than can be used, all of it initialised.
    memory: Vec<u8>,
    /// Where in it the first page begins.
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// Makes it so long. What it held stays, what is new holds anything that was there before.
    pub(crate) fn resize(&mut self, len: usize) {
        if self.start.saturating_add(len) > self.memory.len() {
            let mut memory = vec![0; len.next_multiple_of(PAGE).saturating_add(PAGE)];
            let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
            memory[start..start + self.len].copy_from_slice(self);
            (self.memory, self.start) = (memory, start);
        }
        self.len = len;
    }

    /// Makes it empty; the memory stays.
    pub(crate) const fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds bytes at its end.
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        let before = self.len;
        self.resize(before.saturating_add(bytes.len()));
        self[before..].copy_from_slice(bytes);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// Returns true when bytes begin at the start of a page of memory.
pub(super) fn lies_well(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(PAGE) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_and_keeps_its_content_however_it_grows() {
        let mut buffer = AlignedBuffer::default();
        let mut naive = Vec::new();
        for step in [1, 4095, 1, 70_000, 3, 1 << 20] {
            let more: Vec<u8> = (0..step).map(|number: usize| (number % 249).to_le_bytes()[0]).collect();
            buffer.extend_from_slice(&more);
            naive.extend_from_slice(&more);
            assert!(*buffer == naive[..] && lies_well(&buffer), "{step} more");
        }
        buffer.resize(5);
        assert_eq!(*buffer, naive[..5]);
        buffer.clear();
        assert!(buffer.is_empty());
    }
}
