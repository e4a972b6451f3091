//! A partition table and the mark of something that covers the whole disk: one of the two is stale.
//!
//! If it is the table, the file systems in its partitions are leftovers that look as good as new, while their free
//! space holds the data of the new owner. So a table is not believed beside such a mark.

use super::{Partition, TableDoubt};
use crate::alloc::content::{self, Content};
use crate::alloc::doubt::{Stop, SurveyError};
use crate::alloc::ext::SUPERBLOCK_AT;
use crate::alloc::swap;
use crate::alloc::window::Window;

/// Refuses a table beside the mark of an owner of the whole disk.
pub(super) fn refuse(disk: &Window<'_>, partitions: &[Partition]) -> Result<(), Stop> {
    let mut owners = content::foreign_at_start(disk)?;
    owners.extend(content::ext_claim(&disk.fetch(SUPERBLOCK_AT, 1024)?));
    owners.extend(swap::claims(disk)?.then_some(Content::Swap));
    owners.extend(raid_of(disk, partitions)?.then_some(Content::Md));
    // A GPT is one of those marks, and it is the table itself.
    match owners.into_iter().find(|owner| *owner != Content::PartitionTable) {
        Some(owner) => Err(TableDoubt::AlsoWhole(owner).into()),
        None => Ok(()),
    }
}

/// Returns true if the mark of a RAID at the end of the disk is not that of its last partition as well: where both
/// end alike, the marks of both would be at one place.
fn raid_of(disk: &Window<'_>, partitions: &[Partition]) -> Result<bool, SurveyError> {
    let mut marks = content::md_at_end(disk)?;
    if let Some(last) = partitions.last().filter(|_| !marks.is_empty())
        && let Some(window) = Window::new(disk, last.range)
    {
        let of_last = content::md_at_end(&window)?;
        marks.retain(|mark| !of_last.contains(mark));
    }
    Ok(!marks.is_empty())
}
