//! Writing a state to a disk, such that at no moment a half-written disk could boot.
//!
//! The order, each step complete before the next:
//! 1. everything that can be refused is refused: the image is checked and its ends are read, a fresh file gets its room;
//!    the target is untouched. A fresh file has nothing to lose, so there the root of step 4 is what proves the frames;
//!    when that finds one damaged the file becomes one hole again;
//! 2. the used blocks of the first and the last MiB become zeros, durably: no partition table, no boot loader;
//! 3. FREE blocks as the caller wants; then the body, every block at most once, several threads in disk order; durably;
//! 4. the body is read back past the page cache and hashed; together with what the first and the last MiB will hold it
//!    must have the root that the manifest names;
//! 5. the last MiB, durably; the first MiB, durably, and its first block after the rest of it; all are read back.
//!
//! On a disk of another size the blocks that are made anew ([`crate::fit`]) are treated like the ends, wherever they lie:
//! the root of step 4 is computed with what they are in the state, and what they became is read back by itself.
//!
//! Interrupted anywhere, the target does not boot, and the same restore run again finishes it. With
//! [`RestoreOptions::in_place`] the target is read first and only what differs is written; what is there is believed
//! because it was read, never because somebody noted it. With the signature of the state ([`restore_known`]) the target
//! is read once instead of twice, and only what differs is expanded.

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use serde::Serialize;
use sigs::map::WrongChunkCount;
use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange, CHUNK_BYTES, Geometry, Root, SectorSize, SignatureError};

use crate::capture::Base;
use crate::control::{Control, default_threads};
use crate::extents::Extents;
use crate::fit::{Fit, FixUp, Misfit};
use crate::image::{Chain, FrameSet, ImageError, Plan, Verified};
use crate::io::DiskIo;

mod body;
mod ends;
mod joined;
mod known;
mod marks;
mod read_back;

/// How many more workers there are at most because some wait for the medium.
const MOST_WAITING: usize = 8;

/// What becomes of FREE blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FreePolicy {
    /// They are not touched, but for those at the ends of partitions, which become zeros: a mark of an earlier owner of
    /// the target there would be believed.
    Keep,
    /// They become zeros, and are read back as zeros.
    Zero,
    /// They are discarded; what they read as is up to the medium, but at the ends of partitions they become zeros.
    Discard,
}

/// What happens when the target has another size than the disk of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherSize {
    /// It is refused.
    Refuse,
    /// It is taken when the state fits, and a backup GPT is made anew.
    Fit,
}

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// What becomes of FREE blocks.
    pub free: FreePolicy,
    /// What happens when the target has another size.
    pub other_size: OtherSize,
    /// Read what is there, and write only what differs.
    pub in_place: bool,
    /// The target was just created and is one hole: zeros need not be written.
    pub fresh: bool,
    /// How many workers.
    pub threads: NonZeroUsize,
}

impl RestoreOptions {
    /// Returns the options for a target with this policy for FREE blocks.
    pub fn new(free: FreePolicy) -> Self {
        Self { free, other_size: OtherSize::Refuse, in_place: false, fresh: false, threads: default_threads() }
    }
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Bytes written or zeroed, FREE blocks not counted.
    pub written_bytes: ByteLen,
    /// Bytes that were there already.
    pub kept_bytes: ByteLen,
    /// What became of FREE blocks.
    pub free: FreePolicy,
    /// The root computed from what was read back; that of the manifest.
    pub root: Root,
    /// What was proved.
    pub verdict: Verdict,
    /// What was made anew because the target has another size.
    pub fix_ups: Vec<FixUp>,
    /// The sectors that could not be read when the image was made; they are zeros now.
    pub bad_sectors: Vec<ByteRange>,
    /// Milliseconds until everything but the ends was written and flushed.
    pub write_ms: u64,
    /// Milliseconds of reading it back past the cache.
    pub read_back_ms: u64,
}

