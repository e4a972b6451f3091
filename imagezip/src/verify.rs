//! Proving an image without restoring it: from its own bytes, or against a disk.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use serde::Serialize;
use sigs::map::{ChunkSummary, WrongChunkCount};
use sigs::{
    BlockCount, BlockHash, BlockIndex, BlockState, ByteLen, ByteOffset, ByteRange, ChunkIndex, ChunkState, ReadAt,
    Root, RootBuilder,
};

use crate::control::{Control, Phase};
use crate::fit::{Fit, FixUp, Misfit};
use crate::image::{Chain, Content, ContentReader, ImageError, PlanRun, Verified};
use crate::io::is_zero;
use crate::layout::Layout;
use crate::parallel;

/// How many chunks one worker takes at a time.
const PIECE_CHUNKS: u64 = 32;
/// How many ranges of blocks that differ are reported; more are only counted.
pub const MAX_REPORTED: usize = 100;

/// A verification that came to no answer, or to the wrong root.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The image is damaged.
    #[error("read the image")]
    Image(#[from] ImageError),
    /// Its content is not what its manifest says.
    #[error("the content has the root {found}, the manifest says {expected}")]
    WrongRoot {
        /// Computed.
        found: Root,
        /// Claimed.
        expected: Root,
    },
    /// The disk to compare with could not be read.
    #[error("read {len} bytes at offset {offset} of the disk")]
    Read {
        /// Where.
        offset: ByteOffset,
        /// How much.
        len: ByteLen,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// The disk to compare with has another size, and cannot hold the state.
    #[error("the disk has another size than that of the image, and cannot hold its state")]
    Unfit(#[source] Misfit),
    /// A defect: not all chunks were hashed.
    #[error(transparent)]
    Chunks(#[from] WrongChunkCount),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Blocks that differ and follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The first block.
    pub first: BlockIndex,
    /// How many.
    pub blocks: BlockCount,
    /// Where on the disk they begin.
    pub offset: ByteOffset,
}

/// What a comparison with a disk found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// DATA and ZERO blocks compared.
    pub compared_blocks: BlockCount,
    /// How many of them differ.
    pub different_blocks: BlockCount,
    /// The first of them, at most [`MAX_REPORTED`] ranges.
    pub differences: Vec<Difference>,
    /// What is other than in the state because the disk has another size; it was compared, too.
    pub fix_ups: Vec<FixUp>,
}

impl Comparison {
    /// Returns true when nothing differs.
    pub fn is_identical(&self) -> bool {
        self.different_blocks.is_zero()
    }

    fn add(&mut self, first: u64, blocks: u64, block_bytes: u32) {
        self.different_blocks = BlockCount::new(self.different_blocks.get() + blocks);
        if let Some(last) = self.differences.last_mut()
            && last.first.get() + last.blocks.get() == first
        {
            last.blocks = BlockCount::new(last.blocks.get() + blocks);
        } else if self.differences.len() < MAX_REPORTED {
            let offset = ByteOffset::new(first.saturating_mul(u64::from(block_bytes)));
            self.differences.push(Difference {
                first: BlockIndex::new(first),
                blocks: BlockCount::new(blocks),
                offset,
            });
        }
    }
}

/// Expands and hashes the content of every block, and compares the root with that of the manifest.
///
/// # Errors
/// [`VerifyError::WrongRoot`]; [`VerifyError::Image`] when a frame is damaged.
pub fn verify_content(
    chain: &Chain<Verified>,
    threads: NonZeroUsize,
    control: Control<'_>,
) -> Result<Root, VerifyError> {
    let plan = chain.plan();
    control.progress.begin(Phase::ReadBack, plan.used_bytes());
    let work = |reader: &mut ContentReader<'_>, chunks: Range<u64>| {
        let first = chunks.start;
        let hashed: Result<Vec<_>, VerifyError> =
            chunks.map(|chunk| hash_chunk(chain, ChunkIndex::new(chunk), reader, control)).collect();
        Ok::<_, VerifyError>((first, hashed?))
    };
    let mut builder = RootBuilder::new(*chain.geometry());
    let mut next = 0;
    let pieces = plan.pieces(PIECE_CHUNKS, false).into_iter();
    parallel::in_order(
        "verify",
        threads,
        pieces,
        || ContentReader::new(chain),
        work,
        |(first, chunks)| {
            builder.push_run(ChunkSummary::Free, first.saturating_sub(next));
            next = first;
            for summary in chunks {
                builder.push(summary);
                next += 1;
            }
            Ok(())
        },
    )?;
    builder.push_run(ChunkSummary::Free, chain.geometry().chunks().saturating_sub(next));
    let (found, expected) = (builder.finish()?.root(), chain.manifest().target_root);
    if found == expected { Ok(found) } else { Err(VerifyError::WrongRoot { found, expected }) }
}

fn hash_chunk(
    chain: &Chain<Verified>,
    chunk: ChunkIndex,
    reader: &mut ContentReader<'_>,
    control: Control<'_>,
) -> Result<ChunkSummary, VerifyError> {
    if control.cancelled() {
        return Err(VerifyError::Cancelled);
    }
    let geometry = chain.geometry();
    let mut states = Vec::new();
    let (first, end) = blocks_of(chain, &(chunk.get()..chunk.get() + 1));
    for run in chain.plan().runs_in(first, end) {
        let state = match run.content {
            Content::Free => BlockState::Free,
            Content::Zero => BlockState::Zero,
            Content::Frame { .. } => {
                let content = reader.content(&run)?.unwrap_or_default();
                let blocks = content.chunks(geometry.block_size.as_usize());
                BlockHash::of_each(blocks, |hash| states.push(BlockState::Data(hash)));
                control.progress.add_done(ByteLen::of(content));
                continue;
            }
        };
        states.extend((0..run.blocks.get()).map(|_| state));
    }
    Ok(ChunkState::from_states(&states).summarise())
}

fn blocks_of(chain: &Chain<Verified>, chunks: &Range<u64>) -> (BlockIndex, BlockIndex) {
    let geometry = chain.geometry();
    let end = geometry.first_block(ChunkIndex::new(chunks.end)).get().min(geometry.blocks().get());
    (geometry.first_block(ChunkIndex::new(chunks.start)), BlockIndex::new(end))
}

/// Compares every DATA and ZERO block with a disk.
///
/// On a disk of another size what has to be made anew there is expected instead of what is in the state.
///
/// Where a block differs, the bytes that `layout` says are free on the disk count as zeros, as they did when the image
/// was made. FREE blocks are not compared.
///
/// # Errors
/// [`VerifyError`] when the two cannot be compared; differences are not errors here.
pub fn compare(
    chain: &Chain<Verified>,
    disk: &dyn ReadAt,
    layout: &Layout,
    threads: NonZeroUsize,
    control: Control<'_>,
) -> Result<Comparison, VerifyError> {
    let fit = Fit::new(chain, disk.len()).map_err(VerifyError::Unfit)?;
    control.progress.begin(Phase::ReadBack, chain.plan().used_bytes());
    let start = || Comparer { chain, disk, layout, fit: &fit, reader: ContentReader::new(chain), found: Vec::new() };
    let work = |comparer: &mut Comparer<'_>, chunks: Range<u64>| {
        let (first, end) = blocks_of(chain, &chunks);
        let mut differences: Vec<(u64, u64)> = Vec::new();
        let mut compared = 0;
        for run in chain.plan().runs_in(first, end).filter(|run| run.content != Content::Free) {
            if control.cancelled() {
                return Err(VerifyError::Cancelled);
            }
            comparer.compare(&run, &mut differences)?;
            compared += run.blocks.get();
            control.progress.add_done(ByteLen::of(&comparer.found));
        }
        Ok((compared, differences))
    };
    let mut comparison = Comparison::default();
    let block_bytes = chain.geometry().block_size.bytes();
    let pieces = chain.plan().pieces(PIECE_CHUNKS, false).into_iter();
    parallel::in_order("compare", threads, pieces, start, work, |(compared, differences)| {
        comparison.compared_blocks = BlockCount::new(comparison.compared_blocks.get() + compared);
        differences.iter().for_each(|(first, blocks)| comparison.add(*first, *blocks, block_bytes));
        Ok(())
    })?;
    for (block, wanted) in fit.made() {
        let offset = ByteOffset::new(block.get().saturating_mul(u64::from(block_bytes)));
        let (mut found, len) = (vec![0; wanted.len()], ByteLen::of(wanted));
        disk.read_exact_at(&mut found, offset).map_err(|source| VerifyError::Read { offset, len, source })?;
        if found != wanted {
            comparison.add(block.get(), 1, block_bytes);
        }
    }
    comparison.fix_ups = fit.fix_ups().to_vec();
    Ok(comparison)
}

