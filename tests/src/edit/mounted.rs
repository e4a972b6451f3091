//! File systems inside disk files through loop mounts.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Change;
use crate::cleanup::Cleanup;
use crate::disk::Partition;
use crate::tools;

/// A mounted file system; dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    root: PathBuf,
    cleanup: Cleanup,
}

impl Mounted {
    /// Mounts for reading. Nothing is written, not even by the journal.
    ///
    /// # Errors
    /// When that is not allowed or fails.
    pub fn read_only(disk: &Path, partition: Partition, root: &Path) -> anyhow::Result<Self> {
        Self::mount(disk, partition, root, "ro,noload")
    }

    /// Mounts for writing.
    ///
    /// # Errors
    /// When that is not allowed or fails.
    pub fn writable(disk: &Path, partition: Partition, root: &Path) -> anyhow::Result<Self> {
        Self::mount(disk, partition, root, "rw")
    }

    fn mount(disk: &Path, partition: Partition, root: &Path, how: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("make {}", root.display()))?;
        let Partition { start, bytes } = partition;
        let options = format!("loop,offset={start},sizelimit={bytes},{how}");
        tools::run(tools::program("mount").args(["-t", "ext4", "-o", &options]).arg(disk).arg(root))?;
        let root = root.to_path_buf();
        let cleanup = Cleanup::new({
            let root = root.clone();
            move || {
                // Unmounted in order already: this is for when it was not.
                let _done = tools::run(tools::program("umount").arg(&root));
            }
        });
        Ok(Self { root, cleanup })
    }

    /// Returns where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Unmounts, and says when that fails.
    ///
    /// # Errors
    /// When something still uses it.
    pub fn unmount(self) -> anyhow::Result<()> {
        let Self { root, cleanup } = self;
        tools::run(tools::program("umount").arg(&root))?;
        drop(cleanup);
        Ok(())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn apply(&self, changes: &[Change]) -> anyhow::Result<()> {
        changes.iter().try_for_each(|change| self.make(change).with_context(|| format!("{change:.120?}")))
    }

    fn make(&self, change: &Change) -> anyhow::Result<()> {
        match change {
            Change::Folder(path) => fs::create_dir(self.at(path))?,
            Change::File { path, source } => {
                tools::run(tools::program("cp").arg("--sparse=always").arg(source).arg(self.at(path)))?;
            }
            Change::Delete(path) => fs::remove_file(self.at(path))?,
            Change::Overwrite { path, offset, bytes } => {
                OpenOptions::new().write(true).open(self.at(path))?.write_all_at(bytes, *offset)?;
            }
            Change::Rename { from, to } => fs::rename(self.at(from), self.at(to))?,
            Change::Link { path, aim } => symlink(aim, self.at(path))?,
            Change::Mode { path, mode } => fs::set_permissions(self.at(path), Permissions::from_mode(*mode))?,
            Change::Owner { path, user, group } => chown(self.at(path), Some(*user), Some(*group))?,
        }
        Ok(())
    }

    pub(super) fn fill(&self, pattern: &str) -> anyhow::Result<()> {
        let block = pattern.repeat((1 << 20) / pattern.len());
        let mut file = File::create(self.at("/pattern"))?;
        loop {
            match file.write_all(block.as_bytes()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("fill the file system"),
            }
        }
    }
}
