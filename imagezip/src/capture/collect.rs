//! Taking scanned chunks in disk order: the signature, the map, and frames filled across chunk borders.

use std::io::Write;

use sigs::image_map::{ImageMap, MapBuilder, Origin, Run};
use sigs::manifest::ManifestFormat;
use sigs::{BlockCount, BlockCounts, CHUNK_BYTES, ChunkIndex, Geometry, Root, SignatureWriter};

use super::CaptureError;
use super::scan::{Place, Scanned};

/// What has been collected so far.
pub(super) struct Collector<'a> {
    geometry: Geometry,
    signature: SignatureWriter<&'a mut (dyn Write + Send)>,
    map: MapBuilder,
    counts: Counts,
    next_chunk: u64,
    pending: Vec<u8>,
    pending_blocks: u32,
    frame: u32,
}

/// Blocks counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    data: u64,
    zero: u64,
    free: u64,
    stored: u64,
}

/// Everything that was collected, once all chunks were taken.
pub(super) struct Collection {
    pub(super) root: Root,
    pub(super) map: ImageMap,
    pub(super) counts: BlockCounts,
    pub(super) stored_blocks: u64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(geometry: Geometry, signature: &'a mut (dyn Write + Send)) -> Result<Self, CaptureError> {
        let signature = SignatureWriter::new(signature, geometry).map_err(CaptureError::Signature)?;
        let encoding = ManifestFormat::CURRENT.map_encoding(geometry.block_size);
        let (map, counts) = (MapBuilder::new(encoding), Counts::default());
        Ok(Self { geometry, signature, map, counts, next_chunk: 0, pending: Vec::new(), pending_blocks: 0, frame: 0 })
    }

    /// Takes the next chunk and hands every frame that is full to `emit`, which returns a fresh buffer.
    ///
    /// Chunks between the last one and this one were skipped because nothing is allocated in them.
    pub(super) fn take(
        &mut self,
        scanned: &Scanned,
        emit: &mut impl FnMut(u32, Vec<u8>) -> Result<Vec<u8>, CaptureError>,
    ) -> Result<(), CaptureError> {
        self.skip_to(scanned.chunk.get());
        self.signature.push_summarised(&scanned.state, scanned.summary).map_err(CaptureError::Signature)?;
        self.next_chunk = scanned.chunk.get() + 1;
        let mut at = 0_u32;
        for (place, blocks) in &scanned.runs {
            let count = u64::from(*blocks);
            match place {
                Place::Free => self.count_free(count),
                Place::Zero => {
                    self.counts.zero += count;
                    self.map.push(Run { origin: Origin::Zero, blocks: BlockCount::new(count) });
                }
                Place::Base(base) => {
                    self.counts.data += count;
                    self.map.push(Run { origin: Origin::Base(*base), blocks: BlockCount::new(count) });
                }
                Place::Here => {
                    self.counts.data += count;
                    self.counts.stored += count;
                    if let Some(content) = &scanned.content {
                        self.store(content, at, *blocks, emit)?;
                    }
                }
            }
            at += blocks;
        }
        Ok(())
    }

    /// Takes the end of the disk and hands the last frame to `emit`.
    pub(super) fn finish(
        mut self,
        emit: &mut impl FnMut(u32, Vec<u8>) -> Result<Vec<u8>, CaptureError>,
    ) -> Result<Collection, CaptureError> {
        self.skip_to(self.geometry.chunks());
        if !self.pending.is_empty() {
            self.emit(emit)?;
        }
        let (_, _, root) = self.signature.finish().map_err(CaptureError::Signature)?;
        let Counts { data, zero, free, stored } = self.counts;
        let count = BlockCount::new;
        Ok(Collection {
            root,
            map: self.map.finish(),
            counts: BlockCounts { data: count(data), zero: count(zero), free: count(free) },
            stored_blocks: stored,
        })
    }

    fn skip_to(&mut self, chunk: u64) {
        let chunks = chunk.saturating_sub(self.next_chunk);
        if chunks > 0 {
            let first = self.geometry.first_block(ChunkIndex::new(self.next_chunk)).get();
            let end = self.geometry.first_block(ChunkIndex::new(chunk)).get().min(self.geometry.blocks().get());
            self.signature.push_free(chunks);
            self.count_free(end - first);
        }
    }

    fn count_free(&mut self, blocks: u64) {
        self.counts.free += blocks;
        self.map.push(Run { origin: Origin::Free, blocks: BlockCount::new(blocks) });
    }

    /// Puts blocks of a chunk into frames.
    fn store(
        &mut self,
        content: &[u8],
        first: u32,
        blocks: u32,
        emit: &mut impl FnMut(u32, Vec<u8>) -> Result<Vec<u8>, CaptureError>,
    ) -> Result<(), CaptureError> {
        let size = self.geometry.block_size.as_usize();
        let capacity = self.geometry.block_size.blocks_per_chunk();
        let index = |block: u32| usize::try_from(block).map_or(usize::MAX, |block| block.saturating_mul(size));
        let (mut first, mut left) = (first, blocks);
        while left > 0 {
            let take = left.min(capacity - self.pending_blocks);
            let origin = Origin::Frame { pack: 0, frame: self.frame, first: self.pending_blocks };
            self.map.push(Run { origin, blocks: BlockCount::new(u64::from(take)) });
            // Only the last block of the disk is short, and then it is the last of the content.
            let end = index(first + take).min(content.len());
            self.pending.extend_from_slice(&content[index(first)..end]);
            self.pending_blocks += take;
            (first, left) = (first + take, left - take);
            if self.pending_blocks == capacity {
                self.emit(emit)?;
            }
        }
        Ok(())
    }

    fn emit(
        &mut self,
        emit: &mut impl FnMut(u32, Vec<u8>) -> Result<Vec<u8>, CaptureError>,
    ) -> Result<(), CaptureError> {
        let empty = emit(self.frame, std::mem::take(&mut self.pending))?;
        self.pending = empty;
        self.pending.clear();
        self.pending.reserve(usize::try_from(CHUNK_BYTES).unwrap_or(0));
        self.pending_blocks = 0;
        self.frame = self.frame.checked_add(1).ok_or(CaptureError::TooLarge { what: "frames" })?;
        Ok(())
    }
}
