//! Reading a target back and computing the root of what it holds.

use std::ops::Range;

use sigs::map::ChunkSummary;
use sigs::{
    BlockCount, BlockHash, BlockIndex, BlockState, ByteLen, ByteOffset, ByteRange, ChunkIndex, ChunkState, Root,
    RootBuilder,
};

use super::body::{PIECE_CHUNKS, pieces_of};
use super::ends::Ends;
use super::joined::GAP_BYTES;
use super::{Failure, FreePolicy, Job};
use crate::control::Phase;
use crate::image::{Content, PlanRun};
use crate::io::{AlignedBuffer, is_zero};
use crate::parallel;

/// The chunks of a piece, hashed, with the number of the first.
type Hashed = (u64, Vec<ChunkSummary>);

/// What a range that is read back has to be.
#[derive(Debug)]
enum Wanted {
    Zeros,
    /// The blocks of the chunk that get their hashes from it.
    Data(Range<usize>),
}

impl Job<'_> {
    /// Reads everything but the first and the last MiB back, past the cache, and returns the root of the state.
    pub(super) fn read_back(&self, ends: &Ends) -> Result<Root, Failure> {
        self.drop_cache()?;
        self.control.progress.begin(Phase::ReadBack, self.plan().used_bytes());
        let free = self.options.free == FreePolicy::Zero;
        let pieces = self.plan().pieces(PIECE_CHUNKS, free).into_iter();
        let work = |buffer: &mut AlignedBuffer, chunks: std::ops::Range<u64>| {
            let first = chunks.start;
            let hashed: Result<Vec<_>, _> =
                chunks.map(|chunk| self.hash_chunk(ChunkIndex::new(chunk), ends, buffer)).collect();
            Ok::<Hashed, Failure>((first, hashed?))
        };
        let mut builder = RootBuilder::new(*self.geometry());
        let mut next = 0;
        parallel::in_order("read-back", self.workers(), pieces, AlignedBuffer::default, work, |(first, chunks)| {
            builder.push_run(ChunkSummary::Free, first.saturating_sub(next));
            next = first;
            for summary in chunks {
                builder.push(summary);
                next += 1;
            }
            Ok(())
        })?;
        builder.push_run(ChunkSummary::Free, self.geometry().chunks().saturating_sub(next));
        if let Some(behind) = self.behind().filter(|_| free) {
            self.check_zeros(behind, &mut AlignedBuffer::default())?;
        }
        Ok(builder.finish()?.root())
    }

    fn hash_chunk(&self, chunk: ChunkIndex, ends: &Ends, buffer: &mut AlignedBuffer) -> Result<ChunkSummary, Failure> {
        self.check_cancelled()?;
        let first = self.geometry().first_block(chunk);
        let blocks = self.geometry().blocks_in_chunk(chunk).unwrap_or(0);
        let end = BlockIndex::new(first.get().saturating_add(u64::from(blocks)));
        // FREE blocks are that already.
        let mut states = vec![BlockState::Free; usize::try_from(blocks).unwrap_or(0)];
        let (mut wanted, mut ranges): (Vec<Wanted>, Vec<ByteRange>) = (Vec::new(), Vec::new());
        for run in self.plan().runs_in(first, end) {
            let range = self.range_of(&run);
            let place = places(first, run.first.get(), run.first.get().saturating_add(run.blocks.get()));
            let zero = match run.content {
                Content::Frame { .. } => {
                    self.control.progress.add_done(range.len);
                    self.want_data(&run, (first, ends), &mut states, &mut wanted, &mut ranges);
                    continue;
                }
                Content::Zero => true,
                Content::Free => false,
            };
            if zero {
                states[place].fill(BlockState::Zero);
            }
            if !zero && self.options.free != FreePolicy::Zero {
                continue;
            }
            // What lies past the end of a smaller target has no content to lose.
            match self.fit.clip(range) {
                Some(range) if range.len.get() <= GAP_BYTES => {
                    self.control.progress.add_done(range.len);
                    wanted.push(Wanted::Zeros);
                    ranges.push(range);
                }
                Some(range) => self.check_zeros(range, buffer)?,
                None => {}
            }
        }
        self.read_joined(&ranges, buffer, |number, read| {
            let content = read?;
            match &wanted[number] {
                Wanted::Zeros => check_is_zero(content, ranges[number].start)?,
                Wanted::Data(places) => {
                    let mut places = states[places.clone()].iter_mut();
                    BlockHash::of_each(content.chunks(self.geometry().block_size.as_usize()), |hash| {
                        if let Some(state) = places.next() {
                            *state = BlockState::Data(hash);
                        }
                    });
                }
            }
            Ok::<(), Failure>(())
        })?;
        Ok(ChunkState::from_states(&states).summarise())
    }

    /// Adds the parts of a run that have to be read; those of the ends are hashed as they will be.
    fn want_data(
        &self,
        run: &PlanRun,
        (chunk, ends): (BlockIndex, &Ends),
        states: &mut [BlockState],
        wanted: &mut Vec<Wanted>,
        ranges: &mut Vec<ByteRange>,
    ) {
        let last = run.first.get().saturating_add(run.blocks.get());
        for (first, end, inside) in self.parts(run.first.get(), last) {
            let place = places(chunk, first, end);
            if inside {
                for (state, block) in states[place].iter_mut().zip(first..) {
                    if let Some(hash) = ends.hash(self, BlockIndex::new(block)) {
                        *state = BlockState::Data(hash);
                    }
                }
                continue;
            }
            let blocks = BlockCount::new(end.saturating_sub(first));
            let range = self.range_of(&PlanRun { first: BlockIndex::new(first), blocks, content: run.content });
            let joins = ranges.last().and_then(|last: &ByteRange| last.checked_end()) == Some(range.start);
            match (wanted.last_mut(), ranges.last_mut()) {
                // Neighbours on the disk are hashed together, wherever they come from.
                (Some(Wanted::Data(before)), Some(last)) if joins => {
                    before.end = place.end;
                    last.len = ByteLen::new(last.len.get().saturating_add(range.len.get()));
                }
                _ => {
                    wanted.push(Wanted::Data(place));
                    ranges.push(range);
                }
            }
        }
    }

    fn check_zero(&self, run: &PlanRun, buffer: &mut AlignedBuffer) -> Result<(), Failure> {
        // What lies past the end of a smaller target has no content to lose.
        self.fit.clip(self.range_of(run)).map_or(Ok(()), |range| self.check_zeros(range, buffer))
    }

    /// Reads a range back, 1 MiB at a time; what the medium knows to be a hole is not read.
    fn check_zeros(&self, range: ByteRange, buffer: &mut AlignedBuffer) -> Result<(), Failure> {
        let end = range.checked_end().unwrap_or(ByteOffset::MAX);
        let mut rest = Some(range);
        while let Some(ByteRange { start, len }) = rest.filter(|rest| !rest.len.is_zero()) {
            self.check_cancelled()?;
            let found = self.target.next_data(ByteRange { start, len });
            let Some(data) = found.map_err(|source| Failure::Read { offset: start, len, source })? else { break };
            let Some(piece) = ByteRange::between(data, end).and_then(|data| pieces_of(data).next()) else { break };
            buffer.resize(piece.len.to_usize().unwrap_or(0));
            self.read_back_at(buffer, piece.start)?;
            check_is_zero(buffer, piece.start)?;
            rest = piece.checked_end().and_then(|at| ByteRange::between(at, end));
        }
        self.control.progress.add_done(range.len);
        Ok(())
    }

    pub(super) fn check_free(&self, run: &PlanRun, buffer: &mut AlignedBuffer) -> Result<(), Failure> {
        if self.options.free == FreePolicy::Zero { self.check_zero(run, buffer) } else { Ok(()) }
    }
}

/// Returns which of the blocks of a chunk that begins with block `chunk` those from `first` to before `end` are.
fn places(chunk: BlockIndex, first: u64, end: u64) -> Range<usize> {
    let place = |block: u64| usize::try_from(block.saturating_sub(chunk.get())).unwrap_or(usize::MAX);
    place(first)..place(end)
}

fn check_is_zero(content: &[u8], start: ByteOffset) -> Result<(), Failure> {
    if is_zero(content) {
        return Ok(());
    }
    let place = content.iter().position(|byte| *byte != 0).unwrap_or(0);
    let before = ByteLen::of(&content[..place]);
    Err(Failure::NotZero { offset: start.checked_add(before).unwrap_or(ByteOffset::MAX) })
}
