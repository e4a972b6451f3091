//! The judge itself: it must see what differs, or its verdicts mean nothing.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::ensure;
use ebb_tests::disk::{self, Contents, Layout, MIB, Trees};
use ebb_tests::dumpe2fs::FreeBlocks;
use ebb_tests::edit::{self, Editor, Way, Work, marker};
use ebb_tests::judge::{Judgement, judge};
use ebb_tests::{suite, tools, tree};

#[test]
fn changes_made_by_debugfs_are_judged() -> anyhow::Result<()> {
    scene(Way::Debugfs)
}

#[test]
fn changes_made_through_mounts_are_judged() -> anyhow::Result<()> {
    if !tools::is_root() {
        return suite::skip("judging::changes_made_through_mounts_are_judged", "mounting needs root");
    }
    scene(Way::Mount)
}

fn scene(way: Way) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let layout = Layout::new(64, 16);
    let trees = Trees::make(&path("trees"), 16 * MIB, 2 * MIB)?;
    let files = [tree::files(&trees.system)?, tree::files(&trees.data)?];
    let (base, changed) = (path("base.img"), path("changed.img"));
    disk::make(&base, &layout, &Contents { seed: 7, system: &trees.system, data: &trees.data })?;
    copy(&base, &changed)?;
    ensure!(judge(&base, &changed, &layout, way, &path("judge"))?.is_identical(), "a copy is identical");

    let scratch = path("scratch");
    let editor = Editor { disk: &changed, layout: &layout, scratch: &scratch, way };
    for (partition, files) in layout.partitions.into_iter().zip(&files) {
        let work = Work { vname: "alpha", seed: 42, new_bytes: MIB, touched: 12 };
        editor.apply(partition, &work.plan(files, &scratch)?)?;
    }
    disk::check(&changed, &layout)?;
    let secret = marker("alpha", 42);
    ensure!(edit::places_of(&changed, &secret)? > 200, "what was written is found");
    ensure!(edit::places_of(&base, &secret)? == 0, "and not where it was not written");
    let seen = judge(&base, &changed, &layout, way, &path("judge"))?;
    for tool in ["cmp", "stat", "sha256sum"] {
        ensure!(seen.differences.iter().any(|text| text.starts_with(tool)), "{tool} sees nothing: {seen:?}");
    }

    let again = path("again.img");
    copy(&changed, &again)?;
    let compare = |what: &str| -> anyhow::Result<Judgement> {
        let seen = judge(&changed, &again, &layout, way, &path("judge"))?;
        ensure!(seen.bytes > 16 * MIB && seen.files > 20, "{what}: {seen:?}");
        Ok(seen)
    };
    // A free block may be anything.
    let system = layout.partitions[0];
    let blocks = FreeBlocks::ask(&changed, system.start)?;
    let free = blocks.free.iter().find(|range| range.end - range.start > 8).map(|range| range.start + 4);
    let free = free.ok_or_else(|| anyhow::anyhow!("there is room"))?;
    flip(&again, system.start + free * blocks.block_size)?;
    ensure!(compare("free")?.is_identical(), "a free block does not count");
    // Anything else may not: the gap between partitions, the end of the disk, the last allocated block.
    let gap = system.start + system.bytes + 5;
    let last = blocks.allocated().pop().ok_or_else(|| anyhow::anyhow!("something is allocated"))?;
    let allocated = system.start + last.end * blocks.block_size - 1;
    for place in [gap, layout.bytes - 1, allocated] {
        flip(&again, place)?;
        ensure!(!compare("flipped")?.is_identical(), "a flipped byte at {place} is not seen");
        flip(&again, place)?;
        ensure!(compare("flipped back")?.is_identical(), "{place} was put back");
    }

    editor.fill("the second was here; ")?;
    ensure!(edit::places_of(&changed, "the second was here; ")? > 0, "the pattern is found");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to)?;
    Ok(())
}

fn flip(path: &Path, place: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[byte[0] ^ 0x80], place)?;
    Ok(())
}
