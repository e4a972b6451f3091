//! An image of ours as a qcow2 file.
//!
//! FREE and ZERO blocks read as zeros. A cluster without anything else is not there at all, so that neither the file nor
//! its tables grow with them.

use std::io::{Seek, Write};
use std::num::NonZeroUsize;

use sigs::{BlockIndex, ByteLen, CHUNK_BYTES};

use super::codec::compress_zstd;
use super::index;
use super::writer::{Layout, Stored, WriteError, Writer};
use crate::control::{Control, Phase};
use crate::image::{Chain, Content, ContentReader, ImageError, PlanRun, Verified};
use crate::io::is_zero;
use crate::parallel;

/// The least that one worker takes at a time, so that few frames are expanded by two workers.
const PIECE_BYTES: u64 = 4 << 20;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions {
    /// The binary logarithm of the cluster size.
    pub cluster_bits: u32,
    /// The zstd level where clusters are to be compressed.
    pub compress: Option<i32>,
    /// How many workers.
    pub threads: NonZeroUsize,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The size of the disk in the file: a multiple of 512, which may be more than that of the image.
    pub disk_bytes: ByteLen,
    /// The size of the file.
    pub file_bytes: ByteLen,
    /// How many clusters are there.
    pub clusters: u64,
}

/// An export that was not finished.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image cannot be read.
    #[error("read the image")]
    Image(#[from] ImageError),
    /// The file cannot be written.
    #[error("write the disk in another format")]
    Write(#[from] WriteError),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Writes the state of an image to `out`, which is empty, and is not flushed.
///
/// Memory: 2 T + 1 pieces of 4 MiB for T threads, and what the writer holds.
///
/// # Errors
/// [`ExportError`]; `out` is then no qcow2 file.
pub fn export<W: Write + Seek>(
    chain: &Chain<Verified>,
    out: W,
    options: &ExportOptions,
    control: Control<'_>,
) -> Result<(W, Exported), ExportError> {
    let layout = Layout::new(chain.geometry().disk_bytes, options.cluster_bits, options.compress.is_some());
    let mut writer = Writer::new(out, layout)?;
    control.progress.begin(Phase::Write, chain.plan().used_bytes());
    let piece_chunks =
        (PIECE_BYTES / u64::from(CHUNK_BYTES)).max(layout.cluster_bytes().get() / u64::from(CHUNK_BYTES));
    let work = |reader: &mut ContentReader<'_>, piece: std::ops::Range<u64>| {
        if control.cancelled() {
            return Err(ExportError::Cancelled);
        }
        clusters_of(chain, reader, layout, piece, options.compress, control)
    };
    let start = || ContentReader::new(chain);
    let mut clusters = 0;
    let pieces = aligned(chain.plan().pieces(piece_chunks, false), piece_chunks);
    parallel::in_order("export", options.threads, pieces, start, work, |piece| {
        for (number, stored) in piece {
            writer.put(number, &stored)?;
            clusters += 1;
        }
        Ok(())
    })?;
    if control.cancelled() {
        return Err(ExportError::Cancelled);
    }
    let (out, file_bytes) = writer.finish()?;
    Ok((out, Exported { disk_bytes: layout.disk_bytes(), file_bytes, clusters }))
}

/// Widens pieces to whole multiples of `chunks`, each once, so that no cluster lies in two of them.
fn aligned(pieces: Vec<std::ops::Range<u64>>, chunks: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let mut next = 0;
    pieces
        .into_iter()
        .flat_map(move |piece| {
            let first = (piece.start / chunks).max(next);
            let end = piece.end.div_ceil(chunks);
            next = next.max(end);
            first..end
        })
        .map(move |number| number * chunks..(number + 1) * chunks)
}

/// Makes the clusters of a piece that are not all zeros.
fn clusters_of(
    chain: &Chain<Verified>,
    reader: &mut ContentReader<'_>,
    layout: Layout,
    piece: std::ops::Range<u64>,
    compress: Option<i32>,
    control: Control<'_>,
) -> Result<Vec<(u64, Stored)>, ExportError> {
    let geometry = chain.geometry();
    let cluster = layout.cluster_bytes().get();
    let start = piece.start.saturating_mul(u64::from(CHUNK_BYTES));
    let end = piece.end.saturating_mul(u64::from(CHUNK_BYTES)).min(layout.disk_bytes().get());
    let block = |chunk: u64| geometry.first_block(sigs::ChunkIndex::new(chunk)).get().min(geometry.blocks().get());
    let (first, last) = (BlockIndex::new(block(piece.start)), BlockIndex::new(block(piece.end)));
    let has_content = |run: &PlanRun| matches!(run.content, Content::Frame { .. });
    if !chain.plan().runs_in(first, last).any(|run| has_content(&run)) {
        return Ok(Vec::new());
    }
    // The last cluster is filled up with zeros.
    let mut content = vec![0; index(end.saturating_sub(start).next_multiple_of(cluster))];
    for run in chain.plan().runs_in(first, last) {
        if let (Content::Frame { .. }, Some(range)) = (run.content, chain.plan().byte_range(&run)) {
            let bytes = reader.content(&run)?.unwrap_or_default();
            let at = index(range.start.get().saturating_sub(start));
            content[at..at + bytes.len()].copy_from_slice(bytes);
            control.progress.add_done(range.len);
        }
    }
    let numbered = (start / cluster..).zip(content.chunks(index(cluster)));
    let there = numbered.filter(|(_, bytes)| !is_zero(bytes));
    Ok(there
        .map(|(number, bytes)| {
            let smaller = compress.and_then(|level| compress_zstd(bytes, level));
            (number, smaller.map_or_else(|| Stored::Plain(bytes.to_vec()), Stored::Zstd))
        })
        .collect())
}
