//! The first and the last MiB of a disk: what makes it boot, and therefore goes first and comes last. Blocks that are
//! made anew for a disk of another size belong to them, wherever they lie.

use sigs::{BlockHash, BlockIndex, BlockState, ByteLen, ByteOffset, ByteRange};

use super::{Failure, FreePolicy, Job};
use crate::image::{Content, ContentReader, ImageError, PlanRun};

/// What the first and the last MiB will hold.
#[derive(Debug)]
pub(super) struct Ends {
    head: Vec<Part>,
    tail: Vec<Part>,
}

/// Used blocks that follow each other.
#[derive(Debug)]
struct Part {
    first: BlockIndex,
    range: ByteRange,
    content: PartContent,
}

#[derive(Debug)]
enum PartContent {
    Zero,
    Data(Vec<u8>),
}

impl Ends {
    /// Reads the ends from the image, before anything is written.
    pub(super) fn load(job: &Job<'_>) -> Result<Self, ImageError> {
        let mut reader = ContentReader::new(job.chain);
        let mut load = |runs: &[PlanRun]| {
            let mut parts = Vec::with_capacity(runs.len());
            for run in runs {
                let content = match reader.content(run)? {
                    Some(content) => PartContent::Data(content.to_vec()),
                    None => PartContent::Zero,
                };
                if let Some(range) = job.fit.clip(job.range_of(run)) {
                    parts.push(Part { first: run.first, range, content });
                }
            }
            Ok::<_, ImageError>(parts)
        };
        let [head, tail] = job.end_runs();
        let mut ends = Self { head: load(&head)?, tail: load(&tail)? };
        for (first, content) in job.fit.made() {
            let parts = if first < job.head_end { &mut ends.head } else { &mut ends.tail };
            let start = first.get().saturating_mul(u64::from(job.geometry().block_size.bytes()));
            let range = ByteRange { start: ByteOffset::new(start), len: ByteLen::of(content) };
            parts.push(Part { first, range, content: PartContent::Data(content.to_vec()) });
        }
        ends.head.sort_by_key(|part| part.first);
        ends.tail.sort_by_key(|part| part.first);
        Ok(ends)
    }

    /// Returns the hash of a DATA block of the ends, as it is in the state.
    pub(super) fn hash(&self, job: &Job<'_>, block: BlockIndex) -> Option<BlockHash> {
        if let Some(content) = job.fit.state_of(block) {
            return Some(BlockHash::of(content));
        }
        match self.state(job, block)? {
            BlockState::Data(hash) => Some(hash),
            BlockState::Zero | BlockState::Free => None,
        }
    }

    /// Returns what a used block of the ends will be, or `None` for any other.
    pub(super) fn state(&self, job: &Job<'_>, block: BlockIndex) -> Option<BlockState> {
        let parts = if block < job.head_end { &self.head } else { &self.tail };
        let part = parts.get(parts.partition_point(|part| part.first <= block).checked_sub(1)?)?;
        let size = job.geometry().block_size.as_usize();
        let index = block.get().checked_sub(part.first.get())?;
        match &part.content {
            PartContent::Zero => {
                (index < job.geometry().block_size.blocks_in(part.range.len).get()).then_some(BlockState::Zero)
            }
            PartContent::Data(content) => {
                let content = content.chunks(size).nth(usize::try_from(index).ok()?);
                content.map(|content| BlockState::Data(BlockHash::of(content)))
            }
        }
    }

