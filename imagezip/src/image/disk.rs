//! A verified chain that reads like a disk: any byte of the state, from several threads at once.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange, Geometry, ReadAt, SectorSize};

use super::expand::Expander;
use super::{Chain, Content, Digests, ImageError, PlanRun, Verified};
use crate::io::AlignedBuffer;
use crate::layout::{BadLayout, Layout};

/// How many expanded frames are kept unless told otherwise: 32 MiB at most.
const KEPT_FRAMES: usize = 32;
/// How many idle expanders are kept; more threads than that at once make theirs anew.
const KEPT_EXPANDERS: usize = 16;

/// The disk an image and its bases describe. FREE and ZERO blocks read as zeros.
///
/// Memory: the expanded frames it keeps, 1 MiB each, one more for each thread that reads, and up to 16 idle
/// zstd contexts with a stored frame each.
#[derive(Debug)]
pub struct ImageDisk {
    chain: Arc<Chain<Verified>>,
    cache: Cache,
}

impl ImageDisk {
    /// Makes a disk of a chain.
    pub fn new(chain: Arc<Chain<Verified>>) -> Self {
        Self::with_cache(chain, KEPT_FRAMES)
    }

    /// Makes a disk that keeps so many expanded frames, at least one.
    pub fn with_cache(chain: Arc<Chain<Verified>>, frames: usize) -> Self {
        Self { chain, cache: Cache::new(frames.max(1)) }
    }

    /// Returns the chain.
    pub const fn chain(&self) -> &Arc<Chain<Verified>> {
        &self.chain
    }

    /// Returns how the disk is cut.
    pub fn geometry(&self) -> &Geometry {
        self.chain.geometry()
    }

    /// Returns what is not FREE, with the partitions that were found when the image was made.
    ///
    /// # Errors
    /// [`BadLayout`] would be a defect: the runs of a plan lie inside the disk.
    pub fn layout(&self) -> Result<Layout, BadLayout> {
        let geometry = self.geometry();
        let whole = ByteRange { start: ByteOffset::ZERO, len: geometry.disk_bytes };
        let used = self.pieces(whole).filter(|(_, content)| *content != Content::Free);
        let allocated = used.map(|(range, _)| range).collect();
        let partitions = self.chain.manifest().partitions.clone();
        Layout::new(geometry.disk_bytes, geometry.sector_size, allocated, partitions)
    }

    /// Returns what the bytes of `range` are, in order: pieces of blocks that follow each other, cut to fit.
    ///
    /// Nothing is expanded for it. The part of the range past the end of the disk is left out.
    pub fn pieces(&self, range: ByteRange) -> impl Iterator<Item = (ByteRange, Content)> + '_ {
        self.runs(range).map(|(part, run)| (part, run.content))
    }

    /// Returns the runs that `range` touches, each with the part of it that lies inside.
    fn runs(&self, range: ByteRange) -> impl Iterator<Item = (ByteRange, PlanRun)> + '_ {
        let geometry = self.geometry();
        let size = u64::from(geometry.block_size.bytes());
        let end = range.start.get().saturating_add(range.len.get()).min(geometry.disk_bytes.get());
        let first = BlockIndex::new(range.start.get() / size);
        let last = BlockIndex::new(if range.len.is_zero() { first.get() } else { end.div_ceil(size) });
        self.chain.plan().runs_in(first, last).filter_map(move |run| {
            let covered = self.chain.plan().byte_range(&run)?;
            let stop = covered.checked_end()?.min(ByteOffset::new(end));
            let part = ByteRange::between(covered.start.max(range.start), stop)?;
            (!part.len.is_zero()).then_some((part, run))
        })
    }

    /// Copies a part of a run out of the frame it lies in.
    fn copy(&self, run: &PlanRun, part: ByteRange, out: &mut [u8]) -> Result<(), ImageError> {
        let Content::Frame { image, frame, first } = run.content else {
            out.fill(0);
            return Ok(());
        };
        let block = u64::from(self.geometry().block_size.bytes());
        let source = &self.chain.images()[image];
        let raw =
            self.cache.frame((image, frame), |expander, raw| expander.expand(source, frame, Digests::Check, raw))?;
        // Where the part begins inside the frame; a plan was checked, so nothing here overflows.
        let run_start = run.first.get().saturating_mul(block);
        let skipped = part.start.get().saturating_sub(run_start);
        let start = u64::from(first).saturating_mul(block).saturating_add(skipped);
        let found = usize::try_from(start).ok().and_then(|start| raw.get(start..start.checked_add(out.len())?));
        let found = found.ok_or_else(|| ImageError::Expand {
            name: source.name.clone(),
            frame,
            reason: "ends before a block that the map refers to".to_owned(),
        })?;
        out.copy_from_slice(found);
        Ok(())
    }
}

