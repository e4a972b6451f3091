//! The file as a disk.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sigs::{ByteLen, ByteOffset, ByteRange};

use super::entry::Cluster;
use super::header::{HEADER_BYTES, Header, Refused};
use super::{COPIED, OFFSET_MASK, census, index};
use crate::foreign::kept::Kept;
use crate::io::ReadAt;

/// The most of an L2 table that is read at once.
const SLICE_BYTES: u64 = 64 << 10;
/// How many pieces of L2 tables are kept: 4 MiB of them at most.
const KEPT_SLICES: usize = 64;
/// How much of expanded clusters is kept: threads that go through a disk side by side meet in these.
const KEPT_EXPANDED_BYTES: u64 = 16 << 20;

/// A qcow2 file that was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It could not be read.
    #[error("read the qcow2 file")]
    Read(#[from] io::Error),
    /// It is no file that this reader understands, all of it.
    #[error("the qcow2 file is refused")]
    Refused(#[from] Refused),
}

/// A qcow2 file that reads like the disk it holds.
///
/// Snapshots inside the file are passed over: what is read is the state it was left in. Memory: the L1 table (at most
/// 32 MiB, and 128 KiB for a disk of 1 TiB), 4 MiB of L2 tables, 16 MiB of expanded clusters.
#[derive(Debug)]
pub struct Disk {
    pub(super) file: Arc<dyn ReadAt>,
    pub(super) header: Header,
    /// Where each L2 table lies; 0 for none.
    pub(super) l1: Vec<u64>,
    slices: Mutex<Kept<u64, Vec<u64>>>,
    expanded: Mutex<Kept<u64, Vec<u8>>>,
}

impl Disk {
    /// Opens a file and walks through all of its tables.
    ///
    /// # Errors
    /// [`OpenError::Refused`] with the first thing that is wrong or not known.
    pub fn open(file: Arc<dyn ReadAt>) -> Result<Self, OpenError> {
        let len = file.len().get().min(HEADER_BYTES);
        let mut bytes = vec![0; index(len)];
        file.read_exact_at(&mut bytes, ByteOffset::ZERO)?;
        let header = Header::parse(&bytes, file.len())?;
        let l1 = read_words(file.as_ref(), header.l1_offset, header.l1_entries)?;
        let expanded = index(KEPT_EXPANDED_BYTES / header.cluster_bytes()).min(256);
        let (slices, expanded) = (Mutex::new(Kept::new(KEPT_SLICES)), Mutex::new(Kept::new(expanded)));
        let mut disk = Self { file, header, l1, slices, expanded };
        for number in 0..disk.l1.len() {
            disk.l1[number] = disk.check_l1(disk.l1[number])?;
        }
        census::check(&disk)?;
        Ok(disk)
    }

    /// Checks an entry of the L1 table and returns the place of its L2 table.
    fn check_l1(&self, entry: u64) -> Result<u64, Refused> {
        let offset = entry & OFFSET_MASK;
        let end = offset.checked_add(self.header.cluster_bytes());
        let inside = end.is_some_and(|end| end <= self.file.len().get());
        let aligned = offset.is_multiple_of(self.header.cluster_bytes()) && entry & !(OFFSET_MASK | COPIED) == 0;
        if offset == 0 && entry == 0 || offset > 0 && inside && aligned {
            Ok(offset)
        } else {
            Err(Refused::Table(entry))
        }
    }

    /// Returns the size of a cluster.
    pub fn cluster_bytes(&self) -> ByteLen {
        ByteLen::new(self.header.cluster_bytes())
    }

    /// Returns how many entries one piece of an L2 table has.
    pub(super) fn slice_entries(&self) -> u64 {
        self.header.cluster_bytes().min(SLICE_BYTES) / self.header.entry_bytes()
    }

    /// Finds a cluster of the disk.
    pub(super) fn find(&self, number: u64) -> io::Result<Cluster> {
        let table = self.l1.get(index(number / self.header.l2_entries())).copied().unwrap_or(0);
        if table == 0 {
            return Ok(Cluster::Hole);
        }
        let within = number % self.header.l2_entries();
        let per_slice = self.slice_entries();
        let words = self.slice(table + within / per_slice * per_slice * self.header.entry_bytes())?;
        self.cluster_in(&words, within % per_slice, number)
    }

    /// Reads an entry out of a piece of an L2 table, and checks that its place is inside the file.
    pub(super) fn cluster_in(&self, words: &[u64], at: u64, number: u64) -> io::Result<Cluster> {
        let word = |at: u64| words.get(index(at)).copied().unwrap_or(0);
        let (entry, bitmap) = if self.header.extended_l2 { (word(at * 2), word(at * 2 + 1)) } else { (word(at), 0) };
        let disk_offset = number.saturating_mul(self.header.cluster_bytes());
        let wrong = |refused: Refused| io::Error::new(io::ErrorKind::InvalidData, refused);
        let cluster = self.header.cluster(entry, bitmap, disk_offset).map_err(wrong)?;
        let file = self.file.len().get();
        let (offset, needed) = match cluster {
            Cluster::Hole => return Ok(cluster),
            // The file need not have more of a cluster than its last part that is there, and of the last cluster of a
            // disk no more than the disk has.
            Cluster::Plain { offset, present } => {
                let parts = u64::from(u32::BITS - present.leading_zeros());
                let left = self.header.disk_bytes.get().saturating_sub(disk_offset);
                (offset, left.min(parts * (self.header.cluster_bytes() / 32)))
            }
            // The last sector may be cut short by the end of the file; that it holds enough is seen when it is expanded.
            Cluster::Compressed { offset, .. } => (offset, 1),
        };
        if offset.checked_add(needed).is_none_or(|end| end > file) {
            let reason = "it lies outside of the file, which may be cut short";
            return Err(wrong(Refused::Entry { offset: disk_offset, reason }));
        }
        Ok(cluster)
    }

    fn slice(&self, offset: u64) -> io::Result<Arc<Vec<u64>>> {
        if let Some(words) = self.slices.lock().unwrap_or_else(PoisonError::into_inner).find(&offset) {
            return Ok(words);
        }
        let words = Arc::new(self.read_slice(offset)?);
        self.slices.lock().unwrap_or_else(PoisonError::into_inner).keep(offset, &words);
        Ok(words)
    }

    /// Reads a piece of an L2 table.
    pub(super) fn read_slice(&self, offset: u64) -> io::Result<Vec<u64>> {
        read_words(self.file.as_ref(), offset, self.slice_entries() * self.header.entry_bytes() / 8)
    }

    /// Fills `buf` with the bytes of a cluster from `within` on.
    fn read_cluster(&self, number: u64, within: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.find(number)? {
            Cluster::Hole => buf.fill(0),
            Cluster::Plain { offset, present: u32::MAX } => {
                self.file.read_exact_at(buf, ByteOffset::new(offset + within))?;
            }
            Cluster::Plain { offset, present } => self.read_parts(offset, present, within, buf)?,
            Cluster::Compressed { offset, len } => {
                let content = self.expand(offset, len, number)?;
                let start = index(within);
                let content = start.checked_add(buf.len()).and_then(|end| content.get(start..end));
                buf.copy_from_slice(content.ok_or(io::ErrorKind::UnexpectedEof)?);
            }
        }
        Ok(())
    }

    /// Fills `buf` from a cluster of which only some of its 32 parts are there.
    fn read_parts(&self, offset: u64, present: u32, within: u64, buf: &mut [u8]) -> io::Result<()> {
        let part_bytes = self.header.cluster_bytes() / 32;
        let (mut at, mut rest) = (within, buf);
        while !rest.is_empty() {
            let take = index(part_bytes - at % part_bytes).min(rest.len());
            let (piece, left) = rest.split_at_mut(take);
            if present >> (at / part_bytes) & 1 == 1 {
                self.file.read_exact_at(piece, ByteOffset::new(offset + at))?;
            } else {
                piece.fill(0);
            }
            at += ByteLen::of(piece).get();
            rest = left;
        }
        Ok(())
    }

    fn expand(&self, offset: u64, len: u64, number: u64) -> io::Result<Arc<Vec<u8>>> {
        if let Some(content) = self.expanded.lock().unwrap_or_else(PoisonError::into_inner).find(&offset) {
            return Ok(content);
        }
        let len = len.min(self.file.len().get().saturating_sub(offset));
        let mut stored = vec![0; index(len)];
        self.file.read_exact_at(&mut stored, ByteOffset::new(offset))?;
        let mut raw = vec![0; index(self.header.cluster_bytes())];
        self.header.compression.expand(&stored, &mut raw).map_err(|reason| {
            let offset = number.saturating_mul(self.header.cluster_bytes());
            io::Error::new(io::ErrorKind::InvalidData, Refused::Entry { offset, reason })
        })?;
        let raw = Arc::new(raw);
        self.expanded.lock().unwrap_or_else(PoisonError::into_inner).keep(offset, &raw);
        Ok(raw)
    }
}

impl ReadAt for Disk {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let end = offset.checked_add(ByteLen::of(buf));
        if end.is_none_or(|end| end.get() > self.header.disk_bytes.get()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let cluster = self.header.cluster_bytes();
        let (mut at, mut rest) = (offset.get(), buf);
        while !rest.is_empty() {
            let within = at % cluster;
            let take = index(cluster - within).min(rest.len());
            let (piece, left) = rest.split_at_mut(take);
            self.read_cluster(at / cluster, within, piece)?;
            at += ByteLen::of(piece).get();
            rest = left;
        }
        Ok(())
    }

    fn len(&self) -> ByteLen {
        self.header.disk_bytes
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        let cluster = self.header.cluster_bytes();
        let start = range.start.get();
        let end = start.saturating_add(range.len.get()).min(self.header.disk_bytes.get());
        let mut number = start / cluster;
        while number.saturating_mul(cluster) < end {
            if self.l1.get(index(number / self.header.l2_entries())).copied().unwrap_or(0) == 0 {
                number = (number / self.header.l2_entries() + 1) * self.header.l2_entries();
            } else if self.find(number)? == Cluster::Hole {
                number += 1;
            } else {
                return Ok(Some(ByteOffset::new(start.max(number * cluster))));
            }
        }
        Ok(None)
    }
}

/// Reads big-endian numbers of 8 bytes.
fn read_words(file: &dyn ReadAt, offset: u64, words: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; index(words.saturating_mul(8))];
    file.read_exact_at(&mut bytes, ByteOffset::new(offset))?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|raw| u64::from_be_bytes(*raw)).collect())
}
