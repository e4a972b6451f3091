//! The third pass: what is written where.

use std::collections::HashMap;

use super::block::{self, Kind};
use super::revoked::Revoked;
use super::superblock::Protection;
use super::walk::Walk;
use super::{Journal, JournalDoubt, Replay, scan};
use crate::alloc::doubt::Stop;

/// How many places are kept: about 50 MiB of them. The largest journal that is made unasked has a quarter as many
/// blocks.
const MOST: usize = 1 << 20;

/// A block of the log and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// The place in the file system, as a block.
    pub(crate) home: u64,
    /// The block of the journal.
    pub(crate) block: u32,
    /// Its first four bytes are the magic number of the log, and zeros in the log.
    pub(crate) escaped: bool,
}

/// Collects what the transactions before `end` write.
pub(super) fn collect(journal: &Journal<'_>, end: u32, revoked: &Revoked) -> Result<Replay, Stop> {
    let mut writes = HashMap::new();
    let mut revoked_blocks = 0;
    scan::complete(journal, end, |walk, kind, block| {
        if kind == Kind::Descriptor {
            revoked_blocks += descriptor(journal, walk, block, revoked, &mut writes)?;
        }
        Ok(())
    })?;
    let mut writes: Vec<Write> =
        writes.into_iter().map(|(home, (block, escaped))| Write { home, block, escaped }).collect();
    writes.sort_unstable_by_key(|write| write.home);
    let transactions = end.wrapping_sub(journal.superblock.sequence);
    Ok(Replay { transactions, next: end, writes, revoked: revoked_blocks })
}

/// Takes the blocks of one descriptor; returns how many of them are revoked.
fn descriptor(
    journal: &Journal<'_>,
    walk: &mut Walk<'_>,
    descriptor: &[u8],
    revoked: &Revoked,
    writes: &mut HashMap<u64, (u32, bool)>,
) -> Result<u64, Stop> {
    let superblock = &journal.superblock;
    let transaction = walk.transaction;
    let number = transaction.wrapping_sub(superblock.sequence);
    let mut hits = 0;
    for tag in block::tags(descriptor, superblock.tags) {
        let block = walk.pass()?;
        if revoked.forbid(tag.home, number) {
            hits += 1;
            continue;
        }
        if superblock.protection != Protection::None && superblock.protection != Protection::Transactions {
            let bytes = journal.read(block)?;
            if !tag.matches(&bytes, transaction, superblock.tags, superblock.protection) {
                return Err(block::wrong(transaction, "blocks").into());
            }
        }
        if !journal.is_home(tag.home) {
            return Err(JournalDoubt::Shape { transaction, part: "place of a block" }.into());
        }
        writes.insert(tag.home, (block, tag.escaped));
        if writes.len() > MOST {
            return Err(JournalDoubt::TooMany { most: MOST, what: "blocks" }.into());
        }
    }
    Ok(hits)
}
