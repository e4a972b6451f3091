//! The engine as this crate uses it: what is allocated on a disk, and a base image of it with its signature.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use imagezip::alloc::{Evidence, Partclone, SurveyError, SurveyOptions, Treatment, VolumeReport, survey};
use imagezip::capture::{CaptureError, CaptureOptions, Captured, capture};
use imagezip::control::Control;
use imagezip::io::{Disk, DiskError, ReadAt};
use imagezip::layout::{BadLayout, Layout};
use imagezip::package::{Draft, ImageFile, PackageError};
use sigs::ByteOffset;
use sigs::manifest::PartitionSummary;

/// An image that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImagingError {
    /// The disk cannot be opened.
    #[error(transparent)]
    Open(#[from] DiskError),
    /// The disk cannot be surveyed.
    #[error("find out what is allocated on {disk}")]
    Survey {
        /// The disk.
        disk: PathBuf,
        /// What went wrong.
        #[source]
        source: SurveyError,
    },
    /// The survey contradicts itself: a defect.
    #[error("the survey of {disk} contradicts itself")]
    Layout {
        /// The disk.
        disk: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BadLayout,
    },
    /// The capture failed.
    #[error("capture {disk}")]
    Capture {
        /// The disk.
        disk: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<CaptureError>,
    },
    /// A file could not be written.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The signature file could not be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Finds out what is allocated on a disk; partclone is asked where its word is needed, if it is installed.
///
/// # Errors
/// [`ImagingError::Survey`] when it cannot be read.
pub fn layout_of(disk: &dyn ReadAt, path: &Path, cancel: &AtomicBool) -> Result<Layout, ImagingError> {
    let partclone = Partclone::installed(path, ByteOffset::ZERO, cancel);
    let found = survey(disk, SurveyOptions { partclone: Some(&partclone), ..SurveyOptions::default() });
    let found = found.map_err(|source| ImagingError::Survey { disk: path.to_owned(), source })?;
    Layout::from_survey(disk.len(), &found).map_err(|source| ImagingError::Layout { disk: path.to_owned(), source })
}

/// Returns what a user should know before the work begins: partitions whose free space is not left out, and why.
pub fn doubts(layout: &Layout) -> Vec<String> {
    let whole = |partition: &PartitionSummary| {
        let reason = partition.whole.as_ref()?;
        let what = match partition.number {
            0 => "the whole disk".to_owned(),
            number => format!("all of partition {number}"),
        };
        Some(format!("{what} ({}) counts as data: {reason}", partition.content))
    };
    let volumes = |partition: &PartitionSummary| {
        let evidence = partition.evidence.as_deref().and_then(Evidence::parse);
        let volumes = evidence.as_ref().map_or(&[][..], Evidence::volumes);
        let doubt = |volume: &VolumeReport| {
            let Treatment::Whole { reason } = &volume.treatment else { return None };
            Some(format!("all of the volume {} ({}) counts as data: {reason}", volume.name, volume.content))
        };
        volumes.iter().filter_map(doubt).collect::<Vec<_>>()
    };
    layout.partitions().iter().flat_map(|partition| whole(partition).into_iter().chain(volumes(partition))).collect()
}

/// Makes a full image of a disk and the signature of its state, in one pass. Both files are durable afterwards.
///
/// # Errors
/// [`ImagingError`]; nothing is left under either name.
pub fn make_image(
    source: &Path,
    image: &Path,
    signature: &Path,
    options: &CaptureOptions<'_>,
    control: Control<'_>,
    tell: &mut dyn FnMut(&Layout),
) -> Result<Captured, ImagingError> {
    let disk = Disk::open(source)?;
    let layout = layout_of(&disk, source, control.cancel)?;
    tell(&layout);
    let mut frames = ImageFile::create(image)?;
    let mut pages = std::io::BufWriter::with_capacity(1 << 20, Draft::create(signature)?);
    let captured = capture(&disk, &layout, options, &mut frames, Some(&mut pages), control);
    let captured =
        captured.map_err(|error| ImagingError::Capture { disk: source.to_owned(), source: Box::new(error) })?;
    frames.finish(&captured.contents)?;
    let failed = |source| ImagingError::Write { path: signature.to_owned(), source };
    pages.flush().map_err(failed)?;
    pages.into_inner().map_err(|error| failed(error.into_error()))?.publish()?;
    Ok(captured)
}
