//! The two trees of free space of a group: the same extents, in one ordered by block, in the other by size.
//!
//! ```text
//!  0 magic  4 level (leaves are 0)  6 number of records  8 left, 12 right neighbour
//! 16 place in sectors of 512 bytes  24 sequence  32 UUID  48 group  52 checksum; without checksums none of these
//! leaf: records {first block, blocks}   above: all keys, of the same form, then the blocks of the children
//! ```
//!
//! A tree is read level by level, so depth costs nothing and a loop cannot happen: the blocks of a level are a
//! list, and each must name its neighbours in that list.

use super::doubt::XfsDoubt;
use super::headers::Root;
use super::raw::Raw;
use super::superblock::{Superblock, Trust};
use super::view::View;
use crate::alloc::doubt::Stop;

/// How many blocks a level may have: with 64 records in each (there are never fewer than half of what fits, but in
/// the root), 64 million free extents in a single group.
const MOST_BLOCKS: usize = 1 << 20;
const NO_NEIGHBOUR: u32 = u32::MAX;
const CHECKSUM_AT: usize = 52;
const RECORD_BYTES: usize = 8;
const CHILD_BYTES: usize = 4;

/// What the records of a tree are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Block,
    Size,
}

/// A run of free blocks in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) first: u32,
    pub(crate) blocks: u32,
}

/// A tree whose blocks above the leaves were read.
#[derive(Debug)]
pub(crate) struct Tree {
    group: u32,
    order: Order,
    /// The leaves, from left to right.
    leaves: Vec<u32>,
    /// All blocks above the leaves.
    above: Vec<u32>,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Block => "by block",
            Self::Size => "by size",
        }
    }

    fn magic(self, checksums: bool) -> &'static [u8] {
        match (self, checksums) {
            (Self::Block, true) => b"AB3B",
            (Self::Block, false) => b"ABTB",
            (Self::Size, true) => b"AB3C",
            (Self::Size, false) => b"ABTC",
        }
    }
}

impl Tree {
    /// Reads everything of a tree but its leaves.
    pub(crate) fn read(view: &View<'_>, group: u32, order: Order, root: Root) -> Result<Self, Stop> {
        let mut level = vec![root.block];
        let mut above = Vec::new();
        for height in (1..root.levels).rev() {
            let mut children = Vec::new();
            for (place, block) in level.iter().enumerate() {
                let node = Node { group, order, block: *block, level: height, is_root: height + 1 == root.levels };
                children.extend(node.children(view, neighbours(&level, place))?);
                if children.len() > MOST_BLOCKS {
                    return Err(XfsDoubt::TreeSize { group }.into());
                }
            }
            above.append(&mut level);
            level = children;
        }
        Ok(Self { group, order, leaves: level, above })
    }

    /// Returns the number of blocks of the tree.
    pub(crate) fn len(&self) -> usize {
        self.leaves.len().saturating_add(self.above.len())
    }

    /// Returns the blocks of the tree, in no order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = u32> + '_ {
        self.leaves.iter().chain(&self.above).copied()
    }

    /// Returns the free extents, in the order of the tree, each inside the group and behind its headers.
    pub(crate) fn records<'a>(&'a self, view: &'a View<'a>) -> impl Iterator<Item = Result<Free, Stop>> + 'a {
        let mut last = None;
        self.leaves.iter().enumerate().flat_map(move |(place, block)| {
            let is_root = self.above.is_empty();
            let node = Node { group: self.group, order: self.order, block: *block, level: 0, is_root };
            let read = node.records(view, neighbours(&self.leaves, place), &mut last);
            let (records, stop) = match read {
                Ok(records) => (records, None),
                Err(stop) => (Vec::new(), Some(Err(stop))),
            };
            records.into_iter().map(Ok).chain(stop)
        })
    }
}

fn neighbours(level: &[u32], place: usize) -> (u32, u32) {
    let at = |place: Option<usize>| place.and_then(|place| level.get(place)).copied().unwrap_or(NO_NEIGHBOUR);
    (at(place.checked_sub(1)), at(place.checked_add(1)))
}

/// What is known of a block before it is read.
#[derive(Clone, Copy, Debug)]
struct Node {
    group: u32,
    order: Order,
    block: u32,
    level: u16,
    is_root: bool,
}

