//! Crashes: a mounted file system is edited, and then shut down without a chance to write anything more.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::super::tools::{run, run_any};
use crate::mounted::Mount;
use crate::skips::skip;
use crate::support::Noise;

/// What every block of the medium has before the file system is made.
pub(super) const STALE: &[u8; 32] = b"stale: this was never in a file!";

/// Whether the log is written before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    Log,
    Nothing,
}

/// A file with a file system that is edited and crashes, again and again.
#[derive(Debug)]
pub(super) struct Disk {
    folder: tempfile::TempDir,
    noise: Noise,
    files: Vec<PathBuf>,
    made: u32,
}

impl Disk {
    /// Makes a file system on a medium that is full of stale data.
    pub(super) fn new(options: &[&str], bytes: u64) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap(), noise: Noise(0x5eed), files: Vec::new(), made: 0 };
        let file = File::create(disk.path()).unwrap();
        let piece = STALE.repeat(1 << 15);
        for at in (0..bytes).step_by(piece.len()) {
            file.write_all_at(&piece, at).unwrap();
        }
        file.set_len(bytes).unwrap();
        let path = disk.path().display().to_string();
        let mut args = vec!["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];
        args.extend(options);
        args.push(&path);
        run("mke2fs", &args);
        disk
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Mounts, edits and crashes; `None` when that is not possible here.
    pub(super) fn crash(&mut self, options: &str, edits: u32, flush: Flush) -> Option<()> {
        let mount = Mount::new(&self.path(), options)?;
        let root = mount.path().to_owned();
        // What was not committed before the last crash is gone.
        let entries = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
        self.files = entries.filter(|path| path.is_file() && !path.is_symlink()).collect();
        self.files.sort();
        let mut open = Vec::new();
        for _ in 0..edits {
            self.edit(&root, &mut open);
        }
        if flush == Flush::Nothing && edits > 0 {
            // Where there are fast commits, these are in them and not in the log.
            (0..3).for_each(|_| self.create_synced(&root));
        }
        let how = if flush == Flush::Log { "shutdown -f" } else { "shutdown" };
        let (status, text) = run_any("xfs_io", &["-x", "-c", how, &root.display().to_string()]);
        drop(open);
        mount.unmount();
        if status != 0 || !text.trim().is_empty() {
            skip(&format!("cannot crash a file system: {text}"));
            return None;
        }
        Some(())
    }

    /// Makes one change.
    fn edit(&mut self, root: &Path, open: &mut Vec<File>) {
        let choice = self.noise.next() % 20;
        let size = usize::try_from(self.noise.next() % 50_000).unwrap();
        match (choice, self.take()) {
            (0..=6, _) | (_, None) => self.create(root, size),
            (7 | 8, Some(file)) => fs::remove_file(file).unwrap(),
            (9, Some(file)) => {
                // Removed while it is open: an orphan.
                open.push(File::open(&file).unwrap());
                fs::remove_file(file).unwrap();
            }
            (10, Some(file)) => fs::File::options().write(true).open(file).unwrap().set_len(77).unwrap(),
            (11 | 12, Some(file)) => {
                let mut content = vec![0; size];
                self.noise.fill(&mut content);
                let mut opened = File::options().write(true).open(&file).unwrap();
                opened.seek(SeekFrom::End(0)).unwrap();
                opened.write_all(&content).unwrap();
                self.files.push(file);
            }
            (13, Some(file)) => {
                let name = self.name(root);
                fs::rename(file, &name).unwrap();
                self.files.push(name);
            }
            (14, Some(file)) => {
                let (link, name) = (self.name(root), self.name(root));
                fs::hard_link(&file, link).unwrap();
                symlink(&file, name).unwrap();
            }
            (15, Some(file)) => fs::set_permissions(file, fs::Permissions::from_mode(0o604)).unwrap(),
            (16, Some(_)) => {
                let folder = self.name(root);
                fs::create_dir_all(folder.join("a/b")).unwrap();
                for index in 0..60 {
                    fs::write(folder.join(format!("a/b/a file with quite a long name {index}")), [7; 60]).unwrap();
                }
                if self.noise.next().is_multiple_of(2) {
                    fs::remove_dir_all(folder).unwrap();
                }
            }
            (17 | 18, Some(file)) => File::open(file).unwrap().sync_all().unwrap(),
            (_, Some(_)) => rustix::fs::syncfs(File::open(root).unwrap()).unwrap(),
        }
    }

    fn create(&mut self, root: &Path, size: usize) {
        let mut content = vec![0; size];
        self.noise.fill(&mut content);
        // A block of a file that begins like one of the log has to be escaped in it.
        let len = content.len().min(4);
        content[..len].copy_from_slice(&0xC03B_3998_u32.to_be_bytes()[..len]);
        let name = self.name(root);
        let mut file = File::create(&name).unwrap();
        file.write_all(&content).unwrap();
        if self.noise.next().is_multiple_of(4) {
            file.sync_all().unwrap();
        }
        self.files.push(name);
    }

    fn create_synced(&mut self, root: &Path) {
        let mut content = vec![0; 9000];
        self.noise.fill(&mut content);
        let name = self.name(root);
        let mut file = File::create(&name).unwrap();
        file.write_all(&content).unwrap();
        file.sync_all().unwrap();
        self.files.push(name);
    }

    fn name(&mut self, root: &Path) -> PathBuf {
        self.made += 1;
        root.join(format!("name {}", self.made))
    }

    /// Takes one of the files.
    fn take(&mut self) -> Option<PathBuf> {
        let count = u64::try_from(self.files.len()).unwrap();
        let at = self.noise.next().checked_rem(count)?;
        Some(self.files.swap_remove(usize::try_from(at).unwrap()))
    }
}
