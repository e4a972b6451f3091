//! Writing a state to a disk, such that at no moment a half-written disk could boot.
//!
//! The order, each step complete before the next:
//! 1. everything that can be refused is refused; the target is untouched;
//! 2. the used blocks of the first and the last MiB become zeros, durably: no partition table, no boot loader;
//! 3. FREE blocks as the caller wants; then the body, every block at most once, several threads in disk order; durably;
//! 4. the body is read back past the page cache and hashed; together with what the first and the last MiB will hold it
//!    must have the root that the manifest names;
//! 5. the last MiB, durably; the first MiB, durably, and its first block after the rest of it; all are read back.
//!
//! Interrupted anywhere, the target does not boot, and the same restore run again finishes it. With
//! [`RestoreOptions::in_place`] the target is read first and only what differs is written; what is there is believed
//! because it was read, never because somebody noted it.

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use serde::Serialize;
use sigs::map::WrongChunkCount;
use sigs::{BlockIndex, ByteLen, ByteOffset, ByteRange, CHUNK_BYTES, Geometry, Root, SectorSize};

use crate::control::{Control, default_threads};
use crate::image::{Chain, ImageError, Plan, Verified};
use crate::io::DiskIo;

mod body;
mod ends;
mod read_back;

/// What becomes of FREE blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FreePolicy {
    /// They are not touched.
    Keep,
    /// They become zeros, and are read back as zeros.
    Zero,
    /// They are discarded; what they read as is up to the medium.
    Discard,
}

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// What becomes of FREE blocks.
    pub free: FreePolicy,
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
        Self { free, in_place: false, fresh: false, threads: default_threads() }
    }
}

/// What a restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another size.
    #[error("the target has {found} bytes, this image restores a disk of exactly {expected}")]
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
    /// The caller asked to stop before anything was written.
    #[error("stopped on request")]
    Cancelled,
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
    check(chain, target, control).map_err(RestoreError::Refused)?;
    let (head_end, tail_start) = ends_of(chain.geometry());
    let job = Job { chain, target, options, control, head_end, tail_start };
    job.run().map_err(RestoreError::Unfinished)
}

fn check(chain: &Chain<Verified>, target: &dyn DiskIo, control: Control<'_>) -> Result<(), Refusal> {
    let geometry = chain.geometry();
    let (found, expected) = (target.len(), geometry.disk_bytes);
    if found != expected {
        return Err(Refusal::Size { found, expected });
    }
    if let Some(found) = target.hard_sector_size()
        && found != geometry.sector_size
    {
        return Err(Refusal::Sectors { found, expected: geometry.sector_size });
    }
    if control.cancelled() { Err(Refusal::Cancelled) } else { Ok(()) }
}

/// Returns the end of the first MiB and the start of the last, in blocks; a small disk is all first MiB.
fn ends_of(geometry: &Geometry) -> (BlockIndex, BlockIndex) {
    let total = geometry.blocks().get();
    let head = u64::from(geometry.block_size.blocks_per_chunk()).min(total);
    let last = geometry.disk_bytes.get().saturating_sub(u64::from(CHUNK_BYTES));
    let tail = (last / u64::from(geometry.block_size.bytes())).clamp(head, total);
    (BlockIndex::new(head), BlockIndex::new(tail))
}

impl Job<'_> {
    fn run(&self) -> Result<RestoreReport, Failure> {
        let begin = Instant::now();
        let ends = ends::Ends::load(self)?;
        if !self.options.fresh {
            self.invalidate()?;
        }
        self.free_blocks()?;
        let body = self.write_body()?;
        self.flush()?;
        let write_ms = elapsed_ms(begin);
        let begin = Instant::now();
        let (found, expected) = (self.read_back(&ends)?, self.chain.manifest().target_root);
        let read_back_ms = elapsed_ms(begin);
        if found != expected {
            return Err(Failure::WrongRoot { found, expected });
        }
        let ends_bytes = ends.write(self)?;
        Ok(RestoreReport {
            written_bytes: ByteLen::new(body.written.saturating_add(ends_bytes)),
            kept_bytes: ByteLen::new(body.kept),
            free: self.options.free,
            root: found,
            verdict: Verdict::Identical,
            write_ms,
            read_back_ms,
        })
    }

    const fn plan(&self) -> &Plan {
        self.chain.plan()
    }

    fn geometry(&self) -> &Geometry {
        self.chain.geometry()
    }

    fn check_cancelled(&self) -> Result<(), Failure> {
        if self.control.cancelled() { Err(Failure::Cancelled) } else { Ok(()) }
    }

    fn read(&self, buf: &mut [u8], offset: ByteOffset) -> Result<(), Failure> {
        let len = ByteLen::of(buf);
        self.target.read_exact_at(buf, offset).map_err(|source| Failure::Read { offset, len, source })
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
        let all = ByteRange { start: ByteOffset::ZERO, len: self.geometry().disk_bytes };
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
