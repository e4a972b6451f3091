//! The total map: every block of a disk is exactly one of DATA, ZERO and FREE.
//!
//! A [`Geometry`] says how the disk is cut into blocks and chunks; a [`ChunkState`] says what one chunk
//! (1 MiB) holds; [`RootBuilder`] takes the chunks in disk order and gives the canonical coarse table and the
//! root. Byte layouts: `docs/formats/sig.md`.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::{BlockHash, Root};
use crate::units::{BlockCount, BlockIndex, BlockSize, ByteLen, ByteOffset, CHUNK_BYTES, ChunkIndex, SectorSize};

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// Proved unused; its content means nothing.
    Free,
    /// In use and all zeros.
    Zero,
    /// In use; identified by its hash.
    Data,
}

impl BlockKind {
    const fn code(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Zero => 1,
            Self::Data => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Free),
            1 => Some(Self::Zero),
            2 => Some(Self::Data),
            _ => None,
        }
    }
}

/// What a block is, with the hash of its content where that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockState {
    /// Proved unused.
    Free,
    /// In use and all zeros.
    Zero,
    /// In use, with this content.
    Data(BlockHash),
}

impl BlockState {
    /// Returns the state without the hash.
    pub const fn kind(self) -> BlockKind {
        match self {
            Self::Free => BlockKind::Free,
            Self::Zero => BlockKind::Zero,
            Self::Data(_) => BlockKind::Data,
        }
    }
}

/// The largest disk that is believed, 64 TiB: what a reader holds for a disk grows with its chunks.
pub const MAX_DISK_BYTES: u64 = 1 << 46;

/// How a disk is cut into sectors and blocks. Part of what a root binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// The size of the disk.
    pub disk_bytes: ByteLen,
    /// The size of a logical sector.
    pub sector_size: SectorSize,
    /// The size of a hash block.
    pub block_size: BlockSize,
}

impl Geometry {
    /// Returns how many blocks the disk has; a short last block counts as one.
    pub const fn blocks(&self) -> BlockCount {
        self.block_size.blocks_in(self.disk_bytes)
    }

    /// Returns how many chunks the disk has; a short last chunk counts as one.
    pub const fn chunks(&self) -> u64 {
        self.disk_bytes.get().div_ceil(CHUNK_BYTES as u64)
    }

    /// Returns where a chunk begins and how long it is, or `None` past the end of the disk.
    pub fn chunk_range(&self, chunk: ChunkIndex) -> Option<(ByteOffset, ByteLen)> {
        let start = chunk.get().checked_mul(u64::from(CHUNK_BYTES))?;
        let left = self.disk_bytes.get().checked_sub(start).filter(|left| *left > 0)?;
        Some((ByteOffset::new(start), ByteLen::new(left.min(u64::from(CHUNK_BYTES)))))
    }

    /// Returns how many blocks a chunk holds (fewer in a short last chunk), or `None` past the end of the disk.
    pub fn blocks_in_chunk(&self, chunk: ChunkIndex) -> Option<u32> {
        let (_, len) = self.chunk_range(chunk)?;
        u32::try_from(self.block_size.blocks_in(len).get()).ok()
    }

    /// Returns the first block of a chunk.
    pub const fn first_block(&self, chunk: ChunkIndex) -> BlockIndex {
        BlockIndex::new(chunk.get().saturating_mul(self.block_size.blocks_per_chunk() as u64))
    }

    /// Returns where a block begins and its true length, or `None` past the end of the disk.
    pub fn block_range(&self, block: BlockIndex) -> Option<(ByteOffset, ByteLen)> {
        let size = u64::from(self.block_size.bytes());
        let start = block.get().checked_mul(size)?;
        let left = self.disk_bytes.get().checked_sub(start).filter(|left| *left > 0)?;
        Some((ByteOffset::new(start), ByteLen::new(left.min(size))))
    }

