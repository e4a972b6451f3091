//! The file as a disk.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sigs::manifest::PartitionSummary;
use sigs::{ByteLen, ByteOffset, SectorSize};

use super::header::{ChunkDefect, Header};
use super::index::{Index, Refused, Summary, build, read_header};
use super::stream::{PIECE_BYTES, Stream, damage};
use super::{MOST_DISK_BYTES, SECTOR_BYTES, index_of, reach};
use crate::alloc::SurveyError;
use crate::foreign::kept::Kept;
use crate::io::ReadAt;
use crate::layout::{BadLayout, Layout};

/// How many expanded pieces are kept: threads that go through a disk side by side meet in these 32 MiB.
const KEPT_PIECES: usize = 32;
/// How many chunks are open at the same time: 1 MiB each.
const KEPT_STREAMS: usize = 4;
/// How many headers are kept.
const KEPT_HEADERS: usize = 16;

/// A file that was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It could not be read.
    #[error("read the Emulab image")]
    Read(#[from] io::Error),
    /// What is on its disk could not be read.
    #[error("look at what is on the disk")]
    Survey(#[from] SurveyError),
    /// It is damaged, cut short, or not understood.
    #[error("the Emulab image is refused")]
    Refused(#[from] Refused),
}

/// How a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The size of the disk it was made of. Not given: as far as the file reaches.
    pub disk_bytes: Option<ByteLen>,
}

/// An image of Emulab that reads like the disk it was made of; what was free reads as zeros.
///
/// The headers were all checked. The content of a chunk is checked when it is read: its SHA-1 when it has one, and that
/// its stream ends with its last region; who reads all of [`Disk::layout`] has checked all chunks.
///
/// Memory: 32 MiB of content, 4 chunks, four bytes for each chunk of the file, and its regions in a few bytes each.
#[derive(Debug)]
pub struct Disk {
    file: Arc<dyn ReadAt>,
    index: Index,
    disk_bytes: ByteLen,
    work: Mutex<Work>,
}

/// What was read or made last.
#[derive(Debug)]
struct Work {
    headers: Kept<u64, Header>,
    streams: VecDeque<Stream>,
    /// By chunk and number in it.
    pieces: Kept<(u64, u64), Vec<u8>>,
}

impl Disk {
    /// Opens a file and goes through all of its headers.
    ///
    /// # Errors
    /// [`OpenError::Refused`] with the first thing that is wrong or not known.
    pub fn open(file: Arc<dyn ReadAt>, options: Options) -> Result<Self, OpenError> {
        let index = build(file.as_ref())??;
        let needed = index.allocated.end().get();
        let found = index.disk_bytes;
        // For the look at what is on it, the disk is as large as it can be.
        let (headers, pieces) = (Kept::new(KEPT_HEADERS), Kept::new(KEPT_PIECES));
        let work = Mutex::new(Work { headers, streams: VecDeque::new(), pieces });
        let mut disk = Self { file, index, disk_bytes: ByteLen::new(MOST_DISK_BYTES), work };
        disk.disk_bytes = match options.disk_bytes {
            Some(asked) if asked.get() < needed => {
                return Err(Refused::TooSmall { asked, needed: ByteLen::new(needed) }.into());
            }
            Some(asked) => asked,
            None => match (reach::of(&disk, found)?, disk.index.summary.counted) {
                (reach::Reach::Inside, _) => found,
                // All chunks are there, so it is only the end of the disk that had nothing on it.
                (reach::Reach::To(end), true) => end,
                (reach::Reach::To(_) | reach::Reach::Further, _) => {
                    return Err(Refused::ReachesFurther { end: found }.into());
                }
            },
        };
        Ok(disk)
    }

    /// Returns what the file is.
    pub const fn summary(&self) -> &Summary {
        &self.index.summary
    }

    /// Returns what is allocated: the regions, and nothing else. That the rest is free is Emulab's word.
    ///
    /// # Errors
    /// [`BadLayout`] would be a defect: the regions lie inside the disk.
    pub fn layout(&self) -> Result<Layout, BadLayout> {
        let Summary { version, chunks, .. } = self.index.summary;
        let all = PartitionSummary {
            number: 0,
            start: ByteOffset::ZERO,
            len: self.disk_bytes,
            kind: "disk".to_owned(),
            content: format!("Emulab image, {version}"),
            allocated: self.index.allocated.total(),
            whole: None,
            evidence: Some(format!("the regions of {chunks} chunks, as Emulab's imagezip found them")),
        };
        Layout::new(self.disk_bytes, SectorSize::S512, self.index.allocated.clone(), vec![all])
    }

    /// Fills `buf`, which is zeros, with what the chunk has of it; `start` is in bytes.
    fn fill(&self, chunk: u64, start: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let header = work.header(self.file.as_ref(), chunk)?;
        let end = start.saturating_add(ByteLen::of(buf).get());
        let mut before = 0;
        for region in &header.regions {
            let (first, last) = (region.start * SECTOR_BYTES, region.end() * SECTOR_BYTES);
            let (from, to) = (first.max(start), last.min(end));
            let mut at = from;
            while at < to {
                let place = before + (at - first);
                let piece = work.piece(self.file.as_ref(), chunk, &header, place / PIECE_BYTES)?;
                let within = index_of(place % PIECE_BYTES);
                let content = piece.get(within..).unwrap_or_default();
                let len = content.len().min(index_of(to - at));
                if len == 0 {
                    return Err(damage(chunk, ChunkDefect::OtherLength));
                }
                let target = index_of(at - start);
                buf[target..target + len].copy_from_slice(&content[..len]);
                at += ByteLen::of(&content[..len]).get();
            }
            before += last - first;
        }
        Ok(())
    }
}

impl Work {
    fn header(&mut self, file: &dyn ReadAt, chunk: u64) -> io::Result<Arc<Header>> {
        if let Some(header) = self.headers.find(&chunk) {
            return Ok(header);
        }
        // It was parsed before; another answer now means that the file was changed meanwhile.
        let parsed = Header::parse(&read_header(file, chunk)?).map_err(|defect| damage(chunk, defect))?;
        let header = Arc::new(parsed);
        self.headers.keep(chunk, &header);
        Ok(header)
    }

    fn piece(&mut self, file: &dyn ReadAt, chunk: u64, header: &Header, number: u64) -> io::Result<Arc<Vec<u8>>> {
        if let Some(piece) = self.pieces.find(&(chunk, number)) {
            return Ok(piece);
        }
        let open = self.streams.iter().position(|stream| stream.chunk == chunk && stream.next <= number);
        let mut stream = match open.and_then(|at| self.streams.remove(at)) {
            Some(stream) => stream,
            None => Stream::open(file, chunk, header)?,
        };
        loop {
            let (at, piece) = (stream.next, stream.advance()?);
            self.pieces.keep((chunk, at), &piece);
            if at == number {
                self.streams.push_back(stream);
                if self.streams.len() > KEPT_STREAMS {
                    self.streams.pop_front();
                }
                return Ok(piece);
            }
        }
    }
}

impl ReadAt for Disk {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let end = offset.checked_add(ByteLen::of(buf));
        let end = end.map(ByteOffset::get).filter(|end| *end <= self.disk_bytes.get());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.fill(0);
        // The last chunk that begins before, and all that begin inside.
        let starts = &self.index.starts;
        let first = starts.partition_point(|start| u64::from(*start) * SECTOR_BYTES <= offset.get()).saturating_sub(1);
        let inside = starts[first..].iter().take_while(|start| u64::from(**start) * SECTOR_BYTES < end);
        for (at, _) in inside.enumerate() {
            self.fill(u64::try_from(first + at).unwrap_or(u64::MAX), offset.get(), buf)?;
        }
        Ok(())
    }

    fn len(&self) -> ByteLen {
        self.disk_bytes
    }
}
