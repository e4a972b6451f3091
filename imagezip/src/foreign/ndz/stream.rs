//! The content of one chunk, expanded piece by piece.

use std::io;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};
use sha1::{Digest as _, Sha1};
use sigs::ByteOffset;

use super::header::{CHECKSUM, Checksum, ChunkDefect, Header};
use super::index::Refused;
use super::{CHUNK_BYTES, HEADER_BYTES, index_of};
use crate::io::ReadAt;

/// How much is expanded at once.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// A chunk being expanded from front to back.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) chunk: u64,
    /// The number of the piece that comes next.
    pub(super) next: u64,
    stored: Vec<u8>,
    taken: usize,
    expanded: u64,
    inflate: Decompress,
}

impl Stream {
    /// Reads a chunk, checks its checksum where it has one, and stands before its first piece.
    pub(super) fn open(file: &dyn ReadAt, chunk: u64, header: &Header) -> io::Result<Self> {
        let mut bytes = vec![0; index_of(HEADER_BYTES + header.stored)];
        file.read_exact_at(&mut bytes, ByteOffset::new(chunk.saturating_mul(CHUNK_BYTES)))?;
        if header.checksum == Checksum::Sha1 {
            let mut said = [0; 20];
            said.copy_from_slice(&bytes[CHECKSUM][..20]);
            bytes[CHECKSUM].fill(0);
            if Sha1::digest(&bytes)[..] != said {
                return Err(damage(chunk, ChunkDefect::Checksum));
            }
        }
        bytes.drain(..index_of(HEADER_BYTES));
        let (expanded, inflate) = (header.expanded(), Decompress::new(true));
        Ok(Self { chunk, next: 0, stored: bytes, taken: 0, expanded, inflate })
    }

    /// Expands the next piece. With the last one, the stream has to end, and the chunk with it.
    pub(super) fn advance(&mut self) -> io::Result<Arc<Vec<u8>>> {
        let begin = self.next.saturating_mul(PIECE_BYTES);
        let len = self.expanded.saturating_sub(begin).min(PIECE_BYTES);
        let mut piece = vec![0; index_of(len)];
        let mut filled = 0;
        while filled < piece.len() {
            let (made, ended) = self.step(&mut piece[filled..])?;
            filled += made;
            if ended && filled < piece.len() {
                return Err(damage(self.chunk, ChunkDefect::OtherLength));
            }
        }
        self.next += 1;
        if begin + len == self.expanded {
            self.end()?;
        }
        Ok(Arc::new(piece))
    }

    /// Checks that nothing is left: the end mark, the checksum of zlib, and no byte behind it.
    fn end(&mut self) -> io::Result<()> {
        let mut more = [0];
        loop {
            match self.step(&mut more)? {
                (0, true) if self.taken == self.stored.len() => return Ok(()),
                (0, false) => {}
                _ => return Err(damage(self.chunk, ChunkDefect::OtherLength)),
            }
        }
    }

    /// Expands some bytes; says how many, and whether the stream has ended. What makes no headway is damaged.
    fn step(&mut self, out: &mut [u8]) -> io::Result<(usize, bool)> {
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let result = self.inflate.decompress(&self.stored[self.taken..], out, FlushDecompress::None);
        let status = result.map_err(|_| damage(self.chunk, ChunkDefect::Damaged))?;
        let (taken, made) = (self.inflate.total_in() - before_in, self.inflate.total_out() - before_out);
        self.taken += index_of(taken);
        if taken == 0 && made == 0 && status != Status::StreamEnd {
            return Err(damage(self.chunk, ChunkDefect::Damaged));
        }
        Ok((index_of(made), status == Status::StreamEnd))
    }
}

pub(super) fn damage(chunk: u64, defect: ChunkDefect) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Refused::Chunk { chunk, defect })
}
