//! One walk through all tables before anything is believed.
//!
//! Every entry is parsed once, so that a damaged file is refused before an import begins. And what the tables name is
//! counted against what the file has: tables that name the same clusters again and again would make a small file a
//! disk of any size. Refcounts are not looked at: they matter to whoever writes.

use std::io;

use super::entry::Cluster;
use super::header::Refused;
use super::reader::{Disk, OpenError};

/// Checks all entries of all L2 tables.
pub(super) fn check(disk: &Disk) -> Result<(), OpenError> {
    let file = disk.file.len().get();
    let cluster = disk.header.cluster_bytes();
    let tables = disk.l1.iter().filter(|table| **table != 0).count();
    let mut plain = u64::try_from(tables)
        .ok()
        .and_then(|tables| tables.checked_mul(cluster))
        .filter(|bytes| *bytes <= file)
        .ok_or(Refused::UsedTwice)?;
    let mut compressed: u64 = 0;
    for (number, table) in (0_u64..).zip(&disk.l1).filter(|(_, table)| **table != 0) {
        let first = number * disk.header.l2_entries();
        for slice in 0..disk.header.l2_entries() / disk.slice_entries() {
            let before = slice * disk.slice_entries();
            let words = disk.read_slice(table + before * disk.header.entry_bytes())?;
            for at in 0..disk.slice_entries() {
                let found = disk.cluster_in(&words, at, first + before + at).map_err(refusal)?;
                match found {
                    Cluster::Hole => {}
                    Cluster::Plain { .. } => plain = plain.saturating_add(cluster),
                    // At least so much: the first and the last sector may belong to neighbours, too. Nothing that expands
                    // to a cluster has less than 8 bytes.
                    Cluster::Compressed { len, .. } => {
                        compressed = compressed.saturating_add(len.saturating_sub(511).max(8));
                    }
                }
            }
            // The last cluster of the file may be cut short.
            if plain.saturating_add(compressed) > file.saturating_add(cluster) {
                return Err(Refused::UsedTwice.into());
            }
        }
    }
    Ok(())
}

/// Takes the refusal out of a failed read, where it is one.
fn refusal(error: io::Error) -> OpenError {
    match error.downcast::<Refused>() {
        Ok(refused) => OpenError::Refused(refused),
        Err(error) => OpenError::Read(error),
    }
}