impl Node {
    fn wrong(&self, field: &'static str) -> XfsDoubt {
        XfsDoubt::Tree { tree: self.order.name(), group: self.group, block: self.block, field }
    }

    fn require(&self, holds: bool, field: &'static str) -> Result<(), XfsDoubt> {
        if holds { Ok(()) } else { Err(self.wrong(field)) }
    }

    /// Reads a block and returns its content behind the header with the number of records.
    fn read(&self, view: &View<'_>, neighbours: (u32, u32)) -> Result<(Vec<u8>, usize), Stop> {
        let superblock = view.superblock;
        let inside = self.block >= superblock.header_blocks() && self.block < superblock.group_len(self.group);
        self.require(inside, "place")?;
        let mut piece = view.block(self.group, self.block)?;
        let raw = Raw(&piece.bytes);
        self.require(raw.has(0, self.order.magic(superblock.checksums)), "magic number")?;
        if superblock.checksums {
            let valid = piece.trust == Trust::Structure || raw.checksum_is_valid(CHECKSUM_AT);
            self.require(valid, "checksum")?;
            self.require(raw.u64(16) == Some(superblock.block_start(self.group, self.block) / 512), "place in itself")?;
            self.require(raw.uuid(32) == Some(superblock.uuid), "UUID")?;
            self.require(raw.u32(48) == Some(self.group), "group number")?;
            if view.is_too_new(&piece, raw.u64(24).ok_or(self.wrong("length"))?) {
                return Err(XfsDoubt::NewerThanLog { group: self.group }.into());
            }
        }
        self.require(raw.u16(4) == Some(self.level), "level")?;
        self.require((raw.u32(8), raw.u32(12)) == (Some(neighbours.0), Some(neighbours.1)), "neighbour")?;
        let count = usize::from(raw.u16(6).ok_or(self.wrong("length"))?);
        // Only a root may be empty, and only as a leaf: then the group is full.
        self.require(count > 0 || (self.is_root && self.level == 0), "number of records")?;
        self.require(count <= self.most(superblock), "number of records")?;
        piece.bytes.drain(..header_bytes(superblock).min(piece.bytes.len()));
        Ok((piece.bytes, count))
    }

    /// How many records fit.
    fn most(&self, superblock: &Superblock) -> usize {
        let size = usize::try_from(superblock.block_bytes()).unwrap_or(0).saturating_sub(header_bytes(superblock));
        size / if self.level == 0 { RECORD_BYTES } else { RECORD_BYTES + CHILD_BYTES }
    }

    fn children(&self, view: &View<'_>, neighbours: (u32, u32)) -> Result<Vec<u32>, Stop> {
        let (content, count) = self.read(view, neighbours)?;
        let children = content.get(self.most(view.superblock) * RECORD_BYTES..).unwrap_or_default();
        let children = children.chunks_exact(CHILD_BYTES).take(count).filter_map(|child| Raw(child).u32(0)).collect();
        Ok(children)
    }

    /// Reads a leaf; `last` is the record before it, and becomes its last one.
    fn records(&self, view: &View<'_>, neighbours: (u32, u32), last: &mut Option<Free>) -> Result<Vec<Free>, Stop> {
        let (content, count) = self.read(view, neighbours)?;
        let len = u64::from(view.superblock.group_len(self.group));
        let mut records = Vec::with_capacity(count);
        for record in content.chunks_exact(RECORD_BYTES).take(count) {
            let raw = Raw(record);
            let free = || Some(Free { first: raw.u32(0)?, blocks: raw.u32(4)? });
            let free = free().ok_or(self.wrong("record"))?;
            let inside = free.blocks > 0
                && free.first >= view.superblock.header_blocks()
                && u64::from(free.first) + u64::from(free.blocks) <= len;
            self.require(inside, "record")?;
            let ordered = last.is_none_or(|last| match self.order {
                Order::Block => last.end() <= free.first,
                Order::Size => (last.blocks, last.first) < (free.blocks, free.first),
            });
            self.require(ordered, "order of records")?;
            *last = Some(free);
            records.push(free);
        }
        Ok(records)
    }
}

impl Free {
    /// Returns the first block behind it. It was compared with the length of the group.
    pub(crate) fn end(self) -> u32 {
        self.first.saturating_add(self.blocks)
    }
}

fn header_bytes(superblock: &Superblock) -> usize {
    if superblock.checksums { 56 } else { 16 }
}
