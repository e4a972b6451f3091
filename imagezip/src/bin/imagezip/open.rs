//! Opening what the commands work on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use imagezip::alloc::{Partclone, Survey, SurveyOptions, Treatment, Unreadable, Window, partition_range, survey};
use imagezip::foreign::format::{Format, detect};
use imagezip::image::{Chain, ImageSource, Unverified, Verified};
use imagezip::io::{DirectDisk, Disk, DiskError};
use imagezip::layout::Layout;
use imagezip::package::same_file;
use sigs::source::FileSource;
use sigs::{ByteOffset, ReadAt, Signature};

use crate::exit::Usage;
use crate::session::{Session, human};

/// Opens a disk to be read, through the page cache or past it.
pub(crate) fn disk(path: &Path, direct: bool) -> Result<Box<dyn ReadAt>, DiskError> {
    Ok(if direct { Box::new(DirectDisk::open(path)?) } else { Box::new(Disk::open(path)?) })
}

/// Refuses a file that is no disk but holds one, unless it is to be saved as the bytes that it is. Who names one by
/// mistake would have an image that no machine starts from, and not be told.
pub(crate) fn no_container(path: &Path, disk: &dyn ReadAt, raw: bool) -> Result<(), Usage> {
    if raw {
        return Ok(());
    }
    let shown = path.display();
    let what = match own(disk) {
        Some(Own::Image) => format!("{shown} is an image, not a disk; `imagezip info` shows what it holds"),
        Some(Own::Signature) => format!("{shown} is a signature, not a disk"),
        // A disk whose first sector cannot be read says nothing, and what can be read of it is wanted all the more.
        None => match detect(disk).unwrap_or(Format::Raw) {
            Format::Raw => return Ok(()),
            format => format!("{shown} is a {format} file, not a disk; `imagezip import` saves the disk in it"),
        },
    };
    Err(Usage(format!("{what}; --raw takes it for a disk all the same")))
}

/// A file that this program makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// `.zdi`.
    Image,
    /// `.sig`.
    Signature,
}

/// Returns what a file calls itself in its first bytes; nothing when it is too short for that, or not ours.
pub(crate) fn own(file: &dyn ReadAt) -> Option<Own> {
    let mut magic = [0; 8];
    file.read_exact_at(&mut magic, ByteOffset::ZERO).ok()?;
    match &magic {
        b"EBBZDI\r\n" => Some(Own::Image),
        b"EBBSIG\r\n" => Some(Own::Signature),
        _ => None,
    }
}

/// Opens the part of a disk a command works on: all of it, or one partition.
pub(crate) fn part<'a>(disk: &'a dyn ReadAt, path: &Path, partition: Option<u32>) -> anyhow::Result<Window<'a>> {
    let Some(number) = partition else { return Ok(Window::whole(disk)) };
    let range =
        partition_range(disk, number).with_context(|| format!("read the partition table of {}", path.display()))?;
    let none = || Usage(format!("{} has no partition {number}; `imagezip map` shows what it has", path.display()));
    let window = range.and_then(|range| Window::new(disk, range));
    Ok(window.ok_or_else(none)?)
}

/// Refuses a disk of no bytes. What it gave would be whole, and of no use: it is a file that was never filled, or a card
/// reader without a card.
pub(crate) fn not_empty(path: &Path, disk: &dyn ReadAt) -> Result<(), Usage> {
    match disk.len().is_zero() {
        true => Err(Usage(format!("{} has no bytes: there is nothing to save", path.display()))),
        false => Ok(()),
    }
}

/// How a disk is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looking {
    /// Everything is data.
    pub(crate) raw: bool,
    /// What it means when metadata cannot be read.
    pub(crate) unreadable: Unreadable,
    /// Partclone may be asked, if it is installed.
    pub(crate) partclone: bool,
}

/// Finds out what is allocated, and says why what is taken whole is.
pub(crate) fn layout(
    session: &Session,
    part: &Window<'_>,
    path: &Path,
    looking: Looking,
) -> anyhow::Result<(Layout, Survey)> {
    let context = || format!("survey {}", path.display());
    let Looking { raw, unreadable, partclone } = looking;
    let installed = partclone.then(|| Partclone::installed(path, part.range().start, session.control().cancel));
    let options = SurveyOptions { raw, unreadable, partclone: installed.as_ref() };
    let survey = survey(part, options).with_context(context)?;
    session.check_interrupted()?;
    if !raw {
        doubts(&survey).iter().for_each(|doubt| session.say(&format!("{}: {doubt}", path.display())));
    }
    let layout = Layout::from_survey(part.len(), &survey).with_context(context)?;
    Ok((layout, survey))
}

