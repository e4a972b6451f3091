//! Regular files and block devices.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, Mode, OFlags, fadvise, fallocate};
use rustix::io::Errno;
use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use super::aligned::PAGE;
use super::direct::Direct;
use super::sys::discard_device;
use super::{DiskIo, ReadAt, write_zeros};

/// What a [`Disk`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A regular file.
    File,
    /// A block device.
    Device,
}

/// A disk that could not be opened. The source of the error says why.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("open {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// In use: mounted, part of an array, or opened by somebody else for himself.
    #[error("{path} is in use: it is mounted or held by another program; unmount it and run this again")]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// A directory, a pipe, a character device.
    #[error("{path} is neither a regular file nor a block device")]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// A sector size no disk has.
    #[error("{path} has an unusable sector size")]
    Sectors {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: sigs::units::BadSize,
    },
}

/// How long a read or write of a disk that is written to is at least to go past the page cache: there the cache would
/// cost a copy and keep what nobody reads again, but for less than this it gathers what the medium would see one by one.
const DIRECT_BYTES: usize = 64 << 10;
/// The same for a regular file. There a write through the cache waits until all others are done, and keeps new ones
/// waiting.
const DIRECT_BYTES_OF_FILE: usize = PAGE;

/// A regular file or a block device.
///
/// One that is opened for writing is read and written past the page cache where the system offers that, as far as
/// places and lengths allow.
#[derive(Debug)]
pub struct Disk {
    file: File,
    direct: Option<Direct>,
    kind: DiskKind,
    len: ByteLen,
    sector_size: SectorSize,
}

impl Disk {
    /// Opens a disk for reading.
    ///
    /// # Errors
    /// [`DiskError`] with the path.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        check_kind(path)?;
        let file = File::open(path).map_err(|source| open_error(path, source))?;
        Self::from_file(file, path)
    }

    /// Opens a disk for reading and writing; a block device exclusively, so that one in use is refused.
    ///
    /// # Errors
    /// [`DiskError`] with the path.
    pub fn open_for_writing(path: &Path) -> Result<Self, DiskError> {
        check_kind(path)?;
        // On Linux O_EXCL without O_CREAT claims a block device, and means nothing for a regular file.
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::BUSY => DiskError::Busy { path: path.to_owned() },
            other => open_error(path, other.into()),
        })?;
        Ok(Self::from_file(File::from(descriptor), path)?.with_direct())
    }

    /// Creates a regular file of `len` bytes, all of it a hole.
    ///
    /// # Errors
    /// [`DiskError`] with the path, also when it exists.
    pub fn create(path: &Path, len: ByteLen) -> Result<Self, DiskError> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = made.map_err(|source| open_error(path, source))?;
        let sized = file.set_len(len.get()).and_then(|()| sync_folder_of(path));
        if let Err(source) = sized {
            // An empty file would be in the way of the next try. The first error is the one to tell.
            drop(std::fs::remove_file(path));
            return Err(open_error(path, source));
        }
        Ok(Self::from_file(file, path)?.with_direct())
    }

    fn with_direct(mut self) -> Self {
        let step = match self.kind {
            DiskKind::File => PAGE,
            // So that the end of any device can be read directly.
            DiskKind::Device => usize::try_from(self.sector_size.bytes()).unwrap_or(PAGE),
        };
        self.direct = Direct::beside(&self.file, step);
        self
    }

    /// Returns the way past the page cache, when it takes this.
    fn direct(&self, offset: ByteOffset, len: usize) -> Option<&Direct> {
        self.direct.as_ref().filter(|direct| len >= self.least_direct() && direct.takes(offset, len))
    }

    const fn least_direct(&self) -> usize {
        match self.kind {
            DiskKind::File => DIRECT_BYTES_OF_FILE,
            DiskKind::Device => DIRECT_BYTES,
        }
    }

    fn from_file(mut file: File, path: &Path) -> Result<Self, DiskError> {
        let failed = |source| open_error(path, source);
        let kind = kind_of(&file.metadata().map_err(failed)?);
        let kind = kind.ok_or_else(|| DiskError::Kind { path: path.to_owned() })?;
        // The end of a block device is its size.
        let len = ByteLen::new(file.seek(SeekFrom::End(0)).map_err(failed)?);
        let sector_size = match kind {
            DiskKind::File => SectorSize::S512,
            DiskKind::Device => {
                let bytes = rustix::fs::ioctl_blksszget(&file).map_err(|error| failed(error.into()))?;
                SectorSize::new(bytes).map_err(|source| DiskError::Sectors { path: path.to_owned(), source })?
            }
        };
        Ok(Self { file, direct: None, kind, len, sector_size })
    }

    /// Returns whether it is a file or a device.
    pub const fn kind(&self) -> DiskKind {
        self.kind
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

pub(super) fn open_error(path: &Path, source: io::Error) -> DiskError {
    DiskError::Open { path: path.to_owned(), source }
}

fn kind_of(metadata: &std::fs::Metadata) -> Option<DiskKind> {
    let kind = metadata.file_type();
    match (kind.is_file(), kind.is_block_device()) {
        (true, _) => Some(DiskKind::File),
        (_, true) => Some(DiskKind::Device),
        (false, false) => None,
    }
}

/// Refuses what must not even be opened: a pipe would block, a tape would rewind.
fn check_kind(path: &Path) -> Result<(), DiskError> {
    let metadata = std::fs::metadata(path).map_err(|source| open_error(path, source))?;
    kind_of(&metadata).map(|_| ()).ok_or_else(|| DiskError::Kind { path: path.to_owned() })
}

impl ReadAt for Disk {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        match self.direct(offset, buf.len()).map(|direct| direct.read(buf, offset)) {
            Some(Ok(())) => Ok(()),
            // The cache asks for each page by itself, and its word on what cannot be read is the exact one.
            Some(Err(_)) | None => self.file.read_exact_at(buf, offset.get()),
        }
    }

    fn len(&self) -> ByteLen {
        self.len
    }

    fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        let start = range.start.get();
        if self.kind == DiskKind::Device {
            return Ok(Some(range.start));
        }
        // Nothing else uses the position of the file.
        let data = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(start)) {
            Ok(data) => data,
            // There is only a hole up to the end of the file, unless that was cut off meanwhile: then reading fails.
            Err(Errno::NXIO) if self.file.metadata()?.len() >= self.len.get() => return Ok(None),
            // Not offered here.
            Err(_) => return Ok(Some(range.start)),
        };
        let end = start.saturating_add(range.len.get());
        Ok((data < end).then(|| ByteOffset::new(data.max(start))))
    }
}

