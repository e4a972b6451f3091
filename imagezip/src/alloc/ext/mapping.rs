//! Which blocks an inode has: its tree of extents, or its pointers.
//!
//! ```text
//! node of a tree  0 magic  2 entries (16)  4 room (16)  6 depth (16)  12 entries of 12 bytes, then a checksum
//! index entry     0 first block of the file  4 node  8 upper half (16)
//! extent          0 first block of the file  4 length (16, above 32768 of one that is not written)
//!                 6 upper half (16)  8 block
//! ```

use super::ExtDoubt;
use super::superblock::Superblock;
use crate::alloc::bytes::{u16_at, u32_at};
use crate::alloc::crc::crc32c;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

const MAGIC: u16 = 0xF30A;
const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 12;
const MOST_WRITTEN: u16 = 0x8000;
/// Linux makes no deeper trees.
const MOST_DEPTH: u16 = 5;
/// How many nodes of a tree, or blocks of pointers, are followed.
const MOST_NODES: u32 = 1 << 16;
/// How many pieces are kept.
const MOST_PIECES: usize = 1 << 20;

/// Some blocks that follow each other in the file and in the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The first one, counted from the start of the file.
    pub(crate) first: u32,
    /// That one, counted from the start of the file system.
    pub(crate) home: u64,
    pub(crate) len: u32,
    /// Whether it has content, or counts as zeros.
    pub(crate) written: bool,
}

/// The blocks of a file.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    /// In the order of the file.
    pub(crate) pieces: Vec<Piece>,
    /// The blocks that only say where the others are.
    pub(crate) nodes: Vec<u64>,
}

/// Reads maps of blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps<'a> {
    pub(crate) window: &'a Window<'a>,
    pub(crate) superblock: &'a Superblock,
    /// The inode, for what is said about it.
    pub(crate) number: u32,
}