    /// Returns the 16 bytes that a root and a signature header hold: disk bytes, sector size, block size.
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.disk_bytes.get().to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sector_size.bytes().to_le_bytes());
        bytes[12..].copy_from_slice(&self.block_size.bytes().to_le_bytes());
        bytes
    }
}

/// A leaf page: the kinds of all blocks of a chunk and the hashes of its DATA blocks.
///
/// Kept in its canonical bytes, which are what the coarse table hashes: two bits for each block (first block in
/// the lowest bits), padded with zero bits to a byte, then one hash for each DATA block, in disk order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafPage {
    bytes: Vec<u8>,
    blocks: u32,
    data_blocks: u32,
}

/// A leaf page whose bytes are not canonical.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPage {
    /// Its length does not follow from its counts.
    #[error("a leaf page of {blocks} blocks, {data_blocks} of them data, has {found} bytes instead of {expected}")]
    Length {
        /// Blocks of the chunk.
        blocks: u32,
        /// DATA blocks as recorded.
        data_blocks: u32,
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// A kind that does not exist, or padding that is not zero.
    #[error("block {block} of a leaf page has the kind {code}, which does not exist")]
    Kind {
        /// The block within the chunk.
        block: u32,
        /// The two bits found.
        code: u8,
    },
    /// More or fewer DATA blocks than recorded.
    #[error("a leaf page marks {found} blocks as data where {expected} are recorded")]
    Count {
        /// Counted.
        found: u32,
        /// Recorded.
        expected: u32,
    },
}

const fn kind_bytes(blocks: u32) -> usize {
    blocks.div_ceil(4) as usize
}

const fn page_bytes(blocks: u32, data_blocks: u32) -> usize {
    kind_bytes(blocks) + 32 * data_blocks as usize
}

impl LeafPage {
    /// Returns how many bytes a page takes.
    pub const fn encoded_len(blocks: u32, data_blocks: u32) -> ByteLen {
        ByteLen::new(page_bytes(blocks, data_blocks) as u64)
    }

    /// Checks bytes read from a file.
    ///
    /// # Errors
    /// [`BadPage`] when they are not the canonical form of a chunk with these counts.
    pub fn parse(bytes: Vec<u8>, blocks: u32, data_blocks: u32) -> Result<Self, BadPage> {
        let expected = page_bytes(blocks, data_blocks);
        if bytes.len() != expected || data_blocks > blocks {
            return Err(BadPage::Length { blocks, data_blocks, found: bytes.len(), expected });
        }
        let mut found = 0;
        for block in 0..blocks.next_multiple_of(4) {
            let code = code_at(&bytes, block);
            match BlockKind::from_code(code) {
                Some(BlockKind::Data) if block < blocks => found += 1,
                Some(BlockKind::Free) => {}
                Some(BlockKind::Zero) if block < blocks => {}
                Some(BlockKind::Data | BlockKind::Zero) | None => return Err(BadPage::Kind { block, code }),
            }
        }
        if found != data_blocks {
            return Err(BadPage::Count { found, expected: data_blocks });
        }
        Ok(Self { bytes, blocks, data_blocks })
    }

    /// Returns the canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many blocks the chunk has.
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns how many of them are DATA.
    pub const fn data_blocks(&self) -> u32 {
        self.data_blocks
    }

    /// Returns the states of all blocks in disk order.
    pub fn states(&self) -> impl Iterator<Item = BlockState> + '_ {
        let mut hashes = self.bytes[kind_bytes(self.blocks)..].as_chunks::<32>().0.iter();
        (0..self.blocks).map(move |block| match code_at(&self.bytes, block) {
            0 => BlockState::Free,
            1 => BlockState::Zero,
            _ => BlockState::Data(BlockHash::from_bytes(
                *hashes.next().expect("the constructor counted one hash for each data block"),
            )),
        })
    }
}

fn code_at(bytes: &[u8], block: u32) -> u8 {
    let byte = bytes.get(block as usize / 4).copied().unwrap_or(3);
    (byte >> (2 * (block % 4))) & 3
}

