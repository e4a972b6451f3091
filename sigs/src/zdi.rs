//! The container of an image, `.zdi`: frames, then their table and placement, the map, the manifest, a trailer.
//!
//! Byte layout in `docs/formats/zdi.md`. The frames come first so that they can be written, or sent, while the disk
//! is still being read. Identity is the frame table (digests and lengths), the map and the manifest; where a frame lies
//! in the file is placement and may differ between two copies of one image.
//!
//! This module knows the layout and checks it. It does not compress: frames and the map pass through as stored bytes.

use std::io;

use crate::digest::Digest;
use crate::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError};
use crate::source::ReadAt;
use crate::units::{ByteLen, ByteOffset, CHUNK_BYTES};

const MAGIC: [u8; 8] = *b"EBBZDI\r\n";
const END_MAGIC: [u8; 8] = *b"ZDIEND\r\n";
const VERSION: u32 = 1;
/// The header's length; the first frame follows it.
pub const HEADER_BYTES: u64 = 64;
const TRAILER_BYTES: u64 = 96;
/// The size of one record of the frame table.
pub const FRAME_RECORD_BYTES: usize = 40;
const MAX_FRAMES: u64 = 1 << 26;
/// The longest encoded map that is believed, before and after compression: about 20 million runs.
pub const MAX_MAP_BYTES: u64 = 64 << 20;
/// The most bytes one frame holds before compression.
pub const MAX_FRAME_RAW_BYTES: u32 = CHUNK_BYTES;
/// The most bytes one frame has as stored: what zstd may need for incompressible input, with room.
pub const MAX_FRAME_STORED_BYTES: u32 = CHUNK_BYTES + 16 * 1024;

/// Why a container was refused or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ZdiError {
    /// The medium failed.
    #[error("read {len} bytes at offset {offset} of the image")]
    Read {
        /// Where.
        offset: ByteOffset,
        /// How much.
        len: ByteLen,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not an image, or one that is cut short, spliced or of an unknown version.
    #[error("offset {offset}: {reason}")]
    Format {
        /// Where.
        offset: ByteOffset,
        /// What is wrong there.
        reason: String,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A part does not have the digest that the manifest or the trailer binds.
    #[error("the {part} has the digest {found}, expected {expected}: the image was altered or is damaged")]
    WrongDigest {
        /// Which part.
        part: String,
        /// Computed.
        found: Digest,
        /// Bound.
        expected: Digest,
    },
}

fn format_error(offset: u64, reason: impl Into<String>) -> ZdiError {
    ZdiError::Format { offset: ByteOffset::new(offset), reason: reason.into() }
}

/// One frame as its table names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRecord {
    /// The digest of the stored bytes.
    pub digest: Digest,
    /// How many bytes are stored.
    pub stored_bytes: u32,
    /// How many bytes they expand to: whole blocks, but for a short last block of the disk.
    pub raw_bytes: u32,
}

impl FrameRecord {
    fn to_bytes(self) -> [u8; FRAME_RECORD_BYTES] {
        let mut bytes = [0; FRAME_RECORD_BYTES];
        bytes[..32].copy_from_slice(self.digest.as_bytes());
        bytes[32..36].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[36..].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; FRAME_RECORD_BYTES]) -> Option<Self> {
        let (digest, lengths) = bytes.split_first_chunk::<32>()?;
        let (stored, raw) = lengths.split_first_chunk::<4>()?;
        let record = Self {
            digest: Digest::from_bytes(*digest),
            stored_bytes: u32::from_le_bytes(*stored),
            raw_bytes: u32::from_le_bytes(raw.try_into().ok()?),
        };
        let sound = (1..=MAX_FRAME_STORED_BYTES).contains(&record.stored_bytes)
            && (1..=MAX_FRAME_RAW_BYTES).contains(&record.raw_bytes);
        sound.then_some(record)
    }
}

/// Encodes a frame table: the bytes whose digest the manifest binds.
pub fn encode_frame_table(frames: &[FrameRecord]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.to_bytes()).collect()
}

/// Returns the 64 bytes an image begins with. Cipher 0 and a zero key id: not encrypted.
pub fn header_bytes() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Everything of an image but its frames: what the maker knows when the last frame is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The frame table.
    pub frames: Vec<FrameRecord>,
    /// The encoded map, one zstd frame.
    pub stored_map: Vec<u8>,
    /// How long the map is before compression.
    pub map_bytes: ByteLen,
    /// The exact bytes of the manifest.
    pub manifest: Vec<u8>,
}

