//! Making and restoring images as subjects: under the name of an image is nothing or all of it, a disk that is half
//! written cannot boot, and the same command run again finishes the work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::errno;
use super::sigkill::Subject;
use super::syscalls::{Ended, Fault, Injection};
use crate::{site, tools};

const MIB: usize = 1 << 20;
/// What a disk is told to be bootable by.
const HEAD_BYTES: usize = MIB;

/// Which program makes the image.
#[derive(Clone, Copy, Debug)]
pub enum Maker {
    /// `imagezip create`
    Imagezip,
    /// `create-swapimage`
    Swapimage,
}

/// An image being made.
#[derive(Debug)]
pub struct Making {
    folder: PathBuf,
    programs: PathBuf,
    maker: Maker,
}

impl Making {
    /// Prepares a disk in a folder.
    ///
    /// # Errors
    /// When the programs are not built, or the folder cannot be written.
    pub fn new(folder: &Path, maker: Maker) -> anyhow::Result<Self> {
        fs::write(folder.join("disk.img"), disk(1))?;
        Ok(Self { folder: folder.to_owned(), programs: site::programs()?, maker })
    }

    fn command(&self) -> Command {
        let (disk, image) = (self.folder.join("disk.img"), self.folder.join("disk.zdi"));
        match self.maker {
            Maker::Imagezip => {
                let mut command = Command::new(self.programs.join("imagezip"));
                command.args(["create", "--threads", "1", "--progress", "none"]).arg(disk).arg("--out").arg(image);
                command
            }
            Maker::Swapimage => {
                let mut command = Command::new(self.programs.join("create-swapimage"));
                command.args(["--threads", "1", "--disk"]).arg(disk).arg("--out").arg(image);
                command
            }
        }
    }

    fn check_whole(&self) -> anyhow::Result<()> {
        let mut command = Command::new(self.programs.join("imagezip"));
        command.args(["verify", "--progress", "none"]).arg(self.folder.join("disk.zdi"));
        tools::run(command.arg("--against").arg(self.folder.join("disk.img")))
    }
}

impl Subject for Making {
    fn name(&self) -> &'static str {
        match self.maker {
            Maker::Imagezip => "imagezip-create",
            Maker::Swapimage => "create-swapimage",
        }
    }

    fn wakes_by_write(&self) -> bool {
        matches!(self.maker, Maker::Swapimage)
    }

    fn reset(&mut self) -> anyhow::Result<Command> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name != "disk.img") && path.is_file() {
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(self.command())
    }

    fn judge(&mut self, injection: &Injection, ended: &Ended) -> anyhow::Result<()> {
        if let Fault::Error(error) = injection.fault {
            errno::check(error, ended)?;
        }
        let image = self.folder.join("disk.zdi");
        if image.exists() {
            self.check_whole().context("what is under the name after it went wrong")?;
            fs::remove_file(&image)?;
        }
        tools::run(&mut self.command()).context("run the same again")?;
        self.check_whole()
    }
}

/// An image being restored onto a disk that holds something else.
#[derive(Debug)]
pub struct Restoring {
    folder: PathBuf,
    programs: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Restoring {
    /// Makes an image in a folder.
    ///
    /// # Errors
    /// When the programs are not built, or the image cannot be made.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let programs = site::programs()?;
        let (old, new) = (disk(2), disk(3));
        fs::write(folder.join("new.img"), &new)?;
        let mut create = Command::new(programs.join("imagezip"));
        create.args(["create", "--progress", "none"]).arg(folder.join("new.img"));
        tools::run(create.arg("--out").arg(folder.join("new.zdi")))?;
        Ok(Self { folder: folder.to_owned(), programs, old, new })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.programs.join("imagezip"));
        command.args(["restore", "--threads", "1", "--progress", "none"]).arg(self.folder.join("new.zdi"));
        command.arg("--to").arg(self.folder.join("target.img"));
        command
    }
}

impl Subject for Restoring {
    fn name(&self) -> &'static str {
        "imagezip-restore"
    }

    fn wakes_by_write(&self) -> bool {
        false
    }

    fn reset(&mut self) -> anyhow::Result<Command> {
        fs::write(self.folder.join("target.img"), &self.old)?;
        Ok(self.command())
    }

    fn judge(&mut self, injection: &Injection, ended: &Ended) -> anyhow::Result<()> {
        if let Fault::Error(error) = injection.fault {
            errno::check(error, ended)?;
        }
        let target = self.folder.join("target.img");
        let found = fs::read(&target)?;
        for (what, whole) in [("old", &self.old), ("new", &self.new)] {
            let bootable = found.get(..HEAD_BYTES) == whole.get(..HEAD_BYTES);
            ensure!(!bootable || found == *whole, "it begins like the {what} disk and is not all of it");
        }
        tools::run(&mut self.command()).context("run the same again")?;
        ensure!(fs::read(&target)? == self.new, "it is not what was saved");
        Ok(())
    }
}

/// Returns a disk of no file system: some of it zeros, the rest bytes that are not the same anywhere.
fn disk(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).flatten().take(6 * MIB).collect();
    bytes[2 * MIB..3 * MIB].fill(0);
    bytes
}