/// What one chunk of a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// Only FREE blocks.
    Free,
    /// Only ZERO blocks.
    Zero,
    /// Anything else.
    Mixed(LeafPage),
}

impl ChunkState {
    /// Makes the canonical state of a chunk from the states of its blocks, in disk order.
    pub fn from_states(states: &[BlockState]) -> Self {
        if states.iter().all(|state| *state == BlockState::Free) {
            return Self::Free;
        }
        if states.iter().all(|state| *state == BlockState::Zero) {
            return Self::Zero;
        }
        let kinds = states.len().div_ceil(4);
        let mut bytes = vec![0; kinds];
        bytes.reserve(32 * states.len());
        let mut data_blocks = 0;
        for (index, state) in states.iter().enumerate() {
            bytes[index / 4] |= state.kind().code() << (2 * (index % 4));
            if let BlockState::Data(hash) = state {
                bytes.extend_from_slice(hash.as_bytes());
                data_blocks += 1;
            }
        }
        let blocks = u32::try_from(states.len()).expect("a chunk has at most 2048 blocks");
        Self::Mixed(LeafPage { bytes, blocks, data_blocks })
    }

    /// Returns the states of the `blocks` blocks of this chunk.
    pub fn states(&self, blocks: u32) -> Vec<BlockState> {
        match self {
            Self::Free => vec![BlockState::Free; blocks as usize],
            Self::Zero => vec![BlockState::Zero; blocks as usize],
            Self::Mixed(page) => page.states().collect(),
        }
    }

    /// Hashes a mixed chunk ahead of time; do this where there are many threads.
    pub fn summarise(&self) -> ChunkSummary {
        match self {
            Self::Free => ChunkSummary::Free,
            Self::Zero => ChunkSummary::Zero,
            Self::Mixed(page) => {
                ChunkSummary::Mixed { hash: page_hash(page.as_bytes()), data_blocks: page.data_blocks }
            }
        }
    }
}

/// Returns the hash by which the coarse table names a leaf page.
pub fn page_hash(page: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"ebb.page.1\0");
    hasher.update(page);
    hasher.finalize().into()
}

/// One chunk in the coarse table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkSummary {
    /// Only FREE blocks.
    Free,
    /// Only ZERO blocks.
    Zero,
    /// A leaf page with this hash and so many DATA blocks.
    Mixed {
        /// The hash of the page.
        hash: [u8; 32],
        /// How many of its blocks are DATA.
        data_blocks: u32,
    },
}

/// The size of one record of the coarse table.
pub const COARSE_RECORD_BYTES: usize = 40;

/// One record of the coarse table: a run of equal chunks, or one mixed chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoarseRecord {
    /// What each chunk of the run is.
    pub summary: ChunkSummary,
    /// How many chunks: 1 for a mixed one.
    pub chunks: u32,
}

impl CoarseRecord {
    /// Returns the record's 40 bytes: kind u8, zero u8, data blocks u16, chunks u32, page hash.
    pub fn to_bytes(&self) -> [u8; COARSE_RECORD_BYTES] {
        let mut bytes = [0; COARSE_RECORD_BYTES];
        bytes[4..8].copy_from_slice(&self.chunks.to_le_bytes());
        match self.summary {
            ChunkSummary::Free => {}
            ChunkSummary::Zero => bytes[0] = 1,
            ChunkSummary::Mixed { hash, data_blocks } => {
                bytes[0] = 2;
                let count = u16::try_from(data_blocks).expect("a chunk has at most 2048 blocks");
                bytes[2..4].copy_from_slice(&count.to_le_bytes());
                bytes[8..].copy_from_slice(&hash);
            }
        }
        bytes
    }

