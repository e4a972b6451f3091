//! Opening what the commands work on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use imagezip::alloc::{Survey, SurveyOptions, Treatment, Window, partition_range, survey};
use imagezip::image::{Chain, ImageSource, Verified};
use imagezip::io::Disk;
use imagezip::layout::Layout;
use imagezip::package::same_file;
use sigs::source::FileSource;
use sigs::{ReadAt as _, Signature};

use crate::exit::Usage;
use crate::session::Session;

/// Opens the part of a disk a command works on: all of it, or one partition.
pub(crate) fn part<'a>(disk: &'a Disk, path: &Path, partition: Option<u32>) -> anyhow::Result<Window<'a>> {
    let Some(number) = partition else { return Ok(Window::whole(disk)) };
    let range =
        partition_range(disk, number).with_context(|| format!("read the partition table of {}", path.display()))?;
    let none = || Usage(format!("{} has no partition {number}; `imagezip map` shows what it has", path.display()));
    let window = range.and_then(|range| Window::new(disk, range));
    Ok(window.ok_or_else(none)?)
}

/// Finds out what is allocated, and says why what is taken whole is.
pub(crate) fn layout(session: &Session, part: &Window<'_>, path: &Path, raw: bool) -> anyhow::Result<(Layout, Survey)> {
    let context = || format!("survey {}", path.display());
    let survey = survey(part, SurveyOptions { raw }).with_context(context)?;
    for partition in &survey.partitions {
        if let Treatment::Whole { reason } = &partition.treatment
            && !raw
        {
            let (path, number) = (path.display(), partition.number);
            session.say(&match number {
                0 => format!("{path}: all of it counts as data: {reason}"),
                _ => format!("{path}: all of partition {number} ({}) counts as data: {reason}", partition.kind),
            });
        }
    }
    let layout = Layout::from_survey(part.len(), &survey).with_context(context)?;
    Ok((layout, survey))
}

/// Opens a signature file.
pub(crate) fn signature(path: &Path) -> anyhow::Result<Signature<FileSource>> {
    let name = || format!("open the signature {}", path.display());
    Signature::open(file(path)?).with_context(name)
}

/// Opens a regular file to be read at any place.
pub(crate) fn file(path: &Path) -> anyhow::Result<FileSource> {
    FileSource::open(path).with_context(|| format!("open {}", path.display()))
}

/// Opens images, the last of which is the one that counts, and checks them as a whole.
pub(crate) fn chain(session: &Session, paths: &[PathBuf]) -> anyhow::Result<Chain<Verified>> {
    let mut sources = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = Arc::new(file(path)?);
        sources.push(ImageSource { name: path.display().to_string(), bytes });
    }
    let image = sources.pop().ok_or_else(|| Usage("name an image".to_owned()))?;
    let chain = Chain::open(image, sources).context("refuse the image")?;
    session.watched(|| chain.verify(session.threads(), session.control())).context("refuse the image")
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
