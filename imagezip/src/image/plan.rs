//! The maps of a chain laid over each other: for every block of the target, where its content is.

use sigs::image_map::{ImageMap, Origin, Run};
use sigs::{BlockCount, BlockCounts, BlockIndex, ByteLen, ByteRange, Geometry};

use super::{Image, ImageError};

/// Where the content of blocks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// FREE: nowhere.
    Free,
    /// ZERO: all zeros.
    Zero,
    /// DATA: in a frame of an image of the chain, from this block of the frame on.
    Frame {
        /// Which image of the chain.
        image: usize,
        /// Which frame of the image.
        frame: u32,
        /// The first block of the run, counted in blocks from the start of the frame.
        first: u32,
    },
}

/// Blocks that follow each other, on the disk and where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanRun {
    /// The first block.
    pub first: BlockIndex,
    /// How many they are: at least 1.
    pub blocks: BlockCount,
    /// Where they come from.
    pub content: Content,
}

impl PlanRun {
    const fn end(&self) -> u64 {
        self.first.get().saturating_add(self.blocks.get())
    }

    /// Returns the part of the run inside the blocks from `first` to before `end`, or `None` when there is none.
    fn clipped(&self, first: u64, end: u64) -> Option<Self> {
        let (from, to) = (self.first.get().max(first), self.end().min(end));
        let skipped = from.checked_sub(self.first.get())?;
        let blocks = BlockCount::new(to.checked_sub(from).filter(|blocks| *blocks > 0)?);
        let content = match self.content {
            Content::Frame { image, frame, first } => {
                Content::Frame { image, frame, first: first.checked_add(u32::try_from(skipped).ok()?)? }
            }
            other => other,
        };
        Some(Self { first: BlockIndex::new(from), blocks, content })
    }
}

/// Where every block of the target is found, in disk order.
#[derive(Debug)]
pub struct Plan {
    geometry: Geometry,
    runs: Vec<PlanRun>,
}

impl Plan {
    /// Lays the map of an image over the plans of its bases, and checks every reference.
    pub(super) fn new(index: usize, image: &Image, map: &ImageMap, bases: &[&Self]) -> Result<Self, ImageError> {
        let manifest = image.container.manifest();
        let mut plan = Self { geometry: manifest.geometry, runs: Vec::new() };
        let mut counts = [0_u64; 3];
        for (first, run) in map.runs() {
            let wrong = |reason: String| ImageError::Origin { name: image.name.clone(), block: first, reason };
            let content = match run.origin {
                Origin::Free => Content::Free,
                Origin::Zero => Content::Zero,
                Origin::Frame { pack: 0, frame, first } => Content::Frame { image: index, frame, first },
                Origin::Frame { pack, .. } => return Err(wrong(format!("refers to pack {pack}, which is not here"))),
                Origin::Base(number) => {
                    let base = usize::try_from(number).ok().and_then(|number| bases.get(number));
                    let base = base.ok_or_else(|| wrong(format!("refers to base {number}, which does not exist")))?;
                    plan.copy(base, first, run).map_err(wrong)?;
                    counts[0] += run.blocks.get();
                    continue;
                }
            };
            let run = PlanRun { first, blocks: run.blocks, content };
            if let Content::Frame { frame, first, .. } = content {
                plan.check_frame(image, &run, frame, first).map_err(wrong)?;
            }
            let kind = match content {
                Content::Frame { .. } => 0,
                Content::Zero => 1,
                Content::Free => 2,
            };
            counts[kind] += run.blocks.get();
            plan.runs.push(run);
        }
        let [data, zero, free] = counts.map(BlockCount::new);
        let (found, expected) = (BlockCounts { data, zero, free }, manifest.counts);
        if found != expected {
            return Err(ImageError::Counts { name: image.name.clone(), found, expected });
        }
        Ok(plan)
    }

