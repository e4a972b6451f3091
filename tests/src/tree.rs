//! A tree of real files: copied from this machine, until there are enough of them.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Where there are files of every size and kind. Nobody's own things, and nothing that changes while it is read.
const SOURCES: [&str; 6] = ["/usr/bin", "/usr/share", "/usr/lib", "/usr/libexec", "/usr/include", "/usr/local"];
/// One file is at most this part of the whole, so that it is a tree and not an archive.
const LARGEST_PART: u64 = 8;

/// Copies files, folders and links of this machine into `target` until `bytes` are there.
///
/// # Errors
/// When something cannot be written, or this machine has too few files.
pub fn fill(target: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut copy = Copy { target, left: bytes, largest: bytes / LARGEST_PART };
    for source in SOURCES {
        // From each a share, so that a small tree has programs and documents too.
        let before = copy.left;
        copy.folder(Path::new(source), before.saturating_sub(bytes / 4))?;
    }
    for source in SOURCES {
        copy.folder(Path::new(source), 0)?;
    }
    ensure!(copy.left == 0, "this machine has too few files in {SOURCES:?}: {} bytes are lacking", copy.left);
    Ok(())
}

struct Copy<'a> {
    target: &'a Path,
    left: u64,
    largest: u64,
}

impl Copy<'_> {
    fn folder(&mut self, folder: &Path, until: u64) -> anyhow::Result<()> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if self.left <= until {
                return Ok(());
            }
            let Ok(found) = path.symlink_metadata() else { continue };
            let to = self.target.join(path.strip_prefix("/").context("a path of this machine is absolute")?);
            if found.is_dir() {
                self.folder(&path, until)?;
            } else if found.is_symlink() {
                self.link(&path, &to)?;
            } else if found.is_file() && found.size() <= self.largest && plain(&path) && !to.exists() {
                self.file(&path, &to, found.mode())?;
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
        // Not ours to read, or gone meanwhile: another file will do.
        let Ok(mut source) = File::open(from) else { return Ok(()) };
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        let mut target = File::create(to).with_context(|| format!("make {}", to.display()))?;
        let bytes = std::io::copy(&mut source, &mut target).with_context(|| format!("copy {}", from.display()))?;
        target.set_permissions(Permissions::from_mode(mode & 0o7777 | 0o400))?;
        // A file takes whole blocks.
        self.left = self.left.saturating_sub(bytes.next_multiple_of(4096));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let Ok(aim) = fs::read_link(from) else { return Ok(()) };
        if !plain(from) || !plain(&aim) || to.symlink_metadata().is_ok() {
            return Ok(());
        }
        fs::create_dir_all(to.parent().context("a link is in a folder")?)?;
        symlink(aim, to).with_context(|| format!("make {}", to.display()))
    }
}

/// Whether a name passes through every tool unquoted.
fn plain(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|text| !text.contains(|c: char| c.is_control() || c.is_whitespace() || "\"\\'".contains(c)))
}

/// Returns the files below a folder, with their sizes, sorted by name.
///
/// # Errors
/// When it cannot be read.
pub fn files(root: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry?;
            let metadata = entry.path().symlink_metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                found.push((entry.path().strip_prefix(root).context("it is below its root")?.into(), metadata.size()));
            }
        }
    }
    found.sort();
    Ok(found)
}
