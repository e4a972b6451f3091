//! The names in a folder.
//!
//! ```text
//! entry  0 inode  4 length of the entry (16)  6 length of the name  7 kind  8 name      in blocks that entries fill
//! ```
//!
//! An entry without an inode is free, or something that older kernels should pass over: the index by hashes, and the
//! checksum at the end of a block. So all blocks are read in order, and the index is not needed. A folder in an inode
//! has four bytes (the folder above) and then entries, and more of them in the attribute.

use std::ops::ControlFlow;

use super::{FilesError, Kind, Node, Volume, inline};
use crate::alloc::bytes::{u8_at, u16_at, u32_at};
use crate::alloc::crc::crc32c;

const HEADER_BYTES: usize = 8;
/// An entry of no inode and no name, of a kind that is none.
const CHECKSUM_ENTRY: [u8; 8] = [0, 0, 0, 0, 12, 0, 0, 0xDE];
const CHECKSUM_ENTRY_BYTES: usize = 12;
const PARENT_BYTES: usize = 4;

/// A name and what has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name: any bytes, in a damaged folder even a slash.
    pub name: Vec<u8>,
    /// The number of the inode.
    pub inode: u32,
}

/// Takes a name and an inode, and says whether to go on.
type Visit<'a> = dyn FnMut(&[u8], u32) -> ControlFlow<()> + 'a;

