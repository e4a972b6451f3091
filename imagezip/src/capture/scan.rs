//! Reading one chunk: which of its blocks are what, and where they can be taken from.

use std::ops::Range;

use sigs::map::ChunkSummary;
use sigs::{
    BlockHash, BlockKind, BlockState, ByteLen, ByteOffset, ByteRange, ChunkIndex, ChunkState, Geometry, ReadAt,
};

use super::{Base, CaptureError};
use crate::control::Control;
use crate::io::is_zero;
use crate::layout::Layout;

/// What all workers share.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) layout: &'a Layout,
    pub(super) geometry: Geometry,
    pub(super) bases: &'a [&'a dyn Base],
    pub(super) control: Control<'a>,
}

/// Where the content of a block is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    Zero,
    Base(u32),
    /// Nowhere but here: it has to be stored.
    Here,
}

/// One chunk, scanned.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) chunk: ChunkIndex,
    pub(super) state: ChunkState,
    pub(super) summary: ChunkSummary,
    /// Blocks that follow each other and are found at the same place.
    pub(super) runs: Vec<(Place, u32)>,
    /// The content of the chunk, where some of it has to be stored.
    pub(super) content: Option<Vec<u8>>,
}

/// What one worker keeps from chunk to chunk.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    buffer: Vec<u8>,
    occupied: Vec<bool>,
    kinds: Vec<BlockKind>,
    hashes: Vec<BlockHash>,
    states: Vec<BlockState>,
    places: Vec<Place>,
}

impl Scratch {
    /// Finds out what each block of `block` bytes in the buffer is. Those with data are hashed together.
    fn classify(&mut self, block: usize) {
        let Self { buffer, occupied, kinds, hashes, states, .. } = self;
        kinds.clear();
        kinds.extend(buffer.chunks(block).zip(occupied).map(|(content, occupied)| match *occupied {
            false => BlockKind::Free,
            true if is_zero(content) => BlockKind::Zero,
            true => BlockKind::Data,
        }));
        hashes.clear();
        let data = buffer.chunks(block).zip(&*kinds).filter(|(_, kind)| **kind == BlockKind::Data);
        BlockHash::of_each(data.map(|(content, _)| content), |hash| hashes.push(hash));
        let mut hashes = hashes.iter();
        states.clear();
        states.extend(kinds.iter().filter_map(|kind| match kind {
            BlockKind::Free => Some(BlockState::Free),
            BlockKind::Zero => Some(BlockState::Zero),
            BlockKind::Data => hashes.next().copied().map(BlockState::Data),
        }));
    }
}

