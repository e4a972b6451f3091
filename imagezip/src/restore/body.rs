//! Everything between the first and the last MiB, and the FREE blocks.

use std::io;
use std::thread;

use crossbeam_channel::bounded;
use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange};

use super::{Failure, FreePolicy, Job, Refusal};
use crate::control::Phase;
use crate::extents::Extents;
use crate::image::{Content, ContentReader, PlanRun};
use crate::io::{AlignedBuffer, is_zero};
use crate::parallel;

/// How many chunks one worker takes at a time: long enough that few frames are expanded by two workers.
pub(super) const PIECE_CHUNKS: u64 = 32;

/// How many bytes are written before the medium is asked to make them durable, while more are written.
const FLUSH_EVERY_BYTES: u64 = 128 << 20;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) written: u64,
    pub(super) kept: u64,
}

/// What is gathered before it is written: neighbours on the disk come from many places of many frames.
const GATHER_BYTES: usize = 1 << 20;
/// So much in one go is written from where it is: another copy of it costs more than another write.
const ALONE_BYTES: usize = 256 << 10;
/// Zeros between data are written along when they are no more than this: cheaper than another write.
const GATHER_ZEROS: usize = 64 << 10;

/// What one worker keeps.
struct Worker<'a> {
    reader: ContentReader<'a>,
    found: AlignedBuffer,
    gathered: Gathered,
}

/// Bytes that follow each other on the disk and wait to be written in one go.
#[derive(Debug)]
struct Gathered {
    start: ByteOffset,
    bytes: AlignedBuffer,
}

impl Gathered {
    fn end(&self) -> Option<ByteOffset> {
        self.start.checked_add(ByteLen::of(&self.bytes))
    }

    /// Returns true when `len` bytes at `offset` can join what is here.
    fn takes(&self, offset: ByteOffset, len: usize) -> bool {
        !self.bytes.is_empty() && self.end() == Some(offset) && self.bytes.len().saturating_add(len) <= GATHER_BYTES
    }
}

