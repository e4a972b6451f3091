//! `imagezip restore`: the state in an image onto a disk or into a file.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use imagezip::io::{Disk, DiskKind, ReadAt as _};
use imagezip::restore::{FreePolicy, RestoreOptions, restore};

use crate::exit::Usage;
use crate::open;
use crate::session::{Session, human};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The image; of a delta image its base first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    /// The disk or file to write to; a file that does not exist is created
    #[arg(long, value_name = "TARGET")]
    to: PathBuf,
    /// What becomes of free blocks; a file has zeros there unless told otherwise, for a device it must be said
    #[arg(long, value_enum)]
    free: Option<Free>,
    /// Read what is there and write only what differs
    #[arg(long)]
    in_place: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Free {
    /// Leave them alone
    Keep,
    /// Make them zeros
    Zero,
    /// Tell the disk that they are not needed
    Discard,
}

impl From<Free> for FreePolicy {
    fn from(free: Free) -> Self {
        match free {
            Free::Keep => Self::Keep,
            Free::Zero => Self::Zero,
            Free::Discard => Self::Discard,
        }
    }
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let path = &arguments.to;
    open::distinct(path, &arguments.images)?;
    let existing = match std::fs::metadata(path) {
        Ok(_) => Some(Disk::open(path)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("look at {}", path.display())),
    };
    let free = match (arguments.free, existing.as_ref().map(Disk::kind)) {
        (Some(free), _) => free.into(),
        (None, None | Some(DiskKind::File)) => FreePolicy::Zero,
        (None, Some(DiskKind::Device)) => {
            let path = path.display();
            return Err(Usage(format!(
                "say what becomes of free blocks of the device {path}: --free keep, zero or discard"
            ))
            .into());
        }
    };
    // A file without a byte is what is left where making the target was cut short: it is made anew.
    let empty = existing.as_ref().is_some_and(|disk| disk.kind() == DiskKind::File && disk.is_empty());
    let fresh = existing.is_none() || empty;
    drop(existing);
    let chain = open::chain(session, &arguments.images)?;
    session.check_interrupted()?;
    if empty {
        std::fs::remove_file(path).with_context(|| format!("make {} anew", path.display()))?;
    }
    let target = if fresh { Disk::create(path, chain.geometry().disk_bytes)? } else { Disk::open_for_writing(path)? };
    let options = RestoreOptions { free, in_place: arguments.in_place, fresh, threads: session.threads() };
    let report = session.watched(|| restore(&chain, &target, &options, session.control()));
    let report = report.with_context(|| format!("restore {}", path.display()))?;
    session.print(
        &report,
        &format!(
            "root {}\nidentical: read back and proved\n{} written, {} were there already",
            report.root,
            human(report.written_bytes.get()),
            human(report.kept_bytes.get())
        ),
    )
}
