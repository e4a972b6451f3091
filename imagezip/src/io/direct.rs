//! Reading and writing a disk past the page cache: what is read once is not kept, and pushes nothing else out; what is
//! written is not copied first.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags};
use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use super::aligned::{AlignedBuffer, PAGE, lies_well};
use super::device::open_error;
use super::{Disk, DiskError, DiskKind, ReadAt};

/// The most that is asked for at once where the memory of the caller does not lie as it must.
const PIECE: usize = 1 << 20;

/// A file or device opened for direct IO.
#[derive(Debug)]
pub(super) struct Direct {
    file: File,
    /// The alignment of places and lengths.
    step: usize,
    /// Memory that nobody uses now: at most one piece for each thread that reads or writes.
    spare: Mutex<Vec<AlignedBuffer>>,
}

impl Direct {
    const fn new(file: File, step: usize) -> Self {
        Self { file, step, spare: Mutex::new(Vec::new()) }
    }

    /// Opens what `file` has open once more, for reading and writing it directly in multiples of `step`; nothing where
    /// that is not offered.
    pub(super) fn beside(file: &File, step: usize) -> Option<Self> {
        // Not by its path, which may name another file by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        Some(Self::new(File::from(opened), step))
    }

    /// Returns true when a place and a length can be read or written directly without reading more than asked for.
    pub(super) fn takes(&self, offset: ByteOffset, len: usize) -> bool {
        offset.get().is_multiple_of(self.step_u64()) && len.is_multiple_of(self.step)
    }

    /// Reads whole steps, directly into `buf` where it lies as it must.
    pub(super) fn read(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        if lies_well(buf) && self.takes(offset, buf.len()) {
            return self.file.read_exact_at(buf, offset.get());
        }
        self.with_spare(|memory| self.read_by_copy(buf, offset.get(), memory))
    }

    /// Writes what [`Self::takes`].
    pub(super) fn write(&self, bytes: &[u8], offset: ByteOffset) -> io::Result<()> {
        if lies_well(bytes) {
            return self.file.write_all_at(bytes, offset.get());
        }
        self.with_spare(|memory| {
            let mut place = offset;
            for piece in bytes.chunks(PIECE) {
                memory[..piece.len()].copy_from_slice(piece);
                self.file.write_all_at(&memory[..piece.len()], place.get())?;
                place = place.checked_add(ByteLen::of(piece)).ok_or(io::ErrorKind::InvalidInput)?;
            }
            Ok(())
        })
    }

    fn with_spare(&self, work: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let mut memory = self.spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
        memory.resize(PIECE);
        let result = work(&mut memory);
        if let Ok(mut spare) = self.spare.lock() {
            spare.push(memory);
        }
        result
    }

    fn read_by_copy(&self, buf: &mut [u8], offset: u64, piece: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let place = offset.checked_add(ByteLen::of(&buf[..done]).get()).ok_or(io::ErrorKind::InvalidInput)?;
            let before = usize::try_from(place % self.step_u64()).map_err(|_| io::ErrorKind::InvalidInput)?;
            let take = (buf.len() - done).min(PIECE - before);
            let whole = (before + take).next_multiple_of(self.step);
            self.file.read_exact_at(&mut piece[..whole], place - place % self.step_u64())?;
            buf[done..done + take].copy_from_slice(&piece[before..before + take]);
            done += take;
        }
        Ok(())
    }

    fn step_u64(&self) -> u64 {
        u64::from(u32::try_from(self.step).unwrap_or(4096))
    }
}

/// A disk opened for reading with direct IO.
///
/// What direct IO cannot do (an end that is not at a sector, a medium that refuses) is read through the page cache. So
/// is a read that failed: the cache asks for each page by itself, and its word on what is bad is the exact one.
#[derive(Debug)]
pub struct DirectDisk {
    cached: Disk,
    direct: Direct,
}

impl DirectDisk {
    /// Opens a disk for reading.
    ///
    /// # Errors
    /// [`DiskError`] with the path, also where the file system does not offer direct IO.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let cached = Disk::open(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file = File::from(opened.map_err(|error| open_error(path, error.into()))?);
        let step = match cached.kind() {
            DiskKind::File => PAGE,
            // A sector, so that a bad one does not take its neighbours along.
            DiskKind::Device => usize::try_from(cached.sector_size().bytes()).unwrap_or(PAGE),
        };
        Ok(Self { cached, direct: Direct::new(file, step) })
    }
}

impl ReadAt for DirectDisk {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        self.direct.read(buf, offset).or_else(|_| self.cached.read_exact_at(buf, offset))
    }

    fn len(&self) -> ByteLen {
        self.cached.len()
    }

    fn sector_size(&self) -> SectorSize {
        self.cached.sector_size()
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        self.cached.next_data(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_of(content: &[u8]) -> (tempfile::TempDir, DirectDisk) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, content).unwrap();
        let disk = DirectDisk::open(&path).expect("direct IO in the temporary folder");
        (folder, disk)
    }

    #[test]
    fn any_place_and_length_is_read_directly() {
        let content: Vec<u8> = (0..3_145_728_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
        let (_folder, disk) = disk_of(&content);
        for (offset, len) in [(0, 4096), (1, 1), (4095, 2), (513, 2_000_001), (8192, 1 << 20), (700_000, 1 << 21)] {
            let mut found = vec![0; len];
            disk.direct.read(&mut found, ByteOffset::new(ByteLen::of(&content[..offset]).get())).unwrap();
            assert!(found == content[offset..offset + len], "{len} bytes at {offset}");
        }
    }

    #[test]
    fn the_end_that_is_no_whole_step_is_read_through_the_cache() {
        let (_folder, disk) = disk_of(&[7; 10_001]);
        let mut found = vec![0; 5_001];
        assert!(disk.direct.read(&mut found, ByteOffset::new(5_000)).is_err());
        disk.read_exact_at(&mut found, ByteOffset::new(5_000)).unwrap();
        assert_eq!(found, vec![7; 5_001]);
        assert!(disk.read_exact_at(&mut found, ByteOffset::new(5_001)).is_err());
    }
}