    /// Takes over blocks of a base, all of which must be data of the same length there.
    fn copy(&mut self, base: &Self, first: BlockIndex, run: Run) -> Result<(), String> {
        let end = first.get().saturating_add(run.blocks.get());
        let last = BlockIndex::new(end.saturating_sub(1));
        let length = |geometry: &Geometry| geometry.block_range(last).map(|(_, len)| len);
        if length(&self.geometry) != length(&base.geometry) {
            return Err(format!("refers to block {last} of the base, which is not there or has another length"));
        }
        for part in base.runs_in(first, BlockIndex::new(end)) {
            if !matches!(part.content, Content::Frame { .. }) {
                return Err(format!("refers to block {} of the base, which has no content", part.first));
            }
            self.runs.push(part);
        }
        Ok(())
    }

    /// Checks that blocks lie inside a frame, and end with it where the disk ends inside a block.
    fn check_frame(&self, image: &Image, run: &PlanRun, frame: u32, first: u32) -> Result<(), String> {
        let (_, record) = image
            .container
            .frame_range(frame)
            .ok_or_else(|| format!("refers to frame {frame}, which does not exist"))?;
        let len = self.byte_range(run).ok_or_else(|| "goes past the end of the disk".to_owned())?.len.get();
        let block = u64::from(self.geometry.block_size.bytes());
        let end = u64::from(first).checked_mul(block).and_then(|start| start.checked_add(len));
        let raw = u64::from(record.raw_bytes);
        let fits = end.is_some_and(|end| end <= raw && (len.is_multiple_of(block) || end == raw));
        if fits { Ok(()) } else { Err(format!("refers to blocks past the end of frame {frame}")) }
    }

    /// Returns how the disk is cut.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns all runs in disk order.
    pub fn runs(&self) -> &[PlanRun] {
        &self.runs
    }

    /// Returns the runs from block `first` to before block `end`, cut to fit.
    pub fn runs_in(&self, first: BlockIndex, end: BlockIndex) -> impl Iterator<Item = PlanRun> + '_ {
        let at = self.runs.partition_point(|run| run.end() <= first.get());
        self.runs[at..]
            .iter()
            .take_while(move |run| run.first < end)
            .filter_map(move |run| run.clipped(first.get(), end.get()))
    }

    /// Returns the bytes of the disk that a run covers; a short last block counts at its true length.
    pub fn byte_range(&self, run: &PlanRun) -> Option<ByteRange> {
        let last = BlockIndex::new(run.end().checked_sub(1)?);
        let (start, _) = self.geometry.block_range(run.first)?;
        let (last_start, last_len) = self.geometry.block_range(last)?;
        ByteRange::between(start, last_start.checked_add(last_len)?)
    }

    /// Returns how many bytes are not FREE.
    pub fn used_bytes(&self) -> ByteLen {
        let used = self.runs.iter().filter(|run| run.content != Content::Free);
        ByteLen::new(used.filter_map(|run| self.byte_range(run)).map(|range| range.len.get()).sum())
    }

    /// Returns pieces of the disk to work on, in order: each at most `most` chunks, none of them wholly FREE unless
    /// `free` ones are wanted, too.
    pub(crate) fn pieces(&self, most: u64, free: bool) -> Vec<std::ops::Range<u64>> {
        let per_chunk = u64::from(self.geometry.block_size.blocks_per_chunk());
        let mut pieces: Vec<std::ops::Range<u64>> = Vec::new();
        for run in self.runs.iter().filter(|run| free || run.content != Content::Free) {
            let mut next = run.first.get() / per_chunk;
            let end = run.end().div_ceil(per_chunk);
            if let Some(last) = pieces.last_mut() {
                next = next.max(last.end);
                if next == last.end && next < end {
                    last.end = end.min(last.start.saturating_add(most)).max(last.end);
                    next = last.end;
                }
            }
            while next < end {
                let stop = end.min(next.saturating_add(most));
                pieces.push(next..stop);
                next = stop;
            }
        }
        pieces
    }
}
