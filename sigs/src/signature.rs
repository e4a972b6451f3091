//! Signature files (`.sig`): the total map of a state, two levels deep, on disk.
//!
//! Layout (`docs/formats/sig.md`): a header, the leaf pages of all mixed chunks in disk order, the coarse table, a
//! trailer. Pages come first so that a signature is written in one pass while the disk is read; the table comes last
//! and is all that is loaded. A page is fetched when it is needed and checked against the table.

use std::io::{self, Write};

use crate::digest::Root;
use crate::map::{
    BadPage, COARSE_RECORD_BYTES, ChunkState, ChunkSummary, CoarseRecord, CoarseTable, Geometry, LeafPage,
    MAX_DISK_BYTES, RootBuilder, WrongChunkCount, page_hash,
};
use crate::source::ReadAt;
use crate::units::{BlockSize, ByteLen, ByteOffset, ChunkIndex, SectorSize};

const MAGIC: [u8; 8] = *b"EBBSIG\r\n";
const END_MAGIC: [u8; 8] = *b"SIGEND\r\n";
const VERSION: u32 = 1;
const HASH_SHA256: u32 = 1;
const HEADER_BYTES: u64 = 32;
const TRAILER_BYTES: u64 = 48;
/// A disk of 64 TiB has so many chunks; a larger table is not believed.
const MAX_RECORDS: u64 = 1 << 26;

/// Why a signature was refused or could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The medium failed.
    #[error("read {len} bytes at offset {offset} of the signature")]
    Read {
        /// Where.
        offset: ByteOffset,
        /// How much.
        len: ByteLen,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("write the signature")]
    Write(#[source] io::Error),
    /// Not a signature, or one this version does not know.
    #[error("offset {offset}: {reason}")]
    Format {
        /// Where.
        offset: ByteOffset,
        /// What is wrong there.
        reason: String,
    },
    /// The table does not have the root the file claims or the caller wants.
    #[error("the signature has the root {found}, expected {expected}")]
    WrongRoot {
        /// Computed from the table.
        found: Root,
        /// Claimed or wanted.
        expected: Root,
    },
    /// A page is not what the table says.
    #[error("the leaf page of chunk {chunk} does not match the coarse table")]
    WrongPage {
        /// The chunk.
        chunk: ChunkIndex,
        /// What is wrong with it, when it is not only its hash.
        #[source]
        source: Option<BadPage>,
    },
    /// The writer was given too few or too many chunks.
    #[error(transparent)]
    Incomplete(#[from] WrongChunkCount),
}

fn header(geometry: &Geometry) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&HASH_SHA256.to_le_bytes());
    bytes[16..].copy_from_slice(&geometry.to_bytes());
    bytes
}

/// Writes a signature in one pass, chunk by chunk in disk order.
#[derive(Debug)]
pub struct SignatureWriter<W> {
    out: W,
    builder: RootBuilder,
}

impl<W: Write> SignatureWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(mut out: W, geometry: Geometry) -> Result<Self, SignatureError> {
        out.write_all(&header(&geometry)).map_err(SignatureError::Write)?;
        Ok(Self { out, builder: RootBuilder::new(geometry) })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// What `out` says.
    pub fn push(&mut self, state: &ChunkState) -> Result<(), SignatureError> {
        self.push_summarised(state, state.summarise())
    }

    /// Takes the next chunk whose page was hashed already by [`ChunkState::summarise`].
    ///
    /// # Errors
    /// What `out` says.
    pub fn push_summarised(&mut self, state: &ChunkState, summary: ChunkSummary) -> Result<(), SignatureError> {
        if let ChunkState::Mixed(page) = state {
            self.out.write_all(page.as_bytes()).map_err(SignatureError::Write)?;
        }
        self.builder.push(summary);
        Ok(())
    }

    /// Takes a run of chunks that hold only FREE blocks; they need no page, so a long run costs nothing.
    pub fn push_free(&mut self, chunks: u64) {
        self.builder.push_run(ChunkSummary::Free, chunks);
    }

