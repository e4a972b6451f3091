//! `imagezip hash`: a disk into a signature.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use imagezip::alloc::Unreadable;
use imagezip::capture::{CaptureOptions, hash};
use serde::Serialize;
use sigs::{BlockCounts, BlockSize, Geometry, Root};

use crate::open::{self, Looking};
use crate::replacing::{Replacing, refused};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A disk, or a file that holds one
    source: PathBuf,
    /// Where to write the signature
    #[arg(long, value_name = "BASE.sig")]
    out: PathBuf,
    #[command(flatten)]
    replacing: Replacing,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// The size of a hash block
    #[arg(long, value_name = "BYTES", default_value = "4096", value_parser = block_size)]
    block_size: BlockSize,
    /// Take everything as data, also a file that is an image and no disk
    #[arg(long)]
    raw: bool,
    /// Do not ask partclone about file systems that count only with its word, such as NTFS: they are data then
    #[arg(long)]
    no_partclone: bool,
    /// Read past the page cache
    #[arg(long)]
    direct: bool,
}

#[derive(Serialize)]
struct Report {
    root: Root,
    geometry: Geometry,
    counts: BlockCounts,
}

pub(crate) fn block_size(text: &str) -> Result<BlockSize, String> {
    let bytes: u32 = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    BlockSize::new(bytes).map_err(|error| error.to_string())
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    open::distinct(&arguments.out, [&arguments.source])?;
    let disk = open::disk(&arguments.source, arguments.direct)?;
    open::no_container(&arguments.source, &*disk, arguments.raw)?;
    let part = open::part(&*disk, &arguments.source, arguments.partition)?;
    open::not_empty(&arguments.source, &part)?;
    let looking = Looking { raw: arguments.raw, unreadable: Unreadable::Fail, partclone: !arguments.no_partclone };
    let (layout, _) = open::layout(session, &part, &arguments.source, looking)?;
    let mut out = BufWriter::with_capacity(1 << 20, arguments.replacing.draft(&arguments.out)?);
    let options = CaptureOptions {
        block_size: arguments.block_size,
        threads: session.readers(arguments.direct),
        ..CaptureOptions::default()
    };
    let hashed = session.watched(|| hash(&part, &layout, &options, &mut out, session.control()));
    let hashed = hashed.with_context(|| format!("hash {}", arguments.source.display()))?;
    out.flush().with_context(|| format!("write {}", arguments.out.display()))?;
    let draft = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    session.check_interrupted()?;
    draft.publish().map_err(refused)?;
    let report = Report { root: hashed.root, geometry: hashed.geometry, counts: hashed.counts };
    let counts = hashed.counts;
    session.print(
        &report,
        &format!("root {}\nblocks {} data, {} zero, {} free", hashed.root, counts.data, counts.zero, counts.free),
    )
}
