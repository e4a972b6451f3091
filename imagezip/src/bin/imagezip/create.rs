//! `imagezip create`: a disk into a full image, or into a delta image against its bases.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use imagezip::alloc::Unreadable;
use imagezip::capture::{BadSectors, Base, CaptureOptions, capture};
use sigs::BlockSize;

use crate::open::{self, Looking};
use crate::output::Output;
use crate::replacing::Replacing;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A disk, or a file that holds one
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
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Take everything as data, also a file that is an image and no disk
    #[arg(long)]
    raw: bool,
    /// Do not ask partclone about file systems that count only with its word, such as NTFS: they are data then
    #[arg(long)]
    no_partclone: bool,
    /// Read past the page cache
    #[arg(long)]
    direct: bool,
    /// The zstd level
    #[arg(long, value_name = "N", default_value_t = CaptureOptions::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// End at the first sector that cannot be read, instead of listing it and taking it as zeros
    #[arg(long)]
    refuse_bad_sectors: bool,
    /// How many sectors that cannot be read are listed at most
    #[arg(long, value_name = "N", default_value_t = BadSectors::DEFAULT_MOST, conflicts_with = "refuse_bad_sectors")]
    most_bad_sectors: u64,
}

impl Arguments {
    const fn bad_sectors(&self) -> BadSectors {
        if self.refuse_bad_sectors { BadSectors::Refuse } else { BadSectors::List { most: self.most_bad_sectors } }
    }

    const fn looking(&self) -> Looking {
        let unreadable = if self.refuse_bad_sectors { Unreadable::Fail } else { Unreadable::Whole };
        Looking { raw: self.raw, unreadable, partclone: !self.no_partclone }
    }
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let signatures = arguments.base.iter().map(|path| open::signature(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let bases: Vec<&dyn Base> = signatures.iter().map(|signature| -> &dyn Base { signature }).collect();
    let disk = open::disk(&arguments.source, arguments.direct)?;
    open::no_container(&arguments.source, &*disk, arguments.raw)?;
    let part = open::part(&*disk, &arguments.source, arguments.partition)?;
    open::not_empty(&arguments.source, &part)?;
    let (layout, _) = open::layout(session, &part, &arguments.source, arguments.looking())?;
    let options = CaptureOptions {
        bases: &bases,
        block_size: bases.first().map_or(BlockSize::DEFAULT, |base| base.geometry().block_size),
        level: arguments.level,
        threads: session.readers(arguments.direct),
        bad_sectors: arguments.bad_sectors(),
    };
    let inputs = arguments.base.iter().chain([&arguments.source]);
    let mut output = Output::create(&arguments.out, arguments.sig_out.as_deref(), inputs, arguments.replacing)?;
    let captured = session.watched(|| {
        let (frames, signature) = output.sinks();
        capture(&part, &layout, &options, frames, signature, session.control())
    });
    let captured = captured.with_context(|| format!("capture {}", arguments.source.display()))?;
    output.publish(session, &captured, layout.allocated_bytes())
}