    /// Takes a run of chunks that hold only ZERO blocks; they need no page either.
    pub fn push_zero(&mut self, chunks: u64) {
        self.builder.push_run(ChunkSummary::Zero, chunks);
    }

    /// Writes the coarse table and the trailer, and returns the sink, the table and its root. Does not flush.
    ///
    /// # Errors
    /// [`SignatureError::Incomplete`] unless exactly the chunks of the disk were pushed; what `out` says.
    pub fn finish(mut self) -> Result<(W, CoarseTable, Root), SignatureError> {
        let table = self.builder.finish()?;
        let root = table.root();
        let mut tail = Vec::with_capacity(table.records.len() * COARSE_RECORD_BYTES + 48);
        for record in &table.records {
            tail.extend_from_slice(&record.to_bytes());
        }
        tail.extend_from_slice(&ByteLen::of(&tail).get().div_euclid(40).to_le_bytes());
        tail.extend_from_slice(root.as_bytes());
        tail.extend_from_slice(&END_MAGIC);
        self.out.write_all(&tail).map_err(SignatureError::Write)?;
        Ok((self.out, table, root))
    }
}

/// A record of the coarse table with the place of its page.
#[derive(Clone, Copy, Debug)]
struct Placed {
    record: CoarseRecord,
    first_chunk: u64,
    page: ByteOffset,
}

/// A signature opened for use: the coarse table in memory and checked, pages fetched on demand.
#[derive(Debug)]
pub struct Signature<R> {
    source: R,
    table: CoarseTable,
    root: Root,
    placed: Vec<Placed>,
}

impl<R: ReadAt> Signature<R> {
    /// Opens a signature and checks header, table, root and the length of the file.
    ///
    /// # Errors
    /// [`SignatureError`] with the offset of what is wrong.
    pub fn open(source: R) -> Result<Self, SignatureError> {
        let file_len = source.len().get();
        let format = |offset: u64, reason: String| SignatureError::Format { offset: ByteOffset::new(offset), reason };
        if file_len < HEADER_BYTES + TRAILER_BYTES {
            return Err(format(0, format!("a file of {file_len} bytes is too short for a signature")));
        }
        let head: [u8; 32] = read_array(&source, 0)?;
        let geometry = parse_header(&head)?;
        let trailer_at = file_len - TRAILER_BYTES;
        let trailer: [u8; 48] = read_array(&source, trailer_at)?;
        let (count, rest) = trailer.split_first_chunk::<8>().expect("48 bytes hold a count");
        let (claimed, end) = rest.split_first_chunk::<32>().expect("40 bytes hold a root");
        if end != END_MAGIC {
            return Err(format(
                trailer_at + 40,
                "the end mark of a signature is missing: the file is cut short".into(),
            ));
        }
        let count = u64::from_le_bytes(*count);
        let table_bytes = count
            .checked_mul(40)
            .filter(|bytes| count <= MAX_RECORDS && *bytes <= trailer_at - HEADER_BYTES)
            .ok_or_else(|| format(trailer_at, format!("{count} records do not fit the file")))?;
        let table_at = trailer_at - table_bytes;
        let bytes = read_vec(&source, table_at, ByteLen::new(table_bytes))?;
        let mut records = Vec::with_capacity(bytes.len() / COARSE_RECORD_BYTES);
        for (index, record) in (0_u64..).zip(bytes.as_chunks::<COARSE_RECORD_BYTES>().0) {
            let place = table_at + index * 40;
            let record = CoarseRecord::from_bytes(record)
                .ok_or_else(|| format(place, format!("record {index} of the coarse table is malformed")))?;
            records.push(record);
        }
        let table = CoarseTable { geometry, records };
        if !table.is_canonical() {
            return Err(format(table_at, "the coarse table does not cover exactly the disk".into()));
        }
        let root = table.root();
        let expected = Root::from_bytes(*claimed);
        if root != expected {
            return Err(SignatureError::WrongRoot { found: root, expected });
        }
        let placed = place_pages(&table, table_at)?;
        Ok(Self { source, table, root, placed })
    }

