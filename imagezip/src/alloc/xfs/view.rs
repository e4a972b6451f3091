//! What the metadata is: as it stands on the medium, or as it will be when the log has been replayed.

use super::overlay::Overlay;
use super::superblock::{Superblock, Trust};
use crate::alloc::doubt::SurveyError;
use crate::alloc::window::Window;

/// A file system that can be asked for its metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) window: &'a Window<'a>,
    pub(crate) superblock: &'a Superblock,
    /// What the log puts in place of what is on the medium.
    pub(crate) overlay: Option<&'a Overlay>,
    /// The end of the log: whatever was written later than that contradicts it.
    pub(crate) newest: u64,
}

/// A sector or block of metadata.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    /// A checksum is only computed when metadata is written back; what comes out of the log has a stale one.
    pub(crate) trust: Trust,
}

impl View<'_> {
    /// Returns one of the four sectors at the start of a group.
    pub(crate) fn header(&self, group: u32, sector: u64) -> Result<Piece, SurveyError> {
        let size = self.superblock.sector_bytes;
        self.fetch(self.superblock.group_start(group) + sector * size, size)
    }

    /// Returns a block of a group.
    pub(crate) fn block(&self, group: u32, block: u32) -> Result<Piece, SurveyError> {
        self.fetch(self.superblock.block_start(group, block), self.superblock.block_bytes())
    }

    /// Returns true if a piece of metadata from the medium is younger than the log.
    pub(crate) fn is_too_new(&self, piece: &Piece, sequence: u64) -> bool {
        // All ones is what was never logged.
        piece.trust == Trust::Verify && sequence != u64::MAX && sequence > self.newest
    }

    fn fetch(&self, start: u64, len: u64) -> Result<Piece, SurveyError> {
        match self.overlay.and_then(|overlay| overlay.get(start, len)) {
            Some(bytes) => Ok(Piece { bytes: bytes.to_vec(), trust: Trust::Structure }),
            None => Ok(Piece { bytes: self.window.fetch(start, len)?, trust: Trust::Verify }),
        }
    }
}
