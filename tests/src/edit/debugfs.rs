//! File systems inside disk files through `debugfs`, without root.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::Change;
use crate::disk::{self, Partition};
use crate::tools;

/// A rename is a link and an unlink; an overwrite is a write to the blocks of the file.
pub(super) fn apply(disk: &Path, partition: Partition, scratch: &Path, changes: &[Change]) -> anyhow::Result<()> {
    let mut script = String::new();
    for change in changes {
        let line = match change {
            Change::Folder(path) => format!("mkdir {path}"),
            Change::File { path, source } => format!("write \"{}\" {path}", source.display()),
            Change::Delete(path) => format!("rm {path}"),
            Change::Overwrite { .. } => continue,
            Change::Rename { from, to } => format!("ln {from} {to}\nunlink {from}"),
            Change::Link { path, aim } => format!("symlink {path} {aim}"),
            Change::Mode { path, mode } => format!("set_inode_field {path} mode 0100{mode:03o}"),
            Change::Owner { path, user, group } => {
                format!("set_inode_field {path} uid {user}\nset_inode_field {path} gid {group}")
            }
        };
        script.push_str(&line);
        script.push('\n');
    }
    // Before anything is moved: an overwrite names files by where they were.
    for change in changes {
        if let Change::Overwrite { path, offset, bytes } = change {
            overwrite(disk, partition, path, *offset, bytes)?;
        }
    }
    run(disk, partition, scratch, &script).map(drop)
}

pub(super) fn fill(disk: &Path, partition: Partition, scratch: &Path, pattern: &str) -> anyhow::Result<()> {
    let free = number(disk, partition, "Free blocks:")? * number(disk, partition, "Block size:")?;
    // What the file's own block lists take is left.
    let bytes = free - free / 32;
    let source = scratch.join("pattern");
    let mut file = File::create(&source)?;
    let block = pattern.repeat((1 << 20) / pattern.len());
    for _ in 0..bytes >> 20 {
        file.write_all(block.as_bytes())?;
    }
    drop(file);
    run(disk, partition, scratch, &format!("write \"{}\" /pattern\n", source.display()))?;
    fs::remove_file(source).context("remove the pattern")
}

fn number(disk: &Path, partition: Partition, name: &str) -> anyhow::Result<u64> {
    let text = tools::output(tools::program("dumpe2fs").arg("-h").arg(disk::at(disk, partition)))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.with_context(|| format!("dumpe2fs did not say {name:?}"))?.trim().parse().context("a number")
}

/// Runs requests. `debugfs` ends with success whatever happens, so what it says decides.
fn run(disk: &Path, partition: Partition, scratch: &Path, script: &str) -> anyhow::Result<String> {
    let path = scratch.join("debugfs.requests");
    fs::write(&path, script)?;
    let mut command = tools::program("debugfs");
    let output = command.args(["-w", "-f"]).arg(&path).arg(disk::at(disk, partition)).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = said.lines().filter(|line| !line.starts_with("debugfs 1.")).collect();
    if !output.status.success() || !complaints.is_empty() {
        bail!("debugfs {}: {}", disk.display(), complaints.join("; "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn overwrite(disk: &Path, partition: Partition, path: &str, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
    let size = number(disk, partition, "Block size:")?;
    let mut command = tools::program("debugfs");
    let text = tools::output(command.args(["-R", &format!("blocks {path}")]).arg(disk::at(disk, partition)))?;
    let blocks: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let file = OpenOptions::new().write(true).open(disk)?;
    let mut done = 0;
    while done < bytes.len() {
        let at = offset + u64::try_from(done)?;
        let block = blocks.get(usize::try_from(at / size)?).with_context(|| format!("{path} has no block at {at}"))?;
        let here = usize::try_from(size - at % size)?.min(bytes.len() - done);
        let place = block * size + at % size;
        ensure!(*block != 0 && place + size <= partition.bytes, "{path} has block {block}");
        file.write_all_at(&bytes[done..done + here], partition.start + place)?;
        done += here;
    }
    Ok(())
}
