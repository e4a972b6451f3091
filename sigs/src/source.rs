//! Reading bytes at any place: the seam behind which files, devices, memory and failing fakes look alike.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::units::{ByteLen, ByteOffset, ByteRange, SectorSize};

/// Reads from a disk or a file, at any place, from several threads at once.
pub trait ReadAt: Send + Sync + std::fmt::Debug {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// Whatever the medium says; [`io::ErrorKind::UnexpectedEof`] when it ends before `buf` is full.
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()>;

    /// Returns the size.
    fn len(&self) -> ByteLen;

    /// Returns true when there are no bytes.
    fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// Returns the size of a logical sector, as far as the medium knows one.
    fn sector_size(&self) -> SectorSize {
        SectorSize::S512
    }

    /// Returns the first byte of `range` that may be something else than zero, or `None` where all of it is known to
    /// read as zeros. Who does not know answers with the first byte of the range.
    ///
    /// # Errors
    /// Whatever the medium says.
    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        Ok(Some(range.start))
    }
}

/// A regular file of known size, read with `pread`.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: ByteLen,
}

impl FileSource {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// What opening it or asking for its size says; [`io::ErrorKind::InvalidInput`] for what is no regular file.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        // Asked before it is opened: that would wait for whoever writes to a pipe, for ever.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Self::from_file(File::open(path)?)
    }

    /// Takes an open regular file.
    ///
    /// # Errors
    /// What asking for its size says.
    pub fn from_file(file: File) -> io::Result<Self> {
        let len = ByteLen::new(file.metadata()?.len());
        Ok(Self { file, len })
    }

    /// Returns the file, to give hints about its caching.
    pub const fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for FileSource {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        self.file.read_exact_at(buf, offset.get())
    }

    fn len(&self) -> ByteLen {
        self.len
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let bytes = usize::try_from(offset.get())
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> ByteLen {
        ByteLen::of(self)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for std::sync::Arc<T> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        (**self).len()
    }

    fn sector_size(&self) -> SectorSize {
        (**self).sector_size()
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        (**self).next_data(range)
    }
}