impl Volume<'_> {
    /// Returns what is in a folder, sorted by name, without `.` and `..`; `held` names are in memory already.
    ///
    /// # Errors
    /// [`FilesError`] when it cannot be read; [`FilesError::TooLarge`] when that makes too many names.
    pub(super) fn entries(&self, folder: &Node, held: usize) -> Result<Vec<Entry>, FilesError> {
        let room = self.most_names.saturating_sub(held);
        let mut entries = Vec::new();
        let mut fits = true;
        self.visit(folder, &mut |name, inode| {
            fits = entries.len() < room;
            if !fits {
                return ControlFlow::Break(());
            }
            entries.push(Entry { name: name.to_vec(), inode });
            ControlFlow::Continue(())
        })?;
        if !fits {
            return Err(FilesError::TooLarge { inode: folder.number(), what: "the folder" });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Returns the inode of a name in a folder.
    pub(super) fn lookup(&self, folder: &Node, wanted: &[u8]) -> Result<Option<u32>, FilesError> {
        let mut found = None;
        self.visit(folder, &mut |name, inode| {
            if name != wanted {
                return ControlFlow::Continue(());
            }
            found = Some(inode);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn visit(&self, folder: &Node, visit: &mut Visit<'_>) -> Result<(), FilesError> {
        let damaged = || FilesError::Damaged { inode: folder.number(), what: "the folder" };
        if folder.kind() != Kind::Folder {
            return Err(damaged());
        }
        if folder.is_encrypted() {
            return Err(FilesError::Encrypted { inode: folder.number() });
        }
        if folder.is_inline() {
            let (map, rest) = inline::parts(&folder.inode).ok_or_else(damaged)?;
            for entries in [map.get(PARENT_BYTES..).unwrap_or_default(), rest] {
                if each(entries, visit).ok_or_else(damaged)?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let (window, size) = (self.window(), self.block_bytes());
        let seed = folder.inode.seed(self.superblock.protection);
        // A sound folder has no block twice, so it has no more than there are.
        let blocks = (folder.size().get() / size).min(self.superblock.end_block);
        for piece in self.pieces(folder)? {
            let within = blocks.saturating_sub(u64::from(piece.first)).min(u64::from(piece.len));
            for block in (piece.home..).take(usize::try_from(within).unwrap_or(0)) {
                let bytes = window.fetch(block.saturating_mul(size), size)?;
                let is_valid = piece.written && seed.is_none_or(|seed| has_right_checksum(&bytes, seed));
                if !is_valid {
                    return Err(damaged());
                }
                if each(&bytes, visit).ok_or_else(damaged)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Goes through entries that fill `bytes`; `None` when they do not.
fn each(bytes: &[u8], visit: &mut Visit<'_>) -> Option<ControlFlow<()>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (inode, name_len) = (u32_at(rest, 0)?, usize::from(u8_at(rest, 6)?));
        let len = entry_len(u16_at(rest, 4)?, bytes.len());
        let entry = rest.get(..len).filter(|_| len >= HEADER_BYTES && len.is_multiple_of(4))?;
        rest = rest.get(len..)?;
        if inode == 0 {
            continue;
        }
        let name = entry.get(HEADER_BYTES..)?.get(..name_len)?;
        if name != b"." && name != b".." && visit(name, inode).is_break() {
            return Some(ControlFlow::Break(()));
        }
    }
    Some(ControlFlow::Continue(()))
}

/// Returns the length of an entry: 16 bits are not enough for a block of 64 KiB.
fn entry_len(stated: u16, block: usize) -> usize {
    let stated = usize::from(stated);
    match (stated, block >= 0x1_0000) {
        (0 | 0xFFFF, true) => block,
        (_, true) => (stated & 0xFFFC) | ((stated & 3) << 16),
        (_, false) => stated,
    }
}

/// Returns true if a block has the checksum it states. The index by hashes has another one, and is not used.
fn has_right_checksum(block: &[u8], seed: u32) -> bool {
    if is_index(block) {
        // What became of a block of names may still end like one.
        return true;
    }
    let Some(at) = block.len().checked_sub(CHECKSUM_ENTRY_BYTES) else { return false };
    let (names, checksum) = block.split_at(at);
    !checksum.starts_with(&CHECKSUM_ENTRY) || u32_at(checksum, 8) == Some(crc32c(seed, names))
}

/// Returns true for a block of the index: a single entry, or `.` and then a single entry, up to its end.
fn is_index(block: &[u8]) -> bool {
    let len = |at| u16_at(block, at).map(|stated| entry_len(stated, block.len()));
    len(4) == Some(block.len())
        || (len(4) == Some(12) && len(16).and_then(|len| len.checked_add(12)) == Some(block.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> Option<Vec<(Vec<u8>, u32)>> {
        let mut found = Vec::new();
        let end = each(bytes, &mut |name, inode| {
            found.push((name.to_vec(), inode));
            ControlFlow::Continue(())
        });
        end.map(|_| found)
    }

    fn entry(inode: u32, len: u16, name: &[u8]) -> Vec<u8> {
        let mut bytes = inode.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend([u8::try_from(name.len()).unwrap(), 1]);
        bytes.extend(name);
        bytes.resize(usize::from(len).max(bytes.len()), 0);
        bytes
    }

    #[test]
    fn entries_fill_their_block_or_are_damaged() {
        let good = [entry(2, 12, b"."), entry(2, 12, b".."), entry(0, 16, b"gone"), entry(11, 24, b"a/\x1b")].concat();
        assert_eq!(names(&good), Some(vec![(b"a/\x1b".to_vec(), 11)]));
        assert_eq!(names(&[]), Some(Vec::new()));
        for (bad, why) in [
            (entry(5, 0, b"x"), "no length, so no end"),
            (entry(5, 10, b"x"), "odd length"),
            (entry(5, 8, b"x")[..8].to_vec(), "name behind the entry"),
            ([entry(5, 12, b"x"), vec![0; 4]].concat(), "a rest that is no entry"),
            (entry(5, 12, b"x")[..11].to_vec(), "longer than the block"),
        ] {
            assert_eq!(names(&bad), None, "{why}");
        }
    }

    #[test]
    fn lengths_in_blocks_of_64_kib() {
        assert_eq!(entry_len(0, 0x1_0000), 0x1_0000);
        assert_eq!(entry_len(0xFFFF, 0x1_0000), 0x1_0000);
        assert_eq!(entry_len(0xFFFC, 0x1_0000), 0xFFFC);
        assert_eq!(entry_len(0xFFFF, 4096), 0xFFFF);
    }
}
