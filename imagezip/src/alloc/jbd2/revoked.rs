//! The second pass: which places earlier transactions may not write to.

use std::collections::HashMap;

use super::Journal;
use super::JournalDoubt;
use super::block::{self, Kind};
use super::scan;
use crate::alloc::doubt::Stop;

/// How many places are kept: about 40 MiB of them. A place is a block of metadata that was freed since the log began.
const MOST: usize = 1 << 20;

/// The revoked places, each with the last transaction that revoked it, counted from the start of the log.
#[derive(Debug)]
pub(super) struct Revoked(HashMap<u64, u32>);

impl Revoked {
    /// Returns true if what the transaction writes to `home` is not to be written.
    pub(super) fn forbid(&self, home: u64, transaction: u32) -> bool {
        self.0.get(&home).is_some_and(|last| transaction <= *last)
    }
}

/// Reads all revocations before the transaction `end`.
pub(super) fn collect(journal: &Journal<'_>, end: u32) -> Result<Revoked, Stop> {
    let mut revoked = HashMap::new();
    let superblock = &journal.superblock;
    scan::complete(journal, end, |walk, kind, block| {
        match kind {
            Kind::Descriptor => {
                for _ in block::tags(block, superblock.tags) {
                    walk.pass()?;
                }
            }
            Kind::Revocations => {
                let transaction = walk.transaction;
                let places = block::revocations(block, superblock.tags);
                for home in places.ok_or(JournalDoubt::Shape { transaction, part: "number of revocations" })? {
                    // They come in the order of the transactions, so the last one counts.
                    revoked.insert(home, transaction.wrapping_sub(superblock.sequence));
                    if revoked.len() > MOST {
                        return Err(JournalDoubt::TooMany { most: MOST, what: "revocations" }.into());
                    }
                }
            }
            Kind::Commit => {}
        }
        Ok(())
    })?;
    Ok(Revoked(revoked))
}
