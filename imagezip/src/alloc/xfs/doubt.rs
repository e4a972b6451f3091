//! Why an XFS file system is not believed.

use super::log::LogDoubt;
use crate::alloc::doubt::Doubt;

/// Why an XFS file system is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XfsDoubt {
    /// Neither version 4 nor 5, or one from before the folders of today.
    #[error("version {0} of the format is not read")]
    Version(u16),
    /// Flags that are not known or not handled.
    #[error("the {set} feature flags {flags:#x} are not handled")]
    Feature {
        /// Which of the sets.
        set: &'static str,
        /// The flags.
        flags: u32,
    },
    /// A tool began to change it and did not finish.
    #[error("the file system is marked as needing repair")]
    NeedsRepair,
    /// It is not complete.
    #[error("the file system was not finished when it was made")]
    InProgress,
    /// A number that makes no sense.
    #[error("the superblock has an impossible {0}")]
    Geometry(&'static str),
    /// The superblock does not have the checksum it states.
    #[error("the checksum of the superblock is wrong")]
    SuperblockChecksum,
    /// Part of it is not there.
    #[error("the file system is larger than its partition")]
    LargerThanPartition,
    /// A log that cannot be seen.
    #[error("the log is on another device, so it is not known whether it has to be replayed")]
    ExternalLog,
    /// The log changes what was believed before it was read.
    #[error("the log changes the geometry of the file system")]
    LogChangesGeometry,
    /// The copy of the superblock in another group says something else.
    #[error("the superblock of allocation group {group} is not a copy of the first")]
    Copy {
        /// The group.
        group: u32,
    },
    /// A header does not have the checksum it states.
    #[error("the checksum of the {what} of allocation group {group} is wrong")]
    Checksum {
        /// Which header.
        what: &'static str,
        /// The group.
        group: u32,
    },
    /// A header that does not belong there or makes no sense.
    #[error("the {what} of allocation group {group} has an impossible {field}")]
    Header {
        /// Which header.
        what: &'static str,
        /// The group.
        group: u32,
        /// What is wrong with it.
        field: &'static str,
    },
    /// A block of a free space tree that does not belong there or makes no sense.
    #[error("block {block} of allocation group {group}, in its tree of free space {tree}, has an impossible {field}")]
    Tree {
        /// Which of the two trees.
        tree: &'static str,
        /// The group.
        group: u32,
        /// The block in it.
        block: u32,
        /// What is wrong with it.
        field: &'static str,
    },
    /// More metadata than any real file system has.
    #[error("the trees of free space of allocation group {group} are too large")]
    TreeSize {
        /// The group.
        group: u32,
    },
    /// A tree and the header of its group disagree.
    #[error("allocation group {group} has {found} {what}, its header says {stated}")]
    GroupCount {
        /// The group.
        group: u32,
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many the header states.
        stated: u64,
    },
    /// The two trees do not hold the same extents.
    #[error("the two trees of free space of allocation group {group} differ")]
    TreesDiffer {
        /// The group.
        group: u32,
    },
    /// Something known to be used is free.
    #[error("block {block} of allocation group {group} is in use but marked free")]
    InUse {
        /// The group.
        group: u32,
        /// The block in it.
        block: u32,
    },
    /// Metadata that was written after the end of the log.
    #[error("metadata of allocation group {group} is newer than the log")]
    NewerThanLog {
        /// The group.
        group: u32,
    },
    /// The groups and the superblock disagree.
    #[error("the file system has {groups} free blocks, its superblock says {superblock}")]
    TotalCount {
        /// What was counted.
        groups: u64,
        /// What is stated.
        superblock: u64,
    },
    /// The log cannot be understood.
    #[error(transparent)]
    Log(#[from] LogDoubt),
}

impl From<LogDoubt> for Doubt {
    fn from(doubt: LogDoubt) -> Self {
        XfsDoubt::from(doubt).into()
    }
}
