//! The seam between a disk and what it knows of file systems, and the one place where they are tried.

use std::fmt;

use serde::{Deserialize, Serialize};
use sigs::{BlockSize, ByteLen, ByteRange};

use super::btrfs::{Btrfs, BtrfsChecksum};
use super::content::{self, Content};
use super::doubt::{Doubt, Stop, SurveyError};
use super::ext::Ext;
use super::fat::{Fat, FatKind};
use super::lvm::{Lvm, VolumeReport};
use super::partclone::{Agreed, Partclone};
use super::swap::Swap;
use super::table::{Kind, Purpose};
use super::window::Window;
use super::xfs::Xfs;
use super::{exfat, ntfs};

/// Knowledge of one kind of file system: what it has allocated, proven when the value was made.
pub trait FileSystem: fmt::Debug {
    /// Returns what the file system is.
    fn name(&self) -> Content;

    /// Returns why its answer is to be believed.
    fn evidence(&self) -> Evidence;

    /// Returns what is allocated, in disk order, in bytes from the start of the partition. Whatever of the
    /// partition is not proven free is in it: boot areas and the space behind the file system too.
    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_>;
}

/// Why an answer about free space is to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Evidence {
    /// The bitmaps of an ext file system agree with its descriptors, and those with the superblock.
    ExtBitmaps {
        /// What protects them besides the counts.
        checksums: Checksums,
        /// The size of a block of the file system.
        block_size: BlockSize,
        /// How many block groups there are.
        groups: u64,
        /// How many of them have no bitmap yet, only metadata.
        uninit_groups: u64,
        /// What the log of a file system that was in use has; it is counted in, and not replayed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        journal: Option<ReplayedLog>,
        /// How much is free.
        free: ByteLen,
    },
    /// The extent tree of a btrfs agrees with its block groups, and those with the superblock; chunks and device
    /// extents agree.
    BtrfsExtents {
        /// What protects the tree blocks.
        checksums: BtrfsChecksum,
        /// The size of a tree block.
        node_size: BlockSize,
        /// How many chunks there are.
        chunks: u64,
        /// Whether there is a tree log, whose blocks and extents are allocated too.
        log: bool,
        /// How much is free.
        free: ByteLen,
    },
    /// In each allocation group of an XFS file system both trees of free space agree with each other and their header,
    /// and the headers with the superblock.
    XfsTrees {
        /// Whether checksums protect them besides the counts: version 5 of the format.
        checksums: bool,
        /// The size of a block of the file system.
        block_size: BlockSize,
        /// How many allocation groups there are.
        groups: u64,
        /// Whether the log had to be replayed.
        log: XfsLog,
        /// How much is free.
        free: ByteLen,
    },
    /// The two tables of a FAT volume are the same, and all chains in them are possible.
    FatTables {
        /// The width of the entries.
        kind: FatKind,
        /// The size of a cluster.
        cluster_size: ByteLen,
        /// How much is free.
        free: ByteLen,
    },
    /// The bitmap of the file system, compared with its other metadata, and the map of partclone call the same free.
    Partclone {
        /// The version of partclone.
        version: String,
        /// What the bitmap was compared with.
        cross_check: CrossCheck,
        /// The size of a cluster.
        cluster_size: ByteLen,
        /// How much is free.
        free: ByteLen,
        /// How much is free for one of them only, and allocated therefore.
        disputed: ByteLen,
    },
    /// A plain swap header: what is in swap space does not survive a reboot.
    SwapHeader {
        /// The size of a page.
        page_size: BlockSize,
        /// How much is free.
        free: ByteLen,
    },
    /// The metadata of an LVM2 group: what belongs to no volume is free, and what is proven free in a volume.
    LvmExtents {
        /// The name of the group.
        group: String,
        /// The size of an extent.
        extent_size: ByteLen,
        /// How much is free, in volumes and outside.
        free: ByteLen,
        /// What is in its volumes.
        volumes: Vec<VolumeReport>,
    },
}

impl Evidence {
    /// Reads what a manifest says, or nothing when it is not known here.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns the volumes inside, each with its own treatment.
    pub fn volumes(&self) -> &[VolumeReport] {
        let Self::LvmExtents { volumes, .. } = self else { return &[] };
        volumes
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("free space proven")?;
        match self {
            Self::ExtBitmaps { journal: Some(log), .. } => {
                let ReplayedLog { transactions, blocks, fast_commits, .. } = log;
                write!(f, "; it was in use, and its log counts as replayed: {transactions} transactions")?;
                if *fast_commits > 0 {
                    write!(f, ", {fast_commits} fast commits")?;
                }
                write!(f, ", {blocks} blocks")
            }
            Self::XfsTrees { log: XfsLog::Replayed { transactions }, .. } => {
                write!(f, "; it was in use, and its log counts as replayed: {transactions} transactions")
            }
            Self::Partclone { version, .. } => write!(f, "; partclone {version} agrees"),
            Self::ExtBitmaps { .. }
            | Self::BtrfsExtents { .. }
            | Self::FatTables { .. }
            | Self::XfsTrees { .. }
            | Self::SwapHeader { .. }
            | Self::LvmExtents { .. } => Ok(()),
        }
    }
}

