//! An open file system.

use super::{FilesError, Node, Place};
use crate::alloc::content::ext_claim;
use crate::alloc::ext::inode::Inode;
use crate::alloc::ext::journal::Replayed;
use crate::alloc::ext::{SUPERBLOCK_AT, Superblock};
use crate::alloc::{Content, Window};
use crate::io::ReadAt;

/// The inode of the topmost folder.
const ROOT: u32 = 2;
/// How many names are kept: some 200 MiB of them.
const MOST_NAMES: usize = 1 << 21;

/// A file system that can be read: ext2, ext3 or ext4.
#[derive(Debug)]
pub struct Volume<'a> {
    device: Box<dyn ReadAt + 'a>,
    pub(super) superblock: Superblock,
    was_in_use: bool,
    /// How many names are kept at a time, in all folders that a walk or a copy is in.
    pub(super) most_names: usize,
}

impl<'a> Volume<'a> {
    /// Opens what is in a place. The log of a file system that was in use is read, so that its newest content is seen.
    ///
    /// # Errors
    /// [`FilesError`] when it is no file system that is read here, or its log is not understood.
    pub fn open(place: Place<'a>) -> Result<Self, FilesError> {
        let window = Window::whole(&*place.device);
        if ext_claim(&window.fetch(SUPERBLOCK_AT, 1024)?).is_none_or(|claim| claim == Content::ExtJournal) {
            return Err(FilesError::NotExt { place: place.to_string(), content: place.content });
        }
        let superblock = Superblock::read(&window)?;
        if !superblock.state.needs_recovery() {
            return Ok(Self { device: place.device, superblock, was_in_use: false, most_names: MOST_NAMES });
        }
        let (replayed, superblock) = Replayed::read(place.device, &superblock)?;
        Ok(Self { device: Box::new(replayed), superblock, was_in_use: true, most_names: MOST_NAMES })
    }

    /// Keeps no more names in memory than that; folders with more are [`FilesError::TooLarge`].
    #[must_use]
    pub fn with_most_names(self, most_names: usize) -> Self {
        Self { most_names, ..self }
    }

    /// Returns true if what is read is what a replay of the log would leave.
    pub const fn was_in_use(&self) -> bool {
        self.was_in_use
    }

    /// Returns the topmost folder.
    ///
    /// # Errors
    /// [`FilesError`] when it cannot be read.
    pub fn root(&self) -> Result<Node, FilesError> {
        self.node(ROOT)
    }

    /// Returns an inode by its number.
    ///
    /// # Errors
    /// [`FilesError`] when it cannot be read or is damaged.
    pub fn node(&self, number: u32) -> Result<Node, FilesError> {
        let inode = Inode::read(&self.window(), &self.superblock, number);
        let inode = inode.map_err(FilesError::in_inode(number, "the place"))?;
        if !inode.is_valid(self.superblock.protection) {
            return Err(FilesError::Damaged { inode: number, what: "the checksum" });
        }
        Ok(Node::new(number, inode))
    }

    pub(super) fn window(&self) -> Window<'_> {
        Window::whole(&*self.device)
    }

    /// Returns the size of a block in bytes.
    pub(super) fn block_bytes(&self) -> u64 {
        u64::from(self.superblock.block_size.bytes())
    }
}
