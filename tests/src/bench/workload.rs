//! A real file system with a past, and the same one after some work was done on it.
//!
//! Made without mounting, so that anybody can: `mke2fs -d` over a file that already holds old bytes (stale data in
//! free blocks), then `debugfs` for installs and deletes, and page updates written to the blocks it names.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Serialize;

use super::measure::tool;
use crate::dumpe2fs::FreeBlocks;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const DATABASE_MIB: u64 = 512;
const STALE_MIB: u64 = 768;
const PAGE_UPDATES: u64 = 5000;
const INSTALLED_MIB: u64 = 250;

/// The two states and what the limits are taken over.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) base: PathBuf,
    pub(super) changed: PathBuf,
    /// All allocated blocks of the changed state that differ from the base, one after the other.
    pub(super) changed_blocks: PathBuf,
    /// A sample of the allocated blocks, for what zstd makes of them.
    pub(super) allocated_sample: PathBuf,
    pub(super) figures: Figures,
}

/// Bytes of the workload.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) disk_bytes: u64,
    pub(super) base_allocated: u64,
    pub(super) changed_allocated: u64,
    pub(super) changed_bytes: u64,
}

impl Workload {
    pub(super) fn make(out: &Path, used_mib: u64) -> anyhow::Result<Self> {
        let path = |name: &str| out.join(name);
        let (base, changed, tree) = (path("base.img"), path("changed.img"), path("tree"));
        for old in [&base, &changed] {
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(&tree)?;
        let disk_mib = (used_mib * 2).max(used_mib + STALE_MIB + 1024);
        fill_with_old_bytes(&base, disk_mib)?;
        let later = fill_tree(&tree, used_mib)?;
        tool(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-E", "nodiscard", "-d"]).arg(&tree).arg(&base))?;
        fs::remove_dir_all(&tree)?;
        tool(Command::new("cp").arg("--sparse=always").arg(&base).arg(&changed))?;
        work_on(&changed, &later, out)?;
        let workload = Self::of(base, changed, out)?;
        ensure!(
            workload.figures.base_allocated >= used_mib * MIB * 9 / 10,
            "the workload has {} bytes allocated, wanted {used_mib} MiB",
            workload.figures.base_allocated
        );
        Ok(workload)
    }

    /// Takes two images of an ext file system, which are only read.
    pub(super) fn of(base: PathBuf, changed: PathBuf, out: &Path) -> anyhow::Result<Self> {
        let (changed_blocks, allocated_sample) = (out.join("changed.blocks"), out.join("allocated.blocks"));
        let figures = compare(&base, &changed, &changed_blocks, &allocated_sample)?;
        Ok(Self { base, changed, changed_blocks, allocated_sample, figures })
    }
}

/// A disk that was used before: incompressible bytes all over it, and holes between them.
fn fill_with_old_bytes(path: &Path, disk_mib: u64) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    file.set_len(disk_mib * MIB)?;
    let mut random = Random(1);
    let mut buffer = vec![0; 1 << 20];
    let step = (disk_mib / STALE_MIB).max(1);
    for mib in (0..disk_mib).step_by(usize::try_from(step)?) {
        random.fill(&mut buffer);
        file.write_all_at(&buffer, mib * MIB)?;
    }
    Ok(())
}

/// Copies files of this machine, and makes a database of half-compressible pages. Returns files to install later.
fn fill_tree(tree: &Path, used_mib: u64) -> anyhow::Result<Vec<PathBuf>> {
    let mut left = used_mib.saturating_sub(DATABASE_MIB) * MIB;
    let mut later = Vec::new();
    let mut install = INSTALLED_MIB * MIB;
    let mut folders = vec![PathBuf::from("/usr")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut entries: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() && metadata.size() > 0 && File::open(&path).is_ok() {
                if left > metadata.size() {
                    let copy = tree.join(path.strip_prefix("/").context("an absolute path")?);
                    fs::create_dir_all(copy.parent().context("a parent")?)?;
                    fs::copy(&path, &copy)?;
                    left -= metadata.size();
                } else if install > metadata.size() && !path.to_string_lossy().contains([' ', '"']) {
                    install -= metadata.size();
                    later.push(path);
                }
            }
        }
        if left < MIB && install < MIB {
            break;
        }
    }
    write_pages(&tree.join("database"), 2, (DATABASE_MIB * MIB + left) / PAGE)?;
    Ok(later)
}

/// Makes a file of half-compressible pages, always the same ones for a seed.
pub(super) fn write_pages(path: &Path, seed: u64, pages: u64) -> anyhow::Result<()> {
    let mut writer = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut random = Random(seed);
    for number in 0..pages {
        writer.write_all(&page(number, &mut random))?;
    }
    Ok(writer.into_inner()?.sync_all()?)
}

