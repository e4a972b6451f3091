//! What is in a file, in pieces from its beginning to its end, and where a symbolic link leads.

use std::io;

use sigs::{ByteLen, ByteOffset};

use super::{FilesError, Kind, Node, Volume, inline};
use crate::alloc::ext::inode::FLAG_EXTENTS;
use crate::alloc::ext::mapping::{Maps, Piece};
use crate::control::Control;
use crate::io::ReadAt as _;

/// How much is read at once.
const CHUNK: usize = 256 * 1024;
/// Linux has no longer targets.
const MOST_TARGET: u64 = 4096;
/// A shorter target is where the map of blocks would be.
const SHORT_TARGET: u64 = 60;

/// Takes the content of a file in order.
pub trait Sink {
    /// Takes the bytes that follow.
    ///
    /// # Errors
    /// Whatever keeps it from taking them.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Takes zeros that are nowhere on the disk.
    ///
    /// # Errors
    /// Whatever keeps it from taking them.
    fn hole(&mut self, len: ByteLen) -> io::Result<()>;
}

impl Volume<'_> {
    /// Hands the content of a file to `sink`.
    ///
    /// # Errors
    /// [`FilesError`] when it cannot be read, [`FilesError::Sink`] when it is not taken.
    pub fn read(&self, node: &Node, sink: &mut dyn Sink, control: Control<'_>) -> Result<(), FilesError> {
        if node.is_encrypted() {
            return Err(FilesError::Encrypted { inode: node.number() });
        }
        if node.is_inline() {
            let (map, rest) = inline::parts(&node.inode).ok_or_else(|| damaged(node))?;
            let len = node.size().to_usize().filter(|len| *len <= map.len().saturating_add(rest.len()));
            let bytes: Vec<u8> = map.iter().chain(rest).copied().take(len.ok_or_else(|| damaged(node))?).collect();
            return sink.data(&bytes).map_err(FilesError::Sink);
        }
        let (size, block) = (node.size().get(), self.block_bytes());
        let mut at = 0;
        for piece in self.pieces(node)? {
            let start = u64::from(piece.first).saturating_mul(block);
            let end = start.saturating_add(u64::from(piece.len).saturating_mul(block)).min(size);
            if start >= size {
                break;
            }
            hole(sink, at, start)?;
            if piece.written {
                self.copy(piece.home.saturating_mul(block), end.saturating_sub(start), sink, control)?;
            } else {
                // Reserved, and never written: what the disk has there is not of this file.
                hole(sink, start, end)?;
            }
            at = end;
        }
        hole(sink, at, size)
    }

    /// Returns where a symbolic link leads.
    ///
    /// # Errors
    /// [`FilesError`] when that cannot be read, or cannot be.
    pub fn target(&self, node: &Node, control: Control<'_>) -> Result<Vec<u8>, FilesError> {
        let size = node.size().get();
        if node.kind() != Kind::Link || size == 0 || size > MOST_TARGET {
            return Err(FilesError::Damaged { inode: node.number(), what: "the symbolic link" });
        }
        let is_short = size < SHORT_TARGET && !node.is_inline() && node.inode.flags() & FLAG_EXTENTS == 0;
        if is_short && !node.is_encrypted() {
            let len = node.size().to_usize().unwrap_or(0);
            return node.inode.map().get(..len).map(<[u8]>::to_vec).ok_or_else(|| damaged(node));
        }
        let mut target = Vec::new();
        self.read(node, &mut target, control)?;
        Ok(target)
    }

    /// Returns where the blocks of a file or folder are, in its order and apart from each other.
    pub(super) fn pieces(&self, node: &Node) -> Result<Vec<Piece>, FilesError> {
        let blocks = u32::try_from(node.size().get().div_ceil(self.block_bytes()));
        let blocks = blocks.map_err(|_| FilesError::Damaged { inode: node.number(), what: "the size" })?;
        let maps = Maps { window: &self.window(), superblock: &self.superblock, number: node.number() };
        let mapping = if node.inode.flags() & FLAG_EXTENTS != 0 {
            maps.extents(node.inode.map(), node.inode.seed(self.superblock.protection))
        } else {
            maps.pointers(node.inode.map(), blocks)
        };
        Ok(mapping.map_err(FilesError::in_inode(node.number(), "the map of blocks"))?.pieces)
    }

    fn copy(&self, from: u64, len: u64, sink: &mut dyn Sink, control: Control<'_>) -> Result<(), FilesError> {
        let window = self.window();
        let (mut at, mut left) = (from, len);
        let mut buffer = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(CHUNK)];
        while left > 0 {
            if control.cancelled() {
                return Err(FilesError::Cancelled);
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Some(piece) = buffer.get_mut(..take) else { break };
            let offset = ByteOffset::new(at);
            window.read_exact_at(piece, offset).map_err(|source| crate::alloc::SurveyError::Read { offset, source })?;
            sink.data(piece).map_err(FilesError::Sink)?;
            let taken = ByteLen::of(piece).get();
            (at, left) = (at.saturating_add(taken), left.saturating_sub(taken));
        }
        Ok(())
    }
}

/// What is short enough to be kept: targets of symbolic links.
impl Sink for Vec<u8> {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, len: ByteLen) -> io::Result<()> {
        let more = len.to_usize().and_then(|len| self.len().checked_add(len)).ok_or(io::ErrorKind::OutOfMemory)?;
        self.resize(more, 0);
        Ok(())
    }
}

fn hole(sink: &mut dyn Sink, from: u64, to: u64) -> Result<(), FilesError> {
    match to.checked_sub(from) {
        None | Some(0) => Ok(()),
        Some(len) => sink.hole(ByteLen::new(len)).map_err(FilesError::Sink),
    }
}

fn damaged(node: &Node) -> FilesError {
    FilesError::Damaged { inode: node.number(), what: "the content" }
}
