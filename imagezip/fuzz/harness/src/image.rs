//! Disks with a file system on them, kept as their blocks that are not zero, and a disk made of one by changing it.
//!
//! ```text
//! one zstd frame: length of the disk (64)  number of places (32)  number of blocks (32)
//!                 their numbers (32 each), the blocks (4096 bytes each); integers are little endian
//! ```
//! The first blocks are the places: those that the parsers read, zero or not, and so those worth changing.
//! `examples/pack.rs` makes such a file.

use std::collections::BTreeMap;
use std::io;

use sigs::{ByteLen, ByteOffset, ReadAt};

/// The unit in which disks are kept and changed.
pub const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = 4096;
const MOST_UNPACKED: usize = 16 << 20;

/// The blocks of a disk that are not zero.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// How large the disk is.
    pub len: u64,
    /// The numbers of the blocks that decide what is allocated.
    pub places: Vec<u64>,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    /// A disk of zeros, of which the first and the last blocks are worth changing.
    pub fn zeros(len: u64) -> Self {
        let blocks = len / BLOCK_BYTES;
        Self { len, places: (0..blocks.min(24)).chain(blocks.saturating_sub(8)..blocks).collect(), ..Self::default() }
    }

    /// Reads a packed image; panics when it is none, for it was committed beside this.
    pub fn unpack(packed: &[u8]) -> Self {
        let bytes = zstd::bulk::decompress(packed, MOST_UNPACKED).unwrap();
        let (len, rest) = bytes.split_first_chunk().unwrap();
        let word = |at: usize| u32::from_le_bytes(*rest[at * 4..].first_chunk().unwrap());
        let (places, count) = (usize::try_from(word(0)).unwrap(), usize::try_from(word(1)).unwrap());
        let numbers: Vec<u64> = (0..count).map(|index| u64::from(word(2 + index))).collect();
        let content = rest[8 + 4 * count..].chunks(BLOCK).map(<[u8]>::to_vec);
        Self {
            len: u64::from_le_bytes(*len),
            places: numbers[..places].to_vec(),
            blocks: numbers.iter().copied().zip(content).collect(),
        }
    }

    /// Packs blocks, those worth changing first.
    pub fn pack(len: u64, places: &[u64], others: &[u64], read: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
        let number = |value: u64| u32::try_from(value).unwrap().to_le_bytes();
        let mut bytes = len.to_le_bytes().to_vec();
        let all = || places.iter().chain(others).copied();
        for count in [places.len(), places.len() + others.len()] {
            bytes.extend(u32::try_from(count).unwrap().to_le_bytes());
        }
        bytes.extend(all().flat_map(number));
        bytes.extend(all().flat_map(read));
        zstd::bulk::compress(&bytes, 19).unwrap()
    }
}

/// A disk that differs from an image in some blocks.
#[derive(Clone, Debug)]
pub struct Disk<'a> {
    /// How large it is.
    pub len: u64,
    image: &'a Image,
    changed: BTreeMap<u64, Vec<u8>>,
}

impl<'a> Disk<'a> {
    /// Makes a disk like an image.
    pub const fn new(image: &'a Image) -> Self {
        Self { len: image.len, image, changed: BTreeMap::new() }
    }

    /// Returns the numbers of the blocks worth changing.
    pub fn places(&self) -> &'a [u64] {
        &self.image.places
    }

    fn block(&self, number: u64) -> Option<&[u8]> {
        self.changed.get(&number).or_else(|| self.image.blocks.get(&number)).map(Vec::as_slice)
    }

    /// Returns bytes of the disk, zeros behind its end.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes, offset);
        bytes
    }

    /// Changes bytes; what lies behind the end of the disk is left out.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..self.len).zip(bytes) {
            let number = at / BLOCK_BYTES;
            let block = self
                .changed
                .entry(number)
                .or_insert_with(|| self.image.blocks.get(&number).cloned().unwrap_or_else(|| vec![0; BLOCK]));
            block[usize::try_from(at % BLOCK_BYTES).unwrap()] = *byte;
        }
    }

    fn fill(&self, buf: &mut [u8], offset: u64) {
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let within = usize::try_from(at % BLOCK_BYTES).unwrap();
            let take = (BLOCK - within).min(rest.len());
            let (piece, left) = rest.split_at_mut(take);
            match self.block(at / BLOCK_BYTES) {
                Some(block) => piece.copy_from_slice(&block[within..within + take]),
                None => piece.fill(0),
            }
            at = at.saturating_add(ByteLen::of(piece).get());
            rest = left;
        }
    }
}

impl ReadAt for Disk<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let end = offset.checked_add(ByteLen::of(buf));
        if end.is_none_or(|end| end.get() > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.fill(buf, offset.get());
        Ok(())
    }

    fn len(&self) -> ByteLen {
        ByteLen::new(self.len)
    }
}
