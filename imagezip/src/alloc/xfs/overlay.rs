//! The sectors and blocks of metadata that a replay of the log changes, as they will be; and all it touches.

use std::collections::BTreeMap;

use super::log::LogDoubt;
use super::log::item::Place;
use super::sequence::{self, Sequence};
use super::superblock::Superblock;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// How much metadata may change. A log of 2 GiB, the largest, rarely changes as much of the trees of free space.
const MOST_BYTES: usize = 32 << 20;
/// How many separate places may be touched: 16 MiB of them.
const MOST_TOUCHED: usize = 1 << 20;

/// New content by its place, in bytes from the start of the partition. Pieces do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pieces: BTreeMap<u64, Piece>,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// When what was on the medium was written.
    medium: Sequence,
    changed: bool,
}

impl Overlay {
    /// Returns the new content of exactly the `len` bytes at `start`.
    pub(crate) fn get(&self, start: u64, len: u64) -> Option<&[u8]> {
        let piece = self.pieces.get(&start)?;
        (piece.changed && u64::try_from(piece.bytes.len()) == Ok(len)).then_some(&piece.bytes)
    }

    /// Returns true if nothing between two places changes.
    pub(crate) fn is_empty_between(&self, start: u64, end: u64) -> bool {
        self.pieces.range(start..end).next().is_none()
    }

    /// Applies what a transaction of the given sequence logged of a place.
    pub(crate) fn change(
        &mut self,
        window: &Window<'_>,
        superblock: &Superblock,
        sequence: u64,
        place: Place,
        parts: &[(usize, Vec<u8>)],
    ) -> Result<(), Stop> {
        if !self.pieces.contains_key(&place.start) {
            let bytes = window.fetch(place.start, place.len)?;
            self.bytes = self.bytes.saturating_add(bytes.len());
            if self.bytes > MOST_BYTES {
                return Err(LogDoubt::TooMuch.into());
            }
            let medium = sequence::of(superblock, &bytes);
            self.pieces.insert(place.start, Piece { bytes, medium, changed: false });
        }
        let Some(piece) = self.pieces.get_mut(&place.start) else { return Ok(()) };
        if u64::try_from(piece.bytes.len()) != Ok(place.len) {
            return Err(LogDoubt::Item("place").into());
        }
        match piece.medium {
            Sequence::Known(medium) if medium != 0 && medium >= sequence => return Ok(()),
            Sequence::Disputed(medium) if medium != 0 && medium >= sequence => return Err(LogDoubt::Age.into()),
            Sequence::Known(_) | Sequence::Disputed(_) | Sequence::None => {}
        }
        for (at, new) in parts {
            let old = at.checked_add(new.len()).and_then(|end| piece.bytes.get_mut(*at..end));
            old.ok_or(LogDoubt::Item("region"))?.copy_from_slice(new);
        }
        piece.changed = true;
        Ok(())
    }
}

/// Places in bytes; sorted and merged once they are finished.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    places: Vec<(u64, u64)>,
    sorted: usize,
}

impl Touched {
    /// Adds the bytes from `start` to `end`; `None` when these are too many places.
    pub(crate) fn add(&mut self, start: u64, end: u64) -> Option<()> {
        self.places.push((start, end));
        if self.places.len() > self.sorted.saturating_mul(2).max(1 << 16) {
            self.finish();
        }
        (self.places.len() <= MOST_TOUCHED).then_some(())
    }

    /// Sorts and merges.
    pub(crate) fn finish(&mut self) {
        self.places.sort_unstable();
        self.places.dedup_by(|next, last| {
            let joined = next.0 <= last.1;
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
        self.sorted = self.places.len();
    }

    /// Returns the places that end behind `start`, in order.
    pub(crate) fn from(&self, start: u64) -> &[(u64, u64)] {
        self.places.get(self.places.partition_point(|place| place.1 <= start)..).unwrap_or_default()
    }
}