    /// Parses a record, or returns `None` when its bytes are not canonical.
    pub fn from_bytes(bytes: &[u8; COARSE_RECORD_BYTES]) -> Option<Self> {
        let chunks = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let data_blocks = u16::from_le_bytes([bytes[2], bytes[3]]);
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[8..]);
        let summary = match bytes[0] {
            0 => ChunkSummary::Free,
            1 => ChunkSummary::Zero,
            2 => ChunkSummary::Mixed { hash, data_blocks: u32::from(data_blocks) },
            _ => return None,
        };
        let record = Self { summary, chunks };
        let sound = chunks > 0 && (bytes[0] != 2 || chunks == 1);
        (sound && record.to_bytes() == *bytes).then_some(record)
    }
}

/// How many blocks of a state are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockCounts {
    /// DATA blocks.
    pub data: BlockCount,
    /// ZERO blocks.
    pub zero: BlockCount,
    /// FREE blocks.
    pub free: BlockCount,
}

/// The coarse table of a disk: canonical, complete, with its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoarseTable {
    /// How the disk is cut.
    pub geometry: Geometry,
    /// The records, in disk order; neighbouring runs of one kind are merged.
    pub records: Vec<CoarseRecord>,
}

impl CoarseTable {
    /// Returns the root of the state: SHA-256 of `ebb.root.1`, the geometry and every record.
    pub fn root(&self) -> Root {
        let mut hasher = Sha256::new();
        hasher.update(b"ebb.root.1\0");
        hasher.update(self.geometry.to_bytes());
        for record in &self.records {
            hasher.update(record.to_bytes());
        }
        Root::from_bytes(hasher.finalize().into())
    }

    /// Returns true when the records are canonical and cover exactly the disk.
    pub fn is_canonical(&self) -> bool {
        let mut chunk = 0_u64;
        let mut previous = None;
        for record in &self.records {
            let end = chunk + u64::from(record.chunks);
            if end > self.geometry.chunks() {
                return false;
            }
            match record.summary {
                ChunkSummary::Mixed { data_blocks, .. } => {
                    let blocks = self.geometry.blocks_in_chunk(ChunkIndex::new(chunk));
                    if blocks.is_none_or(|blocks| data_blocks > blocks) {
                        return false;
                    }
                }
                ChunkSummary::Free | ChunkSummary::Zero => {
                    // A run ends only where the next is something else, or where its count is full.
                    if previous.is_some_and(|p: CoarseRecord| p.summary == record.summary && p.chunks != u32::MAX) {
                        return false;
                    }
                }
            }
            previous = Some(*record);
            chunk = end;
        }
        chunk == self.geometry.chunks()
    }
}

/// Takes the chunks of a disk in order and gives its coarse table.
#[derive(Debug)]
pub struct RootBuilder {
    table: CoarseTable,
    next: u64,
}

/// Chunks pushed past the end of the disk, or too few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pushed} chunks were described of a disk that has {expected}")]
pub struct WrongChunkCount {
    pushed: u64,
    expected: u64,
}

impl RootBuilder {
    /// Starts at the first chunk.
    pub const fn new(geometry: Geometry) -> Self {
        Self { table: CoarseTable { geometry, records: Vec::new() }, next: 0 }
    }

    /// Takes the next chunk.
    pub fn push(&mut self, summary: ChunkSummary) {
        self.push_run(summary, 1);
    }

    /// Takes a run of equal chunks; a mixed chunk is a run of 1.
    pub fn push_run(&mut self, summary: ChunkSummary, chunks: u64) {
        self.next = self.next.saturating_add(chunks);
        let mut left = chunks;
        while left > 0 {
            let mergeable = !matches!(summary, ChunkSummary::Mixed { .. });
            if let Some(last) = self.table.records.last_mut()
                && mergeable
                && last.summary == summary
                && last.chunks < u32::MAX
            {
                let take = u32::try_from(left).unwrap_or(u32::MAX).min(u32::MAX - last.chunks);
                last.chunks += take;
                left -= u64::from(take);
                continue;
            }
            let take = if mergeable { u32::try_from(left).unwrap_or(u32::MAX) } else { 1 };
            self.table.records.push(CoarseRecord { summary, chunks: take });
            left -= u64::from(take);
        }
    }