    /// Opens a signature that must be that of `expected`.
    ///
    /// # Errors
    /// As [`Signature::open`], and [`SignatureError::WrongRoot`].
    pub fn open_trusted(source: R, expected: Root) -> Result<Self, SignatureError> {
        let signature = Self::open(source)?;
        if signature.root == expected {
            Ok(signature)
        } else {
            Err(SignatureError::WrongRoot { found: signature.root, expected })
        }
    }

    /// Returns how the disk is cut.
    pub const fn geometry(&self) -> &Geometry {
        &self.table.geometry
    }

    /// Returns the root, computed from the table.
    pub const fn root(&self) -> Root {
        self.root
    }

    /// Returns the coarse table.
    pub const fn table(&self) -> &CoarseTable {
        &self.table
    }

    /// Returns the summary of one chunk; past the end of the disk everything is FREE.
    pub fn summary(&self, chunk: ChunkIndex) -> ChunkSummary {
        self.find(chunk).map_or(ChunkSummary::Free, |placed| placed.record.summary)
    }

    /// Fetches what one chunk holds; past the end of the disk everything is FREE.
    ///
    /// # Errors
    /// [`SignatureError::WrongPage`] when the page is not the one the table names; a read error.
    pub fn chunk(&self, chunk: ChunkIndex) -> Result<ChunkState, SignatureError> {
        let Some(placed) = self.find(chunk) else { return Ok(ChunkState::Free) };
        match placed.record.summary {
            ChunkSummary::Free => Ok(ChunkState::Free),
            ChunkSummary::Zero => Ok(ChunkState::Zero),
            ChunkSummary::Mixed { hash, data_blocks } => {
                let blocks = self.geometry().blocks_in_chunk(chunk).unwrap_or(0);
                let bytes = read_vec(&self.source, placed.page.get(), LeafPage::encoded_len(blocks, data_blocks))?;
                if page_hash(&bytes) != hash {
                    return Err(SignatureError::WrongPage { chunk, source: None });
                }
                let page = LeafPage::parse(bytes, blocks, data_blocks)
                    .map_err(|source| SignatureError::WrongPage { chunk, source: Some(source) })?;
                Ok(ChunkState::Mixed(page))
            }
        }
    }

    /// Reads every page once, so that a damaged one is found before it is needed.
    ///
    /// # Errors
    /// As [`Signature::chunk`].
    pub fn check_all(&self) -> Result<(), SignatureError> {
        for placed in &self.placed {
            if matches!(placed.record.summary, ChunkSummary::Mixed { .. }) {
                self.chunk(ChunkIndex::new(placed.first_chunk))?;
            }
        }
        Ok(())
    }

    fn find(&self, chunk: ChunkIndex) -> Option<&Placed> {
        let index = self.placed.partition_point(|placed| placed.first_chunk <= chunk.get());
        let placed = self.placed.get(index.checked_sub(1)?)?;
        (chunk.get() - placed.first_chunk < u64::from(placed.record.chunks)).then_some(placed)
    }
}

