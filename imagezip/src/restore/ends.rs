//! The first and the last MiB of a disk: what makes it boot, and therefore goes first and comes last.

use sigs::{BlockHash, BlockIndex, ByteLen, ByteOffset, ByteRange};

use super::{Failure, FreePolicy, Job};
use crate::image::{Content, ContentReader, PlanRun};

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
    pub(super) fn load(job: &Job<'_>) -> Result<Self, Failure> {
        let mut reader = ContentReader::new(job.chain);
        let [head, tail] = job.end_runs().map(|runs| {
            let load = |run: &PlanRun| {
                let content = match reader.content(run)? {
                    Some(content) => PartContent::Data(content.to_vec()),
                    None => PartContent::Zero,
                };
                let range = job.range_of(run);
                Ok::<_, Failure>(Part { first: run.first, range, content })
            };
            runs.iter().map(load).collect::<Result<Vec<_>, _>>()
        });
        Ok(Self { head: head?, tail: tail? })
    }

    /// Returns the hash of a DATA block of the ends.
    pub(super) fn hash(&self, job: &Job<'_>, block: BlockIndex) -> Option<BlockHash> {
        let parts = if block < job.head_end { &self.head } else { &self.tail };
        let part = parts.get(parts.partition_point(|part| part.first <= block).checked_sub(1)?)?;
        let PartContent::Data(content) = &part.content else { return None };
        let size = job.geometry().block_size.as_usize();
        let index = usize::try_from(block.get().checked_sub(part.first.get())?).ok()?;
        content.chunks(size).nth(index).map(BlockHash::of)
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
        }
        if let Some(boot) = boot {
            job.write(boot, ByteOffset::ZERO)?;
            job.flush()?;
        }
        job.drop_cache()?;
        for part in self.tail.iter().chain(&self.head) {
            if let Err(error) = part.check(job) {
                // What does not hold its first MiB must not boot by what it does hold. The first error is the one
                // to tell.
                drop(job.invalidate());
                return Err(error);
            }
        }
        Ok(written)
    }
}

impl Part {
    fn check(&self, job: &Job<'_>) -> Result<(), Failure> {
        let mut found = vec![0; self.range.len.to_usize().unwrap_or(0)];
        job.read(&mut found, self.range.start)?;
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
    /// Returns the used runs of the first MiB and of the last.
    fn end_runs(&self) -> [Vec<PlanRun>; 2] {
        let total = BlockIndex::new(self.geometry().blocks().get());
        let used =
            |first, end| self.plan().runs_in(first, end).filter(|run| run.content != Content::Free).collect::<Vec<_>>();
        [used(BlockIndex::ZERO, self.head_end), used(self.tail_start, total)]
    }

    /// Makes zeros of the first and the last MiB, durably: of their used blocks, and of their FREE ones as well unless
    /// those are to be kept. A backup GPT goes in any case, also where the new state has nothing: a disk could boot by it.
    pub(super) fn invalidate(&self) -> Result<(), Failure> {
        if self.options.free == FreePolicy::Keep {
            for run in self.end_runs().iter().flatten() {
                self.zero(self.range_of(run))?;
            }
            self.invalidate_backup_gpt()?;
        } else {
            let disk = self.geometry().disk_bytes;
            let block = u64::from(self.geometry().block_size.bytes());
            let head = ByteOffset::new(self.head_end.get().saturating_mul(block).min(disk.get()));
            let tail = ByteOffset::new(self.tail_start.get().saturating_mul(block).min(disk.get()));
            let end = ByteOffset::new(disk.get());
            for range in [ByteRange::between(ByteOffset::ZERO, head), ByteRange::between(tail, end)] {
                if let Some(range) = range.filter(|range| !range.len.is_zero()) {
                    self.zero(range)?;
                }
            }
        }
        self.flush()
    }

    /// Zeroes the header of a backup GPT in the last sector, of either size, where there is one.
    fn invalidate_backup_gpt(&self) -> Result<(), Failure> {
        for sector in [512_u64, 4096] {
            let Some(start) = self.geometry().disk_bytes.get().checked_sub(sector) else { continue };
            let mut mark = [0; 8];
            self.read(&mut mark, ByteOffset::new(start))?;
            if mark == *b"EFI PART" {
                self.zero(ByteRange { start: ByteOffset::new(start), len: ByteLen::new(sector) })?;
            }
        }
        Ok(())
    }
}