impl Maps<'_> {
    /// Follows a tree of extents from its root; with a seed the checksums of the nodes are checked.
    pub(crate) fn extents(&self, root: &[u8], seed: Option<u32>) -> Result<Mapping, Stop> {
        let mut mapping = Mapping::default();
        let mut todo = Vec::new();
        let depth = u16_at(root, 6).filter(|depth| *depth <= MOST_DEPTH).ok_or_else(|| self.doubt())?;
        self.node(root, depth, &mut mapping, &mut todo)?;
        // The depth falls with every step, and the number of steps is bounded: no tree is endless.
        while let Some((block, depth)) = todo.pop() {
            let bytes = self.block(block, &mut mapping)?;
            if seed.is_some_and(|seed| !node_is_valid(&bytes, seed)) {
                return Err(self.doubt());
            }
            self.node(&bytes, depth, &mut mapping, &mut todo)?;
        }
        let ordered = mapping.pieces.windows(2).all(|pair| match pair {
            [first, second] => first.first.checked_add(first.len).is_some_and(|end| end <= second.first),
            _ => true,
        });
        if ordered { Ok(mapping) } else { Err(self.doubt()) }
    }

    /// Takes the entries of a node: extents as they are, nodes below in reverse order to `todo`.
    fn node(&self, bytes: &[u8], depth: u16, mapping: &mut Mapping, todo: &mut Vec<(u64, u16)>) -> Result<(), Stop> {
        let header = [0, 2, 4, 6].map(|at| u16_at(bytes, at));
        let [Some(MAGIC), Some(count), Some(room), Some(stated)] = header else { return Err(self.doubt()) };
        let entries = bytes.get(HEADER_BYTES..HEADER_BYTES + ENTRY_BYTES * usize::from(count));
        let entries = entries.filter(|_| count <= room && stated == depth).ok_or_else(|| self.doubt())?;
        let below = todo.len();
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let read = |at, high| {
                Some((u32_at(entry, 0)?, u64::from(u32_at(entry, at)?) | (u64::from(u16_at(entry, high)?) << 32)))
            };
            if depth > 0 {
                let (_, node) = read(4, 8).ok_or_else(|| self.doubt())?;
                todo.push((node, depth - 1));
                continue;
            }
            let (first, home) = read(8, 6).ok_or_else(|| self.doubt())?;
            let len = u16_at(entry, 4).ok_or_else(|| self.doubt())?;
            let written = len <= MOST_WRITTEN;
            let len = u32::from(if written { len } else { len - MOST_WRITTEN });
            self.add(mapping, Piece { first, home, len, written })?;
        }
        todo.get_mut(below..).unwrap_or_default().reverse();
        Ok(())
    }

    /// Follows pointers until `blocks` blocks of the file are found.
    pub(crate) fn pointers(&self, root: &[u8], blocks: u32) -> Result<Mapping, Stop> {
        let mut mapping = Mapping::default();
        let per_block = u64::from(self.superblock.block_size.bytes() / 4);
        let mut todo: Vec<(u32, u32)> = Vec::new();
        for index in (0..15_u32).rev() {
            let at = usize::try_from(index * 4).unwrap_or(usize::MAX);
            todo.push((u32_at(root, at).ok_or_else(|| self.doubt())?, index.saturating_sub(11)));
        }
        let mut next = 0_u64;
        while let Some((block, level)) = todo.pop() {
            let Some(first) = u32::try_from(next).ok().filter(|first| *first < blocks) else { break };
            match (block, level) {
                (0, level) => next = next.saturating_add(per_block.saturating_pow(level)),
                (block, 0) => {
                    self.add(&mut mapping, Piece { first, home: u64::from(block), len: 1, written: true })?;
                    next += 1;
                }
                (block, level) => {
                    let bytes = self.block(u64::from(block), &mut mapping)?;
                    let (below, _) = bytes.as_chunks::<4>();
                    todo.extend(below.iter().rev().map(|pointer| (u32::from_le_bytes(*pointer), level - 1)));
                }
            }
        }
        Ok(mapping)
    }

    /// Reads a block that says where others are.
    fn block(&self, block: u64, mapping: &mut Mapping) -> Result<Vec<u8>, Stop> {
        let few = u32::try_from(mapping.nodes.len()).is_ok_and(|nodes| nodes < MOST_NODES);
        if !few || !self.is_inside(block, 1) {
            return Err(self.doubt());
        }
        mapping.nodes.push(block);
        let size = u64::from(self.superblock.block_size.bytes());
        Ok(self.window.fetch(block.saturating_mul(size), size)?)
    }

    fn add(&self, mapping: &mut Mapping, piece: Piece) -> Result<(), Stop> {
        if piece.len == 0 || !self.is_inside(piece.home, u64::from(piece.len)) {
            return Err(self.doubt());
        }
        if let Some(last) = mapping.pieces.last_mut()
            && last.written == piece.written
            && last.first.checked_add(last.len) == Some(piece.first)
            && last.home.saturating_add(u64::from(last.len)) == piece.home
            && let Some(len) = last.len.checked_add(piece.len)
        {
            last.len = len;
            return Ok(());
        }
        if mapping.pieces.len() == MOST_PIECES {
            return Err(self.doubt());
        }
        mapping.pieces.push(piece);
        Ok(())
    }

    fn is_inside(&self, start: u64, len: u64) -> bool {
        let end = start.checked_add(len);
        start >= self.superblock.first_block && end.is_some_and(|end| end <= self.superblock.end_block)
    }

    fn doubt(&self) -> Stop {
        ExtDoubt::Inode { number: self.number }.into()
    }
}

/// Returns true if `root` begins like a tree of extents.
pub(crate) fn is_tree(root: &[u8]) -> bool {
    u16_at(root, 0) == Some(MAGIC)
}

/// Returns true if a node has the checksum that follows the room for its entries.
fn node_is_valid(bytes: &[u8], seed: u32) -> bool {
    let Some(room) = u16_at(bytes, 4) else { return false };
    let at = HEADER_BYTES + ENTRY_BYTES * usize::from(room);
    bytes.get(..at).is_some_and(|covered| u32_at(bytes, at) == Some(crc32c(seed, covered)))
}
