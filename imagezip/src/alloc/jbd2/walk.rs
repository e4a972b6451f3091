//! One block of the log after the other, with the blocks that descriptors speak of left out.

use super::Journal;
use super::JournalDoubt;
use super::block::{self, Kind};
use crate::alloc::doubt::Stop;

/// A block of the log that belongs to the transaction looked at.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) block: Vec<u8>,
}

/// A walk through the log.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    journal: &'a Journal<'a>,
    /// The block that is next.
    next: u32,
    /// The transaction that is expected.
    pub(super) transaction: u32,
    /// How many blocks of the ring are left.
    left: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(journal: &'a Journal<'a>) -> Self {
        let superblock = &journal.superblock;
        let left = superblock.ring.end - superblock.ring.start;
        Self { journal, next: superblock.start, transaction: superblock.sequence, left }
    }

    /// Reads the next block, or `None` where the log ends: at the first block that is not of this transaction.
    pub(super) fn record(&mut self) -> Result<Option<Record>, Stop> {
        let block = self.journal.read(self.next)?;
        match block::header(&block) {
            Some((kind, transaction)) if transaction == self.transaction => {
                self.pass()?;
                Ok(Some(Record { kind, block }))
            }
            _ => Ok(None),
        }
    }

    /// Goes on by one block, and returns which that was.
    pub(super) fn pass(&mut self) -> Result<u32, JournalDoubt> {
        self.left = self.left.checked_sub(1).ok_or(JournalDoubt::Endless)?;
        let passed = self.next;
        let ring = &self.journal.superblock.ring;
        self.next = if passed + 1 < ring.end { passed + 1 } else { ring.start };
        Ok(passed)
    }

    /// Goes on to the next transaction.
    pub(super) fn commit(&mut self) {
        self.transaction = self.transaction.wrapping_add(1);
    }
}
