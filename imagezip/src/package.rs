//! Files that appear complete and durable under their name, or not at all.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sigs::zdi::{Contents, FrameRecord, HEADER_BYTES, header_bytes};
use sigs::{ByteLen, ByteOffset};
use tempfile::NamedTempFile;

use crate::capture::FrameSink;

/// A file that could not be written. Nothing is left under its name.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The folder does not take a new file.
    #[error("create a file in {folder}")]
    Create {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something has the name, and nobody said that it may go.
    #[error("{path} exists")]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// Writing failed.
    #[error("write {path}")]
    Write {
        /// The final name.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was written may be lost. Final: nothing is tried again.
    #[error("make {path} durable")]
    Sync {
        /// The final name.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be given its name.
    #[error("give {path} its name")]
    Rename {
        /// The final name.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The frames handed over are not those of the contents.
    #[error("{written} frames were written to {path}, its contents name {named}")]
    Frames {
        /// The final name.
        path: PathBuf,
        /// Frames written.
        written: usize,
        /// Frames named.
        named: usize,
    },
}

/// A file under construction: a temporary file beside its final name, removed unless it is published.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    existing: Existing,
    folder: PathBuf,
    file: NamedTempFile,
}

/// What becomes of a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// It stays, and the new one is refused.
    Keep,
}

impl Draft {
    /// Begins a file that replaces what has its name.
    ///
    /// # Errors
    /// [`PackageError::Create`].
    pub fn create(path: &Path) -> Result<Self, PackageError> {
        Self::begin(path, Existing::Replace)
    }

    /// Begins a file. What is kept is looked for now, before anything is written, and once more when it is published.
    ///
    /// # Errors
    /// [`PackageError::Create`]; [`PackageError::Exists`].
    pub fn begin(path: &Path, existing: Existing) -> Result<Self, PackageError> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let failed = |source| PackageError::Create { folder: folder.clone(), source };
        // A rename would replace a device node or a folder by a file.
        let other = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        if path.file_name().is_none() || other {
            let reason = format!("{} is not the name of a regular file", path.display());
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        if existing == Existing::Keep && path.symlink_metadata().is_ok() {
            return Err(PackageError::Exists { path: path.to_owned() });
        }
        let file = tempfile::Builder::new()
            .prefix(".imagezip-")
            .suffix(".partial")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .tempfile_in(&folder)
            .map_err(failed)?;
        Ok(Self { path: path.to_owned(), existing, folder, file })
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// [`PackageError`]; the name then still means what it meant before, unless only its folder could not be synced.
    pub fn publish(self) -> Result<(), PackageError> {
        let Self { path, existing, folder, file } = self;
        let sync = |source| PackageError::Sync { path: path.clone(), source };
        failpoints::hit("draft.written").map_err(sync)?;
        file.as_file().sync_all().map_err(sync)?;
        failpoints::hit("draft.flushed").map_err(sync)?;
        let named = match existing {
            Existing::Replace => file.persist(&path),
            Existing::Keep => persist_new(file, &path),
        };
        named.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => PackageError::Exists { path: path.clone() },
            _ => PackageError::Rename { path: path.clone(), source: error.error },
        })?;
        failpoints::hit("draft.renamed").map_err(sync)?;
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(sync)?;
        failpoints::hit("draft.durable").map_err(sync)
    }

    /// Makes the file so long, with a hole at its end.
    ///
    /// # Errors
    /// [`PackageError::Write`].
    pub fn set_len(&self, len: ByteLen) -> Result<(), PackageError> {
        self.file.as_file().set_len(len.get()).map_err(|source| self.write_error(source))
    }

    /// Returns where it is until it is published.
    pub fn temporary_path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the name it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write_error(&self, source: io::Error) -> PackageError {
        PackageError::Write { path: self.path.clone(), source }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.as_file_mut().seek(to)
    }
}

/// A `.zdi` file under construction: header, frames as they come, tail.
#[derive(Debug)]
pub struct ImageFile {
    draft: Draft,
    placement: Vec<ByteOffset>,
    end: ByteOffset,
}

impl ImageFile {
    /// Begins an image that replaces what has its name.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn create(path: &Path) -> Result<Self, PackageError> {
        Self::begin(path, Existing::Replace)
    }

    /// Begins an image.
    ///
    /// # Errors
    /// [`PackageError`]; [`PackageError::Exists`].
    pub fn begin(path: &Path, existing: Existing) -> Result<Self, PackageError> {
        let mut draft = Draft::begin(path, existing)?;
        draft.write_all(&header_bytes()).map_err(|source| draft.write_error(source))?;
        Ok(Self { draft, placement: Vec::new(), end: ByteOffset::new(HEADER_BYTES) })
    }

    /// Returns the name it will have.
    pub fn path(&self) -> &Path {
        self.draft.path()
    }

    /// Writes everything but the frames, makes the file durable and gives it its name. Returns its size.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn finish(mut self, contents: &Contents) -> Result<ByteLen, PackageError> {
        if self.placement.len() != contents.frames.len() {
            let (written, named) = (self.placement.len(), contents.frames.len());
            return Err(PackageError::Frames { path: self.draft.path, written, named });
        }
        let tail = contents.encode_tail(&self.placement, self.end);
        self.draft.write_all(&tail).map_err(|source| self.draft.write_error(source))?;
        let len = ByteLen::new(self.end.get().saturating_add(ByteLen::of(&tail).get()));
        self.draft.publish()?;
        Ok(len)
    }
}

impl FrameSink for ImageFile {
    fn put(&mut self, _record: FrameRecord, stored: &[u8]) -> io::Result<()> {
        failpoints::hit("image.frame.begin")?;
        self.draft.write_all(stored)?;
        self.placement.push(self.end);
        let end = self.end.checked_add(ByteLen::of(stored));
        self.end = end.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(())
    }
}

/// Gives a file a name that is free. Some file systems can neither rename without replacing nor link; there the name is
/// looked at once more, because what took hours to make is not thrown away for that.
fn persist_new(file: NamedTempFile, path: &Path) -> Result<File, tempfile::PersistError> {
    let error = match file.persist_noclobber(path) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    let offered = !matches!(
        Errno::from_io_error(&error.error),
        Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::MLINK)
    );
    match path.symlink_metadata() {
        Err(none) if !offered && none.kind() == io::ErrorKind::NotFound => error.file.persist(path),
        _ => Err(error),
    }
}

/// Returns true when two paths lead to the same file, so that an output is not written over its input.
pub fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        // Neither is there yet: the same name in the same folder will be one file.
        (Err(_), Err(_)) => a.file_name() == b.file_name() && folder_of(a).is_some_and(|of| Some(of) == folder_of(b)),
        _ => false,
    }
}

fn folder_of(path: &Path) -> Option<std::path::PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::canonicalize(folder).ok()
}
