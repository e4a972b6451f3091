//! The layout of a `.zdi` file, read from its end (`docs/formats/zdi.md`).

use std::io;

use sha2::{Digest as _, Sha256};
use sigs::manifest::{Manifest, ManifestError};
use sigs::{ByteOffset, Digest, ReadAt, Root};

/// Why a stored image is not what it claims to be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The medium failed.
    #[error("read the stored image at offset {offset}")]
    Read {
        /// Where.
        offset: ByteOffset,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The layout is wrong.
    #[error("offset {offset} of the stored image: {reason}")]
    Layout {
        /// Where.
        offset: ByteOffset,
        /// What is wrong.
        reason: &'static str,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A part is not what the manifest binds.
    #[error("the {part} was altered after the image was made")]
    Altered {
        /// Which part.
        part: &'static str,
    },
    /// A frame is not what the frame table says.
    #[error("frame {frame}: {reason}")]
    Frame {
        /// Its number.
        frame: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The map is malformed or points nowhere.
    #[error("the map at block {block}: {reason}")]
    Map {
        /// The block of the disk.
        block: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The bases at hand are not those the image names.
    #[error("the image needs the base {wanted}, at hand is {found}")]
    WrongBase {
        /// In the manifest.
        wanted: Root,
        /// Given.
        found: String,
    },
    /// A signature is damaged or cannot be written.
    #[error("the signature of a base, or of the saved state")]
    Signature(#[from] sigs::SignatureError),
    /// The stored bytes give another state.
    #[error("the stored bytes restore the state {found}, the image was made of {expected}")]
    WrongRoot {
        /// Computed.
        found: Root,
        /// Claimed.
        expected: Root,
    },
    /// The counts in the manifest are wrong.
    #[error("the stored bytes have other counts of blocks than the manifest says")]
    WrongCounts,
}

/// One frame: where it lies and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    offset: u64,
    stored: u32,
    raw: u32,
    digest: [u8; 32],
}

/// A stored image, its layout checked.
#[derive(Debug)]
pub struct Stored<R> {
    source: R,
    /// The frames, in the order of their numbers.
    pub frames: Vec<Frame>,
    /// The map, expanded.
    pub map: Vec<u8>,
    /// What the image says of itself.
    pub manifest: Manifest,
}

const HEADER: u64 = 64;
const TRAILER: u64 = 96;
const LONGEST_MAP: u64 = 64 << 20;
const LONGEST_RAW: u32 = 1 << 20;

const fn layout(offset: u64, reason: &'static str) -> VerifyError {
    VerifyError::Layout { offset: ByteOffset::new(offset), reason }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .map_or(u64::MAX, |eight| eight.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

fn half_word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(u32::MAX, |four| four.iter().rev().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl<R: ReadAt> Stored<R> {
    /// Reads trailer, table, placement, map and manifest, and checks how they hang together.
    ///
    /// # Errors
    /// [`VerifyError`] with what is wrong.
    pub fn open(source: R) -> Result<Self, VerifyError> {
        let len = source.len().get();
        let trailer_at = len.checked_sub(TRAILER).filter(|at| *at >= HEADER).ok_or(layout(0, "too short"))?;
        let head = read(&source, 0, HEADER)?;
        if head.get(..12) != Some(b"EBBZDI\r\n\x01\0\0\0".as_slice()) || head.iter().skip(12).any(|byte| *byte != 0) {
            return Err(layout(0, "not an image of version 1"));
        }
        let trailer = read(&source, trailer_at, TRAILER)?;
        if trailer.get(88..) != Some(b"ZDIEND\r\n".as_slice()) || trailer.iter().skip(40).take(16).any(|b| *b != 0) {
            return Err(layout(trailer_at, "no trailer"));
        }
        let frames_end = word(&trailer, 0);
        let (count, map_len, map_raw, manifest_len) =
            (word(&trailer, 8), word(&trailer, 16), word(&trailer, 24), word(&trailer, 32));
        let tail_len = trailer_at.checked_sub(frames_end).filter(|_| frames_end >= HEADER);
        let tail_len = tail_len.ok_or(layout(trailer_at, "the tail lies outside the file"))?;
        let parts = count.checked_mul(48).and_then(|sum| sum.checked_add(map_len)?.checked_add(manifest_len));
        if parts != Some(tail_len) || map_raw > LONGEST_MAP {
            return Err(layout(trailer_at, "lengths that do not add up"));
        }
        let tail = read(&source, frames_end, tail_len)?;
        if trailer.get(56..88) != Some(sha256(&tail).as_slice()) {
            return Err(VerifyError::Altered { part: "tail" });
        }
        let (table, placement, map, manifest_text) =
            split(&tail, count, map_len).ok_or(layout(frames_end, "lengths that do not add up"))?;
        let manifest = Manifest::parse(manifest_text)?;
        if Digest::from_bytes(sha256(table)) != manifest.frame_table {
            return Err(VerifyError::Altered { part: "frame table" });
        }
        let map = expand(map, map_raw).ok_or(VerifyError::Altered { part: "map" })?;
        if Digest::from_bytes(sha256(&map)) != manifest.map {
            return Err(VerifyError::Altered { part: "map" });
        }
        let frames = place(table, placement, frames_end)?;
        let block = manifest.geometry.block_size.bytes();
        let held: u64 = frames.iter().map(|frame| u64::from(frame.raw.div_ceil(block))).sum();
        if held != manifest.stored_blocks.get() {
            return Err(VerifyError::WrongCounts);
        }
        Ok(Self { source, frames, map, manifest })
    }

    /// Returns how many bytes a frame has as stored; 0 when there is no such frame.
    pub fn stored_bytes(&self, number: u64) -> u64 {
        let frame = usize::try_from(number).ok().and_then(|index| self.frames.get(index));
        frame.map_or(0, |frame| u64::from(frame.stored))
    }

    /// Reads one frame from the medium, checks its digest, and expands it into `raw`.
    ///
    /// # Errors
    /// [`VerifyError::Frame`] when it is not what the table says.
    pub fn frame(&self, number: u64, raw: &mut Vec<u8>) -> Result<(), VerifyError> {
        let wrong = |reason| VerifyError::Frame { frame: number, reason };
        let index = usize::try_from(number).map_err(|_| wrong("does not exist"))?;
        let frame = *self.frames.get(index).ok_or(wrong("does not exist"))?;
        let stored = read(&self.source, frame.offset, u64::from(frame.stored))?;
        if sha256(&stored) != frame.digest {
            return Err(wrong("its bytes do not have the digest the table says"));
        }
        let expected = usize::try_from(frame.raw).map_err(|_| wrong("too long"))?;
        if !is_one_zstd_frame(&stored, u64::from(frame.raw)) {
            return Err(wrong("is not exactly one zstd frame of the length the table says"));
        }
        // The buffer has exactly the promised size: a frame that expands to more is an error, not an allocation.
        raw.clear();
        raw.resize(expected, 0);
        let expanded = zstd::bulk::decompress_to_buffer(&stored, raw.as_mut_slice());
        match expanded {
            Ok(length) if length == expected => Ok(()),
            Ok(_) | Err(_) => Err(wrong("does not expand to the length the table says")),
        }
    }
}

type Parts<'a> = (&'a [u8], &'a [u8], &'a [u8], &'a [u8]);

fn split(tail: &[u8], count: u64, map_len: u64) -> Option<Parts<'_>> {
    let (table, rest) = tail.split_at_checked(usize::try_from(count.checked_mul(40)?).ok()?)?;
    let (placement, rest) = rest.split_at_checked(usize::try_from(count.checked_mul(8)?).ok()?)?;
    let (map, manifest) = rest.split_at_checked(usize::try_from(map_len).ok()?)?;
    Some((table, placement, map, manifest))
}

/// Checks that `stored` is one zstd frame and nothing else, and that it says it expands to `raw` bytes: what a restore
/// takes. Several frames, skippable ones or one of unknown length would expand here and be refused there.
fn is_one_zstd_frame(stored: &[u8], raw: u64) -> bool {
    zstd::zstd_safe::get_frame_content_size(stored).is_ok_and(|found| found == Some(raw))
        && zstd::zstd_safe::find_frame_compressed_size(stored).is_ok_and(|found| found == stored.len())
}

/// Expands the map without believing its length: at most what was announced is ever held.
fn expand(stored: &[u8], announced: u64) -> Option<Vec<u8>> {
    if !is_one_zstd_frame(stored, announced) {
        return None;
    }
    let map = zstd::bulk::decompress(stored, usize::try_from(announced).ok()?).ok()?;
    (u64::try_from(map.len()).ok()? == announced).then_some(map)
}

/// Reads the table, and checks that the frames fill the file between header and tail without gap or overlap.
fn place(table: &[u8], placement: &[u8], frames_end: u64) -> Result<Vec<Frame>, VerifyError> {
    let mut frames = Vec::with_capacity(placement.len() / 8);
    for (record, offset) in table.chunks_exact(40).zip(placement.chunks_exact(8)) {
        let mut digest = [0; 32];
        digest.copy_from_slice(record.get(..32).unwrap_or(&[0; 32]));
        let frame =
            Frame { offset: word(offset, 0), stored: half_word(record, 32), raw: half_word(record, 36), digest };
        if frame.stored == 0 || frame.raw == 0 || frame.raw > LONGEST_RAW || frame.stored > LONGEST_RAW + 16384 {
            return Err(layout(frames_end, "a frame has a length that cannot be"));
        }
        frames.push(frame);
    }
    let mut by_place: Vec<_> = frames.iter().map(|frame| (frame.offset, frame.stored)).collect();
    by_place.sort_unstable();
    let mut end = HEADER;
    for (offset, stored) in by_place {
        if offset != end {
            return Err(layout(end, "frames overlap or leave a gap"));
        }
        end = end.saturating_add(u64::from(stored));
    }
    if end == frames_end { Ok(frames) } else { Err(layout(end, "frames overlap or leave a gap")) }
}

fn read(source: &impl ReadAt, offset: u64, len: u64) -> Result<Vec<u8>, VerifyError> {
    let size = usize::try_from(len).map_err(|_| layout(offset, "longer than memory"))?;
    if offset.checked_add(len).is_none_or(|end| end > source.len().get()) {
        return Err(layout(offset, "cut short"));
    }
    let mut bytes = vec![0; size];
    let at = ByteOffset::new(offset);
    source.read_exact_at(&mut bytes, at).map_err(|source| VerifyError::Read { offset: at, source })?;
    Ok(bytes)
}