/// What the bitmap of a file system was compared with, besides the map of partclone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "with", rename_all = "kebab-case")]
pub enum CrossCheck {
    /// Every record of the file table of NTFS.
    NtfsRecords {
        /// How many are in use.
        records: u64,
        /// How many clusters are marked.
        clusters: u64,
    },
    /// Every directory of an exFAT volume.
    ExfatDirectories {
        /// How many things have clusters.
        entries: u64,
        /// How many clusters are marked.
        clusters: u64,
    },
}

/// What replaying the log of an ext file system would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayedLog {
    /// How many transactions are complete.
    pub transactions: u32,
    /// To how many places they write.
    pub blocks: u64,
    /// How many of their blocks are not written, because they were revoked.
    pub revoked: u64,
    /// How many fast commits follow them.
    pub fast_commits: u32,
}

/// What the log of an XFS file system held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XfsLog {
    /// The file system was unmounted.
    Clean,
    /// It was not; what is free is so before and after a replay.
    Replayed {
        /// How many transactions a replay applies.
        transactions: u64,
    },
}

/// Which parts of an ext file system carry valid checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksums {
    /// None, the format has none: counts only.
    None,
    /// The descriptors (`uninit_bg`).
    Descriptors,
    /// Superblock, descriptors and bitmaps (`metadata_csum`).
    All,
}

/// What was found in a partition.
#[derive(Debug)]
pub(crate) enum Probed {
    /// A file system that proved what is free.
    Proven(Box<dyn FileSystem>),
    /// Anything else.
    Doubted(Content, Doubt),
}

/// Looks for the one owner of a partition of the given kind.
pub(crate) fn probe(
    window: &Window<'_>,
    kind: &Kind,
    partclone: Option<&Partclone<'_>>,
) -> Result<Probed, SurveyError> {
    let owner = match owners(window)?.as_slice() {
        [] => return Ok(Probed::Doubted(Content::Unknown, Doubt::Unknown)),
        [owner] => *owner,
        [first, second, ..] => {
            let doubt = Doubt::Several { first: *first, second: *second };
            return Ok(Probed::Doubted(Content::Several, doubt));
        }
    };
    // A logical volume may hold what a partition of Linux may, except volumes again: that would be a recursion.
    let (nested, purpose) = match kind.purpose {
        Purpose::Volume => (true, Purpose::Linux),
        other => (false, other),
    };
    let read = match (owner, purpose) {
        (Content::Luks | Content::Bitlocker, _) => Err(Stop::Doubt(Doubt::Encrypted(owner))),
        (_, Purpose::Hashed) => Err(Stop::Doubt(Doubt::Hashed)),
        (Content::Ext2 | Content::Ext3 | Content::Ext4, Purpose::Linux) => Ext::read(window).map(boxed),
        (Content::Btrfs, Purpose::Linux) => Btrfs::read(window).map(boxed),
        (Content::Xfs, Purpose::Linux) => Xfs::read(window).map(boxed),
        (Content::Fat, Purpose::Linux | Purpose::Efi) => Fat::read(window).map(boxed),
        (Content::Ntfs, Purpose::Linux) => {
            Agreed::read(window, owner, "partclone.ntfs", partclone, ntfs::read).map(boxed)
        }
        (Content::Exfat, Purpose::Linux) => {
            Agreed::read(window, owner, "partclone.exfat", partclone, exfat::read).map(boxed)
        }
        (Content::Swap, Purpose::Linux | Purpose::Swap) => Swap::read(window).map(boxed),
        (Content::Lvm2, Purpose::Linux | Purpose::Lvm) if !nested => Lvm::read(window).map(boxed),
        (
            Content::Ext2
            | Content::Ext3
            | Content::Ext4
            | Content::Btrfs
            | Content::Xfs
            | Content::Fat
            | Content::Ntfs
            | Content::Exfat
            | Content::Swap,
            _,
        ) => Err(Stop::Doubt(Doubt::Kind { kind: kind.name.clone(), content: owner })),
        (other, _) => Err(Stop::Doubt(Doubt::NotRead(other))),
    };
    match read {
        Ok(file_system) => Ok(Probed::Proven(file_system)),
        Err(Stop::Doubt(doubt)) => Ok(Probed::Doubted(owner, doubt)),
        Err(Stop::Read(error)) => Err(error),
    }
}

/// Returns what is recognised in a partition: the owner, and whatever others left behind.
pub(crate) fn owners(window: &Window<'_>) -> Result<Vec<Content>, SurveyError> {
    let mut owners = content::foreign(window)?;
    owners.extend(content::ext_claim(&window.fetch(super::ext::SUPERBLOCK_AT, 1024)?));
    owners.extend(super::swap::claims(window)?.then_some(Content::Swap));
    Ok(owners)
}

fn boxed(file_system: impl FileSystem + 'static) -> Box<dyn FileSystem> {
    Box::new(file_system)
}
