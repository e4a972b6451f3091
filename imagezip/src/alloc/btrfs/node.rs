//! One block of a tree: a header, then either items (in a leaf) or pointers to blocks one level below.
//!
//! ```text
//! 0 checksum  32 file system  48 own logical place  56 flags  64 chunk tree  80 generation  88 owner
//! 96 number of items  100 level  101 items: key (17), offset of the data, its length / pointers: key, block, generation
//! ```
//!
//! The data of the items of a leaf stands at its end, the first item's last, without gaps.

use crate::alloc::bytes::{array, u8_at, u32_at, u64_at};

const HEADER: usize = 101;
const KEY: usize = 17;
const ITEM: usize = KEY + 8;
const POINTER: usize = KEY + 16;
/// How many levels a tree can have.
pub(super) const LEVELS: u8 = 8;

/// What an item is found by. The order of the fields is the order of the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) objectid: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

impl Key {
    /// The key before all others.
    pub(super) const FIRST: Self = Self { objectid: 0, kind: 0, offset: 0 };

    /// Reads the key at a place.
    pub(super) fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let kind = u8_at(bytes, at.checked_add(8)?)?;
        Some(Self { objectid: u64_at(bytes, at)?, kind, offset: u64_at(bytes, at.checked_add(9)?)? })
    }
}

/// Where a block is, and what it must say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) logical: u64,
    pub(super) generation: u64,
    pub(super) level: u8,
}

/// What the header of a block says, besides what is compared with the superblock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) file_system: [u8; 16],
    pub(super) chunk_tree: [u8; 16],
    pub(super) owner: u64,
    pub(super) place: Pointer,
    count: usize,
}

impl Header {
    /// Reads the header of a block.
    pub(super) fn read(block: &[u8]) -> Option<Self> {
        let place = Pointer { logical: u64_at(block, 48)?, generation: u64_at(block, 80)?, level: u8_at(block, 100)? };
        Some(Self {
            file_system: array(block, 32)?,
            chunk_tree: array(block, 64)?,
            owner: u64_at(block, 88)?,
            place,
            count: usize::try_from(u32_at(block, 96)?).ok()?,
        })
    }
}

/// A block whose keys are in order and whose items lie where they belong.
#[derive(Debug)]
pub(super) struct Node {
    bytes: Vec<u8>,
    level: u8,
    count: usize,
}

impl Node {
    /// Checks the structure of a block, or says what is wrong with it.
    pub(super) fn new(bytes: Vec<u8>, header: &Header) -> Result<Self, &'static str> {
        let node = Self { bytes, level: header.place.level, count: header.count };
        let entry = if node.is_leaf() { ITEM } else { POINTER };
        let end = node.count.checked_mul(entry).and_then(|len| len.checked_add(HEADER));
        let end = end.filter(|end| *end <= node.bytes.len()).ok_or("too many items")?;
        if node.count == 0 && !node.is_leaf() {
            return Err("no pointers");
        }
        let mut earlier = None;
        // The data of an item ends where that of the one before it starts.
        let mut data_end = node.bytes.len();
        for index in 0..node.count {
            let key = node.key(index);
            if key <= earlier {
                return Err("keys out of order");
            }
            earlier = key;
            if node.is_leaf() {
                let (start, len) = node.place(index).ok_or("an item that is cut short")?;
                if start.checked_add(len) != Some(data_end) || start < end {
                    return Err("an item outside its place");
                }
                data_end = start;
            }
        }
        Ok(node)
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.level == 0
    }

    /// Returns the key of an item or a pointer.
    pub(super) fn key(&self, index: usize) -> Option<Key> {
        let entry = if self.is_leaf() { ITEM } else { POINTER };
        let at = index.checked_mul(entry)?.checked_add(HEADER)?;
        Key::read(&self.bytes, at).filter(|_| index < self.count)
    }

    /// Returns the data of an item of a leaf.
    pub(super) fn data(&self, index: usize) -> Option<&[u8]> {
        let (start, len) = self.place(index)?;
        self.bytes.get(start..start.checked_add(len)?)
    }

    /// Returns a pointer of an inner block.
    pub(super) fn child(&self, index: usize) -> Option<Pointer> {
        let at = index.checked_mul(POINTER)?.checked_add(HEADER + KEY)?;
        let level = self.level.checked_sub(1)?;
        Some(Pointer { logical: u64_at(&self.bytes, at)?, generation: u64_at(&self.bytes, at + 8)?, level })
    }

    /// Returns where to start reading for what has `from` or a greater key.
    pub(super) fn seek(&self, from: Key) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) < Some(from) { low = middle + 1 } else { high = middle }
        }
        // The block that a pointer leads to starts with its key, so what is sought may be in the one before.
        if self.is_leaf() || self.key(low) == Some(from) { low } else { low.saturating_sub(1) }
    }

    /// Returns where in the block the data of an item stands, and its length.
    fn place(&self, index: usize) -> Option<(usize, usize)> {
        let at = index.checked_mul(ITEM)?.checked_add(HEADER + KEY)?;
        let offset = usize::try_from(u32_at(&self.bytes, at)?).ok()?;
        let len = usize::try_from(u32_at(&self.bytes, at + 4)?).ok()?;
        Some((offset.checked_add(HEADER)?, len))
    }
}
