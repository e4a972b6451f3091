//! `imagezip import`: a disk image of another program into an image of ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use imagezip::alloc::{Unreadable, Window};
use imagezip::capture::{BadSectors, Base, CaptureOptions, capture};
use imagezip::foreign::format::{Format, detect};
use imagezip::foreign::{ndz, qcow2};
use imagezip::io::{Disk, ReadAt};
use imagezip::layout::Layout;
use sigs::{BlockSize, ByteLen};

use crate::exit::Usage;
use crate::open::{self, Looking, Own};
use crate::output::Output;
use crate::replacing::Replacing;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The file to import
    source: PathBuf,
    /// Where to write the image
    #[arg(long, value_name = "IMG.zdi")]
    out: PathBuf,
    /// Store only what differs from this base; may be given several times
    #[arg(long, value_name = "BASE.sig")]
    base: Vec<PathBuf>,
    /// Where to write the signature of what is saved
    #[arg(long, value_name = "NEW.sig")]
    sig_out: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
    /// What the file is
    #[arg(long, value_enum, default_value = "auto")]
    format: Wanted,
    /// Take everything as data
    #[arg(long)]
    raw: bool,
    /// The size of the disk an Emulab image was made of, which the image does not hold
    #[arg(long, value_name = "BYTES")]
    disk_bytes: Option<u64>,
    /// The zstd level
    #[arg(long, value_name = "N", default_value_t = CaptureOptions::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Wanted {
    /// What its first bytes say
    Auto,
    /// The bytes of the disk
    Raw,
    /// QEMU's, version 2 or 3
    Qcow2,
    /// Emulab's, version 1 to 4, not encrypted
    Ndz,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let signatures = arguments.base.iter().map(|path| open::signature(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let bases: Vec<&dyn Base> = signatures.iter().map(|signature| -> &dyn Base { signature }).collect();
    let (disk, layout) = source(session, arguments)?;
    open::not_empty(&arguments.source, &*disk)?;
    let options = CaptureOptions {
        bases: &bases,
        block_size: bases.first().map_or(BlockSize::DEFAULT, |base| base.geometry().block_size),
        level: arguments.level,
        threads: session.threads(),
        bad_sectors: BadSectors::Refuse,
    };
    let inputs = arguments.base.iter().chain([&arguments.source]);
    let mut output = Output::create(&arguments.out, arguments.sig_out.as_deref(), inputs, arguments.replacing)?;
    let captured = session.watched(|| {
        let (frames, signature) = output.sinks();
        capture(disk.as_ref(), &layout, &options, frames, signature, session.control())
    });
    let captured = captured.with_context(|| format!("import {}", arguments.source.display()))?;
    output.publish(session, &captured, layout.allocated_bytes())
}

/// Opens the file as the disk it holds, and finds out what is allocated on it.
fn source(session: &Session, arguments: &Arguments) -> anyhow::Result<(Box<dyn ReadAt>, Layout)> {
    let path = &arguments.source;
    let context = || format!("open {}", path.display());
    let file = Disk::open(path)?;
    let format = match arguments.format {
        Wanted::Auto => {
            refuse_our_own(path, &file)?;
            detect(&file).with_context(context)?
        }
        Wanted::Raw => Format::Raw,
        Wanted::Qcow2 => Format::Qcow2,
        Wanted::Ndz => Format::Ndz,
    };
    if arguments.disk_bytes.is_some() && format != Format::Ndz {
        let text = format!("--disk-bytes is for Emulab's images: {} is {format} and has a size", path.display());
        return Err(Usage(text).into());
    }
    let disk: Box<dyn ReadAt> = match format {
        Format::Raw => Box::new(file),
        Format::Qcow2 => Box::new(qcow2::Disk::open(Arc::new(file)).with_context(context)?),
        Format::Ndz => {
            let options = ndz::Options { disk_bytes: arguments.disk_bytes.map(ByteLen::new) };
            let disk = ndz::Disk::open(Arc::new(file), options).with_context(context)?;
            say_what_it_is(session, arguments, &disk);
            let layout = if arguments.raw { Layout::whole(&disk) } else { disk.layout().with_context(context)? };
            return Ok((Box::new(disk), layout));
        }
    };
    // Partclone reads plain disks only.
    let partclone = matches!(format, Format::Raw);
    let looking = Looking { raw: arguments.raw, unreadable: Unreadable::Fail, partclone };
    let (layout, _) = open::layout(session, &Window::whole(disk.as_ref()), path, looking)?;
    Ok((disk, layout))
}

/// Refuses an image of ours, which as a disk of its own would be a disk that nobody can use.
fn refuse_our_own(path: &Path, file: &dyn ReadAt) -> anyhow::Result<()> {
    if open::own(file) == Some(Own::Image) {
        let text = format!("{} is an image already; --format raw takes it for a disk all the same", path.display());
        return Err(Usage(text).into());
    }
    Ok(())
}

/// Says what is taken on Emulab's word, and what could not be checked.
fn say_what_it_is(session: &Session, arguments: &Arguments, disk: &ndz::Disk) {
    let (path, summary) = (arguments.source.display(), disk.summary());
    let ndz::Summary { version, chunks, checked_chunks, signed_chunks, counted } = *summary;
    session.say(&format!("{path}: an Emulab image ({version}, {chunks} chunks) of a disk of {} bytes", disk.len()));
    if !arguments.raw {
        session.say(&format!("{path}: what it calls free is free on its word; --raw makes that zeros instead"));
    }
    if signed_chunks > 0 {
        let text = "chunks are signed, which cannot be checked without Emulab's key";
        session.say(&format!("{path}: {signed_chunks} {text}"));
    }
    if checked_chunks == 0 {
        session.say(&format!("{path}: it has no checksums of its own but those of zlib"));
    }
    if !counted {
        session.say(&format!("{path}: it does not say how many chunks it has, so a missing end may go unseen"));
    }
}
