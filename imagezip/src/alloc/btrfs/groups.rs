//! Block groups: how much of each chunk is used. They stand in a tree of their own or between the extents.
//!
//! ```text
//! key: logical address, 192, length    0 used  8 256  16 type
//! ```

use super::BtrfsDoubt;
use super::chunks::Chunks;
use super::node::Key;
use super::tree::{BLOCK_GROUP_TREE, Next, Visit, Volume};
use crate::alloc::bytes::u64_at;
use crate::alloc::doubt::Stop;

pub(super) const KIND_BLOCK_GROUP: u8 = 192;

/// What is stated of each chunk, in the order of the chunks.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    chunks: &'a Chunks,
    used: Vec<Option<u64>>,
}

impl<'a> Groups<'a> {
    /// Reads the tree of block groups if there is one.
    pub(super) fn read(volume: &'a Volume<'_>) -> Result<Self, Stop> {
        let mut groups = Self { chunks: &volume.chunks, used: vec![None; volume.chunks.len()] };
        if volume.superblock.block_group_tree {
            volume.walk(volume.tree(BLOCK_GROUP_TREE)?, Key::FIRST, &mut groups)?;
        }
        Ok(groups)
    }

    /// Takes the item of a block group.
    pub(super) fn add(&mut self, key: Key, data: &[u8]) -> Result<(), BtrfsDoubt> {
        let doubt = BtrfsDoubt::Chunk { logical: key.objectid };
        let number = self.chunks.starting_at(key.objectid).ok_or(doubt.clone())?;
        let chunk = self.chunks.iter().nth(number).ok_or(doubt.clone())?;
        if chunk.len != key.offset || u64_at(data, 16) != Some(chunk.kind) {
            return Err(doubt);
        }
        let used = u64_at(data, 0).filter(|used| *used <= chunk.len).ok_or(doubt.clone())?;
        *self.used.get_mut(number).ok_or(doubt)? = Some(used);
        Ok(())
    }

    /// Compares what was found in a chunk with what is stated of it.
    pub(super) fn compare(&self, logical: u64, found: u64) -> Result<(), BtrfsDoubt> {
        let number = self.chunks.starting_at(logical);
        match number.and_then(|number| self.used.get(number).copied().flatten()) {
            Some(stated) if stated == found => Ok(()),
            Some(stated) => Err(BtrfsDoubt::GroupUsed { logical, found, stated }),
            None => Err(BtrfsDoubt::Chunk { logical }),
        }
    }
}

impl Visit for Groups<'_> {
    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt> {
        if key.kind != KIND_BLOCK_GROUP {
            return Err(BtrfsDoubt::Item { tree: "block group", kind: key.kind });
        }
        self.add(key, data)?;
        Ok(Next::Go)
    }
}