impl Job<'_> {
    /// Scans a chunk. `keep` says whether changed blocks are wanted; `spare` replaces a buffer that is given away.
    pub(super) fn scan(
        &self,
        chunk: ChunkIndex,
        scratch: &mut Scratch,
        keep: bool,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Result<Scanned, CaptureError> {
        let (start, len) = self.geometry.chunk_range(chunk).ok_or(CaptureError::TooLarge { what: "chunks" })?;
        let range = ByteRange { start, len };
        if self.is_hole(range)? {
            self.control.progress.add_done(len);
            let blocks = self.geometry.blocks_in_chunk(chunk).unwrap_or(0);
            let (state, runs) = (ChunkState::Zero, vec![(Place::Zero, blocks)]);
            return Ok(Scanned { chunk, summary: state.summarise(), state, runs, content: None });
        }
        let read = self.read(range, scratch)?;
        let block = self.geometry.block_size.as_usize();
        scratch.classify(block);
        let state = ChunkState::from_states(&scratch.states);
        let summary = state.summarise();
        self.locate(chunk, summary, scratch)?;
        let runs = join(&scratch.places);
        let stored: u32 = runs.iter().filter(|(place, _)| *place == Place::Here).map(|(_, blocks)| blocks).sum();
        let content = (keep && stored > 0).then(|| std::mem::replace(&mut scratch.buffer, spare()));
        let block_bytes = u64::from(self.geometry.block_size.bytes());
        self.control.progress.add_done(read);
        self.control.progress.add_changed(ByteLen::new(u64::from(stored) * block_bytes));
        Ok(Scanned { chunk, state, summary, runs, content })
    }

    /// Returns true when all of a chunk is allocated and the source knows, without reading it, that it is zeros.
    fn is_hole(&self, range: ByteRange) -> Result<bool, CaptureError> {
        if !self.layout.within(range).eq([range]) {
            return Ok(false);
        }
        let data = self.source.next_data(range);
        let data = data.map_err(|source| CaptureError::Read { offset: range.start, len: range.len, source })?;
        Ok(data.is_none())
    }

    /// Reads the allocated parts of a chunk and marks the blocks they touch; the rest of those blocks becomes zeros.
    fn read(&self, range: ByteRange, scratch: &mut Scratch) -> Result<ByteLen, CaptureError> {
        let too_large = || CaptureError::TooLarge { what: "a chunk" };
        let len = range.len.to_usize().ok_or_else(too_large)?;
        let block = self.geometry.block_size.as_usize();
        scratch.buffer.resize(len, 0);
        scratch.occupied.clear();
        scratch.occupied.resize(len.div_ceil(block), false);
        let (mut reached, mut total) = (0, 0);
        for piece in self.layout.within(range) {
            let place = piece.start.checked_since(range.start).and_then(ByteLen::to_usize).ok_or_else(too_large)?;
            let end = place + piece.len.to_usize().ok_or_else(too_large)?;
            clear_gap(&mut scratch.buffer, reached..place, block);
            read_piece(self.source, &mut scratch.buffer[place..end], piece.start)?;
            scratch.occupied[place / block..end.div_ceil(block)].fill(true);
            reached = end;
            total += piece.len.get();
        }
        clear_gap(&mut scratch.buffer, reached..len, block);
        Ok(ByteLen::new(total))
    }

    /// Finds each block in the bases, where it is.
    fn locate(&self, chunk: ChunkIndex, summary: ChunkSummary, scratch: &mut Scratch) -> Result<(), CaptureError> {
        let places = &mut scratch.places;
        places.clear();
        places.extend(scratch.states.iter().map(|state| match state {
            BlockState::Free => Place::Free,
            BlockState::Zero => Place::Zero,
            BlockState::Data(_) => Place::Here,
        }));
        let blocks = self.geometry.blocks_in_chunk(chunk);
        for (number, base) in (0_u32..).zip(self.bases) {
            if !places.contains(&Place::Here) {
                return Ok(());
            }
            let same = base.summary(chunk) == summary && base.geometry().blocks_in_chunk(chunk) == blocks;
            if same {
                // One comparison for the whole chunk: equal pages have equal blocks.
                places.iter_mut().filter(|place| **place == Place::Here).for_each(|place| *place = Place::Base(number));
                return Ok(());
            }
            let failed = |source| CaptureError::Base { root: base.root(), chunk, source };
            let ChunkState::Mixed(page) = base.chunk(chunk).map_err(failed)? else { continue };
            for ((place, ours), theirs) in places.iter_mut().zip(&scratch.states).zip(page.states()) {
                if *place == Place::Here && *ours == theirs {
                    *place = Place::Base(number);
                }
            }
        }
        Ok(())
    }
}

fn read_piece(source: &dyn ReadAt, buf: &mut [u8], offset: ByteOffset) -> Result<(), CaptureError> {
    let len = ByteLen::of(buf);
    source.read_exact_at(buf, offset).map_err(|source| CaptureError::Read { offset, len, source })
}

/// Clears the parts of a gap that share a block with what was read; whole blocks of the gap are not looked at.
fn clear_gap(buffer: &mut [u8], gap: Range<usize>, block: usize) {
    let first_border = gap.start.next_multiple_of(block).min(gap.end);
    let last_border = (gap.end / block * block).max(first_border);
    buffer[gap.start..first_border].fill(0);
    buffer[last_border..gap.end].fill(0);
}

fn join(places: &[Place]) -> Vec<(Place, u32)> {
    let mut runs: Vec<(Place, u32)> = Vec::new();
    for place in places {
        match runs.last_mut() {
            Some((last, blocks)) if last == place => *blocks += 1,
            _ => runs.push((*place, 1)),
        }
    }
    runs
}
