//! Whether a restored disk is what was saved, decided by programs that are not ours: `cmp` over every block that
//! `dumpe2fs` calls allocated and everything outside of the file systems, `sha256sum` and `stat` over every file.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::disk::{self, Layout, Partition};
use crate::dumpe2fs::FreeBlocks;
use crate::edit::{Mounted, Way};
use crate::tools;

/// At most so many differences are told.
const TOLD: usize = 20;

/// What was compared, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Bytes compared by `cmp`.
    pub bytes: u64,
    /// Files, folders and links compared by `stat`.
    pub files: u64,
    /// What differs; empty: identical.
    pub differences: Vec<String>,
}

impl Judgement {
    /// Returns whether nothing differs.
    pub fn is_identical(&self) -> bool {
        self.differences.is_empty()
    }

    fn differs(&mut self, text: String) {
        if self.differences.len() < TOLD {
            self.differences.push(text);
        }
    }
}

/// Compares a disk as it was, and as it is again.
///
/// # Errors
/// When a tool cannot be run. A difference is not an error but a finding.
pub fn judge(before: &Path, after: &Path, layout: &Layout, way: Way, scratch: &Path) -> anyhow::Result<Judgement> {
    let mut judgement = Judgement::default();
    let sizes = [fs::metadata(before)?.len(), fs::metadata(after)?.len()];
    if sizes != [layout.bytes, layout.bytes] {
        judgement.differs(format!("the sizes are {sizes:?}, not {}", layout.bytes));
        return Ok(judgement);
    }
    for gap in gaps(layout) {
        compare(before, after, gap, &mut judgement)?;
    }
    for partition in layout.partitions {
        let blocks = FreeBlocks::ask(before, partition.start)?;
        for range in blocks.allocated() {
            let place = |block: u64| partition.start + block * blocks.block_size;
            compare(before, after, place(range.start)..place(range.end), &mut judgement)?;
        }
        // A difference in what is allocated or in the tree follows from one above; found again by other means.
        match FreeBlocks::ask(after, partition.start) {
            Ok(now) if now.free == blocks.free => {}
            Ok(_) => judgement.differs(format!("other blocks are free in the file system at {}", partition.start)),
            Err(error) => judgement.differs(format!("the file system at {}: {error:#}", partition.start)),
        }
        trees(before, after, partition, way, scratch, &mut judgement)?;
    }
    Ok(judgement)
}

/// What is outside of the file systems: tables, gaps, the end.
fn gaps(layout: &Layout) -> Vec<Range<u64>> {
    let [first, second] = layout.partitions;
    vec![0..first.start, first.start + first.bytes..second.start, second.start + second.bytes..layout.bytes]
}

fn compare(before: &Path, after: &Path, range: Range<u64>, judgement: &mut Judgement) -> anyhow::Result<()> {
    let bytes = range.end - range.start;
    let mut command = tools::program("cmp");
    command.arg(format!("--ignore-initial={}", range.start)).arg(format!("--bytes={bytes}"));
    let output = command.arg(before).arg(after).output().context("start cmp")?;
    judgement.bytes += bytes;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) => {
            let said = String::from_utf8_lossy(&output.stdout);
            judgement.differs(format!("cmp from offset {}: {}", range.start, said.trim()));
            Ok(())
        }
        _ => bail!("{}: {}", tools::shown(&command), String::from_utf8_lossy(&output.stderr)),
    }
}

fn trees(
    before: &Path,
    after: &Path,
    partition: Partition,
    way: Way,
    scratch: &Path,
    judgement: &mut Judgement,
) -> anyhow::Result<()> {
    let lists = [(before, "before"), (after, "after")].map(|(disk, name)| {
        let folder = scratch.join(name);
        match way {
            Way::Mount => mounted(disk, partition, &folder),
            Way::Debugfs => dumped(disk, partition, &folder),
        }
    });
    let [was, is] = lists;
    // What was saved must be readable; what came back may be anything.
    let was = was?;
    let is = match is {
        Ok(is) => is,
        Err(error) => {
            judgement.differs(format!("the restored tree cannot be read: {error:#}"));
            return Ok(());
        }
    };
    judgement.files += u64::try_from(was.files)?;
    for (what, was, is) in [("stat", &was.stat, &is.stat), ("sha256sum", &was.sums, &is.sums)] {
        if was != is {
            let differs = |(a, b): &(&str, &str)| a != b;
            let first = was.lines().zip(is.lines()).find(differs).unwrap_or(("the end", "the end of the other"));
            judgement.differs(format!("{what} before: {}; after: {}", first.0, first.1));
        }
    }
    Ok(())
}

/// What programs that are not ours say of a tree.
struct Listing {
    files: usize,
    stat: String,
    sums: String,
}

fn mounted(disk: &Path, partition: Partition, folder: &Path) -> anyhow::Result<Listing> {
    let mounted = Mounted::read_only(disk, partition, folder)?;
    let stat = pipeline(folder, "find . -print0 | sort -z | xargs -0 stat --format='%N %F %a %u %g %s %h %y'")?;
    let sums = pipeline(folder, SUMS)?;
    mounted.unmount()?;
    Ok(Listing { files: stat.lines().count(), stat, sums })
}

const SUMS: &str = "find . -type f -print0 | sort -z | xargs -0 -r sha256sum";

/// The contents are written out and summed; what `stat` says comes from `debugfs` itself, since an ordinary user
/// cannot give files away.
fn dumped(disk: &Path, partition: Partition, folder: &Path) -> anyhow::Result<Listing> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let at = disk::at(disk, partition);
    let mut command = tools::program("debugfs");
    // It complains that files cannot be given away, and ends with success whatever happens.
    tools::run(command.args(["-R", &format!("rdump / \"{}\"", folder.display())]).arg(&at))?;
    let sums = pipeline(folder, SUMS)?;
    let paths = pipeline(folder, "find . -print | sort")?;
    let script = PathBuf::from(format!("{}.requests", folder.display()));
    let requests: String = paths
        .lines()
        .map(|path| format!("stat \"{}\"\n", &path[1..].replacen("", "/", usize::from(path == "."))))
        .collect();
    fs::write(&script, requests)?;
    let stat = tools::output(tools::program("debugfs").arg("-f").arg(&script).arg(&at))?;
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(Listing { files: paths.lines().count(), stat, sums })
}

fn pipeline(folder: &Path, text: &str) -> anyhow::Result<String> {
    let mut command = Command::new("/bin/bash");
    command.args(["-o", "pipefail", "-c", text]).current_dir(folder).env("LC_ALL", "C").env("TZ", "UTC");
    tools::output(&mut command)
}
