//! Trees, read in key order. Every block is verified on its way in.

use super::BtrfsDoubt;
use super::chunks::{Chunks, Collect, TREES};
use super::node::{Header, Key, LEVELS, Node, Pointer};
use super::superblock::Superblock;
use crate::alloc::bytes::{u8_at, u64_at};
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

pub(super) const ROOT_TREE: u64 = 1;
pub(super) const EXTENT_TREE: u64 = 2;
pub(super) const CHUNK_TREE: u64 = 3;
pub(super) const DEVICE_TREE: u64 = 4;
pub(super) const BLOCK_GROUP_TREE: u64 = 11;
pub(super) const LOG_TREE: u64 = u64::MAX - 5;

pub(super) const KIND_ROOT: u8 = 132;

/// Where a tree starts, and what its blocks must say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) owner: u64,
    pub(super) root: Pointer,
    /// No block of it is newer.
    pub(super) newest: u64,
}

/// Whether there is more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Stop,
}

/// Takes what a walk comes by.
pub(super) trait Visit {
    /// Takes the place of a block.
    fn block(&mut self, _place: Pointer) -> Result<(), BtrfsDoubt> {
        Ok(())
    }

    /// Takes an item.
    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt>;
}

/// A file system whose addresses can be resolved.
#[derive(Debug)]
pub(super) struct Volume<'a> {
    window: &'a Window<'a>,
    pub(super) superblock: Superblock,
    pub(super) chunks: Chunks,
    /// What every tree block carries; known once the first one was read.
    chunk_tree: Option<[u8; 16]>,
}

impl<'a> Volume<'a> {
    /// Reads the chunks: those in the superblock, and with them all others.
    pub(super) fn open(window: &'a Window<'a>, superblock: Superblock) -> Result<Self, Stop> {
        let system = Chunks::of_system(&superblock)?;
        let mut volume = Self { window, superblock, chunks: system.clone(), chunk_tree: None };
        let root = volume.superblock.chunk_root;
        let (_, header) = volume.verified(root)?;
        volume.chunk_tree = Some(header.chunk_tree);
        let tree = Tree { owner: CHUNK_TREE, root, newest: volume.superblock.generation };
        let mut collect = Collect::new(&volume.superblock);
        volume.walk(tree, Key::FIRST, &mut collect)?;
        let chunks = collect.finish(&system)?;
        volume.chunks = chunks;
        Ok(volume)
    }

    /// Returns a tree that the root tree names, or that another tree of roots does.
    pub(super) fn tree(&self, owner: u64) -> Result<Tree, Stop> {
        let newest = self.superblock.generation;
        let roots = Tree { owner: ROOT_TREE, root: self.superblock.root, newest };
        let key = Key { objectid: owner, kind: KIND_ROOT, offset: 0 };
        let mut find = Find { key, root: None };
        self.walk(roots, key, &mut find)?;
        let root = find.root.ok_or(BtrfsDoubt::Root { tree: owner })?;
        Ok(Tree { owner, root, newest })
    }

    /// Gives everything from a key on to `visit`, until that has enough.
    ///
    /// This ends whatever the disk holds: levels go down, and keys go up from leaf to leaf, so no leaf comes twice.
    pub(super) fn walk(&self, tree: Tree, from: Key, visit: &mut dyn Visit) -> Result<(), Stop> {
        let root = self.block(tree, tree.root)?;
        visit.block(tree.root)?;
        let start = root.seek(from);
        let mut path = vec![(root, start, tree.root)];
        let mut earlier = None;
        while let Some((node, index, place)) = path.last_mut() {
            let Some(key) = node.key(*index) else {
                path.pop();
                continue;
            };
            let cut = BtrfsDoubt::Block { logical: place.logical, what: "an item that is cut short" };
            if node.is_leaf() {
                if Some(key) <= earlier {
                    return Err(BtrfsDoubt::Block { logical: place.logical, what: "keys out of order" }.into());
                }
                earlier = Some(key);
                if visit.item(key, node.data(*index).ok_or(cut)?)? == Next::Stop {
                    return Ok(());
                }
                *index += 1;
            } else {
                let below = node.child(*index).ok_or(cut)?;
                *index += 1;
                let child = self.block(tree, below)?;
                if child.key(0) != Some(key) {
                    return Err(BtrfsDoubt::Block { logical: below.logical, what: "another first key" }.into());
                }
                visit.block(below)?;
                let start = child.seek(from);
                path.push((child, start, below));
            }
        }
        Ok(())
    }

    /// Reads a block of a tree.
    fn block(&self, tree: Tree, place: Pointer) -> Result<Node, Stop> {
        let doubt = |what| BtrfsDoubt::Block { logical: place.logical, what };
        let (bytes, header) = self.verified(place)?;
        if header.owner != tree.owner {
            return Err(doubt("another owner").into());
        }
        if place.generation > tree.newest {
            return Err(doubt("a generation of the future").into());
        }
        Ok(Node::new(bytes, &header).map_err(doubt)?)
    }

    /// Reads what stands where a block should be, and proves that it is the one.
    fn verified(&self, place: Pointer) -> Result<(Vec<u8>, Header), Stop> {
        let doubt = |what| BtrfsDoubt::Block { logical: place.logical, what };
        let len = u64::from(self.superblock.node_size.bytes());
        let chunk = self.chunks.holding(place.logical, len).ok_or(doubt("no place on the device"))?;
        if !place.logical.is_multiple_of(self.superblock.sector_size) || chunk.kind & TREES == 0 {
            return Err(doubt("a place where none can be").into());
        }
        // The chunk lies inside the device, so this does not overflow.
        let physical = chunk.physical.saturating_add(place.logical.saturating_sub(chunk.logical));
        let bytes = self.window.fetch(physical, len)?;
        if !self.superblock.checksum.is_valid(&bytes) {
            return Err(doubt("a wrong checksum").into());
        }
        let header = Header::read(&bytes).ok_or(doubt("no header"))?;
        if header.place != place {
            return Err(doubt("another place, level or generation").into());
        }
        if header.file_system != self.superblock.file_system
            || self.chunk_tree.is_some_and(|id| id != header.chunk_tree)
        {
            return Err(doubt("another file system").into());
        }
        Ok((bytes, header))
    }
}

/// Returns where the root item of a tree says that its root is.
pub(super) fn root_of(item: &[u8]) -> Option<Pointer> {
    // 160 bytes of an inode come first.
    let level = u8_at(item, 238).filter(|level| *level < LEVELS)?;
    Some(Pointer { logical: u64_at(item, 176)?, generation: u64_at(item, 160)?, level })
}

/// Looks for the item of one root.
struct Find {
    key: Key,
    root: Option<Pointer>,
}

impl Visit for Find {
    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt> {
        if key == self.key {
            self.root = root_of(data);
        }
        Ok(Next::Stop)
    }
}
