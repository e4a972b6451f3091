//! A record of the file table and its attributes.
//!
//! ```text
//! 0 "FILE"  4 place of the fixups  6 how many  20 first attribute  22 flags (1: in use)  24 bytes in use
//! 28 bytes  32 the record it belongs to, or 0
//! attribute: 0 type  4 length  8 1 unless its content is here  9 length of its name  12 flags
//!   here: 16 length of the content  20 where it is       elsewhere: see `runs`
//! ```
//!
//! The last two bytes of every 512 are replaced by a number that changes with each write, the fixup; what belongs there
//! is in the list of fixups. A record that was written in part shows itself by that.

use super::NtfsDoubt;
use crate::alloc::bytes::{has, u8_at, u16_at, u32_at, u64_at};

const STRIDE: usize = 512;
const IN_USE: u16 = 1;
const LAST: u32 = u32::MAX;

/// A record that is in use, as it is meant: fixups are undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    number: u64,
    bytes: Vec<u8>,
    /// The number of the record it is a part of.
    pub(super) base: Option<u64>,
}

/// A part of what a file has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    pub(super) kind: u32,
    /// Header and what follows it.
    pub(super) bytes: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(super) const LIST: u32 = 0x20;
    pub(super) const FILE_NAME: u32 = 0x30;
    pub(super) const VOLUME_INFORMATION: u32 = 0x70;
    pub(super) const DATA: u32 = 0x80;

    /// Returns true if its content is in clusters.
    pub(super) fn has_runs(&self) -> bool {
        u8_at(self.bytes, 8) != Some(0)
    }

    /// Returns true if it is the main one of its kind.
    pub(super) fn is_unnamed(&self) -> bool {
        u8_at(self.bytes, 9) == Some(0)
    }

    /// Returns the content of one that has it in the record.
    pub(super) fn resident(&self) -> Option<&'a [u8]> {
        if self.has_runs() {
            return None;
        }
        let len = usize::try_from(u32_at(self.bytes, 16)?).ok()?;
        let at = usize::from(u16_at(self.bytes, 20)?);
        self.bytes.get(at..)?.get(..len)
    }
}

impl Record {
    /// Reads a record; `None` when it is not in use.
    pub(super) fn parse(number: u64, bytes: &[u8]) -> Result<Option<Self>, NtfsDoubt> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !has(bytes, 0, b"FILE") {
            return Err(NtfsDoubt::Record { record: number, what: "is damaged" });
        }
        let whole = undo_fixups(bytes).ok_or(NtfsDoubt::Record { record: number, what: "was written in part" })?;
        let malformed = NtfsDoubt::Record { record: number, what: "is malformed" };
        let fields = u16_at(&whole, 22).zip(u32_at(&whole, 28)).zip(u64_at(&whole, 32));
        let ((flags, len), base) = fields.ok_or_else(|| malformed.clone())?;
        if flags & IN_USE == 0 {
            return Ok(None);
        }
        if usize::try_from(len) != Ok(whole.len()) {
            return Err(malformed);
        }
        // The upper 16 bits count how often the record was used.
        let base = (base != 0).then_some(base & 0xFFFF_FFFF_FFFF);
        Ok(Some(Self { number, bytes: whole, base }))
    }

    /// Returns the attributes, every one of them inside the record.
    pub(super) fn attributes(&self) -> Result<Vec<Attribute<'_>>, NtfsDoubt> {
        self.walk().ok_or(NtfsDoubt::Record { record: self.number, what: "has malformed attributes" })
    }

    fn walk(&self) -> Option<Vec<Attribute<'_>>> {
        let used = usize::try_from(u32_at(&self.bytes, 24)?).ok()?;
        let all = self.bytes.get(..used)?;
        let mut at = usize::from(u16_at(all, 20)?);
        let mut found = Vec::new();
        loop {
            let kind = u32_at(all, at)?;
            if kind == LAST {
                return Some(found);
            }
            let len = usize::try_from(u32_at(all, at.checked_add(4)?)?).ok()?;
            if len < 24 || !len.is_multiple_of(8) {
                return None;
            }
            let end = at.checked_add(len)?;
            found.push(Attribute { kind, bytes: all.get(at..end)? });
            at = end;
        }
    }

    /// Returns true if it has an attribute of a kind.
    pub(super) fn has(&self, kind: u32) -> bool {
        self.attributes().is_ok_and(|attributes| attributes.iter().any(|attribute| attribute.kind == kind))
    }

    /// Returns the attribute with the main content.
    pub(super) fn data(&self) -> Result<Attribute<'_>, NtfsDoubt> {
        let attributes = self.attributes()?;
        let data = attributes.into_iter().find(|a| a.kind == Attribute::DATA && a.is_unnamed());
        data.ok_or(NtfsDoubt::Record { record: self.number, what: "has no content" })
    }
}

/// Puts back what the fixups replaced; `None` when the record was not written as a whole.
fn undo_fixups(bytes: &[u8]) -> Option<Vec<u8>> {
    let (at, count) = (usize::from(u16_at(bytes, 4)?), usize::from(u16_at(bytes, 6)?));
    if count != bytes.len() / STRIDE + 1 || !bytes.len().is_multiple_of(STRIDE) {
        return None;
    }
    let list = bytes.get(at..)?.get(..count * 2)?.to_vec();
    let (stamp, originals) = list.split_first_chunk::<2>()?;
    let mut whole = bytes.to_vec();
    for (piece, original) in whole.chunks_exact_mut(STRIDE).zip(originals.as_chunks::<2>().0) {
        let end = piece.last_chunk_mut::<2>()?;
        if end != stamp {
            return None;
        }
        *end = *original;
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_written_in_part_shows() {
        let mut bytes = vec![0; 1024];
        bytes[..4].copy_from_slice(b"FILE");
        bytes[4..8].copy_from_slice(&[48, 0, 3, 0]);
        bytes[48..54].copy_from_slice(&[7, 0, 1, 2, 3, 4]);
        assert_eq!(undo_fixups(&bytes), None);
        bytes[510] = 7;
        bytes[1022] = 7;
        let whole = undo_fixups(&bytes).unwrap();
        assert_eq!((&whole[510..512], &whole[1022..1024]), (&[1, 2][..], &[3, 4][..]));
        bytes[6] = 4;
        assert_eq!(undo_fixups(&bytes), None);
    }
}
