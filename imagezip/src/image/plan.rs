//! The maps of a chain laid over each other: for every block of the target, where its content is.
//!
//! Maps stay as they are encoded, a few bytes for each run, and are read through marks set every so many runs: the
//! plan of a disk with millions of extents takes little more than its map.

use std::sync::Arc;

use sigs::image_map::{ImageMap, MapMark, Origin, Run, Runs};
use sigs::{BlockCount, BlockCounts, BlockIndex, ByteLen, ByteRange, Geometry};

use super::{Image, ImageError};

/// How many runs lie between two marks.
const STRIDE: usize = 64;

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
}

/// One map of a chain, with the maps it refers to.
#[derive(Debug)]
struct Layer {
    /// Which image of the chain.
    image: usize,
    geometry: Geometry,
    map: ImageMap,
    marks: Vec<MapMark>,
    bases: Vec<Arc<Layer>>,
}

impl Layer {
    /// Returns the place of the last mark at or before a block.
    fn mark_before(&self, block: u64) -> Option<MapMark> {
        let next = self.marks.partition_point(|mark| mark.block().get() <= block);
        next.checked_sub(1).and_then(|at| self.marks.get(at)).copied()
    }
}

/// Where every block of the target is found, in disk order. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plan {
    top: Arc<Layer>,
    used: ByteLen,
}

impl Plan {
    /// Lays the map of an image over the plans of its bases, and checks every reference.
    pub(super) fn new(index: usize, image: &Image, map: ImageMap, bases: &[&Self]) -> Result<Self, ImageError> {
        let manifest = image.container.manifest();
        let layer = Layer {
            image: index,
            geometry: manifest.geometry,
            marks: marks_of(&map),
            map,
            bases: bases.iter().map(|base| Arc::clone(&base.top)).collect(),
        };
        let mut counts = [0_u64; 3];
        let mut places: Vec<Places<'_>> = layer.bases.iter().map(|_| Places::default()).collect();
        for (first, run) in layer.map.runs() {
            let wrong = |reason: String| ImageError::Origin { name: image.name.clone(), block: first, reason };
            let kind = match run.origin {
                Origin::Frame { pack: 0, frame, first: from } => {
                    check_frame(&layer.geometry, image, (first, run.blocks), frame, from).map_err(wrong)?;
                    0
                }
                Origin::Frame { pack, .. } => return Err(wrong(format!("refers to pack {pack}, which is not here"))),
                Origin::Base(number) => {
                    let place = usize::try_from(number).ok();
                    let base = place.and_then(|at| layer.bases.get(at).zip(places.get_mut(at)));
                    let (base, places) =
                        base.ok_or_else(|| wrong(format!("refers to base {number}, which does not exist")))?;
                    check_base(&layer.geometry, base, first, run, places).map_err(wrong)?;
                    0
                }
                Origin::Zero => 1,
                Origin::Free => 2,
            };
            counts[kind] += run.blocks.get();
        }
        drop(places);
        let [data, zero, free] = counts.map(BlockCount::new);
        let (found, expected) = (BlockCounts { data, zero, free }, manifest.counts);
        if found != expected {
            return Err(ImageError::Counts { name: image.name.clone(), found, expected });
        }
        let mut plan = Self { top: Arc::new(layer), used: ByteLen::ZERO };
        let used = plan.runs().filter(|run| run.content != Content::Free);
        let bytes = used.filter_map(|run| plan.byte_range(&run)).map(|range| range.len.get()).sum();
        plan.used = ByteLen::new(bytes);
        Ok(plan)
    }

    /// Returns how the disk is cut.
    pub fn geometry(&self) -> &Geometry {
        &self.top.geometry
    }

