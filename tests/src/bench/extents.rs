//! Ten million free extents: a disk on which every other block is free.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::measure::{Program, remove, say, tool};
use super::memory;
use super::row::Row;

const BLOCK: u64 = 4096;
const WANTED: usize = 10_000_000;
/// Every other block free, and some over for what the file system needs itself.
const BLOCKS: u64 = 20_300_000;
const LIMIT_SECONDS: f64 = 3.0;
const SUPERBLOCK: u64 = 1024;
/// One without `64bit`.
const DESCRIPTOR_BYTES: u64 = 32;

/// Measures how long the plan takes, and with how much memory.
pub(super) fn rows(program: &Program, out: &Path, cores: usize) -> anyhow::Result<Vec<Row>> {
    let disk = out.join("extents.img");
    make_disk(&disk)?;
    let mut runs = Vec::new();
    for _ in 0..program.runs.max(1) {
        // Its plain answer is a summary; the other lists ten million ranges.
        runs.push(program.once(&[Path::new("map"), &disk])?);
    }
    remove(&disk)?;
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let printed = &runs[0].printed;
    let ranges = printed.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    let ranges = ranges.with_context(|| format!("imagezip map said {printed:?}"))?;
    ensure!(ranges >= WANTED && !printed.contains("whole:"), "these are not ten million extents: {printed}");
    let (seconds, peak) = (runs[runs.len() / 2].seconds, runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0));
    say(&format!("{ranges} extents: {seconds:.2} s, {} MiB", peak >> 20));
    Ok(vec![
        Row::new("extents", (seconds, "s"), LIMIT_SECONDS, 1.0, format!("3 s for a map of {ranges} extents")),
        memory::row("extents_memory", peak, cores)?,
    ])
}

/// Makes an ext4 and marks every other free block as in use, in bitmaps and counts alike.
fn make_disk(path: &Path) -> anyhow::Result<()> {
    remove(path)?;
    File::create(path).with_context(|| format!("make {}", path.display()))?.set_len(BLOCKS * BLOCK)?;
    let features = "^metadata_csum,^uninit_bg,^64bit,^has_journal,^resize_inode,^flex_bg";
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-i", "8388608", "-E", "nodiscard", "-O", features]);
    tool(mke2fs.arg(path))?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let word = |at: u64| -> anyhow::Result<u64> {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at)?;
        Ok(u64::from(u32::from_le_bytes(bytes)))
    };
    let (blocks, per_group) = (word(SUPERBLOCK + 4)?, word(SUPERBLOCK + 32)?);
    let mut free_blocks = 0;
    for group in 0..blocks.div_ceil(per_group) {
        let descriptor = BLOCK + group * DESCRIPTOR_BYTES;
        let bitmap_at = word(descriptor)? * BLOCK;
        let mut bitmap = [0; 4096];
        file.read_exact_at(&mut bitmap, bitmap_at)?;
        bitmap.iter_mut().for_each(|bits| *bits |= 0b0101_0101);
        file.write_all_at(&bitmap, bitmap_at)?;
        // What lies after the last block of the last group is marked as used already.
        let free: u32 = bitmap.iter().map(|bits| bits.count_zeros()).sum();
        file.write_all_at(&u16::try_from(free)?.to_le_bytes(), descriptor + 12)?;
        free_blocks += free;
    }
    file.write_all_at(&free_blocks.to_le_bytes(), SUPERBLOCK + 12)?;
    Ok(file.sync_all()?)
}
