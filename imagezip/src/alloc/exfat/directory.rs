//! Entries of a directory, 32 bytes each, and what they have allocated.
//!
//! ```text
//! 0 type (0x80: in use, 0x40: belongs to the one before, 0x20: may be ignored)
//! 1 flags, where it belongs to another (1: has clusters, 2: without a chain)  20 first cluster  24 length
//! 0x85 file: 1 how many belong to it  4 attributes (0x10: directory)
//! ```

use super::ExfatDoubt;
use crate::alloc::bytes::{u8_at, u16_at, u32_at, u64_at};

pub(super) const LEN: usize = 32;
/// The highest type of an entry that is not in use.
const UNUSED_TO: u8 = 0x7F;
const BITMAP: u8 = 0x81;
const UPCASE: u8 = 0x82;
const LABEL: u8 = 0x83;
const FILE: u8 = 0x85;
const GUID: u8 = 0xA0;
const STREAM: u8 = 0xC0;
const NAME: u8 = 0xC1;
/// What belongs to another entry and may be ignored, but may have clusters.
const EXTENSIONS: std::ops::RangeInclusive<u8> = 0xE0..=0xFF;
const DIRECTORY: u16 = 0x10;

/// Clusters that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    pub(super) first: u32,
    /// In bytes.
    pub(super) len: u64,
    /// Whether the table says how they follow each other; otherwise they simply do.
    pub(super) chained: bool,
}

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The end: no more entries.
    End,
    /// Nothing that has clusters.
    Nothing,
    /// The bitmap; of two, only the first is known here.
    Bitmap(Allocation),
    /// The content of a file, of something else, or of a directory.
    Content { allocation: Allocation, directory: bool },
}

/// Goes through the entries of one directory.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// How many further entries belong to the file.
    belonging: u8,
    directory: bool,
}

impl Reader {
    /// Reads the next entry.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Entry, &'static str> {
        self.parse(bytes).ok_or("has an incomplete entry")?
    }

    fn parse(&mut self, bytes: &[u8]) -> Option<Result<Entry, &'static str>> {
        let kind = u8_at(bytes, 0)?;
        let flags = u8_at(bytes, 1)?;
        let (first, len) = (u32_at(bytes, 20)?, u64_at(bytes, 24)?);
        if self.belonging > 0 {
            self.belonging -= 1;
            let known = matches!(kind, STREAM | NAME) || EXTENSIONS.contains(&kind);
            if !known {
                return Some(Err("has a file with an unknown part"));
            }
            if kind == NAME || flags & 1 == 0 || (first == 0 && len == 0) {
                return Some(Ok(Entry::Nothing));
            }
            let allocation = Allocation { first, len, chained: flags & 2 == 0 };
            return Some(Ok(Entry::Content { allocation, directory: self.directory && kind == STREAM }));
        }
        Some(match kind {
            0 => Ok(Entry::End),
            0..=UNUSED_TO | LABEL | GUID => Ok(Entry::Nothing),
            BITMAP if flags & 1 == 0 => Ok(Entry::Bitmap(Allocation { first, len, chained: true })),
            BITMAP => Err("has a second bitmap"),
            UPCASE => {
                let allocation = Allocation { first, len, chained: true };
                Ok(Entry::Content { allocation, directory: false })
            }
            FILE => {
                self.belonging = flags;
                self.directory = u16_at(bytes, 4)? & DIRECTORY != 0;
                Ok(Entry::Nothing)
            }
            _ => Err("has an unknown entry"),
        })
    }

    /// Returns true if the last file is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.belonging == 0
    }
}

/// Makes a doubt about a directory.
pub(super) fn doubt(cluster: u32, what: &'static str) -> ExfatDoubt {
    ExfatDoubt::Directory { cluster, what }
}
