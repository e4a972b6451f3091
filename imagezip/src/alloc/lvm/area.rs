//! A metadata area: a header that points into a ring of text behind it.
//!
//! ```text
//! 0 CRC of bytes 4..512   4 " LVM2 x[5A%r0N*>"   20 version (1)   24 own offset   32 length of the area
//! 40 slots: 0 offset in the area   8 length   16 CRC of the text   20 flags
//! ```
//!
//! The first slot is what counts. The second is filled while an update is under way. The ring begins behind the
//! header; a text that reaches the end of the area goes on there.

use sigs::ByteRange;

use super::LvmDoubt;
use super::checksum::checksum;
use crate::alloc::bytes::{has, u32_at, u64_at};
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

const HEADER_LEN: u64 = 512;
const MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
const SLOTS_AT: usize = 40;
const SLOT_LEN: usize = 24;
/// The text is stale on purpose.
const IGNORED: u32 = 1;
/// Thousands of logical volumes have less.
const MOST_TEXT: u64 = 2 << 20;

/// What a metadata area holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// The operator took it out of use.
    Ignored,
    /// No group was ever written.
    Empty,
    /// The text, its checksum valid.
    Text(Vec<u8>),
}

/// Reads the area at `place`.
pub(super) fn read(window: &Window<'_>, place: ByteRange) -> Result<Area, Stop> {
    let wrong = LvmDoubt::Area;
    let end = place.checked_end().filter(|end| end.get() <= window.range().len.get());
    if end.is_none() || place.len.get() <= HEADER_LEN {
        return Err(wrong("lies where none can be").into());
    }
    let header = window.fetch(place.start.get(), HEADER_LEN)?;
    let body = header.get(4..).ok_or(wrong("is cut short"))?;
    if !has(&header, 4, MAGIC) {
        return Err(wrong("has no header").into());
    }
    if u32_at(&header, 0) != Some(checksum(&[body])) {
        return Err(wrong("has a wrong checksum of its header").into());
    }
    if u32_at(&header, 20) != Some(1) {
        return Err(wrong("has an unknown version").into());
    }
    if u64_at(&header, 24) != Some(place.start.get()) || u64_at(&header, 32) != Some(place.len.get()) {
        return Err(wrong("belongs elsewhere").into());
    }
    let current = Slot::parse(&header, 0).ok_or(wrong("is cut short"))?;
    let pending = Slot::parse(&header, 1).ok_or(wrong("is cut short"))?;
    if current.flags & IGNORED != 0 {
        return Ok(Area::Ignored);
    }
    if current.flags != 0 {
        return Err(wrong("has unknown flags").into());
    }
    if pending.offset != 0 {
        return Err(wrong("has an update under way").into());
    }
    if current.offset == 0 {
        return Ok(Area::Empty);
    }
    current.text(window, place)
}

struct Slot {
    offset: u64,
    len: u64,
    checksum: u32,
    flags: u32,
}

impl Slot {
    fn parse(header: &[u8], number: usize) -> Option<Self> {
        let slot = header.get(SLOTS_AT + number * SLOT_LEN..)?;
        Some(Self {
            offset: u64_at(slot, 0)?,
            len: u64_at(slot, 8)?,
            checksum: u32_at(slot, 16)?,
            flags: u32_at(slot, 20)?,
        })
    }

    fn text(&self, window: &Window<'_>, place: ByteRange) -> Result<Area, Stop> {
        let (start, size) = (place.start.get(), place.len.get());
        if self.offset < HEADER_LEN || self.offset >= size || self.len == 0 || self.len > size - HEADER_LEN {
            return Err(LvmDoubt::Area("points out of itself").into());
        }
        if self.len > MOST_TEXT {
            return Err(LvmDoubt::Area("holds more text than is read").into());
        }
        // Neither sum can overflow: the area was compared with the length of the window.
        let first = self.len.min(size - self.offset);
        let mut text = window.fetch(start + self.offset, first)?;
        let rest = window.fetch(start + HEADER_LEN, self.len - first)?;
        text.extend_from_slice(&rest);
        if checksum(&[&text]) != self.checksum {
            return Err(LvmDoubt::Area("has a wrong checksum of its text").into());
        }
        Ok(Area::Text(text))
    }
}