    /// Returns the finished table.
    ///
    /// # Errors
    /// [`WrongChunkCount`] unless exactly the chunks of the disk were pushed.
    pub fn finish(self) -> Result<CoarseTable, WrongChunkCount> {
        let expected = self.table.geometry.chunks();
        if self.next == expected { Ok(self.table) } else { Err(WrongChunkCount { pushed: self.next, expected }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(bytes: u64) -> Geometry {
        Geometry { disk_bytes: ByteLen::new(bytes), sector_size: SectorSize::S512, block_size: BlockSize::DEFAULT }
    }

    #[test]
    fn a_page_comes_back_as_it_was() {
        let states = [
            BlockState::Data(BlockHash::of(b"a")),
            BlockState::Free,
            BlockState::Zero,
            BlockState::Free,
            BlockState::Data(BlockHash::of(b"b")),
        ];
        let ChunkState::Mixed(page) = ChunkState::from_states(&states) else { panic!("mixed") };
        let parsed = LeafPage::parse(page.as_bytes().to_vec(), 5, 2).unwrap();
        assert_eq!(parsed.states().collect::<Vec<_>>(), states);
    }

    #[test]
    fn a_page_that_is_not_canonical_is_refused() {
        let states = [BlockState::Zero, BlockState::Free, BlockState::Data(BlockHash::of(b"b"))];
        let ChunkState::Mixed(page) = ChunkState::from_states(&states) else { panic!("mixed") };
        let good = page.as_bytes().to_vec();
        let mut padded = good.clone();
        padded[0] |= 0b0100_0000;
        assert!(matches!(LeafPage::parse(padded, 3, 1), Err(BadPage::Kind { block: 3, code: 1 })));
        let mut unknown = good.clone();
        unknown[0] |= 0b11;
        assert!(matches!(LeafPage::parse(unknown, 3, 1), Err(BadPage::Kind { block: 0, code: 3 })));
        let mut recounted = good.clone();
        recounted[0] = 0b01_01_01;
        assert!(matches!(LeafPage::parse(recounted, 3, 1), Err(BadPage::Count { found: 0, expected: 1 })));
        assert!(matches!(LeafPage::parse(good, 3, 2), Err(BadPage::Length { .. })));
    }

    #[test]
    fn runs_merge_and_the_root_binds_place_kind_and_geometry() {
        let root = |bytes, summaries: &[ChunkSummary]| {
            let mut builder = RootBuilder::new(geometry(bytes));
            summaries.iter().for_each(|summary| builder.push(*summary));
            let table = builder.finish().unwrap();
            assert!(table.is_canonical());
            table
        };
        let mixed = ChunkSummary::Mixed { hash: [7; 32], data_blocks: 3 };
        let a = root(3 << 20, &[ChunkSummary::Free, ChunkSummary::Free, mixed]);
        assert_eq!(a.records.len(), 2);
        let b = root(3 << 20, &[ChunkSummary::Free, mixed, ChunkSummary::Free]);
        let c = root(3 << 20, &[ChunkSummary::Zero, ChunkSummary::Zero, mixed]);
        let d = root((3 << 20) - 4096, &[ChunkSummary::Free, ChunkSummary::Free, mixed]);
        let roots = [a.root(), b.root(), c.root(), d.root()];
        for (index, root) in roots.iter().enumerate() {
            assert!(!roots[..index].contains(root));
        }
        assert!(RootBuilder::new(geometry(1)).finish().is_err());
    }

    #[test]
    fn records_are_canonical_or_refused() {
        let record = CoarseRecord { summary: ChunkSummary::Mixed { hash: [9; 32], data_blocks: 256 }, chunks: 1 };
        assert_eq!(CoarseRecord::from_bytes(&record.to_bytes()), Some(record));
        for (place, value) in [(0, 3), (1, 1), (4, 2), (4, 0)] {
            let mut bytes = record.to_bytes();
            bytes[place] = value;
            assert_eq!(CoarseRecord::from_bytes(&bytes), None, "byte {place} = {value}");
        }
    }
}
