//! One pass over a disk: signature, map and frames together.
//!
//! Workers read the allocated parts of a chunk (1 MiB), classify and hash its blocks and compare them in place with
//! the bases; the collector, on the caller's thread, takes the chunks in disk order and packs changed blocks into
//! frames across chunk borders; the same workers compress and digest the frames; a writer thread hands them to the
//! sink in order. A compress job goes before a scan job, so that frames do not pile up.
//!
//! Memory, with T threads: at most 2T + 2 chunks are scanned or waiting for their turn, 4T + 6 frames are being
//! compressed or waiting, T + 2 are with the writer. Each is a buffer of 1 MiB (a frame has one before and one after
//! compression), and each worker keeps one buffer and one zstd context: about 12 T + 16 MiB and T contexts, plus map and
//! coarse table, whatever the size of the disk.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use sigs::image_map::ImageMap;
use sigs::manifest::{ImageKind, Manifest, ManifestFormat};
use sigs::zdi::{Contents, FrameRecord, MAX_MAP_BYTES, encode_frame_table};
use sigs::{
    BlockCount, BlockCounts, BlockSize, ByteLen, ByteOffset, ChunkIndex, ChunkState, Digest, Geometry, ReadAt, Root,
    Signature, SignatureError,
};

use crate::control::{Control, Phase, default_threads};
use crate::layout::Layout;

mod bad_sectors;
mod collect;
mod crew;
mod scan;

use bad_sectors::Rescue;
pub use bad_sectors::{BadSector, BadSectors};

/// What a disk is compared with: a state whose signature is at hand.
pub trait Base: Send + Sync {
    /// Returns how its disk is cut.
    fn geometry(&self) -> &Geometry;
    /// Returns its root.
    fn root(&self) -> Root;
    /// Returns what the coarse table says of a chunk; FREE past the end.
    fn summary(&self, chunk: ChunkIndex) -> sigs::map::ChunkSummary;
    /// Fetches what a chunk holds; FREE past the end.
    ///
    /// # Errors
    /// When the page cannot be read or is not the one the table names.
    fn chunk(&self, chunk: ChunkIndex) -> Result<ChunkState, SignatureError>;
}

impl<R: ReadAt> Base for Signature<R> {
    fn geometry(&self) -> &Geometry {
        self.geometry()
    }

    fn root(&self) -> Root {
        self.root()
    }

    fn summary(&self, chunk: ChunkIndex) -> sigs::map::ChunkSummary {
        self.summary(chunk)
    }

    fn chunk(&self, chunk: ChunkIndex) -> Result<ChunkState, SignatureError> {
        self.chunk(chunk)
    }
}

/// How to capture.
#[derive(Clone, Copy)]
pub struct CaptureOptions<'a> {
    /// What to compare with, at most 64; the first base that has a block is the one referred to. None: a full image.
    pub bases: &'a [&'a dyn Base],
    /// The size of a hash block; that of all bases.
    pub block_size: BlockSize,
    /// The zstd level, 1 to 22.
    pub level: i32,
    /// How many workers.
    pub threads: NonZeroUsize,
    /// What becomes of sectors that cannot be read. A signature alone has no place to list them: [`hash`] refuses.
    pub bad_sectors: BadSectors,
}

impl CaptureOptions<'_> {
    /// The zstd level when nobody says.
    pub const DEFAULT_LEVEL: i32 = 3;
}

impl Default for CaptureOptions<'_> {
    fn default() -> Self {
        Self {
            bases: &[],
            block_size: BlockSize::DEFAULT,
            level: Self::DEFAULT_LEVEL,
            threads: default_threads(),
            bad_sectors: BadSectors::Refuse,
        }
    }
}

impl std::fmt::Debug for CaptureOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureOptions")
            .field("bases", &self.bases.iter().map(|base| base.root()).collect::<Vec<_>>())
            .field("block_size", &self.block_size)
            .field("level", &self.level)
            .field("threads", &self.threads)
            .field("bad_sectors", &self.bad_sectors)
            .finish()
    }
}

/// Takes the frames of a capture, in order, on a thread of its own. It may block; the capture then waits for it.
pub trait FrameSink: Send {
    /// Takes the next frame.
    ///
    /// # Errors
    /// Ends the capture.
    fn put(&mut self, record: FrameRecord, stored: &[u8]) -> io::Result<()>;
}

/// What a pass over a disk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// How the disk is cut.
    pub geometry: Geometry,
    /// The root of its state.
    pub root: Root,
    /// How many blocks are what.
    pub counts: BlockCounts,
}

/// What a capture gives besides its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Everything of the image but its frames.
    pub contents: Contents,
    /// The manifest, which is also in `contents` as bytes.
    pub manifest: Manifest,
    /// The root of the state.
    pub target_root: Root,
    /// How many blocks are what.
    pub counts: BlockCounts,
    /// How many bytes the frames have as stored.
    pub stored_bytes: ByteLen,
}