    /// Writes the last MiB, then the first, of that the first block last, and reads all back.
    ///
    /// Returns how many bytes were written.
    pub(super) fn write(&self, job: &Job<'_>) -> Result<u64, Failure> {
        let block = job.geometry().block_size.as_usize();
        let (mut written, mut boot) = (0, None);
        for parts in [&self.tail, &self.head] {
            for part in parts {
                written += part.range.len.get();
                // What is ZERO is so since the beginning, and the root was computed with that.
                let PartContent::Data(content) = &part.content else { continue };
                if part.range.start.is_zero() {
                    let (first, rest) = content.split_at(block.min(content.len()));
                    boot = Some(first);
                    if !rest.is_empty() {
                        job.write(rest, ByteOffset::new(ByteLen::of(first).get()))?;
                    }
                } else {
                    job.write(content, part.range.start)?;
                }
            }
            job.flush()?;
            failpoints::hit("restore.end.flushed").map_err(Failure::Flush)?;
        }
        if let Some(boot) = boot {
            job.write(boot, ByteOffset::ZERO)?;
            failpoints::hit("restore.first-block.written").map_err(Failure::Flush)?;
            job.flush()?;
            failpoints::hit("restore.first-block.flushed").map_err(Failure::Flush)?;
        }
        job.drop_cache()?;
        for part in self.tail.iter().chain(&self.head) {
            if let Err(error) = part.check(job) {
                // What does not hold its first MiB must not boot by what it does hold. The first error is the one
                // to tell.
                drop(job.invalidate(self));
                return Err(error);
            }
        }
        Ok(written)
    }
}

impl Part {
    fn check(&self, job: &Job<'_>) -> Result<(), Failure> {
        let mut found = vec![0; self.range.len.to_usize().unwrap_or(0)];
        job.read_back_at(&mut found, self.range.start)?;
        let differs = match &self.content {
            PartContent::Zero => found.iter().position(|byte| *byte != 0),
            PartContent::Data(content) => found.iter().zip(content).position(|(found, wanted)| found != wanted),
        };
        match differs {
            None => Ok(()),
            Some(place) => {
                let place = ByteLen::of(&found[..place]);
                Err(Failure::Changed { offset: self.range.start.checked_add(place).unwrap_or(ByteOffset::MAX) })
            }
        }
    }
}

impl Job<'_> {
    /// Returns the used runs of the first MiB and of the last, without the blocks that are made anew.
    fn end_runs(&self) -> [Vec<PlanRun>; 2] {
        let total = self.geometry().blocks().get();
        [(0, self.head_end.get()), (self.tail_start.get(), total)].map(|(first, end)| {
            let mut runs = Vec::new();
            let mut at = first;
            let made = self.fit.made().map(|(block, _)| block.get()).filter(|block| (first..end).contains(block));
            for stop in made.chain([end]) {
                let part = self.plan().runs_in(BlockIndex::new(at), BlockIndex::new(stop));
                runs.extend(part.filter(|run| run.content != Content::Free));
                at = stop.saturating_add(1);
            }
            runs
        })
    }

    /// Makes zeros of the first and the last MiB, durably: of their used blocks, and of their FREE ones as well unless
    /// those are to be kept. A backup GPT goes in any case, also where the new state has nothing: a disk could boot by it.
    pub(super) fn invalidate(&self, ends: &Ends) -> Result<(), Failure> {
        if self.options.free == FreePolicy::Keep {
            for part in ends.head.iter().chain(&ends.tail) {
                self.zero(part.range)?;
            }
            self.invalidate_backup_gpt()?;
        } else {
            let disk = self.fit.disk_bytes();
            let block = u64::from(self.geometry().block_size.bytes());
            let head = ByteOffset::new(self.head_end.get().saturating_mul(block).min(disk.get()));
            let tail = ByteOffset::new(self.tail_start.get().saturating_mul(block).min(disk.get()));
            let end = ByteOffset::new(disk.get());
            for range in [ByteRange::between(ByteOffset::ZERO, head), ByteRange::between(tail, end)] {
                if let Some(range) = range.filter(|range| !range.len.is_zero()) {
                    self.zero(range)?;
                }
            }
            // What is made anew in between.
            for part in ends.tail.iter().filter(|part| part.first < self.tail_start) {
                self.zero(part.range)?;
            }
        }
        self.flush()
    }

    /// Zeroes the header of a backup GPT in the last sector, of either size, where there is one.
    fn invalidate_backup_gpt(&self) -> Result<(), Failure> {
        for sector in [512_u64, 4096] {
            let Some(start) = self.fit.disk_bytes().get().checked_sub(sector) else { continue };
            let mut mark = [0; 8];
            // What cannot be read may be one.
            if self.read(&mut mark, ByteOffset::new(start)).is_err() || mark == *b"EFI PART" {
                self.zero(ByteRange { start: ByteOffset::new(start), len: ByteLen::new(sector) })?;
            }
        }
        Ok(())
    }
}
