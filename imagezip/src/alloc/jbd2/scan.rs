//! The first pass: which transactions are complete.
//!
//! A transaction is complete with its commit block. What a wrong checksum means depends: a block left over from an
//! older journal may look like one of this transaction, which its commit block gives away by being older; with
//! asynchronous commits the last commit block may be there before what it commits. Everything else is damage, on which
//! Linux refuses to mount. A commit block of which only the header arrived is damage for some kernels, and
//! complete for those since 6.7.

use super::Journal;
use super::JournalDoubt;
use super::block::{self, Kind, Verdict};
use super::superblock::Protection;
use super::walk::Walk;
use crate::alloc::doubt::Stop;

/// Returns the number of the first transaction that is not complete.
pub(super) fn end(journal: &Journal<'_>) -> Result<u32, Stop> {
    let superblock = &journal.superblock;
    let mut walk = Walk::new(journal);
    let mut crc = u32::MAX;
    // A checksum was wrong; the commit block decides what it means.
    let mut suspect = None;
    let mut last_time = 0;
    // A commit block before its time.
    let mut torn = None;
    while let Some(record) = walk.record()? {
        match record.kind {
            Kind::Descriptor => {
                if !block::tail_is_valid(&record.block, superblock.protection) {
                    suspect = suspect.or(Some("descriptor"));
                }
                crc = pass_blocks(journal, &mut walk, &record.block, crc)?;
            }
            Kind::Revocations => {
                if !block::tail_is_valid(&record.block, superblock.protection) {
                    suspect = suspect.or(Some("revocations"));
                }
            }
            Kind::Commit => {
                let time = block::commit_time(&record.block);
                let verdict = block::commit_verdict(&record.block, superblock.protection, crc);
                let damage = |part| block::wrong(walk.transaction, part);
                // Linux forgets that one is torn whose number is 0.
                let may_be_torn = superblock.async_commit && torn.is_none() && walk.transaction != 0;
                match (suspect, verdict) {
                    (None, Verdict::HeaderOnly) => return Err(damage("commit block behind its header").into()),
                    (Some(_), _) | (None, Verdict::Wrong) if time < last_time => break,
                    (Some(part), _) => return Err(damage(part).into()),
                    (None, Verdict::Wrong) if may_be_torn => torn = Some(walk.transaction),
                    (None, Verdict::Wrong) => return Err(damage("commit block").into()),
                    (None, Verdict::Valid) => {}
                }
                // What follows a torn transaction was written after it was complete.
                if let Some(torn) = torn.filter(|torn| *torn != walk.transaction) {
                    return Err(block::wrong(torn, "commit block").into());
                }
                (crc, last_time) = (u32::MAX, time);
                walk.commit();
            }
        }
    }
    Ok(torn.unwrap_or(walk.transaction))
}

/// Goes past the blocks a descriptor speaks of, and continues the checksum of the transaction.
fn pass_blocks(journal: &Journal<'_>, walk: &mut Walk<'_>, descriptor: &[u8], crc: u32) -> Result<u32, Stop> {
    let whole = journal.superblock.protection == Protection::Transactions;
    let mut crc = if whole { block::crc32_be(crc, descriptor) } else { crc };
    for _ in block::tags(descriptor, journal.superblock.tags) {
        let at = walk.pass()?;
        if whole {
            crc = block::crc32_be(crc, &journal.read(at)?);
        }
    }
    Ok(crc)
}

/// Calls `found` with every record of the complete transactions, for the passes that follow.
pub(super) fn complete<'a>(
    journal: &'a Journal<'a>,
    end: u32,
    mut found: impl FnMut(&mut Walk<'a>, Kind, &[u8]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut walk = Walk::new(journal);
    while walk.transaction != end {
        let Some(record) = walk.record()? else {
            return Err(JournalDoubt::Shape { transaction: walk.transaction, part: "end" }.into());
        };
        found(&mut walk, record.kind, &record.block)?;
        if record.kind == Kind::Commit {
            walk.commit();
        }
    }
    Ok(())
}
