//! btrfs on one device, read strictly: from the primary superblock through the chunk tree to the extent tree.
//!
//! The answer is believed when every feature flag is known, every tree block on the way has its checksum, place,
//! level, generation and owner, chunks and device extents are the same, and the extents of every chunk add up
//! to what its block group says and all of them to what the superblock says. btrfs never overwrites what the last
//! commit refers to, so a machine that was taken by force leaves a file system as good as any; what was synced
//! since the last commit is in the tree log, which is read too.
//!
//! Extents are sorted by logical address and the answer by place. So the pieces of chunks are gone through in the
//! order of the device, and the extent tree is entered anew for each: no memory beyond the list of chunks.

mod checksum;
mod chunks;
mod devices;
mod extents;
mod groups;
mod log;
mod node;
mod superblock;
mod tree;

use sigs::{ByteLen, ByteRange};

use super::content::Content;
use super::doubt::Stop;
use super::filesystem::{Evidence, FileSystem};
use super::window::Window;
use crate::extents::{Extents, ExtentsBuilder};
pub use checksum::BtrfsChecksum;
use groups::Groups;
use superblock::Superblock;
use tree::{EXTENT_TREE, Volume};

/// Why a btrfs is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtrfsDoubt {
    /// The superblock says that the file system is in an unusual state.
    #[error("the superblock has the flags {0:#x}")]
    Flags(u64),
    /// Flags that are not known or not handled.
    #[error("the {set} feature flags {flags:#x} are not handled")]
    Feature {
        /// Which of the three sets.
        set: &'static str,
        /// The flags.
        flags: u64,
    },
    /// A checksum that is not known.
    #[error("the kind of checksum {0} is not known")]
    ChecksumKind(u16),
    /// The superblock does not have the checksum it states.
    #[error("the checksum of the superblock is wrong")]
    SuperblockChecksum,
    /// A number that makes no sense.
    #[error("the superblock has an impossible {0}")]
    Geometry(&'static str),
    /// Part of it is elsewhere.
    #[error("the file system has {0} devices")]
    Devices(u64),
    /// A device is being replaced.
    #[error("a replacement of the device is under way")]
    Replacing,
    /// A copy of the superblock is newer than the first one.
    #[error("a copy of the superblock is newer than the superblock")]
    NewerCopy,
    /// Part of it is not there.
    #[error("the file system is larger than its partition")]
    LargerThanPartition,
    /// RAID, or something not known.
    #[error("the chunk at {logical} has the type {kind:#x}")]
    Profile {
        /// The chunk.
        logical: u64,
        /// Its type.
        kind: u64,
    },
    /// A chunk or its block group makes no sense.
    #[error("the chunk at {logical} is impossible or described twice")]
    Chunk {
        /// The chunk.
        logical: u64,
    },
    /// Device tree and chunk tree disagree.
    #[error("chunks and device extents disagree about what is at byte {physical}")]
    DeviceExtent {
        /// The place.
        physical: u64,
    },
    /// More than there can be.
    #[error("there are too many {0}")]
    TooMany(&'static str),
    /// A tree block that is not what it should be.
    #[error("the tree block at {logical} has {what}")]
    Block {
        /// The block.
        logical: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A tree is not there.
    #[error("the root of tree {tree} is not found")]
    Root {
        /// The tree.
        tree: u64,
    },
    /// An item that is not known.
    #[error("the {tree} tree has an item of the unknown kind {kind}")]
    Item {
        /// The tree.
        tree: &'static str,
        /// The kind.
        kind: u8,
    },
    /// An extent that cannot be one.
    #[error("the extent at {logical} is impossible")]
    Extent {
        /// The extent.
        logical: u64,
    },
    /// Extents and block group disagree.
    #[error("{found} bytes of the chunk at {logical} are allocated, its block group says {stated}")]
    GroupUsed {
        /// The chunk.
        logical: u64,
        /// What was counted.
        found: u64,
        /// What is stated.
        stated: u64,
    },
    /// Extents and superblock disagree.
    #[error("{found} bytes are allocated, the superblock says {stated}")]
    TotalUsed {
        /// What was counted.
        found: u64,
        /// What is stated.
        stated: u64,
    },
}

/// A file system that proved what it has allocated.
#[derive(Debug)]
pub struct Btrfs {
    evidence: Evidence,
    allocated: Extents,
}

impl Btrfs {
    /// Reads the whole proof: superblock, chunks, device extents, log, extents.
    pub(crate) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let partition = window.range().len.get();
        let volume = Volume::open(window, Superblock::read(window)??)?;
        let pieces = devices::pieces(&volume)?;
        let extents = volume.tree(EXTENT_TREE)?;
        let mut groups = Groups::read(&volume)?;
        let mut list = Merged::new(log::places(&volume)?);
        let mut used = 0_u64;
        for piece in pieces {
            let found = extents::in_piece(&volume, extents, piece, &mut groups, &mut |from, to| list.push(from, to))?;
            if piece.physical == piece.chunk.physical {
                used = used.saturating_add(found);
            }
        }
        let superblock = &volume.superblock;
        if used != superblock.used {
            return Err(BtrfsDoubt::TotalUsed { found: used, stated: superblock.used }.into());
        }
        list.push(superblock.device.len, partition);
        let allocated = list.finish();
        let evidence = Evidence::BtrfsExtents {
            checksums: superblock.checksum,
            node_size: superblock.node_size,
            chunks: u64::try_from(volume.chunks.len()).unwrap_or(u64::MAX),
            log: superblock.log_root.is_some(),
            free: ByteLen::new(partition.saturating_sub(allocated.total().get())),
        };
        Ok(Self { evidence, allocated })
    }
}

impl FileSystem for Btrfs {
    fn name(&self) -> Content {
        Content::Btrfs
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn allocated(&self) -> Box<dyn Iterator<Item = ByteRange> + '_> {
        Box::new(self.allocated.iter())
    }
}

/// The extents, with the few ranges beside them that are allocated too, in the order of the device.
struct Merged {
    list: ExtentsBuilder,
    beside: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
}

impl Merged {
    fn new(mut beside: Vec<(u64, u64)>) -> Self {
        beside.push((0, superblock::RESERVED));
        beside.extend(superblock::PLACES.map(|place| (place, place + superblock::LEN)));
        beside.sort_unstable();
        Self { list: ExtentsBuilder::new(), beside: beside.into_iter().peekable() }
    }

    fn push(&mut self, start: u64, end: u64) {
        while let Some((start, end)) = self.beside.next_if(|(earlier, _)| *earlier <= start) {
            self.list.push(start, end);
        }
        self.list.push(start, end);
    }

    fn finish(mut self) -> Extents {
        self.push(u64::MAX, u64::MAX);
        self.list.finish()
    }
}
