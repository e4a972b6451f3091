//! `imagezip restore`: the state in an image onto a disk or into a file.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use imagezip::fit::Fit;
use imagezip::io::{Disk, DiskKind, ReadAt as _};
use imagezip::restore::{FreePolicy, OtherSize, RestoreError, RestoreOptions, restore, restore_known};
use sigs::ByteLen;

use crate::exit::Usage;
use crate::incomplete;
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
    /// The size of the file that is created, when it is to differ from that of the saved disk
    #[arg(long, value_name = "BYTES")]
    to_size: Option<u64>,
    /// Take a file of another size than the saved disk, if the state fits; a device is taken so in any case
    #[arg(long)]
    other_size: bool,
    /// Read what is there and write only what differs
    #[arg(long)]
    in_place: bool,
    /// The signature of the state, with which --in-place reads the target once and expands only what differs
    #[arg(long, requires = "in_place", value_name = "STATE.sig")]
    sig: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Free {
    /// Leave them alone, but for those at the ends of partitions, which become zeros
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
    if arguments.to_size.is_some() && !fresh {
        return Err(Usage(format!("{} exists: --to-size is for a file that is created", path.display())).into());
    }
    let device = existing.as_ref().is_some_and(|disk| disk.kind() == DiskKind::Device);
    let fitted = device || arguments.other_size || arguments.to_size.is_some();
    let other_size = if fitted { OtherSize::Fit } else { OtherSize::Refuse };
    drop(existing);
    let signature = arguments.sig.as_deref().map(open::signature).transpose()?;
    // What a signature saves of the image need not even be checked, and a fresh file has nothing to lose.
    let chain = if fresh || signature.is_some() {
        open::chain_maps(&arguments.images)?
    } else {
        open::chain(session, &arguments.images)?
    };
    session.check_interrupted()?;
    let size = arguments.to_size.map_or(chain.geometry().disk_bytes, ByteLen::new);
    if fresh {
        // Nothing is created that would be refused.
        Fit::new(&chain, size).with_context(|| format!("create {}", path.display()))?;
    }
    if empty {
        std::fs::remove_file(path).with_context(|| format!("make {} anew", path.display()))?;
    }
    let target = if fresh { Disk::create(path, size)? } else { Disk::open_for_writing(path)? };
    let options = RestoreOptions { free, other_size, in_place: arguments.in_place, fresh, threads: session.threads() };
    let known = signature.filter(|_| !fresh && target.len() == chain.geometry().disk_bytes);
    let report = session.watched(|| match &known {
        Some(signature) => restore_known(&chain, signature, &target, &options, session.control()),
        None => restore(&chain, &target, &options, session.control()),
    });
    if fresh && matches!(report, Err(RestoreError::Refused(_))) {
        // Nothing is in it. The refusal is what there is to tell.
        drop(std::fs::remove_file(path));
    }
    let report = report.with_context(|| format!("restore {}", path.display()))?;
    let mut fix_ups = String::new();
    for fix_up in &report.fix_ups {
        let (what, start, len) = (fix_up.kind, fix_up.range.start, fix_up.range.len);
        // Writing to a string does not fail.
        let _ = write!(fix_ups, "\nmade anew: {what}, {len} bytes at offset {start}");
    }
    session.print(
        &report,
        &format!(
            "root {}\n{}{fix_ups}\n{} written, {} were there already",
            report.root,
            report.verdict,
            human(report.written_bytes.get()),
            human(report.kept_bytes.get())
        ),
    )?;
    incomplete::check(session, chain.manifest())
}