/// A page: its number, text-like rows, and a random half.
fn page(number: u64, random: &mut Random) -> [u8; 4096] {
    let mut page = [0; 4096];
    page[..8].copy_from_slice(&number.to_le_bytes());
    for row in page[8..2048].chunks_mut(24) {
        let text = format!("user={:06} price={:05};", random.next() % 1_000_000, random.next() % 100_000);
        let len = row.len().min(text.len());
        row[..len].copy_from_slice(&text.as_bytes()[..len]);
    }
    random.fill(&mut page[2048..]);
    page
}

/// Installs, deletes, and updates pages of the database in place.
fn work_on(image: &Path, later: &[PathBuf], out: &Path) -> anyhow::Result<()> {
    let script = out.join("debugfs.script");
    let mut commands = String::from("mkdir /installed\n");
    for (number, path) in later.iter().enumerate() {
        commands.push_str(&format!("write {} /installed/{number}\n", path.display()));
    }
    for name in list(image, "/usr/share/doc")?.into_iter().take(300) {
        for file in list(image, &format!("/usr/share/doc/{name}"))? {
            commands.push_str(&format!("rm \"/usr/share/doc/{name}/{file}\"\n"));
        }
    }
    fs::write(&script, commands)?;
    tool(Command::new("debugfs").args(["-w", "-f"]).arg(&script).arg(image))?;
    let blocks: Vec<u64> = debugfs(image, "blocks /database")?
        .split_whitespace()
        .map(|word| word.parse().with_context(|| format!("a block number, not {word:?}")))
        .collect::<Result<_, _>>()?;
    ensure!(!blocks.is_empty(), "debugfs names no blocks of the database");
    let file = OpenOptions::new().write(true).open(image)?;
    let mut random = Random(3);
    let count = u64::try_from(blocks.len())?;
    for _ in 0..PAGE_UPDATES {
        let number = random.next() % count;
        file.write_all_at(&page(number, &mut random), blocks[usize::try_from(number)?] * PAGE)?;
    }
    file.sync_all()?;
    let mut check = Command::new("/usr/sbin/e2fsck");
    check.args(["-fn"]).arg(image).stdout(Stdio::null()).stderr(Stdio::null());
    let status = check.status().context("run e2fsck")?;
    ensure!(status.success(), "e2fsck finds fault with the workload");
    Ok(())
}

fn debugfs(image: &Path, request: &str) -> anyhow::Result<String> {
    let mut command = Command::new("debugfs");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["-R", request]).arg(image);
    let output = command.output().context("run debugfs")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Names in a folder of the image that are safe to give back to debugfs.
fn list(image: &Path, folder: &str) -> anyhow::Result<Vec<String>> {
    let text = debugfs(image, &format!("ls -p \"{folder}\""))?;
    let names = text.lines().filter_map(|line| Some(line.split('/').nth(5)?.to_owned()));
    Ok(names.filter(|name| !name.is_empty() && name != "." && name != ".." && !name.contains('"')).collect())
}

/// Reads both states block by block, as any comparison could, and writes down what the limits are taken over.
fn compare(base: &Path, changed: &Path, blocks_to: &Path, sample_to: &Path) -> anyhow::Result<Figures> {
    let before = FreeBlocks::ask(base, 0)?;
    let after = FreeBlocks::ask(changed, 0)?;
    ensure!(before.block_size == PAGE && after.block_size == PAGE, "the workload has blocks of 4 KiB");
    let total = |ranges: &[Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>() * PAGE;
    let (old, new) = (File::open(base)?, File::open(changed)?);
    let mut blocks = io::BufWriter::with_capacity(1 << 20, File::create(blocks_to)?);
    let mut sample = io::BufWriter::with_capacity(1 << 20, File::create(sample_to)?);
    let (mut changed_bytes, mut was, mut is) = (0, [0; 4096], [0; 4096]);
    let base_allocated = before.allocated();
    let allocated = after.allocated();
    for range in &allocated {
        for block in range.clone() {
            new.read_exact_at(&mut is, block * PAGE)?;
            let here = base_allocated.partition_point(|range| range.end <= block);
            let known = base_allocated.get(here).is_some_and(|range| range.contains(&block));
            old.read_exact_at(&mut was, block * PAGE)?;
            // All-zero blocks cost neither hashing against a base nor storing, so they do not count.
            if (!known || was != is) && is.iter().any(|byte| *byte != 0) {
                blocks.write_all(&is)?;
                changed_bytes += PAGE;
            }
            // Every fourth MiB.
            if block / 256 % 4 == 0 {
                sample.write_all(&is)?;
            }
        }
    }
    blocks.into_inner()?.sync_all()?;
    sample.into_inner()?.sync_all()?;
    Ok(Figures {
        disk_bytes: old.metadata()?.len(),
        base_allocated: total(&base_allocated),
        changed_allocated: total(&allocated),
        changed_bytes,
    })
}

/// xorshift64*: repeatable bytes without a dependency; nothing here is a secret.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            word.copy_from_slice(&next[..word.len()]);
        }
    }
}
