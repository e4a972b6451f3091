//! Why an ext file system is taken whole.

/// Why an ext file system is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtDoubt {
    /// The log changes what has to be known to replay it.
    #[error("the log changes the shape of the file system or the place of the journal")]
    ChangedByLog,
    /// The superblock and the journal do not agree on whether there is something to replay.
    #[error("the file system is marked as unmounted, but its journal is not empty")]
    LogNotEmpty,
    /// An inode that is needed cannot be.
    #[error("inode {number} or its map of blocks cannot be")]
    Inode {
        /// The number of the inode.
        number: u32,
    },
    /// It was not unmounted, and its journal is not here.
    #[error("the journal has to be replayed, and it is on another device")]
    DirtyJournalElsewhere,
    /// Not marked clean.
    #[error("the file system is not marked clean (state {state:#x})")]
    Unclean {
        /// The state field.
        state: u16,
    },
    /// Linux noticed errors that nobody repaired.
    #[error("the file system has recorded {0} errors, and no check has cleared them")]
    Errors(u32),
    /// A revision that is not known, or features in one that has none.
    #[error("the file system has revision {0}, or features that do not belong to it")]
    Revision(u32),
    /// Flags that are not known or not handled.
    #[error("the {set} feature flags {flags:#x} are not handled")]
    Feature {
        /// Which of the three sets.
        set: &'static str,
        /// The flags.
        flags: u32,
    },
    /// The journal is an inode that cannot be, or is in two places.
    #[error("the superblock has an impossible place of the journal")]
    OtherJournal,
    /// uninit_bg and metadata_csum exclude each other.
    #[error("two kinds of checksums are declared")]
    TwoChecksums,
    /// The superblock does not have the checksum it states.
    #[error("the checksum of the superblock is wrong")]
    SuperblockChecksum,
    /// The superblock says that it is a copy.
    #[error("the superblock is the copy that belongs to group {group}")]
    BackupSuperblock {
        /// The group it names.
        group: u16,
    },
    /// A number that makes no sense.
    #[error("the superblock has an impossible {0}")]
    Geometry(&'static str),
    /// Part of it is not there.
    #[error("the file system is larger than its partition")]
    LargerThanPartition,
    /// The descriptors end early.
    #[error("the group descriptors are cut short")]
    DescriptorsCut,
    /// A descriptor does not have the checksum it states.
    #[error("the checksum of the descriptor of group {group} is wrong")]
    DescriptorChecksum {
        /// The group.
        group: u32,
    },
    /// A descriptor has flags that are not known or not possible.
    #[error("the descriptor of group {group} has the impossible flags {flags:#x}")]
    DescriptorFlags {
        /// The group.
        group: u32,
        /// The flags.
        flags: u16,
    },
    /// Metadata where it cannot be.
    #[error("the descriptor of group {group} points to where its metadata cannot be")]
    Pointer {
        /// The group.
        group: u32,
    },
    /// Two pieces of metadata at the same place.
    #[error("two pieces of metadata share block {block}")]
    SharedMetadata {
        /// The block.
        block: u64,
    },
    /// More pieces of metadata apart from each other than any tool makes.
    #[error("the metadata is scattered over more places than is possible")]
    Scattered,
    /// Metadata that is free.
    #[error("block {block} holds metadata but is marked free")]
    MetadataFree {
        /// The block.
        block: u64,
    },
    /// A bitmap is shorter than its group.
    #[error("the block bitmap of group {group} is cut short")]
    BitmapCut {
        /// The group.
        group: u32,
    },
    /// A bitmap does not have the checksum its descriptor states.
    #[error("the checksum of the block bitmap of group {group} is wrong")]
    BitmapChecksum {
        /// The group.
        group: u32,
    },
    /// The bits behind the group are not set.
    #[error("the padding of the block bitmap of group {group} is not set")]
    Padding {
        /// The group.
        group: u32,
    },
    /// A bitmap and its descriptor disagree.
    #[error("group {group} has {bitmap} free blocks, its descriptor says {descriptor}")]
    GroupCount {
        /// The group.
        group: u32,
        /// What was counted.
        bitmap: u64,
        /// What is stated.
        descriptor: u64,
    },
    /// The bitmaps and the superblock disagree.
    #[error("the file system has {bitmaps} free blocks, its superblock says {superblock}")]
    TotalCount {
        /// What was counted.
        bitmaps: u64,
        /// What is stated.
        superblock: u64,
    },
}
