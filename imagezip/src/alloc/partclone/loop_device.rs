//! A read-only loop device that has one partition: partclone reads devices from their start to their end.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::line;
use super::{Partclone, PartcloneDoubt};
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;
use crate::io::ReadAt as _;

const FIRST_BYTES: u64 = 65536;

/// A loop device. The system takes it back when it is closed, even when this process is killed: it is detached as
/// soon as it is open, and Linux puts that off to the last close.
#[derive(Debug)]
pub(super) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Shows a partition of a disk, and looks that it is the one.
    pub(super) fn attach(window: &Window<'_>, partclone: &Partclone<'_>) -> Result<Self, Stop> {
        let losetup = partclone.find("losetup")?;
        let disk = std::fs::canonicalize(&partclone.disk).map_err(|error| PartcloneDoubt::Path(error.to_string()))?;
        let range = window.range();
        let start = partclone.start.get().saturating_add(range.start.get());
        let sector = window.sector_size();
        let mut attach = Command::new(&losetup);
        attach.args(["--read-only", "--find", "--show"]);
        attach.args(["--offset", &start.to_string(), "--sizelimit", &range.len.get().to_string()]);
        attach.args(["--sector-size", &sector.to_string()]).arg(disk);
        let path = PathBuf::from(line(attach).map_err(|doubt| refused(&doubt))?);
        let opened =
            if path.starts_with("/dev") { File::open(&path) } else { Err(std::io::ErrorKind::NotFound.into()) };
        let mut detach = Command::new(&losetup);
        detach.arg("--detach").arg(&path);
        let detached = line(detach);
        let open = opened.map_err(|error| PartcloneDoubt::Loop(error.to_string()))?;
        detached.map_err(|doubt| refused(&doubt))?;
        let whole_sectors = range.len.get() - range.len.get() % u64::from(sector.bytes());
        if !shows(&open, window, whole_sectors)? {
            return Err(PartcloneDoubt::Loop("it does not have the partition".to_owned()).into());
        }
        Ok(Self { path, _open: open })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn refused(doubt: &PartcloneDoubt) -> PartcloneDoubt {
    match doubt {
        PartcloneDoubt::Failed { .. } | PartcloneDoubt::Start { .. } => PartcloneDoubt::Loop(doubt.to_string()),
        other => other.clone(),
    }
}

/// Returns true if a device is as long as the partition and begins like it.
fn shows(mut device: &File, window: &Window<'_>, len: u64) -> Result<bool, Stop> {
    let mut first = Vec::new();
    let mut look = || {
        let end = device.seek(SeekFrom::End(0))?;
        device.seek(SeekFrom::Start(0))?;
        device.take(FIRST_BYTES).read_to_end(&mut first)?;
        Ok::<_, std::io::Error>(end)
    };
    let end = look().map_err(|error| PartcloneDoubt::Loop(error.to_string()))?;
    Ok(end == len && first == window.fetch(0, FIRST_BYTES.min(len))?)
}