/// What a finished restore proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every DATA and ZERO block was read back and is that of the state.
    Identical,
    /// The same but for what was made anew for a target of another size, which was read back by itself.
    IdenticalWithFixUps,
    /// Every DATA and ZERO block was read back, but the state itself is not all that was on the disk: sectors of it could not be read.
    Incomplete,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identical => "identical: read back and proved",
            Self::IdenticalWithFixUps => "identical + fix-ups for a disk of another size: read back and proved",
            Self::Incomplete => {
                "incomplete: what the image has was read back and proved, but sectors of its disk could not be read"
            }
        })
    }
}

/// A restore that did not happen or was not finished.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target does not fit. It is untouched.
    #[error("the target is left untouched")]
    Refused(#[source] Refusal),
    /// The target was written to and cannot boot.
    #[error("the target is unfinished and will not boot; running the same restore again finishes it")]
    Unfinished(#[source] Failure),
}

/// Why a target was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another size.
    #[error(
        "the target has {found} bytes, this image restores a disk of exactly {expected}; --other-size takes another \
         one if the state fits"
    )]
    Size {
        /// The target.
        found: ByteLen,
        /// The image.
        expected: ByteLen,
    },
    /// Other sectors: partition tables count in sectors and would point elsewhere.
    #[error("the target has sectors of {found} bytes, the image was made of a disk with sectors of {expected}")]
    Sectors {
        /// The target.
        found: SectorSize,
        /// The image.
        expected: SectorSize,
    },
    /// Another size, and the state does not fit.
    #[error("the target has another size than the disk of the image, and the image does not fit")]
    Unfit(#[source] Misfit),
    /// The signature is damaged, or that of another state.
    #[error("the signature does not describe the state of the image, or cannot be read")]
    Signature,
    /// What is on the target would not be read from its medium.
    #[error("what is on the target cannot be compared")]
    Settle(#[source] Box<Failure>),
    /// The image is damaged.
    #[error("the image cannot be restored")]
    Image(#[source] Box<ImageError>),
    /// The file system of a fresh file has no room. What was taken was given back.
    #[error("there is no room for {len} bytes at offset {offset} of the file", len = range.len, offset = range.start)]
    NoRoom {
        /// Where, and how much.
        range: ByteRange,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The caller asked to stop before anything was written.
    #[error("stopped on request")]
    Cancelled,
}

impl Refusal {
    fn of_image(error: ImageError) -> Self {
        match error {
            ImageError::Cancelled => Self::Cancelled,
            other => Self::Image(Box::new(other)),
        }
    }
}

/// What went wrong after the first write.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The image cannot be read any more.
    #[error("read the image")]
    Image(#[from] ImageError),
    /// The target cannot be read.
    #[error("read {len} bytes at offset {offset} of the target")]
    Read {
        /// Where.
        offset: ByteOffset,
        /// How much.
        len: ByteLen,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// The target cannot be written.
    #[error("{verb} {len} bytes at offset {offset} of the target", len = range.len, offset = range.start)]
    Write {
        /// Write, zero or discard.
        verb: &'static str,
        /// Where and how much.
        range: ByteRange,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// What was written may be lost.
    #[error("flush the target")]
    Flush(#[source] io::Error),
    /// The cache could not be told to forget.
    #[error("drop the target from the cache")]
    DropCache(#[source] io::Error),
    /// A block that was zeroed is not zero.
    #[error("the block at offset {offset} was zeroed and does not read back as zeros")]
    NotZero {
        /// Where.
        offset: ByteOffset,
    },
    /// What was read back is not the state.
    #[error(
        "what was read back has the root {found}, the image has {expected}: the target does not keep what is written"
    )]
    WrongRoot {
        /// Computed.
        found: Root,
        /// That of the manifest.
        expected: Root,
    },
    /// The first or the last MiB did not arrive.
    #[error("the block at offset {offset} does not read back as it was written")]
    Changed {
        /// Where.
        offset: ByteOffset,
    },
    /// The signature of the state cannot be read any more.
    #[error("read the signature")]
    Signature(#[source] Box<SignatureError>),
    /// A defect: not all chunks were hashed.
    #[error(transparent)]
    Chunks(#[from] WrongChunkCount),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Everything the steps share.
#[derive(Clone, Copy)]
struct Job<'a> {
    chain: &'a Chain<Verified>,
    target: &'a dyn DiskIo,
    options: &'a RestoreOptions,
    control: Control<'a>,
    /// How the state lies on the target.
    fit: &'a Fit,
    /// Blocks before this one are the first MiB.
    head_end: BlockIndex,
    /// Blocks from this one on are the last MiB.
    tail_start: BlockIndex,
}

/// Writes the state of an image to a target.
///
/// # Errors
/// [`RestoreError::Refused`] when nothing was written; [`RestoreError::Unfinished`] when the target will not boot.
pub fn restore(
    chain: &Chain<Verified>,
    target: &dyn DiskIo,
    options: &RestoreOptions,
    control: Control<'_>,
) -> Result<RestoreReport, RestoreError> {
    let fit = check(chain, target, options, control).map_err(RestoreError::Refused)?;
    if !options.fresh {
        let checked = chain.ensure_frames(options.threads, control);
        checked.map_err(|error| RestoreError::Refused(Refusal::of_image(error)))?;
    }
    let job = Job::new(chain, target, options, control, &fit);
    let ends = job.prepare().map_err(RestoreError::Refused)?;
    job.run(&ends).map_err(|failure| job.give_back(job.blame(failure, &chain.all_frames())))
}

/// Writes what a target of the size of the disk lacks of the state of an image, whose signature is at hand.
///
/// # Errors
/// As [`restore`]; [`Refusal::Signature`] when the signature is not that of the state.
pub fn restore_known(
    chain: &Chain<Verified>,
    signature: &dyn Base,
    target: &dyn DiskIo,
    options: &RestoreOptions,
    control: Control<'_>,
) -> Result<RestoreReport, RestoreError> {
    let options = &RestoreOptions { other_size: OtherSize::Refuse, ..*options };
    let fit = check(chain, target, options, control).map_err(RestoreError::Refused)?;
    let job = Job::new(chain, target, options, control, &fit);
    let differing = job.differing(signature).map_err(RestoreError::Refused)?;
    let needed = job.needed(&differing);
    let checked = chain.check_frames(&needed, options.threads, control);
    checked.map_err(|error| RestoreError::Refused(Refusal::of_image(error)))?;
    let ends = job.prepare().map_err(RestoreError::Refused)?;
    let done = job.run_known(signature, &differing, &ends);
    done.map_err(|failure| RestoreError::Unfinished(job.blame(failure, &needed)))
}

fn check(
    chain: &Chain<Verified>,
    target: &dyn DiskIo,
    options: &RestoreOptions,
    control: Control<'_>,
) -> Result<Fit, Refusal> {
    let geometry = chain.geometry();
    let (found, expected) = (target.len(), geometry.disk_bytes);
    if found != expected && options.other_size == OtherSize::Refuse {
        return Err(Refusal::Size { found, expected });
    }
    if let Some(found) = target.hard_sector_size()
        && found != geometry.sector_size
    {
        return Err(Refusal::Sectors { found, expected: geometry.sector_size });
    }
    let fit = Fit::new(chain, found).map_err(Refusal::Unfit)?;
    if control.cancelled() { Err(Refusal::Cancelled) } else { Ok(fit) }
}

/// Returns the end of the first MiB and the start of the last, in blocks; a small disk is all first MiB.
fn ends_of(geometry: &Geometry) -> (BlockIndex, BlockIndex) {
    let total = geometry.blocks().get();
    let head = u64::from(geometry.block_size.blocks_per_chunk()).min(total);
    let last = geometry.disk_bytes.get().saturating_sub(u64::from(CHUNK_BYTES));
    let tail = (last / u64::from(geometry.block_size.bytes())).clamp(head, total);
    (BlockIndex::new(head), BlockIndex::new(tail))
}

impl<'a> Job<'a> {
    fn new(
        chain: &'a Chain<Verified>,
        target: &'a dyn DiskIo,
        options: &'a RestoreOptions,
        control: Control<'a>,
        fit: &'a Fit,
    ) -> Self {
        let (head_end, tail_start) = ends_of(&Geometry { disk_bytes: target.len(), ..*chain.geometry() });
        Self { chain, target, options, control, fit, head_end, tail_start }
    }

    /// Does what may end in a refusal after the image was checked; nothing of the target is written.
    fn prepare(&self) -> Result<ends::Ends, Refusal> {
        let ends = ends::Ends::load(self).map_err(Refusal::of_image)?;
        if self.options.fresh {
            self.make_room()?;
        }
        Ok(ends)
    }

    fn run(&self, ends: &ends::Ends) -> Result<RestoreReport, Failure> {
        let begin = Instant::now();
        let body = self.write_all(ends, None)?;
        let write_ms = elapsed_ms(begin);
        let begin = Instant::now();
        let (found, expected) = (self.read_back(ends)?, self.chain.manifest().target_root);
        let read_back_ms = elapsed_ms(begin);
        if found != expected {
            return Err(Failure::WrongRoot { found, expected });
        }
        failpoints::hit("restore.proved").map_err(Failure::Flush)?;
        let ends_bytes = ends.write(self)?;
        Ok(self.report(body, ends_bytes, (write_ms, read_back_ms)))
    }

    fn run_known(
        &self,
        signature: &dyn Base,
        differing: &Extents,
        ends: &ends::Ends,
    ) -> Result<RestoreReport, Failure> {
        let begin = Instant::now();
        let mut body = self.write_all(ends, Some(differing))?;
        let write_ms = elapsed_ms(begin);
        let begin = Instant::now();
        self.check_written(signature, differing, ends)?;
        let read_back_ms = elapsed_ms(begin);
        let ends_bytes = ends.write(self)?;
        let written = body.written.saturating_add(ends_bytes);
        body.kept = self.plan().used_bytes().get().saturating_sub(written);
        Ok(self.report(body, ends_bytes, (write_ms, read_back_ms)))
    }

    /// Makes sure that the target does not boot, and writes everything but the ends, durably.
    fn write_all(&self, ends: &ends::Ends, only: Option<&Extents>) -> Result<body::Written, Failure> {
        if !self.options.fresh {
            self.invalidate(ends)?;
        }
        failpoints::hit("restore.invalidated").map_err(Failure::Flush)?;
        self.free_blocks()?;
        let body = self.write_body(only)?;
        failpoints::hit("restore.body.written").map_err(Failure::Flush)?;
        self.flush()?;
        failpoints::hit("restore.body.flushed").map_err(Failure::Flush)?;
        Ok(body)
    }

    fn report(&self, body: body::Written, ends_bytes: u64, (write_ms, read_back_ms): (u64, u64)) -> RestoreReport {
        let manifest = self.chain.manifest();
        RestoreReport {
            written_bytes: ByteLen::new(body.written.saturating_add(ends_bytes)),
            kept_bytes: ByteLen::new(body.kept),
            free: self.options.free,
            root: manifest.target_root,
            verdict: match (manifest.is_complete(), self.fit.fix_ups()) {
                (false, _) => Verdict::Incomplete,
                (true, []) => Verdict::Identical,
                (true, _) => Verdict::IdenticalWithFixUps,
            },
            fix_ups: self.fit.fix_ups().to_vec(),
            bad_sectors: manifest.bad_sectors().to_vec(),
            write_ms,
            read_back_ms,
        }
    }

    const fn plan(&self) -> &Plan {
        self.chain.plan()
    }

    fn geometry(&self) -> &Geometry {
        self.chain.geometry()
    }

    /// Returns the blocks from `first` to before `end`, cut where the ends and what is made anew begin and stop; says
    /// which parts those are.
    fn parts(&self, first: u64, end: u64) -> Vec<(u64, u64, bool)> {
        let (head, tail) = (self.head_end.get(), self.tail_start.get());
        let mut parts = vec![(first, end.min(head), true)];
        let mut at = first.max(head);
        for (block, _) in self.fit.made().filter(|(block, _)| (head..tail).contains(&block.get())) {
            let made = block.get();
            if (at..end).contains(&made) {
                parts.extend([(at, made, false), (made, made + 1, true)]);
                at = made + 1;
            }
        }
        parts.extend([(at, end.min(tail), false), (at.max(tail), end, true)]);
        parts.retain(|(first, end, _)| first < end);
        parts
    }

    /// Returns how many do the work: where all wait for the medium, two more for each, to keep the processor busy. A
    /// medium is busy with few, and each takes memory.
    fn workers(&self) -> NonZeroUsize {
        let threads = self.options.threads;
        let waiting = if self.target.waits() { threads.get().saturating_mul(2).min(MOST_WAITING) } else { 0 };
        threads.saturating_add(waiting)
    }

    /// Returns the failure to tell: what was not written as it should be may come from an image that is damaged, or was
    /// changed after it was checked, and then the target is not to blame. `used` are the frames that were written from.
    fn blame(&self, failure: Failure, used: &FrameSet) -> Failure {
        let may_be_image = matches!(
            failure,
            Failure::WrongRoot { .. } | Failure::Changed { .. } | Failure::Image(ImageError::Expand { .. })
        );
        if !may_be_image {
            return failure;
        }
        match self.chain.check_frames(used, self.options.threads, self.control) {
            Ok(()) | Err(ImageError::Cancelled) => failure,
            Err(damaged) => Failure::Image(damaged),
        }
    }

    /// Makes one hole again of a fresh file that the image is too damaged for. Where that fails it is unfinished.
    fn give_back(&self, failure: Failure) -> RestoreError {
        match failure {
            Failure::Image(damaged) if self.options.fresh && self.target.deallocate().is_ok() => {
                RestoreError::Refused(Refusal::of_image(damaged))
            }
            other => RestoreError::Unfinished(other),
        }
    }

    fn check_cancelled(&self) -> Result<(), Failure> {
        if self.control.cancelled() { Err(Failure::Cancelled) } else { Ok(()) }
    }

    fn read(&self, buf: &mut [u8], offset: ByteOffset) -> Result<(), Failure> {
        let len = ByteLen::of(buf);
        self.target.read_exact_at(buf, offset).map_err(|source| Failure::Read { offset, len, source })
    }

    /// Reads what the medium has: for what is proved.
    fn read_back_at(&self, buf: &mut [u8], offset: ByteOffset) -> Result<(), Failure> {
        let len = ByteLen::of(buf);
        self.target.read_from_medium(buf, offset).map_err(|source| Failure::Read { offset, len, source })
    }

    fn write(&self, bytes: &[u8], offset: ByteOffset) -> Result<(), Failure> {
        let range = ByteRange { start: offset, len: ByteLen::of(bytes) };
        self.target.write_all_at(bytes, offset).map_err(|source| Failure::Write { verb: "write", range, source })
    }

    fn zero(&self, range: ByteRange) -> Result<(), Failure> {
        self.target.zero(range).map_err(|source| Failure::Write { verb: "zero", range, source })
    }

    fn flush(&self) -> Result<(), Failure> {
        self.target.flush().map_err(Failure::Flush)
    }

    fn drop_cache(&self) -> Result<(), Failure> {
        let all = ByteRange { start: ByteOffset::ZERO, len: self.fit.disk_bytes() };
        self.target.drop_cache(all).map_err(Failure::DropCache)
    }
}

fn elapsed_ms(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Returns where in a buffer that begins at `base` on the disk a range lies.
fn place_in(base: ByteOffset, range: ByteRange) -> Option<std::ops::Range<usize>> {
    let start = range.start.checked_since(base)?.to_usize()?;
    Some(start..start.checked_add(range.len.to_usize()?)?)
}
