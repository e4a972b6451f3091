//! `imagezip verify`: an image by itself, or against a disk.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use imagezip::alloc::Unreadable;
use imagezip::io::Disk;
use imagezip::verify::{Comparison, MAX_REPORTED, compare, verify_content};
use serde::Serialize;
use sigs::{BlockCounts, ByteRange, Root};

use crate::exit::Differs;
use crate::incomplete;
use crate::open::{self, Looking};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The image; of a delta image its base first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    /// Compare every used block with this disk or file
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Take everything on SOURCE as data
    #[arg(long, requires = "against")]
    raw: bool,
    /// Compare with this partition of SOURCE
    #[arg(long, requires = "against", value_name = "N")]
    partition: Option<u32>,
    /// Do not ask partclone about file systems that count only with its word, such as NTFS: they are data then
    #[arg(long, requires = "against")]
    no_partclone: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    root: Root,
    counts: BlockCounts,
    complete: bool,
    bad_sectors: Vec<ByteRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let chain = open::chain(session, &arguments.images)?;
    let manifest = chain.manifest();
    let (root, counts) = (manifest.target_root, manifest.counts);
    let (complete, bad_sectors) = (manifest.is_complete(), manifest.bad_sectors().to_vec());
    let Some(path) = &arguments.against else {
        let root = session.watched(|| verify_content(&chain, session.threads(), session.control()));
        let root = root.context("verify the image")?;
        let report = Report { ok: true, root, counts, complete, bad_sectors, comparison: None };
        session.print(&report, &format!("root {root}\nintact: every frame was expanded and every block hashed"))?;
        return incomplete::check(session, manifest);
    };
    let disk = Disk::open(path)?;
    let part = open::part(&disk, path, arguments.partition)?;
    let looking = Looking { raw: arguments.raw, unreadable: Unreadable::Fail, partclone: !arguments.no_partclone };
    let (layout, _) = open::layout(session, &part, path, looking)?;
    let compared = session.watched(|| compare(&chain, &part, &layout, session.threads(), session.control()));
    let comparison = compared.with_context(|| format!("compare with {}", path.display()))?;
    let different = comparison.different_blocks;
    let mut text = format!("root {root}\n{} blocks compared, {different} differ", comparison.compared_blocks);
    for difference in &comparison.differences {
        let (offset, first, blocks) = (difference.offset, difference.first, difference.blocks);
        // Writing to a string does not fail.
        let _ = write!(text, "\noffset {offset}: {blocks} blocks from block {first}");
    }
    if comparison.differences.len() == MAX_REPORTED {
        text.push_str("\n(and perhaps more)");
    }
    let ok = comparison.is_identical();
    let report = Report { ok, root, counts, complete, bad_sectors, comparison: Some(comparison) };
    let printed = session.print(&report, &text);
    if ok {
        return printed.and_then(|()| incomplete::check(session, manifest));
    }
    // The verdict counts, also for a caller who does not read what was printed.
    Err(Differs(format!("{} differs from the image in {different} blocks", path.display())).into())
}