impl Job<'_> {
    pub(super) fn range_of(&self, run: &PlanRun) -> ByteRange {
        // Runs of a verified plan lie inside the disk.
        self.plan().byte_range(run).unwrap_or(ByteRange { start: ByteOffset::ZERO, len: ByteLen::ZERO })
    }

    /// Does with FREE blocks what the caller wants.
    pub(super) fn free_blocks(&self) -> Result<(), Failure> {
        if self.options.fresh {
            return Ok(());
        }
        if self.options.free != FreePolicy::Keep {
            for run in self.plan().runs().filter(|run| run.content == Content::Free) {
                self.check_cancelled()?;
                if let Some(range) = self.fit.clip(self.range_of(&run)) {
                    self.free_range(range)?;
                }
            }
            self.behind().map_or(Ok(()), |range| self.free_range(range))?;
        }
        if self.options.free == FreePolicy::Zero { Ok(()) } else { self.clear_marks() }
    }

    /// Makes room in a fresh file for all that will be written, or gives back what it took.
    pub(super) fn make_room(&self) -> Result<(), Refusal> {
        let made = self.allocate();
        if made.is_err() {
            // Nothing was written. The first error is the one to tell.
            drop(self.target.deallocate());
        }
        made
    }

    fn allocate(&self) -> Result<(), Refusal> {
        let mut waiting: Option<ByteRange> = None;
        let allocate = |range: ByteRange| match self.fit.clip(range).map_or(Ok(()), |range| self.target.allocate(range))
        {
            Err(source) if is_no_room(&source) => Err(Refusal::NoRoom { range, source }),
            // It is there to be faster. Whatever else is wrong shows when something is written.
            Ok(()) | Err(_) => Ok(()),
        };
        for run in self.plan().runs().filter(|run| matches!(run.content, Content::Frame { .. })) {
            if self.control.cancelled() {
                return Err(Refusal::Cancelled);
            }
            let range = self.range_of(&run);
            match &mut waiting {
                Some(before) if before.checked_end() == Some(range.start) => {
                    before.len = ByteLen::new(before.len.get().saturating_add(range.len.get()));
                }
                _ => waiting.replace(range).map_or(Ok(()), allocate)?,
            }
        }
        waiting.map_or(Ok(()), allocate)
    }

    fn free_range(&self, range: ByteRange) -> Result<(), Failure> {
        match self.options.free {
            FreePolicy::Keep => Ok(()),
            FreePolicy::Zero => self.zero(range),
            FreePolicy::Discard => {
                self.target.discard(range).map_err(|source| Failure::Write { verb: "discard", range, source })
            }
        }
    }

    /// Returns what a larger target has behind the disk of the state: as good as FREE.
    pub(super) fn behind(&self) -> Option<ByteRange> {
        let end = |len: ByteLen| ByteOffset::new(len.get());
        let behind = ByteRange::between(end(self.geometry().disk_bytes), end(self.fit.disk_bytes()));
        behind.filter(|range| !range.len.is_zero())
    }

    /// Writes all used blocks but those of the first and the last MiB, each at most once; of the others only those in
    /// `only`, when that is given.
    pub(super) fn write_body(&self, only: Option<&Extents>) -> Result<Written, Failure> {
        self.control.progress.begin(Phase::Write, only.map_or(self.plan().used_bytes(), Extents::total));
        let start = || Worker {
            reader: ContentReader::of_proved(self.chain),
            found: AlignedBuffer::default(),
            gathered: Gathered { start: ByteOffset::ZERO, bytes: AlignedBuffer::default() },
        };
        let work = |worker: &mut Worker<'_>, chunks: std::ops::Range<u64>| {
            let per_chunk = u64::from(self.geometry().block_size.blocks_per_chunk());
            let block = |chunk: u64| BlockIndex::new(chunk.saturating_mul(per_chunk));
            let (first, end) = (block(chunks.start).max(self.head_end), block(chunks.end).min(self.tail_start));
            let mut done = Written::default();
            let parts = self.parts(first.get(), end.get()).into_iter().filter(|(_, _, kept)| !kept);
            for (first, end) in parts.map(|(first, end, _)| (BlockIndex::new(first), BlockIndex::new(end))) {
                let Some(only) = only else {
                    self.write_runs(worker, first, end, self.options.in_place, &mut done)?;
                    continue;
                };
                let block = u64::from(self.geometry().block_size.bytes());
                let offset = |block_index: BlockIndex| ByteOffset::new(block_index.get().saturating_mul(block));
                let range = ByteRange::between(offset(first), offset(end));
                for piece in range.into_iter().flat_map(|range| only.within(range)) {
                    let first = BlockIndex::new(piece.start.get() / block);
                    let end = piece.start.get().saturating_add(piece.len.get()).div_ceil(block);
                    self.write_runs(worker, first, BlockIndex::new(end), false, &mut done)?;
                }
            }
            self.write_gathered(&mut worker.gathered)?;
            Ok::<_, Failure>(done)
        };
        let mut total = Written::default();
        let pieces = self.plan().pieces(PIECE_CHUNKS, false).into_iter();
        thread::scope(|scope| {
            // The medium works while frames are expanded, not only after the last of them. A flush that fails is as final
            // as the one at the end. Where the system gives no thread, that one does it all.
            let (ask, asked) = bounded::<()>(1);
            let flush = move || asked.iter().try_for_each(|()| self.flush());
            let flusher = thread::Builder::new().name("restore-flush".to_owned()).spawn_scoped(scope, flush);
            let mut unflushed = 0;
            let written = parallel::in_order("restore", self.workers(), pieces, start, work, |done| {
                total.written += done.written;
                total.kept += done.kept;
                unflushed += done.written;
                if unflushed >= FLUSH_EVERY_BYTES && ask.try_send(()).is_ok() {
                    unflushed = 0;
                }
                Ok(())
            });
            drop(ask);
            let flushed = flusher.map_or(Ok(()), |flusher| match flusher.join() {
                Ok(flushed) => flushed,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            written.and(flushed)
        })?;
        Ok(total)
    }

    /// Writes the used runs of some blocks, or with `compare` what of them the target does not hold yet.
    fn write_runs(
        &self,
        worker: &mut Worker<'_>,
        first: BlockIndex,
        end: BlockIndex,
        compare: bool,
        done: &mut Written,
    ) -> Result<(), Failure> {
        for run in self.plan().runs_in(first, end).filter(|run| run.content != Content::Free) {
            self.check_cancelled()?;
            failpoints::hit("restore.body.run").map_err(Failure::Flush)?;
            let range = self.range_of(&run);
            let Worker { reader, found, gathered } = &mut *worker;
            match (reader.content(&run)?, compare) {
                (Some(content), true) => self.write_different(content, range.start, found, done)?,
                (Some(content), false) => {
                    self.gather(gathered, content, range.start)?;
                    done.written += range.len.get();
                }
                (None, _) => self.write_zeros(worker, range, compare, done)?,
            }
            self.control.progress.add_done(range.len);
        }
        Ok(())
    }

    /// Adds bytes to what will be written in one go.
    fn gather(&self, gathered: &mut Gathered, bytes: &[u8], offset: ByteOffset) -> Result<(), Failure> {
        if !gathered.takes(offset, bytes.len()) {
            self.write_gathered(gathered)?;
            if bytes.len() >= ALONE_BYTES {
                return self.write(bytes, offset);
            }
            gathered.start = offset;
        }
        gathered.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn write_gathered(&self, gathered: &mut Gathered) -> Result<(), Failure> {
        if !gathered.bytes.is_empty() {
            self.write(&gathered.bytes, gathered.start)?;
            gathered.bytes.clear();
        }
        Ok(())
    }

    fn write_zeros(
        &self,
        worker: &mut Worker<'_>,
        range: ByteRange,
        compare: bool,
        done: &mut Written,
    ) -> Result<(), Failure> {
        if self.options.fresh {
            done.kept += range.len.get();
            return Ok(());
        }
        let gathered = &mut worker.gathered;
        if let Some(len) = range.len.to_usize().filter(|len| *len <= GATHER_ZEROS && !compare)
            && gathered.takes(range.start, len)
        {
            let before = gathered.bytes.len();
            gathered.bytes.resize(before + len);
            gathered.bytes[before..].fill(0);
            done.written += range.len.get();
            return Ok(());
        }
        if !compare {
            self.zero(range)?;
            done.written += range.len.get();
            return Ok(());
        }
        for piece in pieces_of(range) {
            worker.found.resize(piece.len.to_usize().unwrap_or(0));
            // What cannot be read is written: that may heal it, and the read-back tells.
            if self.read(&mut worker.found, piece.start).is_ok() && is_zero(&worker.found) {
                done.kept += piece.len.get();
            } else {
                self.zero(piece)?;
                done.written += piece.len.get();
                self.control.progress.add_changed(piece.len);
            }
        }
        Ok(())
    }

    /// Writes those blocks of `content` that the target does not hold yet; neighbours in one go. What cannot be read is
    /// written.
    fn write_different(
        &self,
        content: &[u8],
        start: ByteOffset,
        found: &mut AlignedBuffer,
        done: &mut Written,
    ) -> Result<(), Failure> {
        found.resize(content.len());
        let readable = self.read(found, start).is_ok();
        let size = self.geometry().block_size.as_usize();
        let mut pending = 0..0;
        let mut write = |span: std::ops::Range<usize>| {
            if span.is_empty() {
                return Ok(());
            }
            let before = ByteLen::of(&content[..span.start]);
            let bytes = &content[span];
            done.written += ByteLen::of(bytes).get();
            self.control.progress.add_changed(ByteLen::of(bytes));
            self.write(bytes, start.checked_add(before).unwrap_or(ByteOffset::MAX))
        };
        for (index, (wanted, there)) in content.chunks(size).zip(found.chunks(size)).enumerate() {
            let place = index * size;
            if readable && wanted == there {
                done.kept += ByteLen::of(wanted).get();
            } else if pending.end == place && !pending.is_empty() {
                pending.end = place + wanted.len();
            } else {
                write(std::mem::replace(&mut pending, place..place + wanted.len()))?;
            }
        }
        write(pending)
    }
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Cuts a range into pieces of at most 1 MiB.
pub(super) fn pieces_of(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    let (end, step) = (range.start.get().saturating_add(range.len.get()), 1_u64 << 20);
    let mut at = range.start.get();
    std::iter::from_fn(move || {
        let len = end.saturating_sub(at).min(step);
        let piece = ByteRange { start: ByteOffset::new(at), len: ByteLen::new(len) };
        at = at.saturating_add(len);
        (len > 0).then_some(piece)
    })
}