impl Contents {
    /// Encodes what follows the frames in a file: table, placement, map, manifest, trailer.
    ///
    /// `placement` says for each frame where its stored bytes begin in the file; `frames_end` is the end of the last.
    pub fn encode_tail(&self, placement: &[ByteOffset], frames_end: ByteOffset) -> Vec<u8> {
        let mut tail = encode_frame_table(&self.frames);
        for offset in placement {
            tail.extend_from_slice(&offset.get().to_le_bytes());
        }
        tail.extend_from_slice(&self.stored_map);
        tail.extend_from_slice(&self.manifest);
        let digest = Digest::of(&tail);
        tail.extend_from_slice(&frames_end.get().to_le_bytes());
        tail.extend_from_slice(&count_of(&self.frames).to_le_bytes());
        tail.extend_from_slice(&ByteLen::of(&self.stored_map).get().to_le_bytes());
        tail.extend_from_slice(&self.map_bytes.get().to_le_bytes());
        tail.extend_from_slice(&ByteLen::of(&self.manifest).get().to_le_bytes());
        tail.extend_from_slice(&[0; 16]);
        tail.extend_from_slice(digest.as_bytes());
        tail.extend_from_slice(&END_MAGIC);
        tail
    }

    /// Encodes the contents as one body of a request; the frames themselves travel apart.
    pub fn to_wire(&self) -> Vec<u8> {
        let table = encode_frame_table(&self.frames);
        let mut wire = Vec::with_capacity(table.len() + self.stored_map.len() + self.manifest.len() + 40);
        wire.extend_from_slice(b"EBBFIN\r\n");
        wire.extend_from_slice(&count_of(&self.frames).to_le_bytes());
        wire.extend_from_slice(&ByteLen::of(&self.stored_map).get().to_le_bytes());
        wire.extend_from_slice(&self.map_bytes.get().to_le_bytes());
        wire.extend_from_slice(&ByteLen::of(&self.manifest).get().to_le_bytes());
        wire.extend_from_slice(&table);
        wire.extend_from_slice(&self.stored_map);
        wire.extend_from_slice(&self.manifest);
        wire
    }

    /// Parses and checks a body made by [`Contents::to_wire`].
    ///
    /// # Errors
    /// [`ZdiError`] when it is malformed or the manifest does not bind its parts.
    pub fn from_wire(wire: &[u8]) -> Result<(Self, Manifest), ZdiError> {
        let head = wire.split_first_chunk::<40>().filter(|(head, _)| head[..8] == *b"EBBFIN\r\n");
        let (head, body) = head.ok_or_else(|| format_error(0, "this is not the end of an upload"))?;
        let lengths = Lengths::parse(&head[8..], ByteLen::of(body))?;
        lengths.expect_total(ByteLen::of(body), 0)?;
        lengths.split(body, 0)
    }

    /// Checks that the manifest binds the frame table, and the counts of both agree.
    fn check(&self, table: &[u8]) -> Result<Manifest, ZdiError> {
        let manifest = Manifest::parse(&self.manifest)?;
        let found = Digest::of(table);
        if found != manifest.frame_table {
            return Err(ZdiError::WrongDigest { part: "frame table".into(), found, expected: manifest.frame_table });
        }
        let block = u64::from(manifest.geometry.block_size.bytes());
        let stored: u64 = self.frames.iter().map(|frame| u64::from(frame.raw_bytes).div_ceil(block)).sum();
        if stored != manifest.stored_blocks.get() {
            return Err(format_error(
                0,
                format!("the frames hold {stored} blocks, the manifest says {}", manifest.stored_blocks),
            ));
        }
        Ok(manifest)
    }
}

fn count_of(frames: &[FrameRecord]) -> u64 {
    frames.iter().map(|_| 1).sum()
}

#[derive(Clone, Copy, Debug)]
struct Lengths {
    frames: u64,
    stored_map: u64,
    map: u64,
    manifest: u64,
}

