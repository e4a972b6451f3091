//! FAT12, FAT16 and FAT32, as firmware and Windows want them: a boot sector, two equal tables, clusters.
//!
//! The format has no checksums. The answer is believed when the boot sector makes sense (and agrees with its copy,
//! where FAT32 has one), nothing says that the volume was in use or has errors, both tables are the same, every
//! chain in them stays on allocated clusters of its own, and the number of free clusters is the one FAT32 states.

mod boot;
mod table;

use sigs::{ByteLen, ByteRange};

use super::content::Content;
use super::doubt::Stop;
use super::filesystem::{Evidence, FileSystem};
use super::window::Window;
use crate::extents::Extents;
use boot::Boot;
pub use boot::FatKind;

/// Why a FAT volume is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatDoubt {
    /// A number that makes no sense.
    #[error("the boot sector has an impossible {0}")]
    Geometry(&'static str),
    /// Part of it is not there.
    #[error("the file system is larger than its partition")]
    LargerThanPartition,
    /// The name of the kind of FAT does not go with the number of clusters.
    #[error("the boot sector says {says}, but the volume has {clusters} clusters")]
    Kind {
        /// What it says.
        says: FatKind,
        /// How many clusters there are.
        clusters: u32,
    },
    /// Only two tables prove each other.
    #[error("the volume has {0} tables, or only one that is in use")]
    Tables(u8),
    /// It was not unmounted, or errors were seen.
    #[error("the volume is marked as in use or damaged")]
    Dirty,
    /// The copy of the boot sector is another one.
    #[error("the boot sector and its copy differ")]
    BackupDiffers,
    /// The tables are not the same.
    #[error("the two tables differ near the entry of cluster {cluster}")]
    TablesDiffer {
        /// The first cluster of the part that differs.
        cluster: u32,
    },
    /// The first two entries are not what they must be.
    #[error("the table does not start as a table must")]
    TableStart,
    /// A chain leaves the volume, goes on in a free cluster, or joins another one.
    #[error("the chain through cluster {cluster} leads where it cannot")]
    Chain {
        /// The cluster.
        cluster: u32,
    },
    /// The number of free clusters is another one.
    #[error("{found} clusters are free, the volume says {stated}")]
    FreeCount {
        /// What was counted.
        found: u32,
        /// What is stated.
        stated: u32,
    },
}

/// A volume that proved what it has allocated.
#[derive(Debug)]
pub struct Fat {
    evidence: Evidence,
    allocated: Extents,
}

impl Fat {
    /// Reads the whole proof: boot sector, both tables.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let partition = window.range().len.get();
        let boot = Boot::read(window)?;
        let (allocated, free_clusters) = table::read(window, &boot)?;
        if let Some(stated) = boot.stated_free(window)?
            && stated != free_clusters
        {
            return Err(FatDoubt::FreeCount { found: free_clusters, stated }.into());
        }
        let evidence = Evidence::FatTables {
            kind: boot.kind,
            cluster_size: ByteLen::new(boot.cluster_size),
            free: ByteLen::new(partition.saturating_sub(allocated.total().get())),
        };
        Ok(Self { evidence, allocated })
    }
}

impl FileSystem for Fat {
    fn name(&self) -> Content {
        Content::Fat
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        Box::new(self.allocated.iter())
    }
}
