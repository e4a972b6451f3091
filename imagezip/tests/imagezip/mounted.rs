//! File systems in files, mounted by the kernel: how they are filled, crashed, and looked at by what is not ours.

#![expect(clippy::unwrap_used, reason = "in the helpers of tests a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skips::skip;

/// A mounted file, unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// Mounts a file, or skips the test.
    pub(crate) fn new(file: &Path, options: &str) -> Option<Self> {
        Self::of("auto", file, options)
    }

    /// Mounts a file that has a file system of a kind, or skips the test.
    pub(crate) fn of(kind: &str, file: &Path, options: &str) -> Option<Self> {
        match Self::attempt(kind, file, options) {
            Ok(mount) => Some(mount),
            Err(why) => {
                skip(&format!("cannot mount: {why}"));
                None
            }
        }
    }

    /// Mounts a file that has a file system of a kind, or says why not.
    pub(crate) fn attempt(kind: &str, file: &Path, options: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let options = if options.is_empty() { "loop".to_owned() } else { format!("loop,{options}") };
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", kind, "-o", &options]).arg(file).arg(folder.path()).output().unwrap();
        if mounted.status.success() {
            return Ok(Self { folder });
        }
        Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Unmounts, which must succeed.
    pub(crate) fn unmount(self) {
        // A child that another test is starting has copies of all open files until it is the program it becomes, so a
        // file that is closed here may keep the mount busy for that long.
        for tries_left in (0..1000).rev() {
            let done = Command::new("umount").arg(self.path()).output().unwrap();
            let why = String::from_utf8_lossy(&done.stderr);
            if done.status.success() {
                break;
            }
            assert!(why.contains("busy") && tries_left > 0, "{why}");
        }
        assert!(fs::read_dir(self.path()).unwrap().next().is_none());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // After a failed test something may still be open; the folder then stays behind with nothing in it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// What a file tree shows: of each name its kind, mode, owner, size, and its content or target.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let content = if about.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if about.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if about.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            let len = if about.is_dir() { 0 } else { about.len() };
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (about.permissions().mode(), about.uid(), len, content));
        }
    }
    found
}

/// A file as a block device, detached when dropped.
#[derive(Debug)]
pub(crate) struct Loop {
    device: String,
}

impl Loop {
    /// Attaches a file, or skips the test.
    pub(crate) fn new(file: &Path, sector: &str) -> Option<Self> {
        let attached = Command::new("losetup").args(["-f", "--show", "-b", sector]).arg(file).output();
        match attached {
            Ok(done) if done.status.success() => {
                Some(Self { device: String::from_utf8_lossy(&done.stdout).trim().to_owned() })
            }
            Ok(done) => {
                skip(&format!("cannot attach a loop device: {}", String::from_utf8_lossy(&done.stderr).trim()));
                None
            }
            Err(error) => {
                skip(&format!("cannot run losetup: {error}"));
                None
            }
        }
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}
