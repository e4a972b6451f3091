//! ext2, ext3 and ext4, read strictly: from the primary superblock, its descriptors and the block bitmaps.
//!
//! The answer is believed when the file system is clean, every feature flag is known, every checksum the format
//! has is valid, the bitmaps count what the descriptors say and these what the superblock says, and everything
//! the descriptors point at is inside, not shared, and allocated. A group whose bitmap was never written
//! (BLOCK_UNINIT) has exactly its metadata allocated: the copies of superblock and descriptors in it and
//! whatever flex_bg put there for other groups.

mod bitmaps;
mod descriptors;
mod layout;
mod superblock;

use sigs::{ByteLen, ByteRange};

use super::content::Content;
use super::doubt::Stop;
use super::filesystem::{Evidence, FileSystem};
use super::ranges::{RangeList, total};
use super::window::Window;
use descriptors::Descriptor;
use layout::Layout;
pub(crate) use superblock::SUPERBLOCK_AT;
use superblock::Superblock;

/// Why an ext file system is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtDoubt {
    /// It was not unmounted.
    #[error("the journal has to be replayed")]
    DirtyJournal,
    /// Not marked clean.
    #[error("the file system is not marked clean (state {state:#x})")]
    Unclean {
        /// The state field.
        state: u16,
    },
    /// Linux noticed errors that nobody repaired.
    #[error("the file system has recorded {0} errors")]
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
    /// The journal is not the usual inode.
    #[error("the journal is not inside the file system")]
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

/// A file system that proved what it has allocated.
#[derive(Debug)]
pub struct Ext {
    name: Content,
    evidence: Evidence,
    allocated: Vec<ByteRange>,
}

impl Ext {
    /// Reads the whole proof: superblock, descriptors, one bitmap after the other.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let partition = window.range().len.get();
        let superblock = Superblock::parse(&window.fetch(SUPERBLOCK_AT, 1024)?, partition)?;
        let descriptors = read_descriptors(window, &superblock)?;
        let layout = Layout::new(&superblock, &descriptors)?;

        let block_size = u64::from(superblock.block_size.bytes());
        let mut list = RangeList::new();
        // The blocks were compared with the length of the partition, so no product overflows.
        list.push(0, superblock.first_block * block_size);
        let mut free = 0_u64;
        let mut uninit_groups = 0;
        for (group, descriptor) in (0..).zip(&descriptors) {
            let found = bitmaps::read(window, &superblock, &layout, group, descriptor)?;
            for blocks in &found.allocated {
                list.push(blocks.start * block_size, blocks.end * block_size);
            }
            free += found.free;
            uninit_groups += u64::from(descriptor.uninit);
        }
        if free != superblock.free_blocks {
            return Err(ExtDoubt::TotalCount { bitmaps: free, superblock: superblock.free_blocks }.into());
        }
        list.push(superblock.end_block * block_size, partition);

        let allocated = list.into_vec();
        let evidence = Evidence::ExtBitmaps {
            checksums: superblock.checksums(),
            block_size: superblock.block_size,
            groups: u64::from(superblock.groups),
            uninit_groups,
            free: ByteLen::new(partition.saturating_sub(total(&allocated).get())),
        };
        Ok(Self { name: superblock.name, evidence, allocated })
    }
}

impl FileSystem for Ext {
    fn name(&self) -> Content {
        self.name
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        Box::new(self.allocated.iter().copied())
    }
}

/// Reads the primary descriptors, which stand behind the superblock.
fn read_descriptors(window: &Window<'_>, superblock: &Superblock) -> Result<Vec<Descriptor>, Stop> {
    let (first, end) = superblock.group_blocks(0);
    // Without meta_bg the descriptors are in the first group. This bounds what a hostile superblock makes us hold.
    if superblock.descriptor_blocks() >= end - first {
        return Err(ExtDoubt::DescriptorsCut.into());
    }
    let len = u64::from(superblock.groups) * u64::from(superblock.descriptor_len);
    let table = window.fetch((first + 1) * u64::from(superblock.block_size.bytes()), len)?;
    let size = usize::try_from(superblock.descriptor_len).map_err(|_| ExtDoubt::DescriptorsCut)?;
    let mut descriptors = Vec::new();
    for (group, bytes) in (0..superblock.groups).zip(table.chunks(size)) {
        descriptors.push(Descriptor::parse(superblock, group, bytes)?);
    }
    if u32::try_from(descriptors.len()) != Ok(superblock.groups) {
        return Err(ExtDoubt::DescriptorsCut.into());
    }
    Ok(descriptors)
}
