//! jbd2, the journal of ext3 and ext4: what replaying it would write, found out without writing anything.
//!
//! ```text
//! superblock | log, a ring: (descriptor, blocks.. | revocations)* commit, .. | blocks of fast commits
//! ```
//!
//! The rules are those by which Linux and e2fsck replay: three passes, the first finds the end of the log, the second
//! what was revoked, the third what is written where. Where they would stop with an error, or where one of them may
//! go on and the other not, the log is not understood. All numbers are big-endian.
//!
//! - [`place`]: which blocks of the file system the journal has
//! - [`superblock`]: where the log begins, and how it is written
//! - [`block`]: the four kinds of blocks in the log
//! - [`walk`]: one block of the log after the other
//! - [`scan`], [`revoked`], [`replay`]: the three passes
//! - [`overlay`]: the file system as it reads with the log replayed

mod block;
mod doubt;
pub(super) mod overlay;
pub(super) mod place;
mod replay;
mod revoked;
mod scan;
mod superblock;
mod walk;

pub use doubt::JournalDoubt;
pub(super) use replay::Write;

use super::doubt::Stop;
use super::window::Window;
use overlay::Overlay;
use place::Place;
use superblock::Superblock;

/// A journal that can be read.
#[derive(Debug)]
pub(super) struct Journal<'a> {
    window: Window<'a>,
    place: &'a Place,
    superblock: Superblock,
}

/// What replaying the log would do.
#[derive(Debug)]
pub(super) struct Replay {
    /// How many transactions are complete.
    pub(super) transactions: u32,
    /// The number of the transaction behind the last complete one.
    pub(super) next: u32,
    /// The last block that goes to each place, in the order of the places.
    pub(super) writes: Vec<Write>,
    /// How many blocks of the log are not written because they were revoked.
    pub(super) revoked: u64,
}

impl Replay {
    /// Returns true if something is written to a block of the file system.
    pub(super) fn writes_to(&self, block: u64) -> bool {
        self.writes.binary_search_by_key(&block, |write| write.home).is_ok()
    }
}

impl<'a> Journal<'a> {
    /// Reads the superblock of the journal.
    ///
    /// `blocks` is how many blocks of its place it has.
    pub(super) fn open(window: Window<'a>, place: &'a Place, blocks: u32, block_size: u32) -> Result<Self, Stop> {
        let first = place.block(0).ok_or(JournalDoubt::Superblock("place"))?;
        let bytes = window.fetch(first.saturating_mul(u64::from(block_size)), u64::from(block_size))?;
        let superblock = Superblock::parse(&bytes, block_size, blocks.min(place.blocks()))?;
        Ok(Self { window, place, superblock })
    }

    /// Returns true if there is nothing to replay.
    pub(super) fn is_empty(&self) -> bool {
        self.superblock.start == 0
    }

    /// Finds out what replaying the log would write.
    pub(super) fn replay(&self) -> Result<Replay, Stop> {
        if self.is_empty() {
            let next = self.superblock.sequence.wrapping_add(1);
            return Ok(Replay { transactions: 0, next, writes: Vec::new(), revoked: 0 });
        }
        let end = scan::end(self)?;
        let revoked = revoked::collect(self, end)?;
        replay::collect(self, end, &revoked)
    }

    /// Reads the file system as it is with the log replayed.
    pub(super) fn overlay(&self, replay: &'a Replay) -> Overlay<'a> {
        Overlay::new(self.window, self.superblock.block_size, self.place, &replay.writes)
    }

    /// Returns the blocks that fast commits are written to, as far as the journal has some.
    pub(super) fn fast_commit_blocks(&self) -> Option<std::ops::Range<u32>> {
        // Behind an empty log Linux does not look for them.
        self.superblock.fast_commits.clone().filter(|_| !self.is_empty())
    }

    /// Reads a block of the journal.
    pub(super) fn read(&self, block: u32) -> Result<Vec<u8>, Stop> {
        let size = u64::from(self.superblock.block_size);
        let home = self.place.block(block).ok_or(JournalDoubt::Place("has a hole"))?;
        let bytes = self.window.fetch(home.saturating_mul(size), size)?;
        if u64::try_from(bytes.len()) != Ok(size) {
            return Err(JournalDoubt::Place("lies outside of the partition").into());
        }
        Ok(bytes)
    }

    /// Returns true if the log may write to a block: one in the partition that is not of the journal itself.
    fn is_home(&self, home: u64) -> bool {
        let end = home.checked_add(1).and_then(|end| end.checked_mul(u64::from(self.superblock.block_size)));
        end.is_some_and(|end| end <= self.window.range().len.get()) && !self.place.includes(home)
    }
}
