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
use crate::image::{Content, FrameSet};
use crate::io::{AlignedBuffer, is_zero};
use crate::parallel;

/// What a worker found in a piece: its first chunk, the end of its last, and what differs.
type Compared = (u64, u64, Vec<ByteRange>);

/// What one worker keeps.
#[derive(Default)]
struct Worker {
    buffer: AlignedBuffer,
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
        parallel::in_order("compare", self.workers(), pieces, Worker::default, work, |(start, end, differing)| {
            if !free(next..start) {
                return Err(Refusal::Signature);
            }
            next = end;
            differing.into_iter().for_each(|range| all.add(range));
            Ok(())
        })?;
        if free(next..geometry.chunks()) { Ok(all.finish()) } else { Err(Refusal::Signature) }
    }

    /// Returns the frames that are needed to write what differs, and the ends. The others need not be right.
    pub(super) fn needed(&self, differing: &Extents) -> FrameSet {
        let total = self.geometry().blocks();
        let mut wanted = self.chain.no_frames();
        let mut add = |first: BlockIndex, end: BlockIndex| {
            self.plan().runs_in(first, end).for_each(|run| wanted.add(run.content));
        };
        add(BlockIndex::ZERO, self.head_end);
        add(self.tail_start, BlockIndex::new(total.get()));
        for range in differing.iter() {
            let end = range.checked_end().unwrap_or(ByteOffset::MAX);
            let behind = end.get().div_ceil(u64::from(self.geometry().block_size.bytes()));
            add(self.block_at(range.start), BlockIndex::new(behind.min(total.get())));
        }
        wanted
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
        let mut used = Vec::new();
        for run in self.plan().runs_in(first, end) {
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
                add_range(&mut used, self.range_of(&run));
            }
        }
        let Worker { buffer, found } = worker;
        self.read_joined(&used, buffer, |number, read| {
            let range = used[number];
            match read {
                Ok(content) => {
                    let skipped = self.block_at(range.start).get().saturating_sub(first.get());
                    let expected = usize::try_from(skipped).ok().and_then(|skipped| expected.get(skipped..));
                    self.compare(content, range.start, expected.unwrap_or_default(), found, differing);
                }
                Err(_) => self.compare_singly(range, (first, &expected), found, differing),
            }
            self.control.progress.add_done(range.len);
            Ok(())
        })
    }

    /// Adds the blocks that are not what they should be.
    fn compare(
        &self,
        content: &[u8],
        start: ByteOffset,
        expected: &[BlockState],
        found: &mut Vec<BlockState>,
        out: &mut Vec<ByteRange>,
    ) {
        let size = self.geometry().block_size.as_usize();
        states_of(content, size, found);
        let mut start = start;
        for ((found, expected), content) in found.iter().zip(expected).zip(content.chunks(size)) {
            let len = ByteLen::of(content);
            if found != expected {
                out.push(ByteRange { start, len });
            }
            start = start.checked_add(len).unwrap_or(ByteOffset::MAX);
        }
    }

    /// Compares block by block what could not be read at once; what cannot be read by itself differs.
    fn compare_singly(
        &self,
        range: ByteRange,
        (first, expected): (BlockIndex, &[BlockState]),
        found: &mut Vec<BlockState>,
        out: &mut Vec<ByteRange>,
    ) {
        let mut buffer = AlignedBuffer::default();
        let mut block = self.block_at(range.start);
        while let Some((start, len)) =
            self.geometry().block_range(block).filter(|(start, _)| range.checked_end().is_some_and(|end| *start < end))
        {
            buffer.resize(len.to_usize().unwrap_or(0));
            let place = usize::try_from(block.get().saturating_sub(first.get())).unwrap_or(usize::MAX);
            match self.read_back_at(&mut buffer, start) {
                Ok(()) => self.compare(&buffer, start, expected.get(place..).unwrap_or_default(), found, out),
                Err(_) => out.push(ByteRange { start, len }),
            }
            block = BlockIndex::new(block.get().saturating_add(1));
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
        parallel::in_order("read-back", self.workers(), pieces, Worker::default, work, Ok)
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
        let mut pieces = Vec::new();
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
            for block in (run.first.get()..run.first.get().saturating_add(run.blocks.get())).map(BlockIndex::new) {
                // What the ends will hold is not there yet; it is read back when it is.
                if self.in_ends(block) && ends.state(self, block) != state_in(states, first, block) {
                    return Err(self.changed(block));
                }
            }
            pieces.extend(written.within(range));
        }
        let Some(states) = expected else { return Ok(()) };
        let Worker { buffer, found } = worker;
        self.read_joined(&pieces, buffer, |number, read| {
            let piece = pieces[number];
            states_of(read?, self.geometry().block_size.as_usize(), found);
            let blocks = (self.block_at(piece.start).get()..).map(BlockIndex::new);
            let wanted = |block: BlockIndex| state_in(&states, first, block);
            let wrong =
                blocks.zip(&*found).find(|(block, found)| !self.in_ends(*block) && wanted(*block) != Some(**found));
            self.control.progress.add_done(piece.len);
            wrong.map_or(Ok(()), |(block, _)| Err(self.changed(block)))
        })
    }

    fn changed(&self, block: BlockIndex) -> Failure {
        Failure::Changed { offset: self.geometry().block_range(block).map_or(ByteOffset::ZERO, |(start, _)| start) }
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

/// Returns what the states of a chunk, of which `first` is the first block, say of a block.
fn state_in(states: &[BlockState], first: BlockIndex, block: BlockIndex) -> Option<BlockState> {
    let place = block.get().checked_sub(first.get())?;
    states.get(usize::try_from(place).ok()?).copied()
}

/// Adds a range that follows the last one or lies behind it.
fn add_range(ranges: &mut Vec<ByteRange>, range: ByteRange) {
    match ranges.last_mut() {
        Some(last) if last.checked_end() == Some(range.start) => {
            last.len = ByteLen::new(last.len.get().saturating_add(range.len.get()));
        }
        _ => ranges.push(range),
    }
}
