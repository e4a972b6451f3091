//! Compressed clusters.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::find_frame_compressed_size;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate, what every QEMU knows.
    Deflate,
    /// Zstd, known since QEMU 5.1.
    Zstd,
}

impl Compression {
    /// Expands `stored` to exactly `raw.len()` bytes. What follows in `stored` belongs to somebody else.
    pub(super) fn expand(self, stored: &[u8], raw: &mut [u8]) -> Result<(), &'static str> {
        match self {
            Self::Deflate => inflate(stored, raw),
            Self::Zstd => expand_zstd(stored, raw),
        }
    }
}

/// Compresses a cluster with zstd. Returns `None` when that does not make it smaller.
pub(super) fn compress_zstd(raw: &[u8], level: i32) -> Option<Vec<u8>> {
    let stored = zstd::bulk::compress(raw, level).ok()?;
    // How many sectors it touches has to fit an entry, and stored plainly it is quicker to read.
    (stored.len().checked_add(512)? < raw.len()).then_some(stored)
}

fn inflate(stored: &[u8], raw: &mut [u8]) -> Result<(), &'static str> {
    let mut state = Decompress::new(false);
    let result = state.decompress(stored, raw, FlushDecompress::Finish);
    let full = usize::try_from(state.total_out()) == Ok(raw.len());
    match result {
        // Like QEMU: a stream that would go on is as good as one that ends here.
        Ok(Status::StreamEnd | Status::Ok | Status::BufError) if full => Ok(()),
        Ok(_) => Err("a compressed cluster ends too early"),
        Err(_) => Err("a compressed cluster is damaged"),
    }
}

/// Expands one or several zstd frames. No window is needed: the frames are expanded in place.
fn expand_zstd(stored: &[u8], raw: &mut [u8]) -> Result<(), &'static str> {
    let mut context = zstd::bulk::Decompressor::new().map_err(|_| "no memory to expand")?;
    let (mut taken, mut filled) = (0, 0);
    while filled < raw.len() {
        let rest = &stored[taken..];
        let frame = find_frame_compressed_size(rest).map_err(|_| "a compressed cluster is damaged")?;
        if frame == 0 {
            return Err("a compressed cluster ends too early");
        }
        let expanded = context.decompress_to_buffer(&rest[..frame], &mut raw[filled..]);
        filled += expanded.map_err(|_| "a compressed cluster is damaged")?;
        taken += frame;
    }
    Ok(())
}
