//! Restoring in place onto a disk whose wanted hashes are at hand: the signature of the state.
//!
//! The disk is read once, past the cache, and each used block is hashed. What has the hash it should have is right, and
//! the image need not even be expanded there. Only what differs is written, and only that is read back: together, every
//! used block was read from the medium and has the hash that the root binds. A block that cannot be read counts as
//! different; writing it may heal it.

use sigs::map::ChunkSummary;
use sigs::{BlockHash, BlockIndex, BlockState, ByteLen, ByteOffset, ByteRange, ChunkIndex};

use super::body::PIECE_CHUNKS;
use super::ends::Ends;
use super::{Failure, FreePolicy, Job, Refusal};
use crate::capture::Base;
use crate::control::Phase;
use crate::extents::{Extents, ExtentsBuilder};
use crate::image::Content;
use crate::io::is_zero;
use crate::parallel;

/// What a worker found in a piece: its first chunk, the end of its last, and what differs.
type Compared = (u64, u64, Vec<ByteRange>);

/// What one worker keeps.
#[derive(Default)]
struct Worker {
    buffer: Vec<u8>,
    found: Vec<BlockState>,
}

impl Job<'_> {
    /// Returns which used parts of the target are not what the signature says.
    ///
    /// # Errors
    /// [`Refusal::Signature`] when signature and image do not describe the same state. Nothing was written.
    pub(super) fn differing(&self, signature: &dyn Base) -> Result<Extents, Refusal> {
        let geometry = self.geometry();
        if signature.root() != self.chain.manifest().target_root || signature.geometry() != geometry {
            return Err(Refusal::Signature);
        }
        // The cache does not forget what somebody wrote and nobody flushed: that would be read, and not the medium.
        let settled = self.flush().and_then(|()| self.drop_cache());
        settled.map_err(|failure| Refusal::Settle(Box::new(failure)))?;
        self.control.progress.begin(Phase::Scan, self.plan().used_bytes());
        let work = |worker: &mut Worker, chunks: std::ops::Range<u64>| {
            let mut differing = Vec::new();
            for chunk in chunks.clone() {
                self.compare_chunk(signature, ChunkIndex::new(chunk), worker, &mut differing)?;
            }
            Ok::<Compared, Refusal>((chunks.start, chunks.end, differing))
        };
        let free = |chunks: std::ops::Range<u64>| {
            chunks.into_iter().all(|chunk| signature.summary(ChunkIndex::new(chunk)) == ChunkSummary::Free)
        };
        let (mut all, mut next) = (ExtentsBuilder::new(), 0);
        let pieces = self.plan().pieces(PIECE_CHUNKS, false).into_iter();
        parallel::in_order(
            "compare",
            self.options.threads,
            pieces,
            Worker::default,
            work,
            |(start, end, differing)| {
                if !free(next..start) {
                    return Err(Refusal::Signature);
                }
                next = end;
                differing.into_iter().for_each(|range| all.add(range));
                Ok(())
            },
        )?;
        if free(next..geometry.chunks()) { Ok(all.finish()) } else { Err(Refusal::Signature) }
    }

    fn compare_chunk(
        &self,
        signature: &dyn Base,
        chunk: ChunkIndex,
        worker: &mut Worker,
        differing: &mut Vec<ByteRange>,
    ) -> Result<(), Refusal> {
        if self.control.cancelled() {
            return Err(Refusal::Cancelled);
        }
        let first = self.geometry().first_block(chunk);
        let blocks = self.geometry().blocks_in_chunk(chunk).unwrap_or(0);
        let expected = signature.chunk(chunk).map_err(|_| Refusal::Signature)?.states(blocks);
        let end = BlockIndex::new(first.get().saturating_add(u64::from(blocks)));
        for run in self.plan().runs_in(first, end) {
            let range = self.range_of(&run);
            let skipped = usize::try_from(run.first.get().saturating_sub(first.get())).unwrap_or(usize::MAX);
            let count = usize::try_from(run.blocks.get()).unwrap_or(0);
            let expected = expected.get(skipped..).and_then(|rest| rest.get(..count)).ok_or(Refusal::Signature)?;
            let agrees = |state: &BlockState| match run.content {
                Content::Free => *state == BlockState::Free,
                Content::Zero => *state == BlockState::Zero,
                Content::Frame { .. } => matches!(state, BlockState::Data(_)),
            };
            if !expected.iter().all(agrees) {
                return Err(Refusal::Signature);
            }
            if run.content != Content::Free {
                self.compare_range(range, expected, worker, differing);
                self.control.progress.add_done(range.len);
            }
        }
        Ok(())
    }

    /// Reads a range of at most a chunk and adds the blocks that are not what they should be.
    fn compare_range(&self, range: ByteRange, expected: &[BlockState], worker: &mut Worker, out: &mut Vec<ByteRange>) {
        let size = self.geometry().block_size.as_usize();
        worker.buffer.resize(range.len.to_usize().unwrap_or(0), 0);
        if self.target.read_exact_at(&mut worker.buffer, range.start).is_err() {
            out.push(range);
            return;
        }
        states_of(&worker.buffer, size, &mut worker.found);
        let mut start = range.start;
        for ((found, expected), content) in worker.found.iter().zip(expected).zip(worker.buffer.chunks(size)) {
            let len = ByteLen::of(content);
            if found != expected {
                out.push(ByteRange { start, len });
            }
            start = start.checked_add(len).unwrap_or(ByteOffset::MAX);
        }
    }

    /// Reads back what was written to the body and compares it with the signature, and with that what the ends will
    /// hold. FREE blocks that were zeroed are read back, too.
    pub(super) fn check_written(&self, signature: &dyn Base, written: &Extents, ends: &Ends) -> Result<(), Failure> {
        self.drop_cache()?;
        self.control.progress.begin(Phase::ReadBack, written.total());
        let zeroed = self.options.free == FreePolicy::Zero;
        let work = |worker: &mut Worker, chunks: std::ops::Range<u64>| {
            for chunk in chunks.map(ChunkIndex::new) {
                self.check_cancelled()?;
                self.check_chunk(signature, chunk, written, ends, worker)?;
            }
            Ok::<(), Failure>(())
        };
        let pieces = self.plan().pieces(PIECE_CHUNKS, zeroed).into_iter();
        parallel::in_order("read-back", self.options.threads, pieces, Worker::default, work, Ok)
    }

    fn check_chunk(
        &self,
        signature: &dyn Base,
        chunk: ChunkIndex,
        written: &Extents,
        ends: &Ends,
        worker: &mut Worker,
    ) -> Result<(), Failure> {
        let first = self.geometry().first_block(chunk);
        let blocks = self.geometry().blocks_in_chunk(chunk).unwrap_or(0);
        let end = BlockIndex::new(first.get().saturating_add(u64::from(blocks)));
        let mut expected: Option<Vec<BlockState>> = None;
        for run in self.plan().runs_in(first, end) {
            if run.content == Content::Free {
                self.check_free(&run, &mut worker.buffer)?;
                continue;
            }
            let range = self.range_of(&run);
            let in_ends = first < self.head_end || end > self.tail_start;
            if !in_ends && written.within(range).next().is_none() {
                continue;
            }
            let states = match &mut expected {
                Some(states) => states,
                none => {
                    let state = signature.chunk(chunk).map_err(|source| Failure::Signature(Box::new(source)))?;
                    none.insert(state.states(blocks))
                }
            };
            let wanted = |block: BlockIndex| {
                let at = block.get().saturating_sub(first.get());
                usize::try_from(at).ok().and_then(|at| states.get(at)).copied()
            };
            let changed = |block: BlockIndex| {
                let offset = self.geometry().block_range(block).map_or(range.start, |(start, _)| start);
                Failure::Changed { offset }
            };
            for block in (run.first.get()..run.first.get().saturating_add(run.blocks.get())).map(BlockIndex::new) {
                // What the ends will hold is not there yet; it is read back when it is.
                if self.in_ends(block) && ends.state(self, block) != wanted(block) {
                    return Err(changed(block));
                }
            }
            for piece in written.within(range) {
                worker.buffer.resize(piece.len.to_usize().unwrap_or(0), 0);
                self.read(&mut worker.buffer, piece.start)?;
                states_of(&worker.buffer, self.geometry().block_size.as_usize(), &mut worker.found);
                let blocks = (self.block_at(piece.start).get()..).map(BlockIndex::new);
                let wrong = blocks
                    .zip(&worker.found)
                    .find(|(block, found)| !self.in_ends(*block) && wanted(*block) != Some(**found));
                if let Some((block, _)) = wrong {
                    return Err(changed(block));
                }
                self.control.progress.add_done(piece.len);
            }
        }
        Ok(())
    }

    fn block_at(&self, offset: ByteOffset) -> BlockIndex {
        BlockIndex::new(offset.get() / u64::from(self.geometry().block_size.bytes()))
    }

    fn in_ends(&self, block: BlockIndex) -> bool {
        block < self.head_end || block >= self.tail_start
    }
}

fn states_of(content: &[u8], size: usize, states: &mut Vec<BlockState>) {
    states.clear();
    let zero: Vec<bool> = content.chunks(size).map(is_zero).collect();
    let mut hashes = Vec::with_capacity(zero.len());
    let data = content.chunks(size).zip(&zero).filter(|(_, zero)| !**zero).map(|(content, _)| content);
    BlockHash::of_each(data, |hash| hashes.push(hash));
    let mut hashes = hashes.into_iter();
    states.extend(zero.iter().filter_map(|zero| match zero {
        true => Some(BlockState::Zero),
        false => hashes.next().map(BlockState::Data),
    }));
}