/// A capture that could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The disk could not be read.
    #[error("read {len} bytes at offset {offset} of the disk")]
    Read {
        /// Where.
        offset: ByteOffset,
        /// How much.
        len: ByteLen,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// The layout is of a disk of another size.
    #[error("the disk has {found} bytes, its survey was of {expected}")]
    Layout {
        /// The disk.
        found: ByteLen,
        /// The survey.
        expected: ByteLen,
    },
    /// A base cannot be compared with.
    #[error("base {root} has blocks of {found} bytes, this capture has blocks of {expected}: use the same block size")]
    BlockSize {
        /// Which base.
        root: Root,
        /// Its blocks.
        found: BlockSize,
        /// Ours.
        expected: BlockSize,
    },
    /// More bases than a map may name.
    #[error("{found} bases were given, a delta has at most 64")]
    Bases {
        /// How many.
        found: usize,
    },
    /// The signature of a base is damaged.
    #[error("fetch chunk {chunk} of the signature of base {root}")]
    Base {
        /// Which base.
        root: Root,
        /// Which chunk.
        chunk: ChunkIndex,
        /// What is wrong.
        #[source]
        source: SignatureError,
    },
    /// Compressing failed.
    #[error("compress a frame")]
    Compress(#[source] io::Error),
    /// The receiver of the frames failed.
    #[error("hand over a frame")]
    Sink(#[source] io::Error),
    /// The receiver of the signature failed.
    #[error("hand over the signature")]
    Signature(#[source] SignatureError),
    /// The disk is too large or too fragmented for the format.
    #[error("the image needs {what} beyond what the format holds")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
    },
    /// The system gave no thread.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Hashes a disk and writes its signature to `signature`, which is not flushed.
///
/// # Errors
/// [`CaptureError`] with the offset where the disk could not be read.
pub fn hash(
    source: &dyn ReadAt,
    layout: &Layout,
    options: &CaptureOptions<'_>,
    signature: &mut (dyn Write + Send),
    control: Control<'_>,
) -> Result<Hashed, CaptureError> {
    let geometry = prepare(source, layout, options, control)?;
    let disk = Rescue::new(source, geometry.sector_size, BadSectors::Refuse, control);
    let job = scan::Job { source: &disk, layout, geometry, bases: &[], control };
    let done = crew::run(&job, options, None, signature).map_err(|error| stopped(error, control))?;
    Ok(Hashed { geometry, root: done.root, counts: done.counts })
}

/// Captures a disk: frames to `frames`, the signature of its state to `signature` when wanted.
///
/// # Errors
/// [`CaptureError`] with the offset where the disk could not be read.
pub fn capture(
    source: &dyn ReadAt,
    layout: &Layout,
    options: &CaptureOptions<'_>,
    frames: &mut dyn FrameSink,
    signature: Option<&mut (dyn Write + Send)>,
    control: Control<'_>,
) -> Result<Captured, CaptureError> {
    let geometry = prepare(source, layout, options, control)?;
    let disk = Rescue::new(source, geometry.sector_size, options.bad_sectors, control);
    let job = scan::Job { source: &disk, layout, geometry, bases: options.bases, control };
    let mut nowhere = io::sink();
    let done = crew::run(&job, options, Some(frames), signature.unwrap_or(&mut nowhere));
    let done = done.map_err(|error| stopped(error, control))?;
    let stored_map = compress_map(&done.map)?;
    let manifest = Manifest {
        format: ManifestFormat::CURRENT,
        kind: if options.bases.is_empty() { ImageKind::Full } else { ImageKind::Delta },
        geometry,
        min_disk_bytes: crate::fit::least_bytes(source, &geometry, &done.map),
        hash: "sha256".to_owned(),
        base_roots: options.bases.iter().map(|base| base.root()).collect(),
        target_root: done.root,
        counts: done.counts,
        stored_blocks: BlockCount::new(done.stored_blocks),
        frame_table: Digest::of(&encode_frame_table(&done.frames)),
        map: Digest::of(done.map.as_bytes()),
        zstd_level: options.level,
        partitions: layout.partitions().to_vec(),
        bad_sectors: Some(disk.into_bad_sectors()),
        tool: concat!("imagezip ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let stored_bytes = done.frames.iter().map(|frame| u64::from(frame.stored_bytes)).sum();
    let contents = Contents {
        frames: done.frames,
        stored_map,
        map_bytes: ByteLen::of(done.map.as_bytes()),
        manifest: manifest.to_bytes(),
    };
    let (target_root, counts) = (done.root, done.counts);
    Ok(Captured { contents, manifest, target_root, counts, stored_bytes: ByteLen::new(stored_bytes) })
}

/// Reading around bad sectors ends with an error of reading when the caller asked to stop.
fn stopped(error: CaptureError, control: Control<'_>) -> CaptureError {
    match error {
        CaptureError::Read { .. } if control.cancelled() => CaptureError::Cancelled,
        other => other,
    }
}

fn prepare(
    source: &dyn ReadAt,
    layout: &Layout,
    options: &CaptureOptions<'_>,
    control: Control<'_>,
) -> Result<Geometry, CaptureError> {
    let (found, expected) = (source.len(), layout.disk_bytes());
    if found != expected {
        return Err(CaptureError::Layout { found, expected });
    }
    if options.bases.len() > 64 {
        return Err(CaptureError::Bases { found: options.bases.len() });
    }
    for base in options.bases {
        let (found, expected) = (base.geometry().block_size, options.block_size);
        if found != expected {
            return Err(CaptureError::BlockSize { root: base.root(), found, expected });
        }
    }
    control.progress.begin(Phase::Scan, layout.allocated_bytes());
    Ok(Geometry { disk_bytes: found, sector_size: layout.sector_size(), block_size: options.block_size })
}

fn compress_map(map: &ImageMap) -> Result<Vec<u8>, CaptureError> {
    if ByteLen::of(map.as_bytes()).get() > MAX_MAP_BYTES {
        return Err(CaptureError::TooLarge { what: "a map" });
    }
    zstd::bulk::compress(map.as_bytes(), CaptureOptions::DEFAULT_LEVEL).map_err(CaptureError::Compress)
}