    /// Returns all runs in disk order.
    pub fn runs(&self) -> PlanRuns<'_> {
        self.runs_in(BlockIndex::ZERO, BlockIndex::new(self.geometry().blocks().get()))
    }

    /// Returns the runs from block `first` to before block `end`, cut to fit.
    pub fn runs_in(&self, first: BlockIndex, end: BlockIndex) -> PlanRuns<'_> {
        PlanRuns::new(&self.top, first.get(), end.get(), Places::default())
    }

    /// Returns the bytes of the disk that a run covers; a short last block counts at its true length.
    pub fn byte_range(&self, run: &PlanRun) -> Option<ByteRange> {
        byte_range(self.geometry(), run.first, run.blocks)
    }

    /// Returns how many bytes are not FREE.
    pub const fn used_bytes(&self) -> ByteLen {
        self.used
    }

    /// Returns pieces of the disk to work on, in order: each at most `most` chunks, none of them wholly FREE unless
    /// `free` ones are wanted, too.
    pub(crate) fn pieces(&self, most: u64, free: bool) -> Vec<std::ops::Range<u64>> {
        let per_chunk = u64::from(self.geometry().block_size.blocks_per_chunk());
        let mut pieces: Vec<std::ops::Range<u64>> = Vec::new();
        for run in self.runs().filter(|run| free || run.content != Content::Free) {
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

/// Sets a mark every [`STRIDE`] runs.
fn marks_of(map: &ImageMap) -> Vec<MapMark> {
    let mut runs = map.runs();
    let mut marks = vec![runs.mark()];
    while runs.nth(STRIDE - 1).is_some() {
        marks.push(runs.mark());
    }
    marks.shrink_to_fit();
    marks
}

fn byte_range(geometry: &Geometry, first: BlockIndex, blocks: BlockCount) -> Option<ByteRange> {
    let last = BlockIndex::new(first.get().checked_add(blocks.get())?.checked_sub(1)?);
    let (start, _) = geometry.block_range(first)?;
    let (last_start, last_len) = geometry.block_range(last)?;
    ByteRange::between(start, last_start.checked_add(last_len)?)
}

/// Checks blocks taken from a base, all of which must be data of the same length there.
fn check_base<'a>(
    geometry: &Geometry,
    base: &'a Layer,
    first: BlockIndex,
    run: Run,
    places: &mut Places<'a>,
) -> Result<(), String> {
    let end = first.get().saturating_add(run.blocks.get());
    let last = BlockIndex::new(end.saturating_sub(1));
    let length = |geometry: &Geometry| geometry.block_range(last).map(|(_, len)| len);
    if length(geometry) != length(&base.geometry) {
        return Err(format!("refers to block {last} of the base, which is not there or has another length"));
    }
    let mut parts = PlanRuns::new(base, first.get(), end, std::mem::take(places));
    let empty = parts.find(|part| !matches!(part.content, Content::Frame { .. }));
    *places = parts.places;
    match empty {
        None => Ok(()),
        Some(part) => Err(format!("refers to block {} of the base, which has no content", part.first)),
    }
}

/// Checks that blocks lie inside a frame, and end with it where the disk ends inside a block.
fn check_frame(
    geometry: &Geometry,
    image: &Image,
    (start, blocks): (BlockIndex, BlockCount),
    frame: u32,
    first: u32,
) -> Result<(), String> {
    let (_, record) =
        image.container.frame_range(frame).ok_or_else(|| format!("refers to frame {frame}, which does not exist"))?;
    let range = byte_range(geometry, start, blocks);
    let len = range.ok_or_else(|| "goes past the end of the disk".to_owned())?.len.get();
    let block = u64::from(geometry.block_size.bytes());
    let end = u64::from(first).checked_mul(block).and_then(|start| start.checked_add(len));
    let raw = u64::from(record.raw_bytes);
    let fits = end.is_some_and(|end| end <= raw && (len.is_multiple_of(block) || end == raw));
    if fits { Ok(()) } else { Err(format!("refers to blocks past the end of frame {frame}")) }
}

/// How far each map of a chain was read by image, so that going on from there needs no search.
#[derive(Clone, Debug, Default)]
struct Places<'a>(Vec<Option<Runs<'a>>>);

impl<'a> Places<'a> {
    fn take(&mut self, image: usize) -> Option<Runs<'a>> {
        self.0.get_mut(image).and_then(Option::take)
    }

    fn keep(&mut self, image: usize, runs: Runs<'a>) {
        if self.0.len() <= image {
            self.0.resize(image + 1, None);
        }
        self.0[image] = Some(runs);
    }
}

/// Blocks of one map that are being read.
#[derive(Clone, Debug)]
struct Span<'a> {
    layer: &'a Layer,
    runs: Runs<'a>,
    /// The next block that is wanted.
    next: u64,
    end: u64,
}

/// Iterator over the runs of a part of a plan, in disk order.
#[derive(Clone, Debug)]
pub struct PlanRuns<'a> {
    /// The innermost map last.
    spans: Vec<Span<'a>>,
    places: Places<'a>,
}

impl<'a> PlanRuns<'a> {
    fn new(layer: &'a Layer, first: u64, end: u64, places: Places<'a>) -> Self {
        let mut runs = Self { spans: Vec::new(), places };
        runs.enter(layer, first, end);
        runs
    }

    /// Begins to read blocks of a map.
    fn enter(&mut self, layer: &'a Layer, first: u64, end: u64) {
        let kept = self.places.take(layer.image).filter(|runs| runs.mark().block().get() <= first);
        let marked = layer.mark_before(first);
        let runs = match (kept, marked) {
            (Some(kept), Some(mark)) if mark.block() <= kept.mark().block() => kept,
            (Some(kept), None) => kept,
            (_, Some(mark)) => layer.map.runs_from(&mark),
            (None, None) => layer.map.runs(),
        };
        self.spans.push(Span { layer, runs, next: first, end });
    }
}

impl Iterator for PlanRuns<'_> {
    type Item = PlanRun;

    fn next(&mut self) -> Option<PlanRun> {
        loop {
            let span = self.spans.last_mut()?;
            // A run is read again when the next span begins inside it: its place is kept, not what follows it.
            let before = span.runs.clone();
            let read = if span.next < span.end { span.runs.next() } else { None };
            let Some((first, run)) = read else {
                self.places.keep(span.layer.image, before);
                self.spans.pop();
                continue;
            };
            let (from, to) = (first.get().max(span.next), first.get().saturating_add(run.blocks.get()).min(span.end));
            let Some(blocks) = to.checked_sub(from).filter(|blocks| *blocks > 0) else { continue };
            span.next = to;
            if to == span.end {
                span.runs = before;
            }
            let content = match run.origin {
                Origin::Free => Content::Free,
                Origin::Zero => Content::Zero,
                Origin::Frame { frame, first: start, .. } => {
                    let skipped = u32::try_from(from - first.get()).unwrap_or(u32::MAX);
                    Content::Frame { image: span.layer.image, frame, first: start.saturating_add(skipped) }
                }
                Origin::Base(number) => {
                    let base = usize::try_from(number).ok().and_then(|at| span.layer.bases.get(at));
                    // A base that is not there was refused when the plan was made.
                    if let Some(base) = base {
                        self.enter(base, from, to);
                    }
                    continue;
                }
            };
            return Some(PlanRun { first: BlockIndex::new(from), blocks: BlockCount::new(blocks), content });
        }
    }
}