/// Returns what counts as data as a whole, and why: partitions, and logical volumes in them.
fn doubts(survey: &Survey) -> Vec<String> {
    let mut doubts = Vec::new();
    for partition in &survey.partitions {
        let (number, content) = (partition.number, partition.content);
        match &partition.treatment {
            Treatment::Whole { reason } => doubts.push(match number {
                0 => format!("all of it counts as data: {reason}"),
                _ => format!(
                    "all {} of partition {number} ({}, {content}) count as data: {reason}",
                    human(partition.range.len.get()),
                    partition.kind
                ),
            }),
            Treatment::Proven { evidence } => doubts.extend(evidence.volumes().iter().filter_map(|volume| {
                let Treatment::Whole { reason } = &volume.treatment else { return None };
                let (name, size) = (&volume.name, human(volume.len.get()));
                Some(format!("all {size} of the logical volume {name} ({}) count as data: {reason}", volume.content))
            })),
        }
    }
    doubts
}

/// Opens a signature file.
pub(crate) fn signature(path: &Path) -> anyhow::Result<Signature<FileSource>> {
    let name = || format!("open the signature {}", path.display());
    let file = file(path)?;
    if own(&file) == Some(Own::Image) {
        let hint = "name what --sig-out wrote beside it; `imagezip squash` with --sig-out makes it anew";
        return Err(Usage(format!("{} is an image, not the signature of one: {hint}", path.display())).into());
    }
    Signature::open(file).with_context(name)
}

/// Opens a regular file to be read at any place.
pub(crate) fn file(path: &Path) -> anyhow::Result<FileSource> {
    FileSource::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => Usage(format!("{} is not a regular file", path.display())).into(),
        _ => anyhow::Error::from(error).context(format!("open {}", path.display())),
    })
}

/// Opens images, the last of which is the one that counts, and checks them as a whole.
pub(crate) fn chain(session: &Session, paths: &[PathBuf]) -> anyhow::Result<Chain<Verified>> {
    let chain = unverified(paths)?;
    session.watched(|| chain.verify(session.threads(), session.control())).context("refuse the image")
}

/// Opens images as [`chain`] does, but leaves their frames to be checked when they are read.
pub(crate) fn chain_maps(paths: &[PathBuf]) -> anyhow::Result<Chain<Verified>> {
    unverified(paths)?.verify_maps().context("refuse the image")
}

fn unverified(paths: &[PathBuf]) -> anyhow::Result<Chain<Unverified>> {
    let mut sources = paths.iter().map(|path| source(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let image = sources.pop().ok_or_else(|| Usage("name an image".to_owned()))?;
    Chain::open(image, sources).context("refuse the image")
}

/// Opens an image with its `bases` and those of the `offered` images that it needs, and checks them as a whole.
pub(crate) fn chain_among(
    session: &Session,
    path: &Path,
    bases: &[&PathBuf],
    offered: &[&PathBuf],
) -> anyhow::Result<Chain<Verified>> {
    let others = offered.iter().filter(|other| other.as_path() != path && !bases.contains(other));
    let others = others.map(|path| source(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let bases = bases.iter().map(|path| source(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let chain = Chain::open_with(source(path)?, bases, others).context("refuse the image")?;
    session.watched(|| chain.verify(session.threads(), session.control())).context("refuse the image")
}

fn source(path: &Path) -> anyhow::Result<ImageSource> {
    Ok(ImageSource { name: path.display().to_string(), bytes: Arc::new(file(path)?) })
}

/// Refuses an output that is also an input.
pub(crate) fn distinct<'a>(output: &Path, inputs: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Usage> {
    match inputs.into_iter().find(|input| same_file(output, input)) {
        None => Ok(()),
        Some(input) => {
            Err(Usage(format!("{} would be written over {}: name another file", output.display(), input.display())))
        }
    }
}
