//! A file system that was not unmounted, as it reads once its journal is replayed.

use std::io;

use sigs::{ByteLen, ByteOffset, SectorSize};

use super::fast_commit::FastCommits;
use super::find::Found;
use super::{after, find, open, replay};
use crate::alloc::doubt::Stop;
use crate::alloc::ext::ExtDoubt;
use crate::alloc::ext::superblock::Superblock;
use crate::alloc::jbd2::overlay::Overlay;
use crate::alloc::jbd2::{JournalDoubt, Replay};
use crate::alloc::window::Window;
use crate::io::ReadAt;

/// What a file system is on, with the blocks of the log in their places. Memory: some 50 MiB for the largest log.
#[derive(Debug)]
pub(crate) struct Replayed<'a> {
    device: Box<dyn ReadAt + 'a>,
    block_size: u32,
    found: Found,
    replay: Replay,
}

impl<'a> Replayed<'a> {
    /// Reads the log; also returns the superblock as the log leaves it.
    ///
    /// Fast commits are refused: they change inodes and folders, and are no blocks that could be put in their places.
    pub(crate) fn read(device: Box<dyn ReadAt + 'a>, superblock: &Superblock) -> Result<(Self, Superblock), Stop> {
        let window = Window::whole(&*device);
        let (number, found) = find(&window, superblock)?;
        let (replay, after) = {
            let journal = open(&window, superblock, &found)?;
            let replay = replay(&journal, &found)?;
            let overlay = journal.overlay(&replay);
            let replayed = overlay.window().ok_or(ExtDoubt::LargerThanPartition)?;
            let after = after(&replayed, superblock, number, &found)?;
            if FastCommits::read(&journal, &replayed, &after, replay.next)?.count > 0 {
                return Err(JournalDoubt::FastCommit("changes that only a mount applies").into());
            }
            (replay, after)
        };
        let block_size = superblock.block_size.bytes();
        Ok((Self { device, block_size, found, replay }, after))
    }
}

impl ReadAt for Replayed<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let window = Window::whole(&*self.device);
        Overlay::new(window, self.block_size, &self.found.place, &self.replay.writes).read_exact_at(buf, offset)
    }

    fn len(&self) -> ByteLen {
        self.device.len()
    }

    fn sector_size(&self) -> SectorSize {
        self.device.sector_size()
    }
}
