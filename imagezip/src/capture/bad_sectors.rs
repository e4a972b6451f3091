//! Reading a disk some of whose sectors cannot be read.
//!
//! A read that fails is tried again; if it fails again it is cut in halves, and those again, down to single sectors,
//! each of which is tried a few times. A sector that still cannot be read counts as zeros and is noted, or ends the
//! capture, as the caller wants. A disk that can be read does not notice any of this.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sigs::manifest::MAX_BAD_RANGES;
use sigs::{ByteLen, ByteOffset, ByteRange, SectorSize};

use crate::control::Control;
use crate::io::ReadAt;
use crate::io::patient::{Patient, is_medium_error};

/// What becomes of sectors that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadSectors {
    /// The first one ends the capture.
    #[default]
    Refuse,
    /// They count as zeros and are listed in the manifest; the image is not complete. More than that many end the
    /// capture: then it is the disk that is lost, not a few of its sectors.
    List {
        /// How many sectors at most.
        most: u64,
    },
}

impl BadSectors {
    /// How many sectors are listed at most when nobody says.
    pub const DEFAULT_MOST: u64 = 1 << 16;
}

/// A sector that could not be read; inside the [`io::Error`] of the read that failed.
#[derive(Debug, thiserror::Error)]
#[error("the sector at offset {offset} cannot be read")]
pub struct BadSector {
    offset: ByteOffset,
    #[source]
    source: io::Error,
}

impl BadSector {
    /// Returns where on the disk the sector begins.
    pub const fn offset(&self) -> ByteOffset {
        self.offset
    }
}

/// Too many sectors could not be read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "after {most} {what} that cannot be read comes another one at offset {offset}: the disk itself seems to be lost"
)]
struct TooMany {
    most: u64,
    what: &'static str,
    offset: ByteOffset,
}

/// A disk that is read around its bad sectors.
#[derive(Debug)]
pub(super) struct Rescue<'a> {
    source: &'a dyn ReadAt,
    sector: u64,
    policy: BadSectors,
    control: Control<'a>,
    bad: Mutex<BadList>,
}

impl<'a> Rescue<'a> {
    pub(super) fn new(source: &'a dyn ReadAt, sector: SectorSize, policy: BadSectors, control: Control<'a>) -> Self {
        Self { source, sector: u64::from(sector.bytes()), policy, control, bad: Mutex::default() }
    }

    /// Returns the sectors that could not be read, in disk order, merged.
    pub(super) fn into_bad_sectors(self) -> Vec<ByteRange> {
        self.bad.into_inner().unwrap_or_else(PoisonError::into_inner).ranges
    }

    fn bad(&self) -> MutexGuard<'_, BadList> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what can be read of a range whose reading failed.
    fn rescue(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        // The halves that wait for their turn: the left one is always taken first, so they are few.
        let mut todo = vec![(0, buf.len())];
        while let Some((from, to)) = todo.pop() {
            if self.control.cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let piece = &mut buf[from..to];
            let at = offset.checked_add(ByteLen::new(index(from))).ok_or(io::ErrorKind::InvalidInput)?;
            match self.middle(at, piece.len()) {
                Some(middle) => match self.source.read_exact_at(piece, at) {
                    Ok(()) => {}
                    Err(error) if is_medium_error(&error) => todo.extend([(from + middle, to), (from, from + middle)]),
                    Err(error) => return Err(error),
                },
                None => match Patient(self.source).read_exact_at(piece, at) {
                    Ok(()) => {}
                    Err(error) if is_medium_error(&error) => {
                        self.note(at, error)?;
                        piece.fill(0);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Returns how far inside a piece the sector border next to its middle lies, or `None` when it is in one sector.
    fn middle(&self, at: ByteOffset, len: usize) -> Option<usize> {
        let start = at.get();
        let end = start.checked_add(index(len))?;
        let half = start + (end - start) / 2;
        let below = half / self.sector * self.sector;
        let border = if below > start { below } else { below.checked_add(self.sector)? };
        usize::try_from(border.checked_sub(start)?).ok().filter(|_| border < end)
    }

    /// Takes note of the sector that holds the byte at `at`.
    fn note(&self, at: ByteOffset, source: io::Error) -> io::Result<()> {
        let start = at.get() / self.sector * self.sector;
        let end = start.saturating_add(self.sector).min(self.source.len().get());
        let offset = ByteOffset::new(start);
        match self.policy {
            BadSectors::Refuse => Err(io::Error::new(source.kind(), BadSector { offset, source })),
            BadSectors::List { most } => {
                let mut bad = self.bad();
                bad.add(start, end);
                let ranges = u64::try_from(MAX_BAD_RANGES).unwrap_or(u64::MAX);
                let too_many = if bad.bytes.div_ceil(self.sector) > most {
                    TooMany { most, what: "sectors", offset }
                } else if bad.ranges.len() > MAX_BAD_RANGES {
                    TooMany { most: ranges, what: "ranges of sectors", offset }
                } else {
                    return Ok(());
                };
                Err(io::Error::new(source.kind(), too_many))
            }
        }
    }
}

impl ReadAt for Rescue<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        match self.source.read_exact_at(buf, offset) {
            Err(error) if is_medium_error(&error) => self.rescue(buf, offset),
            result => result,
        }
    }

    fn len(&self) -> ByteLen {
        self.source.len()
    }

    fn sector_size(&self) -> SectorSize {
        self.source.sector_size()
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        self.source.next_data(range)
    }
}

/// Ranges in disk order, merged where they touch.
#[derive(Debug, Default)]
struct BadList {
    ranges: Vec<ByteRange>,
    bytes: u64,
}

impl BadList {
    fn add(&mut self, mut start: u64, mut end: u64) {
        let end_of = |range: &ByteRange| range.start.get().saturating_add(range.len.get());
        let first = self.ranges.partition_point(|range| end_of(range) < start);
        let touched = self.ranges[first..].iter().take_while(|range| range.start.get() <= end).count();
        let last = first + touched;
        for range in &self.ranges[first..last] {
            (start, end) = (start.min(range.start.get()), end.max(end_of(range)));
            self.bytes = self.bytes.saturating_sub(range.len.get());
        }
        let len = ByteLen::new(end.saturating_sub(start));
        self.bytes = self.bytes.saturating_add(len.get());
        self.ranges.splice(first..last, [ByteRange { start: ByteOffset::new(start), len }]);
    }
}

fn index(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}
