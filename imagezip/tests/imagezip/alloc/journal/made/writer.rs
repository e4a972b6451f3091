//! Writes a jbd2 log block by block, as Linux lays it out, and any way it does not.

use crate::alloc::tools::crc32c;

/// What every block of a log begins with.
pub(super) const MAGIC: [u8; 4] = 0xC03B_3998_u32.to_be_bytes();

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) checksums: Checksums,
    /// Places of 64 bits.
    pub(super) wide: bool,
    pub(super) async_commit: bool,
    /// Every tag is followed by a uuid, not only the first.
    pub(super) uuids: bool,
}

/// How a log is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksums {
    None,
    /// One for each transaction, in its commit block.
    V1,
    V2,
    V3,
}

impl Format {
    pub(super) const fn new(checksums: Checksums, wide: bool) -> Self {
        Self { checksums, wide, async_commit: false, uuids: false }
    }

    fn by_block(self) -> bool {
        matches!(self.checksums, Checksums::V2 | Checksums::V3)
    }

    fn tag_bytes(self) -> usize {
        match (self.checksums, self.wide) {
            (Checksums::V3, _) => 16,
            (Checksums::V2, true) => 14,
            (Checksums::V2, false) => 10,
            (_, true) => 12,
            (_, false) => 8,
        }
    }
}

/// The journal: the size of a block in bytes, its first block on the disk, and how many follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) block: usize,
    pub(super) home: u64,
    pub(super) len: u32,
}

/// A log in the making, in the bytes of a disk.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) disk: Vec<u8>,
    pub(super) format: Format,
    /// The transaction that is being written, and the time of its commit.
    pub(super) transaction: u32,
    pub(super) time: u64,
    /// The block that is next.
    pub(super) next: u32,
    /// Where the first block of the journal is.
    home: usize,
    block: usize,
    len: u32,
    seed: u32,
    crc: u32,
}

impl Log {
    /// Begins a log in block `start` of the journal, with the transaction `first`.
    pub(super) fn new(disk: Vec<u8>, place: Place, start: u32, first: u32, format: Format) -> Self {
        let Place { block, home, len } = place;
        let home = usize::try_from(home).unwrap();
        let seed = crc32c(u32::MAX, &[&disk[home * block + 48..home * block + 64]]);
        let mut log =
            Self { disk, format, transaction: first, time: 1_000, next: start, home, block, len, seed, crc: u32::MAX };
        let incompat = 1
            | if format.wide { 2 } else { 0 }
            | if format.async_commit { 4 } else { 0 }
            | if format.checksums == Checksums::V2 { 8 } else { 0 }
            | if format.checksums == Checksums::V3 { 0x10 } else { 0 };
        let compat = u32::from(format.checksums == Checksums::V1);
        for (at, value) in [(16, len), (24, first), (28, start), (36, compat), (40, incompat)] {
            log.set(at, value);
        }
        log.at(0)[80] = if format.by_block() { 4 } else { 0 };
        log.seal();
        log
    }

    /// Returns a block of the journal.
    pub(super) fn at(&mut self, block: u32) -> &mut [u8] {
        let start = (self.home + usize::try_from(block).unwrap()) * self.block;
        &mut self.disk[start..start + self.block]
    }

