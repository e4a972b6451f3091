//! Everything between the first and the last MiB, and the FREE blocks.

use std::thread;

use crossbeam_channel::bounded;
use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange};

use super::{Failure, FreePolicy, Job};
use crate::control::Phase;
use crate::image::{Content, ContentReader, PlanRun};
use crate::io::is_zero;
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

/// What one worker keeps.
struct Worker<'a> {
    reader: ContentReader<'a>,
    found: Vec<u8>,
}

impl Job<'_> {
    pub(super) fn range_of(&self, run: &PlanRun) -> ByteRange {
        // Runs of a verified plan lie inside the disk.
        self.plan().byte_range(run).unwrap_or(ByteRange { start: ByteOffset::ZERO, len: ByteLen::ZERO })
    }

    /// Does with FREE blocks what the caller wants.
    pub(super) fn free_blocks(&self) -> Result<(), Failure> {
        if self.options.fresh || self.options.free == FreePolicy::Keep {
            return Ok(());
        }
        for run in self.plan().runs().iter().filter(|run| run.content == Content::Free) {
            self.check_cancelled()?;
            let range = self.range_of(run);
            match self.options.free {
                FreePolicy::Keep => {}
                FreePolicy::Zero => self.zero(range)?,
                FreePolicy::Discard => {
                    self.target.discard(range).map_err(|source| Failure::Write { verb: "discard", range, source })?;
                }
            }
        }
        Ok(())
    }

    /// Writes all used blocks but those of the first and the last MiB, each at most once.
    pub(super) fn write_body(&self) -> Result<Written, Failure> {
        self.control.progress.begin(Phase::Write, self.plan().used_bytes());
        let start = || Worker { reader: ContentReader::new(self.chain), found: Vec::new() };
        let work = |worker: &mut Worker<'_>, chunks: std::ops::Range<u64>| {
            let per_chunk = u64::from(self.geometry().block_size.blocks_per_chunk());
            let block = |chunk: u64| BlockIndex::new(chunk.saturating_mul(per_chunk));
            let (first, end) = (block(chunks.start).max(self.head_end), block(chunks.end).min(self.tail_start));
            let mut done = Written::default();
            for run in self.plan().runs_in(first, end) {
                self.check_cancelled()?;
                self.write_run(worker, &run, &mut done)?;
            }
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
            let written = parallel::in_order("restore", self.options.threads, pieces, start, work, |done| {
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

    fn write_run(&self, worker: &mut Worker<'_>, run: &PlanRun, done: &mut Written) -> Result<(), Failure> {
        let range = self.range_of(run);
        match run.content {
            Content::Free => return Ok(()),
            Content::Zero => self.write_zeros(worker, range, done)?,
            Content::Frame { .. } => {
                let Worker { reader, found } = worker;
                let content = reader.content(run)?.unwrap_or_default();
                if self.options.in_place {
                    self.write_different(content, range.start, found, done)?;
                } else {
                    self.write(content, range.start)?;
                    done.written += range.len.get();
                }
            }
        }
        self.control.progress.add_done(range.len);
        Ok(())
    }

    fn write_zeros(&self, worker: &mut Worker<'_>, range: ByteRange, done: &mut Written) -> Result<(), Failure> {
        if self.options.fresh {
            done.kept += range.len.get();
            return Ok(());
        }
        if !self.options.in_place {
            self.zero(range)?;
            done.written += range.len.get();
            return Ok(());
        }
        for piece in pieces_of(range) {
            worker.found.resize(piece.len.to_usize().unwrap_or(0), 0);
            self.read(&mut worker.found, piece.start)?;
            if is_zero(&worker.found) {
                done.kept += piece.len.get();
            } else {
                self.zero(piece)?;
                done.written += piece.len.get();
                self.control.progress.add_changed(piece.len);
            }
        }
        Ok(())
    }

    /// Writes those blocks of `content` that the target does not hold yet; neighbours in one go.
    fn write_different(
        &self,
        content: &[u8],
        start: ByteOffset,
        found: &mut Vec<u8>,
        done: &mut Written,
    ) -> Result<(), Failure> {
        found.resize(content.len(), 0);
        self.read(found, start)?;
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
            if wanted == there {
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