impl Lengths {
    /// Reads four numbers, and believes none that does not fit `room`.
    fn parse(bytes: &[u8], room: ByteLen) -> Result<Self, ZdiError> {
        let number = |index: usize| {
            let bytes = bytes.as_chunks::<8>().0.get(index).copied().unwrap_or([0xff; 8]);
            u64::from_le_bytes(bytes)
        };
        let lengths = Self { frames: number(0), stored_map: number(1), map: number(2), manifest: number(3) };
        let fits = lengths.frames <= MAX_FRAMES
            && lengths.stored_map <= MAX_MAP_BYTES.min(room.get())
            && lengths.map <= MAX_MAP_BYTES
            && lengths.manifest <= MAX_MANIFEST_BYTES.min(room.get());
        if fits { Ok(lengths) } else { Err(format_error(0, format!("lengths that cannot be: {lengths:?}"))) }
    }

    /// Checks that table, placement, map and manifest fill exactly `found` bytes.
    fn expect_total(self, found: ByteLen, placement_bytes: u64) -> Result<(), ZdiError> {
        let expected = self.frames * (40 + placement_bytes) + self.stored_map + self.manifest;
        if expected == found.get() {
            Ok(())
        } else {
            Err(format_error(0, format!("the parts need {expected} bytes, there are {found}")))
        }
    }

