//! All headers of a file: that they are one image, whole and in order.
//!
//! Emulab's own tool takes a file that ends in the middle of a chunk for the end of the image, and never looks at the
//! order, the number or the identity of chunks. Here each of these is checked before anything is read.

use std::io;

use sigs::{ByteLen, ByteOffset, ByteRange};

use super::header::{Checksum, ChunkDefect, Header, Version};
use super::{CHUNK_BYTES, HEADER_BYTES, SECTOR_BYTES, index_of};
use crate::extents::{Extents, ExtentsBuilder};
use crate::io::ReadAt;

/// Why a file is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("it is empty")]
    Empty,
    #[error("chunk {chunk} is refused: {defect}")]
    Chunk { chunk: u64, defect: ChunkDefect },
    #[error("it has {found} chunks of the {total} that its first chunk announces: it is cut short")]
    Missing { found: u64, total: u32 },
    #[error("a disk of {asked} bytes cannot hold what reaches to byte {needed}")]
    TooSmall { asked: ByteLen, needed: ByteLen },
    #[error(
        "what is on the disk reaches further than the image, which ends at byte {end}: it may be cut short; \
         if it is whole, say how large the disk was (--disk-bytes)"
    )]
    ReachesFurther { end: ByteLen },
}

impl Refused {
    /// Returns true when the file is damaged, and false when it is of a kind that is not read.
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Empty | Self::Missing { .. } | Self::ReachesFurther { .. } => true,
            Self::TooSmall { .. } => false,
            Self::Chunk { defect, .. } => !matches!(
                defect,
                ChunkDefect::Encrypted(_) | ChunkDefect::ChecksumKind(_) | ChunkDefect::Relocation(..)
            ),
        }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Its version.
    pub version: Version,
    /// How many chunks it has.
    pub chunks: u64,
    /// How many of them have a SHA-1 that is checked.
    pub checked_chunks: u64,
    /// How many of them are signed, which needs a key to be checked.
    pub signed_chunks: u64,
    /// Whether the number of chunks is in the file, so that a missing end shows.
    pub counted: bool,
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) summary: Summary,
    /// The first sector of each chunk; in order.
    pub(super) starts: Vec<u32>,
    /// The regions, in bytes, the last one without what the source did not have.
    pub(super) allocated: Extents,
    /// The size of the disk as far as the file says.
    pub(super) disk_bytes: ByteLen,
}

/// Reads the header area of a chunk: less where the file ends before.
pub(super) fn read_header(file: &dyn ReadAt, chunk: u64) -> io::Result<Vec<u8>> {
    let start = chunk.saturating_mul(CHUNK_BYTES);
    let len = file.len().get().saturating_sub(start).min(HEADER_BYTES);
    let mut bytes = vec![0; index_of(len)];
    file.read_exact_at(&mut bytes, ByteOffset::new(start))?;
    Ok(bytes)
}

/// Goes through all headers.
pub(super) fn build(file: &dyn ReadAt) -> io::Result<Result<Index, Refused>> {
    let chunks = file.len().get().div_ceil(CHUNK_BYTES);
    let mut walk = Walk { chunks, file_bytes: file.len().get(), ..Walk::default() };
    for chunk in 0..chunks {
        let bytes = read_header(file, chunk)?;
        let taken = Header::parse(&bytes).and_then(|header| walk.take(chunk, &header));
        if let Err(defect) = taken {
            return Ok(Err(Refused::Chunk { chunk, defect }));
        }
    }
    Ok(walk.finish())
}

/// What the headers so far say together.
#[derive(Default)]
struct Walk {
    chunks: u64,
    file_bytes: u64,
    first: Option<Header>,
    starts: Vec<u32>,
    allocated: ExtentsBuilder,
    /// The first sector after the last region.
    end: u64,
    /// The first sector after what was described.
    described: u64,
    short: Option<u64>,
    checked: u64,
    signed: u64,
}

impl Walk {
    fn take(&mut self, chunk: u64, header: &Header) -> Result<(), ChunkDefect> {
        let there = self.file_bytes.saturating_sub(chunk.saturating_mul(CHUNK_BYTES)).min(CHUNK_BYTES);
        let needed = if chunk + 1 == self.chunks { HEADER_BYTES + header.stored } else { CHUNK_BYTES };
        if there < needed {
            return Err(ChunkDefect::CutShort { found: there, needed });
        }
        let first = self.first.get_or_insert_with(|| header.clone());
        if header.version != first.version {
            return Err(ChunkDefect::OtherVersion);
        }
        // The first files of version 1 had neither numbers nor a total.
        let numbered = header.version != Version::V1 || first.total != 0;
        if numbered && u64::from(header.index) != chunk {
            return Err(ChunkDefect::OutOfSequence(header.index));
        }
        if header.total != first.total || header.total != 0 && u64::from(header.total) < self.chunks {
            return Err(ChunkDefect::OtherTotal(header.total));
        }
        if header.image_id != first.image_id {
            return Err(ChunkDefect::OtherImage);
        }
        if self.short.is_some() {
            return Err(ChunkDefect::ShortSector);
        }
        let start = header.regions.first().map_or(0, |region| region.start);
        let begin = header.described.map_or(start, |(first, _)| first);
        if start < self.end || begin < self.described {
            return Err(ChunkDefect::Order(start.min(begin)));
        }
        self.starts.push(u32::try_from(start).unwrap_or(u32::MAX));
        for region in &header.regions {
            // The last sector of the last chunk may be short: what the source did not have is cut off.
            let missing =
                if region.end() == header.end() { header.short.map_or(0, |size| SECTOR_BYTES - size) } else { 0 };
            let len = ByteLen::new(region.sectors * SECTOR_BYTES - missing);
            self.allocated.add(ByteRange { start: ByteOffset::new(region.start * SECTOR_BYTES), len });
        }
        self.end = header.end();
        self.described = header.described.map_or(self.end, |(_, end)| end);
        self.short = header.short;
        self.checked += u64::from(header.checksum == Checksum::Sha1);
        self.signed += u64::from(header.checksum == Checksum::Signed);
        Ok(())
    }

    fn finish(self) -> Result<Index, Refused> {
        let first = self.first.ok_or(Refused::Empty)?;
        if first.total != 0 && u64::from(first.total) != self.chunks {
            return Err(Refused::Missing { found: self.chunks, total: first.total });
        }
        let disk_bytes = match self.short {
            Some(size) => (self.end - 1) * SECTOR_BYTES + size,
            None => self.end.max(self.described) * SECTOR_BYTES,
        };
        let summary = Summary {
            version: first.version,
            chunks: self.chunks,
            checked_chunks: self.checked,
            signed_chunks: self.signed,
            counted: first.total != 0,
        };
        let allocated = self.allocated.finish();
        Ok(Index { summary, starts: self.starts, allocated, disk_bytes: ByteLen::new(disk_bytes) })
    }
}
