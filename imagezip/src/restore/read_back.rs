//! Reading a target back and computing the root of what it holds.

use sigs::map::ChunkSummary;
use sigs::{
    BlockHash, BlockIndex, BlockState, ByteLen, ByteOffset, ByteRange, ChunkIndex, ChunkState, Root, RootBuilder,
};

use super::body::{PIECE_CHUNKS, pieces_of};
use super::ends::Ends;
use super::{Failure, FreePolicy, Job, place_in};
use crate::control::Phase;
use crate::image::{Content, PlanRun};
use crate::io::is_zero;
use crate::parallel;

/// The chunks of a piece, hashed, with the number of the first.
type Hashed = (u64, Vec<ChunkSummary>);

impl Job<'_> {
    /// Reads everything but the first and the last MiB back, past the cache, and returns the root of the state.
    pub(super) fn read_back(&self, ends: &Ends) -> Result<Root, Failure> {
        self.drop_cache()?;
        self.control.progress.begin(Phase::ReadBack, self.plan().used_bytes());
        let free = self.options.free == FreePolicy::Zero;
        let pieces = self.plan().pieces(PIECE_CHUNKS, free).into_iter();
        let work = |buffer: &mut Vec<u8>, chunks: std::ops::Range<u64>| {
            let first = chunks.start;
            let hashed: Result<Vec<_>, _> =
                chunks.map(|chunk| self.hash_chunk(ChunkIndex::new(chunk), ends, buffer)).collect();
            Ok::<Hashed, Failure>((first, hashed?))
        };
        let mut builder = RootBuilder::new(*self.geometry());
        let mut next = 0;
        parallel::in_order("read-back", self.options.threads, pieces, Vec::new, work, |(first, chunks)| {
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
            self.check_zeros(behind, &mut Vec::new())?;
        }
        Ok(builder.finish()?.root())
    }

    fn hash_chunk(&self, chunk: ChunkIndex, ends: &Ends, buffer: &mut Vec<u8>) -> Result<ChunkSummary, Failure> {
        self.check_cancelled()?;
        let first = self.geometry().first_block(chunk);
        let blocks = self.geometry().blocks_in_chunk(chunk).unwrap_or(0);
        let end = BlockIndex::new(first.get().saturating_add(u64::from(blocks)));
        let mut states = Vec::with_capacity(usize::try_from(blocks).unwrap_or(0));
        for run in self.plan().runs_in(first, end) {
            let whole = run.blocks.get() == u64::from(blocks);
            match run.content {
                // Most of a large disk is like this.
                Content::Free if whole => return self.check_free(&run, buffer).map(|()| ChunkSummary::Free),
                Content::Zero if whole => return self.check_zero(&run, buffer).map(|()| ChunkSummary::Zero),
                Content::Free => self.check_free(&run, buffer)?,
                Content::Zero => self.check_zero(&run, buffer)?,
                Content::Frame { .. } => self.hash_run(&run, ends, buffer, &mut states)?,
            }
            let (state, count) = match run.content {
                Content::Free => (BlockState::Free, run.blocks.get()),
                Content::Zero => (BlockState::Zero, run.blocks.get()),
                Content::Frame { .. } => continue,
            };
            states.extend((0..count).map(|_| state));
        }
        Ok(ChunkState::from_states(&states).summarise())
    }

    fn hash_run(
        &self,
        run: &PlanRun,
        ends: &Ends,
        buffer: &mut Vec<u8>,
        states: &mut Vec<BlockState>,
    ) -> Result<(), Failure> {
        let range = self.range_of(run);
        self.control.progress.add_done(range.len);
        let last = run.first.get().saturating_add(run.blocks.get());
        for (first, end, inside) in self.parts(run.first.get(), last) {
            if inside {
                let hashes = (first..end).filter_map(|block| ends.hash(self, BlockIndex::new(block)));
                states.extend(hashes.map(BlockState::Data));
                continue;
            }
            let body = self.plan().runs_in(BlockIndex::new(first), BlockIndex::new(end)).next();
            let Some(range) = body.and_then(|run| self.plan().byte_range(&run)) else { continue };
            let place = place_in(range.start, range).unwrap_or_default();
            buffer.resize(place.len(), 0);
            self.read(buffer, range.start)?;
            let size = self.geometry().block_size.as_usize();
            BlockHash::of_each(buffer.chunks(size), |hash| states.push(BlockState::Data(hash)));
        }
        Ok(())
    }

    fn check_zero(&self, run: &PlanRun, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        // What lies past the end of a smaller target has no content to lose.
        self.fit.clip(self.range_of(run)).map_or(Ok(()), |range| self.check_zeros(range, buffer))
    }

    /// Reads a range back, 1 MiB at a time; what the medium knows to be a hole is not read.
    fn check_zeros(&self, range: ByteRange, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let end = range.checked_end().unwrap_or(ByteOffset::MAX);
        let mut rest = Some(range);
        while let Some(ByteRange { start, len }) = rest.filter(|rest| !rest.len.is_zero()) {
            self.check_cancelled()?;
            let found = self.target.next_data(ByteRange { start, len });
            let Some(data) = found.map_err(|source| Failure::Read { offset: start, len, source })? else { break };
            let Some(piece) = ByteRange::between(data, end).and_then(|data| pieces_of(data).next()) else { break };
            buffer.resize(piece.len.to_usize().unwrap_or(0), 0);
            self.read(buffer, piece.start)?;
            if !is_zero(buffer) {
                let place = buffer.iter().position(|byte| *byte != 0).unwrap_or(0);
                let before = ByteLen::of(&buffer[..place]);
                return Err(Failure::NotZero { offset: piece.start.checked_add(before).unwrap_or(ByteOffset::MAX) });
            }
            rest = piece.checked_end().and_then(|at| ByteRange::between(at, end));
        }
        self.control.progress.add_done(range.len);
        Ok(())
    }

    pub(super) fn check_free(&self, run: &PlanRun, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        if self.options.free == FreePolicy::Zero { self.check_zero(run, buffer) } else { Ok(()) }
    }
}
