//! Changes to the file systems of a disk, as somebody working on the machine would make them.
//!
//! One list of changes, two ways to make them: as root through loop mounts, as an ordinary user through `debugfs`.

mod debugfs;
mod mounted;
mod plan;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::disk::{self, Layout, Partition};
use crate::tools;

pub use mounted::Mounted;
pub use plan::{Work, marker};

/// How file systems are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Loop mounts: root.
    Mount,
    /// `debugfs`: anybody.
    Debugfs,
}

impl Way {
    /// Returns the way that works here: root in a container may not be allowed to mount.
    pub fn here(disk: &Path, partition: Partition, scratch: &Path) -> Self {
        let mounts = tools::is_root() && Mounted::read_only(disk, partition, &scratch.join("probe")).is_ok();
        if mounts { Self::Mount } else { Self::Debugfs }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mount => "loop mounts",
            Self::Debugfs => "debugfs",
        })
    }
}

/// A change to a file system. Paths begin with a slash: the file system's root.
#[derive(Clone, Debug)]
pub enum Change {
    /// Makes a folder.
    Folder(String),
    /// Makes a file with the bytes, and holes, of a file of ours.
    File {
        /// Where.
        path: String,
        /// From what.
        source: PathBuf,
    },
    /// Removes a file.
    Delete(String),
    /// Writes into a file without changing its size.
    Overwrite {
        /// Which.
        path: String,
        /// Where in it.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Moves a file.
    Rename {
        /// From here.
        from: String,
        /// To here.
        to: String,
    },
    /// Makes a symbolic link.
    Link {
        /// Where.
        path: String,
        /// To what.
        aim: String,
    },
    /// Changes a regular file's permissions.
    Mode {
        /// Which.
        path: String,
        /// To what.
        mode: u32,
    },
    /// Gives a file away.
    Owner {
        /// Which.
        path: String,
        /// The user's number.
        user: u32,
        /// The group's number.
        group: u32,
    },
}

/// A disk whose file systems can be changed.
#[derive(Clone, Debug)]
pub struct Editor<'a> {
    /// Its file.
    pub disk: &'a Path,
    /// How it is cut.
    pub layout: &'a Layout,
    /// A folder of ours.
    pub scratch: &'a Path,
    /// How file systems are reached.
    pub way: Way,
}

impl Editor<'_> {
    /// Makes these changes in one file system.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn apply(&self, partition: Partition, changes: &[Change]) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.scratch)?;
        match self.way {
            Way::Mount => {
                let mounted = Mounted::writable(self.disk, partition, &self.scratch.join("mnt"))?;
                mounted.apply(changes)?;
                mounted.unmount()
            }
            Way::Debugfs => debugfs::apply(self.disk, partition, self.scratch, changes),
        }
        .with_context(|| format!("change {}", self.disk.display()))
    }

    /// Fills what is free in both file systems with a pattern.
    ///
    /// # Errors
    /// When that fails for another reason than a full file system.
    pub fn fill(&self, pattern: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.scratch)?;
        for partition in self.layout.partitions {
            match self.way {
                Way::Mount => {
                    let mounted = Mounted::writable(self.disk, partition, &self.scratch.join("mnt"))?;
                    mounted.fill(pattern)?;
                    mounted.unmount()?;
                }
                Way::Debugfs => debugfs::fill(self.disk, partition, self.scratch, pattern)?,
            }
        }
        disk::check(self.disk, self.layout)
    }
}

/// Returns in how many places of a disk this text is, by `grep`.
///
/// # Errors
/// When `grep` cannot be run.
pub fn places_of(disk: &Path, text: &str) -> anyhow::Result<u64> {
    // Zero bytes end lines here, so that a disk of zeros is not one line of its whole length.
    let mut command = tools::program("grep");
    let output = command.args(["-z", "-a", "-c", "-F", "-e", text]).arg(disk).output().context("start grep")?;
    match output.status.code() {
        Some(0 | 1) => String::from_utf8_lossy(&output.stdout).trim().parse().context("a count from grep"),
        _ => anyhow::bail!("grep {}: {}", disk.display(), String::from_utf8_lossy(&output.stderr)),
    }
}
