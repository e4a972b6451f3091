//! exFAT: the bitmap of clusters, compared with every chain that a directory names.
//!
//! Its word is taken when the boot region has its checksum and agrees with its copy, nothing says that the volume was in
//! use or has errors, every directory can be read to its end, every cluster that an entry names is marked in the bitmap,
//! and no more are named than are marked. A cluster is free when partclone says so as well. The percentage in use that
//! the boot sector states is not compared: Linux never brings it up to date.
//!
//! - `boot`: where everything is
//! - `chains`: the table, which says how clusters follow each other
//! - `directory`: entries, and what they have allocated
//! - `walk`: all directories

mod boot;
mod chains;
mod directory;
mod walk;

use sigs::ByteLen;

use super::clusters::{Marked, PIECE};
use super::doubt::Stop;
use super::filesystem::CrossCheck;
use super::partclone::OwnWord;
use super::window::Window;
use crate::extents::Extents;
use boot::Boot;
use chains::Chains;
use directory::Allocation;

/// The number of the first cluster.
const FIRST: u32 = 2;

/// Why an exFAT volume is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExfatDoubt {
    /// A number that makes no sense.
    #[error("the boot sector has an impossible {0}")]
    Boot(&'static str),
    /// The checksum is another one.
    #[error("the boot region does not have its checksum")]
    Checksum,
    /// The copy is another one.
    #[error("the boot region and its copy differ")]
    BackupDiffers,
    /// Part of it is not there.
    #[error("the file system is larger than its partition")]
    LargerThanPartition,
    /// It was not unmounted, or errors were seen.
    #[error("the volume is marked as in use or damaged (flags {0:#x})")]
    Dirty(u16),
    /// The table is not what it must be.
    #[error("the table does not start as a table must")]
    TableStart,
    /// A chain that leaves the volume, ends too early, or goes on too long.
    #[error("the chain of clusters from {cluster} leads where it cannot")]
    Chain {
        /// The first cluster.
        cluster: u32,
    },
    /// An entry of a directory is not understood.
    #[error("the directory at cluster {cluster} {what}")]
    Directory {
        /// The first cluster of the directory.
        cluster: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There has to be one of full length.
    #[error("the root directory does not name one bitmap of the right length")]
    Bitmap,
    /// A file has a cluster that the bitmap calls free.
    #[error("cluster {cluster} is in use, but the bitmap calls it free")]
    NotMarked {
        /// The cluster.
        cluster: u32,
    },
    /// Files overlap.
    #[error("the directories name more than the {marked} clusters that are marked")]
    Shared {
        /// How many are marked.
        marked: u64,
    },
}

/// Reads what the volume says of itself.
pub(crate) fn read(window: &Window<'_>) -> Result<OwnWord, Stop> {
    let boot = Boot::read(window)?;
    let mut chains = Chains::open(window, &boot)?;
    let bitmap = walk::bitmap(&mut chains)?;
    let (allocated, marked) = read_bitmap(&mut chains, bitmap)?;
    let entries = walk::check(&mut chains, &allocated, marked)?;
    Ok(OwnWord {
        allocated,
        end: boot.end,
        cluster_size: ByteLen::new(boot.clusters.size),
        cross_check: CrossCheck::ExfatDirectories { entries, clusters: marked },
    })
}

/// Reads the bitmap. Returns what is allocated of the partition, and how many clusters are marked.
fn read_bitmap(chains: &mut Chains<'_>, bitmap: Allocation) -> Result<(Extents, u64), Stop> {
    let clusters = chains.boot.clusters;
    if bitmap.len != clusters.bitmap_bytes() {
        return Err(ExfatDoubt::Bitmap.into());
    }
    let (mut marked, mut rest) = (Marked::new(clusters), Vec::new());
    let mut left = bitmap.len;
    chains.follow(bitmap, |window, place| {
        let mut at = 0;
        while at < place.len.get() && left > 0 {
            let len = PIECE.min(place.len.get() - at).min(left);
            // Clusters have whole words: the smallest is a sector.
            rest.extend(window.fetch(place.start.get() + at, len)?);
            marked.push(std::mem::take(&mut rest));
            (at, left) = (at + len, left - len);
        }
        Ok(())
    })?;
    Ok(marked.finish(chains.window.range().len).ok_or(ExfatDoubt::Bitmap)?)
}
