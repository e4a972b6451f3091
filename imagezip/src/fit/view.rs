//! The disk in an image, read in small pieces.

use std::io;
use std::sync::{Mutex, PoisonError};

use sigs::{BlockIndex, ByteLen, ByteOffset, ReadAt, SectorSize};

use crate::image::{Chain, Content, ContentReader, Verified};

/// The disk in an image. FREE and ZERO blocks read as zeros.
pub(super) struct View<'a> {
    pub(super) chain: &'a Chain<Verified>,
    reader: Mutex<ContentReader<'a>>,
}

impl<'a> View<'a> {
    pub(super) fn new(chain: &'a Chain<Verified>) -> Self {
        Self { chain, reader: Mutex::new(ContentReader::new(chain)) }
    }

    pub(super) fn is_data(&self, block: u64) -> bool {
        let run = self.chain.plan().runs_in(BlockIndex::new(block), BlockIndex::new(block.saturating_add(1))).next();
        run.is_some_and(|run| matches!(run.content, Content::Frame { .. }))
    }

    /// Returns the content of a block, nothing past the end of the disk.
    pub(super) fn block(&self, block: u64) -> io::Result<Vec<u8>> {
        let range = self.chain.geometry().block_range(BlockIndex::new(block));
        let Some((offset, len)) = range else { return Ok(Vec::new()) };
        let mut content = vec![0; len.to_usize().unwrap_or(0)];
        self.read_exact_at(&mut content, offset)?;
        Ok(content)
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl ReadAt for View<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let end = offset.checked_add(ByteLen::of(buf)).filter(|end| end.get() <= self.len().get());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.fill(0);
        let size = u64::from(self.chain.geometry().block_size.bytes());
        let (first, last) = (offset.get() / size, end.get().div_ceil(size));
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        for run in self.chain.plan().runs_in(BlockIndex::new(first), BlockIndex::new(last)) {
            let Some(content) = reader.content(&run).map_err(io::Error::other)? else { continue };
            let start = run.first.get().saturating_mul(size);
            let (from, to) = (start.max(offset.get()), start.saturating_add(ByteLen::of(content).get()).min(end.get()));
            let index = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
            let there = buf.get_mut(index(from - offset.get())..index(to.max(from) - offset.get()));
            let Some((there, bytes)) = there.zip(content.get(index(from - start)..index(to.max(from) - start))) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            there.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn len(&self) -> ByteLen {
        self.chain.geometry().disk_bytes
    }

    fn sector_size(&self) -> SectorSize {
        self.chain.geometry().sector_size
    }
}
