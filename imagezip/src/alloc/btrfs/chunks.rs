//! Chunks: how the logical addresses, which everything else uses, lie on the device.
//!
//! ```text
//! 0 length  8 owner  16 stripe length  24 type  32 alignments  44 number of stripes  46 sub-stripes
//! 48 stripes of 32 bytes: device, offset, UUID of the device
//! ```
//!
//! On one device a chunk lies there once (single) or twice (DUP). All else is a doubt.

use super::BtrfsDoubt;
use super::node::Key;
use super::superblock::{Device, Superblock};
use super::tree::{Next, Visit};
use crate::alloc::bytes::{array, u16_at, u64_at};

/// Far more than a disk has: a chunk of one is 1 GiB as a rule. This bounds what a hostile disk makes us hold.
const MOST_CHUNKS: usize = 1 << 18;

pub(super) const DATA: u64 = 0x1;
const SYSTEM: u64 = 0x2;
pub(super) const METADATA: u64 = 0x4;
/// What may hold tree blocks.
pub(super) const TREES: u64 = SYSTEM | METADATA;
const DUP: u64 = 0x20;

const KIND_DEVICE: u8 = 216;
const KIND_CHUNK: u8 = 228;
const FIXED: usize = 48;
const STRIPE: usize = 32;

/// A range of logical addresses that lies in one piece on the device, perhaps twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) logical: u64,
    pub(super) len: u64,
    pub(super) kind: u64,
    /// Where it lies, in bytes from the start of the partition.
    pub(super) physical: u64,
    /// Where its copy lies.
    pub(super) copy: Option<u64>,
}

impl Chunk {
    /// Returns the first logical address behind it. It was checked to be one.
    pub(super) fn end(&self) -> u64 {
        self.logical.saturating_add(self.len)
    }

    /// Returns all places of the chunk.
    pub(super) fn places(&self) -> impl Iterator<Item = u64> + use<> {
        [Some(self.physical), self.copy].into_iter().flatten()
    }

    fn parse(superblock: &Superblock, logical: u64, bytes: &[u8]) -> Result<(Self, usize), BtrfsDoubt> {
        let doubt = BtrfsDoubt::Chunk { logical };
        let field = |at| u64_at(bytes, at).ok_or(doubt.clone());
        let (len, kind) = (field(0)?, field(24)?);
        let aligned = |value: u64| value.is_multiple_of(superblock.sector_size);
        let end = logical.checked_add(len);
        if len == 0 || end.is_none() || !aligned(len) || !aligned(logical) {
            return Err(doubt);
        }
        let stripes = usize::from(u16_at(bytes, 44).ok_or(doubt.clone())?);
        let profile = kind & !(DATA | SYSTEM | METADATA);
        if kind & (DATA | SYSTEM | METADATA) == 0 || !matches!((profile, stripes), (0, 1) | (DUP, 2)) {
            return Err(BtrfsDoubt::Profile { logical, kind });
        }
        let place = |index: usize| {
            let at = FIXED + index * STRIPE;
            let offset = u64_at(bytes, at + 8)?;
            let Device { id, uuid, len: device } = superblock.device;
            let is_ours = u64_at(bytes, at) == Some(id) && array(bytes, at + 16) == Some(uuid);
            let inside = offset.checked_add(len).is_some_and(|end| end <= device);
            (is_ours && inside && aligned(offset)).then_some(offset)
        };
        let physical = place(0).ok_or(doubt.clone())?;
        let copy = if stripes == 2 { Some(place(1).ok_or(doubt)?) } else { None };
        Ok((Self { logical, len, kind, physical, copy }, FIXED + stripes * STRIPE))
    }
}

/// Chunks in the order of their logical addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks(Vec<Chunk>);

impl Chunks {
    /// Parses the chunks in the superblock, which hold the chunk tree.
    pub(super) fn of_system(superblock: &Superblock) -> Result<Self, BtrfsDoubt> {
        let mut chunks = Self::default();
        let mut rest = superblock.system_chunks.as_slice();
        while !rest.is_empty() {
            let key = Key::read(rest, 0).filter(|key| key.kind == KIND_CHUNK);
            let (Some(key), Some(bytes)) = (key, rest.get(17..)) else {
                return Err(BtrfsDoubt::Geometry("list of system chunks"));
            };
            let (chunk, len) = Chunk::parse(superblock, key.offset, bytes)?;
            chunks.0.push(chunk);
            rest = bytes.get(len..).unwrap_or_default();
        }
        chunks.0.sort_unstable_by_key(|chunk| chunk.logical);
        chunks.refuse_overlaps()?;
        Ok(chunks)
    }

    fn refuse_overlaps(&self) -> Result<(), BtrfsDoubt> {
        for pair in self.0.windows(2) {
            if let [first, second] = pair
                && first.end() > second.logical
            {
                return Err(BtrfsDoubt::Chunk { logical: second.logical });
            }
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Chunk> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the chunk that has a logical address.
    fn at(&self, logical: u64) -> Option<&Chunk> {
        let behind = self.0.partition_point(|chunk| chunk.logical <= logical);
        self.0.get(behind.checked_sub(1)?).filter(|chunk| logical < chunk.end())
    }

    /// Returns the number of the chunk that starts at a logical address.
    pub(super) fn starting_at(&self, logical: u64) -> Option<usize> {
        self.0.binary_search_by_key(&logical, |chunk| chunk.logical).ok()
    }

    /// Returns the chunk that has all of a range.
    pub(super) fn holding(&self, logical: u64, len: u64) -> Option<&Chunk> {
        let end = logical.checked_add(len)?;
        self.at(logical).filter(|chunk| end <= chunk.end())
    }
}

/// Collects the chunk tree.
#[derive(Debug)]
pub(super) struct Collect<'a> {
    superblock: &'a Superblock,
    chunks: Chunks,
    device_seen: bool,
}

impl<'a> Collect<'a> {
    pub(super) fn new(superblock: &'a Superblock) -> Self {
        Self { superblock, chunks: Chunks::default(), device_seen: false }
    }

    /// Returns the chunks, with those of the superblock proved to be among them.
    pub(super) fn finish(self, system: &Chunks) -> Result<Chunks, BtrfsDoubt> {
        self.chunks.refuse_overlaps()?;
        if !self.device_seen {
            return Err(BtrfsDoubt::Geometry("device"));
        }
        for chunk in system.iter() {
            if self.chunks.at(chunk.logical) != Some(chunk) {
                return Err(BtrfsDoubt::Chunk { logical: chunk.logical });
            }
        }
        Ok(self.chunks)
    }
}

impl Visit for Collect<'_> {
    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt> {
        let device = self.superblock.device;
        match (key.objectid, key.kind) {
            (1, KIND_DEVICE) => {
                let same = u64_at(data, 0) == Some(device.id)
                    && u64_at(data, 8) == Some(device.len)
                    && array(data, 66) == Some(device.uuid);
                if !same || key.offset != device.id {
                    return Err(BtrfsDoubt::Geometry("device"));
                }
                self.device_seen = true;
            }
            (256, KIND_CHUNK) => {
                if self.chunks.len() == MOST_CHUNKS {
                    return Err(BtrfsDoubt::TooMany("chunks"));
                }
                let (chunk, len) = Chunk::parse(self.superblock, key.offset, data)?;
                if len != data.len() {
                    return Err(BtrfsDoubt::Chunk { logical: key.offset });
                }
                self.chunks.0.push(chunk);
            }
            _ => return Err(BtrfsDoubt::Item { tree: "chunk", kind: key.kind }),
        }
        Ok(Next::Go)
    }
}