struct Comparer<'a> {
    chain: &'a Chain<Verified>,
    disk: &'a dyn ReadAt,
    layout: &'a Layout,
    fit: &'a Fit,
    reader: ContentReader<'a>,
    found: Vec<u8>,
}

impl Comparer<'_> {
    /// Compares a run, 1 MiB at a time, and adds the blocks that differ.
    fn compare(&mut self, run: &PlanRun, differences: &mut Vec<(u64, u64)>) -> Result<(), VerifyError> {
        let geometry = *self.chain.geometry();
        let step = u64::from(geometry.block_size.blocks_per_chunk());
        let end = run.first.get().saturating_add(run.blocks.get());
        let mut at = run.first.get();
        while at < end {
            let stop = at.saturating_add(step).min(end);
            let parts = self.chain.plan().runs_in(BlockIndex::new(at), BlockIndex::new(stop));
            for part in parts {
                // Past the end of a smaller disk nothing is left but zeros and a backup GPT.
                let range = self.chain.plan().byte_range(&part).and_then(|range| self.fit.clip(range));
                let Some(range) = range else { continue };
                self.found.resize(range.len.to_usize().unwrap_or(0), 0);
                let read = self.disk.read_exact_at(&mut self.found, range.start);
                read.map_err(|source| VerifyError::Read { offset: range.start, len: range.len, source })?;
                let wanted = self.reader.content(&part)?;
                let size = geometry.block_size.as_usize();
                for (index, found) in (0_u64..).zip(self.found.chunks_mut(size)) {
                    let block = part.first.get() + index;
                    if self.fit.makes(block) {
                        continue;
                    }
                    let wanted = wanted.and_then(|wanted| wanted.chunks(size).nth(usize::try_from(index).ok()?));
                    if !equal(found, wanted) && !self.layout.equal_when_masked(&geometry, block, found, wanted) {
                        differences.push((block, 1));
                    }
                }
            }
            at = stop;
        }
        Ok(())
    }
}

fn equal(found: &[u8], wanted: Option<&[u8]>) -> bool {
    wanted.map_or_else(|| is_zero(found), |wanted| wanted == found)
}

impl Layout {
    /// Clears the bytes of a block that are free on the disk, and compares again.
    fn equal_when_masked(
        &self,
        geometry: &sigs::Geometry,
        block: u64,
        found: &mut [u8],
        wanted: Option<&[u8]>,
    ) -> bool {
        let Some((start, len)) = geometry.block_range(BlockIndex::new(block)) else { return false };
        let mut reached = 0;
        for piece in self.within(ByteRange { start, len }) {
            let place = piece.start.checked_since(start).and_then(ByteLen::to_usize);
            let Some((place, len)) = place.zip(piece.len.to_usize()) else { return false };
            found[reached..place].fill(0);
            reached = place + len;
        }
        found[reached..].fill(0);
        equal(found, wanted)
    }
}
