//! Expanding one frame of an image into its raw blocks.

use zstd::bulk::Decompressor;

use super::{Digests, Image, ImageError, read_checked};
use crate::io::AlignedBuffer;

/// Reads and expands frames, one at a time; keeps the buffer of the stored frame and the zstd context between them.
#[derive(Default)]
pub(super) struct Expander {
    stored: Vec<u8>,
    zstd: Option<Decompressor<'static>>,
}

impl Expander {
    /// Fills `raw` with what a frame expands to.
    pub(super) fn expand(
        &mut self,
        source: &Image,
        frame: u32,
        digests: Digests,
        raw: &mut AlignedBuffer,
    ) -> Result<(), ImageError> {
        let expected = read_checked(source, frame, digests, &mut self.stored)?;
        let wrong = |reason: String| ImageError::Expand { name: source.name.clone(), frame, reason };
        let len = expected.to_usize().ok_or_else(|| wrong("is larger than memory".to_owned()))?;
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            empty => empty.insert(Decompressor::new().map_err(ImageError::Zstd)?),
        };
        raw.resize(len);
        let written = zstd.decompress_to_buffer(&self.stored, &mut raw[..]);
        let written = written.map_err(|error| wrong(format!("cannot be expanded: {error}")))?;
        if written == len { Ok(()) } else { Err(wrong(format!("expands to {written} bytes instead of {len}"))) }
    }
}
