//! The map of an image, read number by number (`docs/formats/zdi.md`).

use sigs::manifest::{Manifest, ManifestFormat};

use crate::container::VerifyError;

/// Where a run of blocks comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// FREE.
    Free,
    /// ZERO.
    Zero,
    /// DATA, as in this base at the same place.
    Base(u64),
    /// DATA, in this frame of the image itself, from this block of it on.
    Frame {
        /// The frame's number.
        frame: u64,
        /// The first block within it.
        first: u64,
    },
}

/// Reads the runs of a map; each error names the block of the disk reached so far.
#[derive(Debug)]
pub struct RunReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    block: u64,
    previous: Option<(From, u64)>,
    unsaid: Option<Unsaid>,
}

/// Where the next stored run lies when the map does not say: behind the one before it. Format 2 only.
#[derive(Clone, Copy, Debug)]
struct Unsaid {
    frame_blocks: u64,
    frame: u64,
    first: u64,
}

impl<'a> RunReader<'a> {
    /// Starts at the first block of the disk.
    pub fn new(map: &'a [u8], manifest: &Manifest) -> Self {
        let unsaid = match manifest.format {
            ManifestFormat::V1 => None,
            ManifestFormat::V2 => {
                let frame_blocks = (1 << 20) / u64::from(manifest.geometry.block_size.bytes());
                Some(Unsaid { frame_blocks, frame: 0, first: 0 })
            }
        };
        Self { bytes: map.iter(), block: 0, previous: None, unsaid }
    }

    /// Returns the next run and its length in blocks, or `None` at the end of the map.
    ///
    /// # Errors
    /// [`VerifyError::Map`] when the map is malformed.
    pub fn next_run(&mut self) -> Result<Option<(From, u64)>, VerifyError> {
        let Some(kind) = self.bytes.next() else { return Ok(None) };
        let from = match kind {
            0 => From::Free,
            1 => From::Zero,
            2 => From::Base(self.number()?),
            3 => {
                if self.number()? != 0 {
                    return Err(self.wrong("points into another pack, which this version does not have"));
                }
                let (frame, first) = (self.number()?, self.number()?);
                if self.unsaid.is_some_and(|next| (next.frame, next.first) == (frame, first)) {
                    return Err(self.wrong("a place that goes without saying"));
                }
                From::Frame { frame, first }
            }
            4 => match self.unsaid {
                Some(Unsaid { frame, first, .. }) => From::Frame { frame, first },
                None => return Err(self.wrong("an origin that does not exist")),
            },
            _ => return Err(self.wrong("an origin that does not exist")),
        };
        let blocks = self.number()?;
        if blocks == 0 {
            return Err(self.wrong("a run of no blocks"));
        }
        if self.previous.is_some_and(|(before, count)| continues(before, count, from)) {
            return Err(self.wrong("a run that only continues the one before it"));
        }
        self.previous = Some((from, blocks));
        if let (Some(next), From::Frame { frame, first }) = (&mut self.unsaid, from) {
            let end = first.saturating_add(blocks);
            let inside = end < next.frame_blocks;
            (next.frame, next.first) = if inside { (frame, end) } else { (frame.saturating_add(1), 0) };
        }
        self.block = self.block.checked_add(blocks).ok_or_else(|| self.wrong("past the end of the numbers"))?;
        Ok(Some((from, blocks)))
    }

    const fn wrong(&self, reason: &'static str) -> VerifyError {
        VerifyError::Map { block: self.block, reason }
    }

    /// LEB128, at most ten bytes, without needless zeros.
    fn number(&mut self) -> Result<u64, VerifyError> {
        let mut value: u128 = 0;
        for place in 0..10_u32 {
            let byte = *self.bytes.next().ok_or_else(|| self.wrong("cut short"))?;
            value |= u128::from(byte % 128) << (7 * place);
            if byte < 128 {
                if byte == 0 && place > 0 {
                    return Err(self.wrong("a number with needless zeros"));
                }
                return u64::try_from(value).map_err(|_| self.wrong("a number above 2^64"));
            }
        }
        Err(self.wrong("a number of more than ten bytes"))
    }
}

/// Returns whether a run goes on where `count` blocks from `before` ended: then both had to be written as one.
fn continues(before: From, count: u64, next: From) -> bool {
    match (before, next) {
        (From::Frame { frame, first }, From::Frame { frame: same, first: follows }) => {
            frame == same && first.checked_add(count) == Some(follows)
        }
        (before, next) => before == next,
    }
}
