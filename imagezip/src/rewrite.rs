//! The same state stored otherwise: against another base, against several, or against none.
//!
//! What a delta between two images, a squashed image and a rebased delta have in common: the state is read out of a
//! verified chain like a disk, and captured again with other bases. What the manifest says about the state (its root,
//! geometry and partitions, the least disk it needs) is that of the original; what it says about storage is new. The
//! result is proved before it can be published: its root, computed from the content, is the one of the original.

use std::io::Write;
use std::num::NonZeroUsize;

use sigs::Root;
use sigs::manifest::Manifest;

use crate::capture::{Base, CaptureError, CaptureOptions, Captured, FrameSink, Hashed, capture, hash};
use crate::control::{Control, default_threads};
use crate::image::ImageDisk;
use crate::layout::BadLayout;

/// How to store a state.
#[derive(Clone, Copy)]
pub struct RewriteOptions<'a> {
    /// What to compare with; none gives a full image.
    pub bases: &'a [&'a dyn Base],
    /// The zstd level, 1 to 22.
    pub level: i32,
    /// How many workers.
    pub threads: NonZeroUsize,
}

impl Default for RewriteOptions<'_> {
    fn default() -> Self {
        Self { bases: &[], level: CaptureOptions::DEFAULT_LEVEL, threads: default_threads() }
    }
}

impl std::fmt::Debug for RewriteOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RewriteOptions")
            .field("bases", &self.bases.iter().map(|base| base.root()).collect::<Vec<_>>())
            .field("level", &self.level)
            .field("threads", &self.threads)
            .finish()
    }
}

/// A state that could not be stored otherwise. What was written so far must not be published.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// Reading, comparing or storing failed.
    #[error("go through the image")]
    Capture(#[from] CaptureError),
    /// The content of the original is not what its manifest says.
    #[error("the content has the root {found}, the manifest says {expected}")]
    WrongRoot {
        /// Computed.
        found: Root,
        /// Claimed.
        expected: Root,
    },
    /// A defect: the map of the original leaves its disk.
    #[error("take the layout of the image")]
    Layout(#[from] BadLayout),
}

/// Stores the state of `disk` again: frames to `frames`, its signature to `signature` when wanted.
///
/// # Errors
/// [`RewriteError`]; after any, the frames are of no use.
pub fn rewrite(
    disk: &ImageDisk,
    options: &RewriteOptions<'_>,
    frames: &mut dyn FrameSink,
    signature: Option<&mut (dyn Write + Send)>,
    control: Control<'_>,
) -> Result<Captured, RewriteError> {
    let layout = disk.layout()?;
    let RewriteOptions { bases, level, threads } = *options;
    let block_size = disk.geometry().block_size;
    let options = CaptureOptions { bases, block_size, level, threads, ..CaptureOptions::default() };
    let mut captured = capture(disk, &layout, &options, frames, signature, control)?;
    let original = disk.chain().manifest();
    check(captured.target_root, original)?;
    captured.manifest = of_the_same_state(captured.manifest, original);
    captured.contents.manifest = captured.manifest.to_bytes();
    Ok(captured)
}

/// Hashes the state of `disk`, so that others can be compared with it, and writes its signature to `signature`.
///
/// # Errors
/// [`RewriteError`]; after any, the signature is of no use.
pub fn hash_image(
    disk: &ImageDisk,
    threads: NonZeroUsize,
    signature: &mut (dyn Write + Send),
    control: Control<'_>,
) -> Result<Hashed, RewriteError> {
    let layout = disk.layout()?;
    let block_size = disk.geometry().block_size;
    let options = CaptureOptions { block_size, threads, ..CaptureOptions::default() };
    let hashed = hash(disk, &layout, &options, signature, control)?;
    check(hashed.root, disk.chain().manifest())?;
    Ok(hashed)
}

fn check(found: Root, original: &Manifest) -> Result<(), RewriteError> {
    let expected = original.target_root;
    if found == expected { Ok(()) } else { Err(RewriteError::WrongRoot { found, expected }) }
}

/// Keeps what a new manifest says about storage, and takes over what the original says about the state.
fn of_the_same_state(new: Manifest, original: &Manifest) -> Manifest {
    // What format 1 says of the least disk is not gone by, so that the new answer takes its place.
    let min_disk_bytes = original.bad_sectors.as_ref().map_or(new.min_disk_bytes, |_| original.min_disk_bytes);
    Manifest {
        format: new.format,
        kind: new.kind,
        base_roots: new.base_roots,
        stored_blocks: new.stored_blocks,
        frame_table: new.frame_table,
        map: new.map,
        zstd_level: new.zstd_level,
        tool: new.tool,
        // The first format has no list, which is not the same as a list of none.
        bad_sectors: Some(original.bad_sectors().to_vec()),
        min_disk_bytes,
        ..original.clone()
    }
}