fn parse_header(head: &[u8; 32]) -> Result<Geometry, SignatureError> {
    let format = |offset: u64, reason: String| SignatureError::Format { offset: ByteOffset::new(offset), reason };
    if head[..8] != MAGIC {
        return Err(format(0, "this is not a signature file".into()));
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(8) != VERSION {
        return Err(format(8, format!("signature format {} is not known here (known: {VERSION})", word(8))));
    }
    if word(12) != HASH_SHA256 {
        return Err(format(12, format!("hash algorithm {} is not known here", word(12))));
    }
    let mut disk = [0; 8];
    disk.copy_from_slice(&head[16..24]);
    let disk = u64::from_le_bytes(disk);
    if disk > MAX_DISK_BYTES {
        return Err(format(
            16,
            format!("a disk of {disk} bytes is larger than the {MAX_DISK_BYTES} that are accepted"),
        ));
    }
    Ok(Geometry {
        disk_bytes: ByteLen::new(disk),
        sector_size: SectorSize::new(word(24)).map_err(|error| format(24, error.to_string()))?,
        block_size: BlockSize::new(word(28)).map_err(|error| format(28, error.to_string()))?,
    })
}

fn place_pages(table: &CoarseTable, table_at: u64) -> Result<Vec<Placed>, SignatureError> {
    let mut placed = Vec::with_capacity(table.records.len());
    let (mut chunk, mut page) = (0_u64, HEADER_BYTES);
    for record in &table.records {
        placed.push(Placed { record: *record, first_chunk: chunk, page: ByteOffset::new(page) });
        if let ChunkSummary::Mixed { data_blocks, .. } = record.summary {
            let blocks = table.geometry.blocks_in_chunk(ChunkIndex::new(chunk)).unwrap_or(0);
            page = page.saturating_add(LeafPage::encoded_len(blocks, data_blocks).get());
        }
        chunk += u64::from(record.chunks);
    }
    if page == table_at {
        return Ok(placed);
    }
    Err(SignatureError::Format {
        offset: ByteOffset::new(page.min(table_at)),
        reason: format!("the leaf pages end at {page}, the coarse table begins at {table_at}"),
    })
}

fn read_array<const N: usize>(source: &impl ReadAt, offset: u64) -> Result<[u8; N], SignatureError> {
    let mut bytes = [0; N];
    read_into(source, offset, &mut bytes)?;
    Ok(bytes)
}

fn read_vec(source: &impl ReadAt, offset: u64, len: ByteLen) -> Result<Vec<u8>, SignatureError> {
    let mut bytes = vec![0; len.to_usize().unwrap_or(usize::MAX)];
    read_into(source, offset, &mut bytes)?;
    Ok(bytes)
}

fn read_into(source: &impl ReadAt, offset: u64, bytes: &mut [u8]) -> Result<(), SignatureError> {
    let offset = ByteOffset::new(offset);
    let len = ByteLen::of(bytes);
    source.read_exact_at(bytes, offset).map_err(|source| SignatureError::Read { offset, len, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::BlockHash;
    use crate::map::BlockState;

    fn sample() -> Vec<u8> {
        let geometry = Geometry {
            disk_bytes: ByteLen::new((5 << 20) + 10_000),
            sector_size: SectorSize::S512,
            block_size: BlockSize::DEFAULT,
        };
        let mut writer = SignatureWriter::new(Vec::new(), geometry).unwrap();
        for chunk in 0..geometry.chunks() {
            let blocks = geometry.blocks_in_chunk(ChunkIndex::new(chunk)).unwrap();
            let states: Vec<_> = (0..blocks)
                .map(|block| match (chunk, block % 3) {
                    (0 | 5, 0) => BlockState::Data(BlockHash::of(&[u8::try_from(chunk).unwrap()])),
                    (0 | 5, 1) | (3, _) => BlockState::Zero,
                    _ => BlockState::Free,
                })
                .collect();
            writer.push(&ChunkState::from_states(&states)).unwrap();
        }
        writer.finish().unwrap().0
    }

    #[test]
    fn a_signature_comes_back_as_it_was_written() {
        let signature = Signature::open(sample()).unwrap();
        signature.check_all().unwrap();
        assert_eq!(signature.chunk(ChunkIndex::new(1)).unwrap(), ChunkState::Free);
        assert_eq!(signature.chunk(ChunkIndex::new(3)).unwrap(), ChunkState::Zero);
        assert_eq!(signature.chunk(ChunkIndex::new(9)).unwrap(), ChunkState::Free, "past the end");
        let last = signature.chunk(ChunkIndex::new(5)).unwrap().states(3);
        assert_eq!(last, [BlockState::Data(BlockHash::of(&[5])), BlockState::Zero, BlockState::Free]);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let good = sample();
        let root = Signature::open(good.clone()).unwrap().root();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            let noticed = Signature::open_trusted(bad, root).and_then(|signature| signature.check_all());
            assert!(noticed.is_err(), "flip at {place}");
        }
        for len in 0..good.len() {
            assert!(Signature::open(good[..len].to_vec()).is_err(), "cut to {len}");
        }
    }
}
