//! The root of what a written file holds, read back: FREE and ZERO blocks read as zeros, DATA blocks are hashed.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use sigs::map::{ChunkSummary, WrongChunkCount};
use sigs::{
    BlockHash, BlockIndex, BlockState, ByteLen, ByteOffset, ByteRange, ChunkIndex, ChunkState, ReadAt, Root,
    RootBuilder,
};

use crate::control::{Control, Phase};
use crate::image::{Chain, Content, Verified};
use crate::io::is_zero;
use crate::parallel;

/// How many chunks one worker takes at a time.
const PIECE_CHUNKS: u64 = 8;

/// A file that does not hold what was written to it.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// It cannot be read.
    #[error("read {len} bytes at offset {offset} of the disk in the written file")]
    Read {
        /// Where.
        offset: ByteOffset,
        /// How much.
        len: ByteLen,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// It is shorter than the disk.
    #[error("the disk in the written file has {found} bytes, the image is of a disk of {expected}")]
    Size {
        /// The file.
        found: ByteLen,
        /// The image.
        expected: ByteLen,
    },
    /// A block that has no content has some.
    #[error("the blocks at offset {offset} do not read back as zeros")]
    NotZero {
        /// Where.
        offset: ByteOffset,
    },
    /// What was read back is not the state.
    #[error("what was read back has the root {found}, the image has {expected}")]
    WrongRoot {
        /// Computed.
        found: Root,
        /// That of the manifest.
        expected: Root,
    },
    /// A defect: not all chunks were hashed.
    #[error(transparent)]
    Chunks(#[from] WrongChunkCount),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Reads a disk and returns the root of the state it holds, when that is the state of the image.
///
/// What the disk has behind the end of the image's disk is not looked at.
///
/// # Errors
/// [`ProofError`]
pub fn prove(
    chain: &Chain<Verified>,
    disk: &dyn ReadAt,
    threads: NonZeroUsize,
    control: Control<'_>,
) -> Result<Root, ProofError> {
    let geometry = *chain.geometry();
    let (found, expected) = (disk.len(), geometry.disk_bytes);
    if found < expected {
        return Err(ProofError::Size { found, expected });
    }
    control.progress.begin(Phase::ReadBack, geometry.disk_bytes);
    let work = |buffer: &mut Vec<u8>, chunks: Range<u64>| {
        let hashed = chunks.map(|chunk| hash_chunk(chain, disk, ChunkIndex::new(chunk), buffer, control));
        hashed.collect::<Result<Vec<ChunkSummary>, ProofError>>()
    };
    let mut builder = RootBuilder::new(geometry);
    let chunks = geometry.chunks();
    let pieces =
        (0..chunks.div_ceil(PIECE_CHUNKS)).map(|piece| piece * PIECE_CHUNKS..((piece + 1) * PIECE_CHUNKS).min(chunks));
    parallel::in_order("prove", threads, pieces, Vec::new, work, |summaries| {
        summaries.into_iter().for_each(|summary| builder.push(summary));
        Ok(())
    })?;
    let (found, expected) = (builder.finish()?.root(), chain.manifest().target_root);
    if found == expected { Ok(found) } else { Err(ProofError::WrongRoot { found, expected }) }
}

fn hash_chunk(
    chain: &Chain<Verified>,
    disk: &dyn ReadAt,
    chunk: ChunkIndex,
    buffer: &mut Vec<u8>,
    control: Control<'_>,
) -> Result<ChunkSummary, ProofError> {
    if control.cancelled() {
        return Err(ProofError::Cancelled);
    }
    let geometry = chain.geometry();
    let first = geometry.first_block(chunk);
    let end = first.get().saturating_add(u64::from(geometry.blocks_in_chunk(chunk).unwrap_or(0)));
    let mut states = Vec::new();
    for run in chain.plan().runs_in(first, BlockIndex::new(end)) {
        let Some(range) = chain.plan().byte_range(&run) else { continue };
        let state = match run.content {
            Content::Free => BlockState::Free,
            Content::Zero => BlockState::Zero,
            Content::Frame { .. } => {
                read(disk, range, buffer)?;
                let blocks = buffer.chunks(geometry.block_size.as_usize());
                BlockHash::of_each(blocks, |hash| states.push(BlockState::Data(hash)));
                continue;
            }
        };
        check_zero(disk, range, buffer)?;
        states.extend((0..run.blocks.get()).map(|_| state));
    }
    if let Some((_, len)) = geometry.chunk_range(chunk) {
        control.progress.add_done(len);
    }
    Ok(ChunkState::from_states(&states).summarise())
}

/// Checks that a range of at most a chunk reads as zeros; one that is known to is not read.
fn check_zero(disk: &dyn ReadAt, range: ByteRange, buffer: &mut Vec<u8>) -> Result<(), ProofError> {
    let failed = |source| ProofError::Read { offset: range.start, len: range.len, source };
    if disk.next_data(range).map_err(failed)?.is_none() {
        return Ok(());
    }
    read(disk, range, buffer)?;
    if is_zero(buffer) { Ok(()) } else { Err(ProofError::NotZero { offset: range.start }) }
}

fn read(disk: &dyn ReadAt, range: ByteRange, buffer: &mut Vec<u8>) -> Result<(), ProofError> {
    buffer.resize(range.len.to_usize().unwrap_or(0), 0);
    let read = disk.read_exact_at(buffer, range.start);
    read.map_err(|source| ProofError::Read { offset: range.start, len: range.len, source })
}
