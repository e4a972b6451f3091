//! `imagezip verify`: an image by itself, or against a disk.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use imagezip::io::Disk;
use imagezip::verify::{Comparison, MAX_REPORTED, compare, verify_content};
use serde::Serialize;
use sigs::{BlockCounts, Root};

use crate::exit::Differs;
use crate::open;
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
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    root: Root,
    counts: BlockCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let chain = open::chain(session, &arguments.images)?;
    let (root, counts) = (chain.manifest().target_root, chain.manifest().counts);
    let Some(path) = &arguments.against else {
        let root = session.watched(|| verify_content(&chain, session.threads(), session.control()));
        let root = root.context("verify the image")?;
        let report = Report { ok: true, root, counts, comparison: None };
        return session
            .print(&report, &format!("root {root}\nintact: every frame was expanded and every block hashed"));
    };
    let disk = Disk::open(path)?;
    let part = open::part(&disk, path, arguments.partition)?;
    let (layout, _) = open::layout(session, &part, path, arguments.raw)?;
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
    let printed = session.print(&Report { ok, root, counts, comparison: Some(comparison) }, &text);
    if ok {
        return printed;
    }
    // The verdict counts, also for a caller who does not read what was printed.
    Err(Differs(format!("{} differs from the image in {different} blocks", path.display())).into())
}
