//! A disk that reads as if the log had been replayed.

use std::io;

use sigs::{ByteLen, ByteOffset, SectorSize};

use super::block::MAGIC;
use super::place::Place;
use super::replay::Write;
use crate::alloc::window::Window;
use crate::io::ReadAt;

/// The disk a window is on, with the blocks of the log in their places.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    window: Window<'a>,
    block_size: u32,
    place: &'a Place,
    writes: &'a [Write],
}

impl<'a> Overlay<'a> {
    pub(in crate::alloc) fn new(window: Window<'a>, block_size: u32, place: &'a Place, writes: &'a [Write]) -> Self {
        Self { window, block_size, place, writes }
    }

    /// Makes a window on the part of the disk that the file system has.
    pub(crate) fn window(&self) -> Option<Window<'_>> {
        Window::new(self, self.window.range())
    }

    /// Puts what `write` brings over `buf`, which was read from `offset` of the window.
    fn put(&self, write: &Write, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let size = u64::from(self.block_size);
        let outside = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let source = self.place.block(write.block).and_then(|block| block.checked_mul(size)).ok_or_else(outside)?;
        let mut block = vec![0; usize::try_from(size).map_err(|_| outside())?];
        self.window.read_exact_at(&mut block, ByteOffset::new(source))?;
        if let Some(first) = block.first_chunk_mut()
            && write.escaped
        {
            *first = MAGIC.to_be_bytes();
        }
        let home = write.home.checked_mul(size).ok_or_else(outside)?;
        // One of the two is zero.
        let skip_block = usize::try_from(offset.saturating_sub(home)).map_err(|_| outside())?;
        let skip_buf = usize::try_from(home.saturating_sub(offset)).map_err(|_| outside())?;
        let from = block.get(skip_block..).unwrap_or_default();
        for (byte, new) in buf.iter_mut().skip(skip_buf).zip(from) {
            *byte = *new;
        }
        Ok(())
    }
}

impl ReadAt for Overlay<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let inside = offset.checked_since(self.window.range().start).ok_or(io::ErrorKind::UnexpectedEof)?.get();
        self.window.read_exact_at(buf, ByteOffset::new(inside))?;
        let size = u64::from(self.block_size);
        let end = inside.saturating_add(ByteLen::of(buf).get());
        let first = self.writes.partition_point(|write| write.home < inside / size);
        for write in self.writes.get(first..).unwrap_or_default() {
            if write.home.saturating_mul(size) >= end {
                break;
            }
            self.put(write, buf, inside)?;
        }
        Ok(())
    }

    fn len(&self) -> ByteLen {
        let end = self.window.range().checked_end().unwrap_or(ByteOffset::MAX);
        ByteLen::new(end.get())
    }

    fn sector_size(&self) -> SectorSize {
        self.window.sector_size()
    }
}