impl ReadAt for ImageDisk {
    /// An error of the image is inside the [`io::Error`] as an [`ImageError`].
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let range = ByteRange { start: offset, len: ByteLen::of(buf) };
        let end = range.checked_end().filter(|end| end.get() <= self.len().get());
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = buf;
        for (part, run) in self.runs(range) {
            let len = part.len.to_usize().filter(|len| *len <= rest.len()).unwrap_or(rest.len());
            let (out, left) = rest.split_at_mut(len);
            self.copy(&run, part, out).map_err(io::Error::other)?;
            rest = left;
        }
        // A plan has a run for every block; anything else must not read as old content of the buffer.
        if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn len(&self) -> ByteLen {
        self.geometry().disk_bytes
    }

    fn sector_size(&self) -> SectorSize {
        self.geometry().sector_size
    }
}

/// Which image of a chain, and which of its frames.
type Key = (usize, u32);
/// A frame once it is expanded. Its lock is held while it is, so that others who want the same frame wait for it.
type Slot = Arc<Mutex<Option<Arc<AlignedBuffer>>>>;

/// The frames used last, expanded, and the expanders nobody uses at the moment.
struct Cache {
    most: usize,
    /// The one used last is at the back.
    slots: Mutex<VecDeque<(Key, Slot)>>,
    expanders: Mutex<Vec<Expander>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("most", &self.most).finish_non_exhaustive()
    }
}

impl Cache {
    fn new(most: usize) -> Self {
        Self { most, slots: Mutex::default(), expanders: Mutex::default() }
    }

    /// Returns a frame; `expand` fills the buffer when it is not kept.
    fn frame<E>(
        &self,
        key: Key,
        expand: impl FnOnce(&mut Expander, &mut AlignedBuffer) -> Result<(), E>,
    ) -> Result<Arc<AlignedBuffer>, E> {
        let slot = self.slot(key);
        let mut content = lock(&slot);
        if let Some(raw) = &*content {
            return Ok(Arc::clone(raw));
        }
        let mut expander = lock(&self.expanders).pop().unwrap_or_default();
        let mut raw = AlignedBuffer::default();
        expand(&mut expander, &mut raw)?;
        let mut idle = lock(&self.expanders);
        if idle.len() < KEPT_EXPANDERS {
            idle.push(expander);
        }
        drop(idle);
        let raw = Arc::new(raw);
        *content = Some(Arc::clone(&raw));
        Ok(raw)
    }

    /// Returns the place of a frame, which from now on is the one used last.
    fn slot(&self, key: Key) -> Slot {
        let mut slots = lock(&self.slots);
        let found = slots.iter().position(|(other, _)| *other == key).and_then(|at| slots.remove(at));
        let (key, slot) = found.unwrap_or_else(|| (key, Slot::default()));
        if slots.len() >= self.most {
            slots.pop_front();
        }
        slots.push_back((key, Arc::clone(&slot)));
        slot
    }
}

/// Whoever panicked with the lock left a whole entry or none.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_used_last_are_kept_and_a_failure_is_not() {
        let cache = Cache::new(2);
        let mut expanded = Vec::new();
        for frame in [1, 2, 1, 3, 1, 2] {
            let raw = cache.frame((0, frame), |_, raw| {
                expanded.push(frame);
                raw.extend_from_slice(&frame.to_le_bytes());
                Ok::<_, ()>(())
            });
            assert_eq!(raw.as_ref().unwrap()[..], frame.to_le_bytes());
        }
        assert_eq!(expanded, [1, 2, 3, 2], "1 was used again before 3 came, so 2 had to go");
        assert_eq!(cache.frame((1, 1), |_, _| Err("no")).err(), Some("no"));
        assert!(cache.frame((1, 1), |_, _| Ok::<_, ()>(())).is_ok(), "it is tried again");
        assert!(lock(&cache.slots).len() <= 2);
    }
}
