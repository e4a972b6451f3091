//! `imagezip create`: a disk into a full image, or into a delta image against its bases.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use imagezip::capture::{Base, CaptureOptions, capture};
use imagezip::io::Disk;
use imagezip::package::{Draft, ImageFile};
use serde::Serialize;
use sigs::manifest::ImageKind;
use sigs::{BlockCount, BlockCounts, BlockSize, ByteLen, Root};

use crate::open;
use crate::session::{Session, human};

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
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Take everything as data
    #[arg(long)]
    raw: bool,
    /// The zstd level
    #[arg(long, value_name = "N", default_value_t = CaptureOptions::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
}

#[derive(Serialize)]
struct Report {
    kind: ImageKind,
    root: Root,
    base_roots: Vec<Root>,
    counts: BlockCounts,
    stored_blocks: BlockCount,
    stored_bytes: ByteLen,
    image_bytes: ByteLen,
    scanned_bytes: ByteLen,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let inputs = || arguments.base.iter().chain([&arguments.source]);
    open::distinct(&arguments.out, inputs())?;
    if let Some(sig_out) = &arguments.sig_out {
        open::distinct(sig_out, inputs().chain([&arguments.out]))?;
    }
    let signatures = arguments.base.iter().map(|path| open::signature(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let bases: Vec<&dyn Base> = signatures.iter().map(|signature| -> &dyn Base { signature }).collect();
    let disk = Disk::open(&arguments.source)?;
    let part = open::part(&disk, &arguments.source, arguments.partition)?;
    let (layout, _) = open::layout(session, &part, &arguments.source, arguments.raw)?;
    let options = CaptureOptions {
        bases: &bases,
        block_size: bases.first().map_or(BlockSize::DEFAULT, |base| base.geometry().block_size),
        level: arguments.level,
        threads: session.threads(),
    };
    let mut image = ImageFile::create(&arguments.out)?;
    let draft = arguments.sig_out.as_deref().map(Draft::create).transpose()?;
    let mut signature = draft.map(|draft| BufWriter::with_capacity(1 << 20, draft));
    let captured = session.watched(|| {
        let signature = signature.as_mut().map(|out| -> &mut (dyn std::io::Write + Send) { out });
        capture(&part, &layout, &options, &mut image, signature, session.control())
    });
    let captured = captured.with_context(|| format!("capture {}", arguments.source.display()))?;
    session.check_interrupted()?;
    // The image first: a signature of an image that is not there would be believed.
    let image_bytes = image.finish(&captured.contents)?;
    if let Some(mut out) = signature {
        out.flush().context("write the signature")?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.publish()?;
    }
    let manifest = &captured.manifest;
    let report = Report {
        kind: manifest.kind,
        root: captured.target_root,
        base_roots: manifest.base_roots.clone(),
        counts: captured.counts,
        stored_blocks: manifest.stored_blocks,
        stored_bytes: captured.stored_bytes,
        image_bytes,
        scanned_bytes: layout.allocated_bytes(),
    };
    let counts = captured.counts;
    session.print(
        &report,
        &format!(
            "root {}\n{} of {}: {} scanned\nblocks {} data ({} of them stored), {} zero, {} free",
            captured.target_root,
            manifest.kind,
            human(image_bytes.get()),
            human(layout.allocated_bytes().get()),
            counts.data,
            manifest.stored_blocks,
            counts.zero,
            counts.free
        ),
    )
}