    /// Sets a number in the superblock of the journal.
    pub(super) fn set(&mut self, at: usize, value: u32) {
        self.at(0)[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self.seal();
    }

    fn seal(&mut self) {
        if self.format.by_block() {
            let superblock = self.at(0);
            let crc = crc32c(u32::MAX, &[&superblock[..252], &[0; 4], &superblock[256..1024]]);
            superblock[252..256].copy_from_slice(&crc.to_be_bytes());
        }
    }

    /// Writes a block and goes round; returns which block of the journal that was.
    pub(super) fn put(&mut self, bytes: &[u8]) -> u32 {
        let block = self.next;
        self.at(block)[..bytes.len()].copy_from_slice(bytes);
        self.next = if block + 1 < self.len { block + 1 } else { 1 };
        block
    }

    /// Writes a whole transaction; returns its commit block.
    pub(super) fn transaction(&mut self, blocks: &[(u64, Vec<u8>)]) -> u32 {
        self.describe(blocks);
        self.commit()
    }

    /// Writes descriptors and the blocks they speak of; returns the blocks of the descriptors.
    pub(super) fn describe(&mut self, blocks: &[(u64, Vec<u8>)]) -> Vec<u32> {
        let each = self.format.tag_bytes() + if self.format.uuids { 16 } else { 0 };
        let room = (self.block - 12 - 16 - 4) / each;
        blocks.chunks(room).map(|blocks| self.descriptor(blocks)).collect()
    }

    fn descriptor(&mut self, blocks: &[(u64, Vec<u8>)]) -> u32 {
        let Format { checksums, wide, uuids, .. } = self.format;
        let number = self.transaction.to_be_bytes();
        let mut descriptor = self.header(1);
        let mut contents = Vec::new();
        for (index, (home, content)) in blocks.iter().enumerate() {
            let mut content = content.clone();
            let mut flags = 0;
            if content.starts_with(&MAGIC) {
                content[..4].fill(0);
                flags |= 1;
            }
            let with_uuid = uuids || index == 0;
            flags |= if with_uuid { 0 } else { 2 } | if index + 1 == blocks.len() { 8 } else { 0 };
            let (low, high) = (u32::try_from(home & 0xFFFF_FFFF).unwrap(), u32::try_from(home >> 32).unwrap());
            let crc = crc32c(self.seed, &[&number, &content]);
            let mut tag = low.to_be_bytes().to_vec();
            let short = if checksums == Checksums::V2 { crc & 0xFFFF } else { 0 };
            tag.extend(u16::try_from(short).unwrap().to_be_bytes());
            tag.extend(u16::to_be_bytes(flags));
            tag.extend(high.to_be_bytes());
            tag.extend(if checksums == Checksums::V3 { crc } else { 0 }.to_be_bytes());
            assert!(wide || high == 0);
            descriptor.extend(&tag[..self.format.tag_bytes()]);
            if with_uuid {
                descriptor.extend([0xAB; 16]);
            }
            contents.push(content);
        }
        let descriptor = self.tail(descriptor);
        self.cover(&descriptor);
        let place = self.put(&descriptor);
        for content in contents {
            self.cover(&content);
            self.put(&content);
        }
        place
    }

    /// Writes a block of revocations.
    pub(super) fn revoke(&mut self, homes: &[u64]) -> u32 {
        let mut block = self.header(5);
        let size = if self.format.wide { 8 } else { 4 };
        block.extend(u32::try_from(16 + homes.len() * size).unwrap().to_be_bytes());
        for home in homes {
            block.extend(&home.to_be_bytes()[8 - size..]);
        }
        let block = self.tail(block);
        self.put(&block)
    }

    /// Changes a descriptor or a block of revocations, and puts its checksum right.
    pub(super) fn change_descriptor(&mut self, block: u32, change: impl Fn(&mut [u8])) {
        let (seed, tail, by_block) = (self.seed, self.block - 4, self.format.by_block());
        let bytes = self.at(block);
        change(bytes);
        if by_block {
            let crc = crc32c(seed, &[&bytes[..tail], &[0; 4]]);
            bytes[tail..].copy_from_slice(&crc.to_be_bytes());
        }
    }

    /// Ends the transaction; returns its commit block.
    pub(super) fn commit(&mut self) -> u32 {
        let mut block = self.header(2);
        block.resize(self.block, 0);
        block[48..56].copy_from_slice(&self.time.to_be_bytes());
        if self.format.checksums == Checksums::V1 {
            block[12..14].copy_from_slice(&[1, 4]);
            block[16..20].copy_from_slice(&self.crc.to_be_bytes());
        }
        if self.format.by_block() {
            let crc = crc32c(self.seed, &[&block]);
            block[16..20].copy_from_slice(&crc.to_be_bytes());
        }
        self.transaction = self.transaction.wrapping_add(1);
        self.time += 1;
        self.crc = u32::MAX;
        self.put(&block)
    }

    fn header(&self, kind: u32) -> Vec<u8> {
        [MAGIC, kind.to_be_bytes(), self.transaction.to_be_bytes()].concat()
    }

    /// Fills a block up, with its checksum at its end.
    fn tail(&self, mut block: Vec<u8>) -> Vec<u8> {
        assert!(block.len() <= self.block);
        block.resize(self.block, 0);
        if self.format.by_block() {
            let crc = crc32c(self.seed, &[&block]);
            block[self.block - 4..].copy_from_slice(&crc.to_be_bytes());
        }
        block
    }

    /// Takes a block into the checksum of the transaction: CRC-32, the highest bit first.
    fn cover(&mut self, bytes: &[u8]) {
        if self.format.checksums == Checksums::V1 {
            for byte in bytes {
                self.crc ^= u32::from(*byte) << 24;
                for _ in 0..8 {
                    let high = self.crc >> 31;
                    self.crc = (self.crc << 1) ^ (high * 0x04C1_1DB7);
                }
            }
        }
    }
}
