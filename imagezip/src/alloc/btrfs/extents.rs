//! The extent tree: every allocated range of the last commit, in the order of logical addresses.
//!
//! ```text
//! data, or a tree block before skinny_metadata: key address, 168, length
//! tree block: key address, 169, level
//! both: 0 references  8 generation  16 flags (1 data, 2 tree block)
//! ```
//!
//! References to them, where they do not fit, are items of their own and of no interest here.

use super::BtrfsDoubt;
use super::chunks::{Chunk, DATA, TREES};
use super::devices::Piece;
use super::groups::{Groups, KIND_BLOCK_GROUP};
use super::node::{Key, LEVELS};
use super::superblock::Superblock;
use super::tree::{Next, Tree, Visit, Volume};
use crate::alloc::bytes::u64_at;
use crate::alloc::doubt::Stop;

const KIND_EXTENT: u8 = 168;
const KIND_METADATA: u8 = 169;
/// Tree block, data, block of a shared tree, data of a shared tree, owner: who refers to an extent.
const KINDS_REFERENCES: [u8; 5] = [176, 178, 182, 184, 188];

const IS_DATA: u64 = 1;
const IS_TREE: u64 = 2;
/// The references name whole blocks. No matter here.
const FULL_REFERENCES: u64 = 0x100;

/// Gives all extents of a chunk to `found`, as ranges of the device where one of its pieces lies, in order.
/// Returns how much they are.
pub(super) fn in_piece(
    volume: &Volume<'_>,
    extents: Tree,
    piece: Piece,
    groups: &mut Groups<'_>,
    found: &mut dyn FnMut(u64, u64),
) -> Result<u64, Stop> {
    let chunk = piece.chunk;
    let mut walk = Walk { superblock: &volume.superblock, piece, reached: chunk.logical, used: 0, groups, found };
    volume.walk(extents, Key { objectid: chunk.logical, ..Key::FIRST }, &mut walk)?;
    let used = walk.used;
    groups.compare(chunk.logical, used)?;
    Ok(used)
}

struct Walk<'a, 'b> {
    superblock: &'a Superblock,
    piece: Piece,
    /// No extent starts before this.
    reached: u64,
    used: u64,
    groups: &'a mut Groups<'b>,
    found: &'a mut dyn FnMut(u64, u64),
}

impl Visit for Walk<'_, '_> {
    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt> {
        let chunk = self.piece.chunk;
        if key.objectid >= chunk.end() {
            return Ok(Next::Stop);
        }
        match key.kind {
            KIND_EXTENT | KIND_METADATA => {
                let len = extent_len(self.superblock, &chunk, key, data);
                let doubt = BtrfsDoubt::Extent { logical: key.objectid };
                let len = len.filter(|_| key.objectid >= self.reached).ok_or(doubt.clone())?;
                let end = key.objectid.checked_add(len).filter(|end| *end <= chunk.end()).ok_or(doubt)?;
                self.reached = end;
                self.used = self.used.saturating_add(len);
                // Both are inside the chunk, and that is inside the device.
                let place = self.piece.physical.saturating_add(key.objectid.saturating_sub(chunk.logical));
                (self.found)(place, place.saturating_add(len));
            }
            KIND_BLOCK_GROUP if !self.superblock.block_group_tree => self.groups.add(key, data)?,
            kind if KINDS_REFERENCES.contains(&kind) => {}
            kind => return Err(BtrfsDoubt::Item { tree: "extent", kind }),
        }
        Ok(Next::Go)
    }
}

/// Returns the length of an extent, or `None` when it cannot be one.
fn extent_len(superblock: &Superblock, chunk: &Chunk, key: Key, data: &[u8]) -> Option<u64> {
    let (generation, flags) = (u64_at(data, 8)?, u64_at(data, 16)?);
    let node_size = u64::from(superblock.node_size.bytes());
    let (len, needs) = match (key.kind, flags & !FULL_REFERENCES) {
        (KIND_EXTENT, IS_DATA) => (key.offset, DATA),
        (KIND_EXTENT, IS_TREE) if key.offset == node_size => (node_size, TREES),
        (KIND_METADATA, IS_TREE) if key.offset < u64::from(LEVELS) => (node_size, TREES),
        _ => return None,
    };
    let aligned = |value: u64| value.is_multiple_of(superblock.sector_size);
    let possible = len > 0 && aligned(len) && aligned(key.objectid);
    (possible && generation <= superblock.generation && chunk.kind & needs != 0).then_some(len)
}