impl DiskIo for Disk {
    fn write_all_at(&self, bytes: &[u8], offset: ByteOffset) -> io::Result<()> {
        let end = offset.checked_add(ByteLen::of(bytes));
        if end.is_none_or(|end| end.get() > self.len.get()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write past the end of the disk"));
        }
        match self.direct(offset, bytes.len()).map(|direct| direct.write(bytes, offset)) {
            // Not offered after all, at this alignment.
            Some(Err(error)) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
            Some(result) => return result,
            None => {}
        }
        self.file.write_all_at(bytes, offset.get())
    }

    fn zero(&self, range: ByteRange) -> io::Result<()> {
        if range.len.is_zero() {
            return Ok(());
        }
        let flags = match self.kind {
            DiskKind::File => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            DiskKind::Device => FallocateFlags::ZERO_RANGE,
        };
        match fallocate(&self.file, flags, range.start.get(), range.len.get()) {
            Ok(()) => Ok(()),
            // Not offered here, or not at this alignment.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => write_zeros(self, range),
            Err(error) => Err(error.into()),
        }
    }

    fn allocate(&self, range: ByteRange) -> io::Result<()> {
        let large = range.len.to_usize().is_none_or(|len| len >= self.least_direct());
        if self.kind == DiskKind::Device || self.direct.is_none() || !large {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, range.start.get(), range.len.get()) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn deallocate(&self) -> io::Result<()> {
        match self.kind {
            DiskKind::File => self.file.set_len(0).and_then(|()| self.file.set_len(self.len.get())),
            DiskKind::Device => Ok(()),
        }
    }

    fn discard(&self, range: ByteRange) -> io::Result<()> {
        match self.kind {
            DiskKind::File => self.zero(range),
            DiskKind::Device => match discard_device(&self.file, range) {
                Err(error) if Errno::from_io_error(&error).is_some_and(cannot_discard) => Ok(()),
                result => result,
            },
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn drop_cache(&self, range: ByteRange) -> io::Result<()> {
        let Some(len) = NonZeroU64::new(range.len.get()) else { return Ok(()) };
        // To the end without a length: of a device the kernel would keep a last page that is not whole, because it does
        // not know where the device ends.
        let to_end = range.checked_end().is_none_or(|end| end.get() >= self.len.get());
        let len = if to_end { None } else { Some(len) };
        fadvise(&self.file, range.start.get(), len, Advice::DontNeed).map_err(io::Error::from)
    }

    fn read_from_medium(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let Some(direct) = &self.direct else { return self.file.read_exact_at(buf, offset.get()) };
        match direct.read(buf, offset) {
            // The end of a file that is no whole page, or a file system that takes no such read: the cache, which was
            // told to forget.
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof
                    || matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::OPNOTSUPP)) =>
            {
                self.file.read_exact_at(buf, offset.get())
            }
            result => result,
        }
    }

    fn waits(&self) -> bool {
        self.direct.is_some()
    }

    fn hard_sector_size(&self) -> Option<SectorSize> {
        match self.kind {
            DiskKind::File => None,
            DiskKind::Device => Some(self.sector_size),
        }
    }
}

fn cannot_discard(error: Errno) -> bool {
    error == Errno::OPNOTSUPP || error == Errno::INVAL || error == Errno::NOTTY
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: usize = (1 << 20) + 777;

    /// Places at any byte and at pages, lengths on both sides of what goes directly.
    fn range() -> impl Strategy<Value = (usize, usize)> {
        let place = prop_oneof![0..LEN, (0..LEN / 4096).prop_map(|page| page * 4096)];
        let len = prop_oneof![1..5000_usize, (1..80_usize).prop_map(|pages| pages * 4096), 1..200_000_usize];
        (place, len).prop_map(|(place, len)| (place, len.min(LEN - place)))
    }

    fn byte_range((start, len): (usize, usize)) -> ByteRange {
        let of = |len: usize| u64::try_from(len).unwrap();
        ByteRange { start: ByteOffset::new(of(start)), len: ByteLen::new(of(len)) }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn written_directly_or_not_it_is_what_a_vector_would_be(
            steps in prop::collection::vec((range(), 0_u8..4, 1_u8..), 1..30),
            reads in prop::collection::vec(range(), 1..10),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("disk.img");
            let disk = Disk::create(&path, ByteLen::new(u64::try_from(LEN).unwrap())).unwrap();
            let mut naive = vec![0; LEN];
            for (span, action, byte) in steps {
                let (place, len) = span;
                let range = byte_range(span);
                match action {
                    0 => {
                        disk.zero(range).unwrap();
                        naive[place..place + len].fill(0);
                    }
                    1 => disk.allocate(range).unwrap(),
                    _ => {
                        let bytes: Vec<u8> = (0..len).map(|at| byte.wrapping_add((at / 512).to_le_bytes()[0])).collect();
                        disk.write_all_at(&bytes, range.start).unwrap();
                        naive[place..place + len].copy_from_slice(&bytes);
                    }
                }
            }
            for span in reads {
                let mut found = vec![0; span.1];
                disk.read_exact_at(&mut found, byte_range(span).start).unwrap();
                prop_assert!(found == naive[span.0..span.0 + span.1], "{span:?}");
            }
            disk.flush().unwrap();
            prop_assert!(std::fs::read(&path).unwrap() == naive);
        }
    }

    #[test]
    fn room_that_was_taken_is_given_back() {
        use std::os::unix::fs::MetadataExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        let disk = Disk::create(&path, ByteLen::new(1 << 20)).unwrap();
        disk.allocate(ByteRange { start: ByteOffset::new(4096), len: ByteLen::new(1 << 19) }).unwrap();
        disk.deallocate().unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.blocks()), (1 << 20, 0));
    }

    #[test]
    fn what_is_written_past_the_end_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        let disk = Disk::create(&path, ByteLen::new(131_072)).unwrap();
        let error = disk.write_all_at(&[1; 65_536 + 4096], ByteOffset::new(65_536)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(std::fs::read(&path).unwrap() == vec![0; 131_072]);
    }
}
