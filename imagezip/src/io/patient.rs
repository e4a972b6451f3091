//! Reading from a medium that fails now and then.

use std::io;

use rustix::io::Errno;
use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use super::ReadAt;

/// How often a read is tried in all. A medium that gives a sector at all gives it within a few tries; the system below
/// has tried for itself before it says that it failed.
pub(crate) const TRIES: usize = 3;

/// Returns true for an error of the medium itself, which another try may not meet again and other sectors may not have.
pub(crate) fn is_medium_error(error: &io::Error) -> bool {
    let medium = [Errno::IO, Errno::NODATA, Errno::REMOTEIO, Errno::ILSEQ, Errno::BADMSG, Errno::TIMEDOUT];
    Errno::from_io_error(error).is_some_and(|error| medium.contains(&error))
}

/// A disk whose failing reads are tried again.
#[derive(Debug)]
pub(crate) struct Patient<'a>(pub(crate) &'a dyn ReadAt);

impl ReadAt for Patient<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let mut result = self.0.read_exact_at(buf, offset);
        for _ in 1..TRIES {
            match &result {
                Err(error) if is_medium_error(error) => result = self.0.read_exact_at(buf, offset),
                Err(_) | Ok(()) => break,
            }
        }
        result
    }

    fn len(&self) -> ByteLen {
        self.0.len()
    }

    fn sector_size(&self) -> SectorSize {
        self.0.sector_size()
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        self.0.next_data(range)
    }
}