    fn split(self, body: &[u8], placement_bytes: u64) -> Result<(Contents, Manifest), ZdiError> {
        let short = || format_error(0, "the parts are cut short");
        let at = |len: u64| usize::try_from(len).map_err(|_| short());
        let (table, rest) = body.split_at_checked(at(self.frames * 40)?).ok_or_else(short)?;
        let (_, rest) = rest.split_at_checked(at(self.frames * placement_bytes)?).ok_or_else(short)?;
        let (map, manifest) = rest.split_at_checked(at(self.stored_map)?).ok_or_else(short)?;
        let frames = table
            .as_chunks::<FRAME_RECORD_BYTES>()
            .0
            .iter()
            .enumerate()
            .map(|(index, record)| {
                FrameRecord::from_bytes(record).ok_or_else(|| {
                    format_error(0, format!("record {index} of the frame table has lengths that cannot be"))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let contents = Contents {
            frames,
            stored_map: map.to_vec(),
            map_bytes: ByteLen::new(self.map),
            manifest: manifest.to_vec(),
        };
        let manifest = contents.check(table)?;
        Ok((contents, manifest))
    }
}

/// An opened image: layout, tail and manifest checked; frames not read yet.
#[derive(Debug)]
pub struct Container<R> {
    source: R,
    contents: Contents,
    manifest: Manifest,
    placement: Vec<ByteOffset>,
}

impl<R: ReadAt> Container<R> {
    /// Opens an image and checks everything but its frames and the inside of its map.
    ///
    /// # Errors
    /// [`ZdiError`] with the offset of what is wrong.
    pub fn open(source: R) -> Result<Self, ZdiError> {
        let file_len = source.len().get();
        if file_len < HEADER_BYTES + TRAILER_BYTES {
            return Err(format_error(0, format!("a file of {file_len} bytes is too short for an image")));
        }
        let head = read(&source, 0, HEADER_BYTES)?;
        check_header(&head)?;
        let trailer_at = file_len - TRAILER_BYTES;
        let trailer = read(&source, trailer_at, TRAILER_BYTES)?;
        if trailer[88..] != END_MAGIC {
            return Err(format_error(trailer_at + 88, "the end mark of an image is missing: the file is cut short"));
        }
        if trailer[40..56].iter().any(|byte| *byte != 0) {
            return Err(format_error(trailer_at + 40, "reserved bytes are not zero"));
        }
        let frames_end = u64::from_le_bytes(trailer.as_chunks::<8>().0[0]);
        let tail_len = trailer_at.checked_sub(frames_end).filter(|_| frames_end >= HEADER_BYTES);
        let tail_len = tail_len.ok_or_else(|| format_error(trailer_at, "the tail begins outside the file"))?;
        let lengths = Lengths::parse(&trailer[8..40], ByteLen::new(tail_len))?;
        lengths.expect_total(ByteLen::new(tail_len), 8)?;
        let tail = read(&source, frames_end, tail_len)?;
        let found = Digest::of(&tail);
        let mut expected = [0; 32];
        expected.copy_from_slice(&trailer[56..88]);
        let expected = Digest::from_bytes(expected);
        if found != expected {
            return Err(ZdiError::WrongDigest { part: "tail".into(), found, expected });
        }
        let (contents, manifest) = lengths.split(&tail, 8)?;
        let table_end = usize::try_from(lengths.frames * 40).unwrap_or(usize::MAX);
        let placement = tail[table_end..].as_chunks::<8>().0[..contents.frames.len()]
            .iter()
            .map(|bytes| ByteOffset::new(u64::from_le_bytes(*bytes)))
            .collect();
        let container = Self { source, contents, manifest, placement };
        container.check_placement(frames_end)?;
        Ok(container)
    }

    /// Every byte between header and tail belongs to exactly one frame.
    fn check_placement(&self, frames_end: u64) -> Result<(), ZdiError> {
        let mut order: Vec<_> = self.placement.iter().zip(&self.contents.frames).collect();
        order.sort_by_key(|(offset, _)| **offset);
        let mut end = HEADER_BYTES;
        for (offset, frame) in order {
            if offset.get() != end {
                return Err(format_error(end, format!("a frame begins at {offset} where {end} was expected")));
            }
            end = end.saturating_add(u64::from(frame.stored_bytes));
        }
        if end == frames_end {
            Ok(())
        } else {
            Err(format_error(end, format!("the frames end at {end}, the tail begins at {frames_end}")))
        }
    }

    /// Returns the manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns everything but the frames.
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Returns what the image is read from.
    pub const fn source(&self) -> &R {
        &self.source
    }

    /// Returns where a frame lies in the file, or `None` when there is no such frame.
    pub fn frame_range(&self, frame: u32) -> Option<(ByteOffset, &FrameRecord)> {
        let index = usize::try_from(frame).ok()?;
        Some((*self.placement.get(index)?, self.contents.frames.get(index)?))
    }

    /// Reads the stored bytes of a frame into `buf` and checks their digest.
    ///
    /// # Errors
    /// [`ZdiError::WrongDigest`] when they are not the frame; a read error; no such frame.
    pub fn read_frame(&self, frame: u32, buf: &mut Vec<u8>) -> Result<FrameRecord, ZdiError> {
        let record = self.read_frame_unchecked(frame, buf)?;
        let found = Digest::of(buf);
        if found == record.digest {
            return Ok(record);
        }
        let offset = self.frame_range(frame).map_or(ByteOffset::ZERO, |(offset, _)| offset);
        let part = format!("frame {frame} at offset {offset}");
        Err(ZdiError::WrongDigest { part, found, expected: record.digest })
    }

    /// Reads the stored bytes of a frame into `buf`, whatever they are: for whoever proves what becomes of them.
    ///
    /// # Errors
    /// A read error; no such frame.
    pub fn read_frame_unchecked(&self, frame: u32, buf: &mut Vec<u8>) -> Result<FrameRecord, ZdiError> {
        let (offset, record) = self
            .frame_range(frame)
            .ok_or_else(|| format_error(0, format!("frame {frame} is referred to and does not exist")))?;
        buf.resize(usize::try_from(record.stored_bytes).unwrap_or(usize::MAX), 0);
        read_into(&self.source, offset, buf)?;
        Ok(*record)
    }
}

fn check_header(head: &[u8]) -> Result<(), ZdiError> {
    if head[..8] != MAGIC {
        return Err(format_error(0, "this is not an image made by imagezip"));
    }
    let version = u32::from_le_bytes(head.as_chunks::<4>().0[2]);
    if version != VERSION {
        return Err(format_error(8, format!("image format {version} is not known here (known: {VERSION})")));
    }
    if head[12..].iter().any(|byte| *byte != 0) {
        return Err(format_error(12, "the image is encrypted or uses what is not known here"));
    }
    Ok(())
}

fn read(source: &impl ReadAt, offset: u64, len: u64) -> Result<Vec<u8>, ZdiError> {
    let len = usize::try_from(len).map_err(|_| format_error(offset, "a length above the memory of this machine"))?;
    let mut bytes = vec![0; len];
    read_into(source, ByteOffset::new(offset), &mut bytes)?;
    Ok(bytes)
}

fn read_into(source: &impl ReadAt, offset: ByteOffset, bytes: &mut [u8]) -> Result<(), ZdiError> {
    let len = ByteLen::of(bytes);
    source.read_exact_at(bytes, offset).map_err(|source| ZdiError::Read { offset, len, source })
}
