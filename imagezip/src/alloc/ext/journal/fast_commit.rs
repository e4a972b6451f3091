//! Fast commits: changes of inodes and folders behind the last full transaction, in a few blocks at the end of the
//! journal.
//!
//! ```text
//! block  tag (16) length (16) value, ..     little-endian
//! head   0 features  4 transaction          the first tag of all
//! tail   0 transaction  4 CRC-32C           ends a commit and its block; over everything since the last tail
//! added range    0 inode  4 extent (12)     removed range  0 inode  4 first block  8 blocks
//! name (created, linked, unlinked)  0 folder  4 inode  8 name       inode  0 number  4 inode
//! ```
//!
//! Linux replays the complete commits by changing inodes, and then allocates what the changed inodes have. That is the
//! ranges that were added, and what these inodes have in their maps already. What Linux has to take for new nodes of
//! trees and for folders it writes itself. Removing frees, and a place that stays allocated does no harm.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::inode::{Inode, MapKind};
use super::super::mapping::{self, Maps};
use super::super::superblock::Superblock;
use crate::alloc::bytes::{u16_at, u32_at};
use crate::alloc::crc::crc32c;
use crate::alloc::doubt::Stop;
use crate::alloc::jbd2::{Journal, JournalDoubt};
use crate::alloc::window::Window;

const TAG_ADD_RANGE: u16 = 1;
const TAG_DEL_RANGE: u16 = 2;
const TAG_CREATE: u16 = 3;
const TAG_LINK: u16 = 4;
const TAG_UNLINK: u16 = 5;
const TAG_INODE: u16 = 6;
const TAG_PAD: u16 = 7;
const TAG_TAIL: u16 = 8;
const TAG_HEAD: u16 = 9;

const TAG_BYTES: usize = 4;
const MOST_NAME: usize = 255;
/// How many tags are kept: a journal has 256 blocks for them, of 4096 bytes, and most tags have 20.
const MOST_TAGS: usize = 1 << 18;
const MOST_WRITTEN: u16 = 0x8000;

/// What the fast commits that would be replayed do.
#[derive(Debug, Default)]
pub(super) struct FastCommits {
    /// How many are complete.
    pub(super) count: u32,
    /// What is allocated by them, in any order.
    pub(super) blocks: Vec<Range<u64>>,
}

/// A tag that allocates.
#[derive(Debug)]
enum Change {
    Range {
        inode: u32,
        blocks: Range<u64>,
    },
    /// Something else with an inode.
    Inode {
        inode: u32,
        content: Option<Inode>,
    },
}

impl FastCommits {
    /// Reads those of `transaction`, the one behind the last complete one. The file system is as it is before them.
    pub(super) fn read(
        journal: &Journal<'_>,
        window: &Window<'_>,
        superblock: &Superblock,
        transaction: u32,
    ) -> Result<Self, Stop> {
        let Some(blocks) = journal.fast_commit_blocks() else { return Ok(Self::default()) };
        let mut scan = Scan::new(superblock, transaction);
        for block in blocks {
            if scan.block(&journal.read(block)?)? == Go::Stop {
                return scan.finish(window);
            }
        }
        // Linux goes on behind the journal and fails.
        Err(JournalDoubt::FastCommit("no end").into())
    }
}

/// Whether more blocks are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    Stop,
}

/// The blocks as they are read.
struct Scan<'a> {
    superblock: &'a Superblock,
    transaction: u32,
    started: bool,
    crc: u32,
    changes: Vec<Change>,
    /// How many changes are in complete commits.
    complete: usize,
    count: u32,
}

impl<'a> Scan<'a> {
    fn new(superblock: &'a Superblock, transaction: u32) -> Self {
        Self { superblock, transaction, started: false, crc: 0, changes: Vec::new(), complete: 0, count: 0 }
    }

    fn block(&mut self, block: &[u8]) -> Result<Go, Stop> {
        if !self.started && u16_at(block, 0) != Some(TAG_HEAD) {
            return Ok(Go::Stop);
        }
        self.started = true;
        let mut at = 0;
        while at + TAG_BYTES <= block.len() {
            let tag = u16_at(block, at).unwrap_or(0);
            let len = usize::from(u16_at(block, at + 2).unwrap_or(u16::MAX));
            let value = block.get(at + TAG_BYTES..at + TAG_BYTES + len).filter(|_| self.has_room(tag, len));
            let (Some(value), Some(whole)) = (value, block.get(at..at + TAG_BYTES + len)) else {
                return self.stop("an impossible tag");
            };
            let go = match tag {
                TAG_HEAD => self.head(value, whole)?,
                TAG_TAIL => self.tail(value, whole)?,
                _ => {
                    self.crc = crc32c(self.crc, whole);
                    self.change(tag, value)?;
                    Go::On
                }
            };
            if go == Go::Stop {
                return Ok(go);
            }
            at += whole.len();
        }
        Ok(Go::On)
    }

    /// Ends the scan: a damaged commit behind a complete one is one that was not finished. Without a complete one Linux
    /// refuses to mount.
    fn stop(&self, what: &'static str) -> Result<Go, Stop> {
        if self.count > 0 { Ok(Go::Stop) } else { Err(JournalDoubt::FastCommit(what).into()) }
    }

    fn head(&mut self, value: &[u8], whole: &[u8]) -> Result<Go, Stop> {
        if u32_at(value, 0) != Some(0) {
            return Err(JournalDoubt::FastCommit("unknown features").into());
        }
        if u32_at(value, 4) != Some(self.transaction) {
            return Ok(Go::Stop);
        }
        self.crc = crc32c(self.crc, whole);
        Ok(Go::On)
    }

    fn tail(&mut self, value: &[u8], whole: &[u8]) -> Result<Go, Stop> {
        let covered = whole.get(..TAG_BYTES + 4).unwrap_or_default();
        let crc = crc32c(std::mem::take(&mut self.crc), covered);
        if u32_at(value, 0) != Some(self.transaction) || u32_at(value, 4) != Some(crc) {
            return self.stop("a wrong checksum");
        }
        self.complete = self.changes.len();
        self.count += 1;
        Ok(Go::On)
    }

    fn has_room(&self, tag: u16, len: usize) -> bool {
        match tag {
            TAG_ADD_RANGE => len == 16,
            TAG_DEL_RANGE => len == 12,
            TAG_CREATE | TAG_LINK | TAG_UNLINK => len > 8 && len <= 8 + MOST_NAME,
            TAG_INODE => {
                usize::try_from(self.superblock.inodes.bytes).is_ok_and(|most| (132..=4 + most).contains(&len))
            }
            TAG_PAD => true,
            TAG_TAIL => len >= 8,
            TAG_HEAD => len == 8,
            _ => false,
        }
    }

    fn change(&mut self, tag: u16, value: &[u8]) -> Result<(), Stop> {
        let number = |at| u32_at(value, at).unwrap_or(0);
        let inode = number(if matches!(tag, TAG_CREATE | TAG_LINK | TAG_UNLINK) { 4 } else { 0 });
        let change = match tag {
            TAG_PAD => return Ok(()),
            TAG_ADD_RANGE => {
                let high = u64::from(u16_at(value, 10).unwrap_or(0));
                let start = u64::from(number(12)) | (high << 32);
                let len = u16_at(value, 8).unwrap_or(0);
                let len = u64::from(if len <= MOST_WRITTEN { len } else { len - MOST_WRITTEN });
                Change::Range { inode, blocks: start..start + len }
            }
            TAG_INODE => Change::Inode { inode, content: value.get(4..).and_then(|bytes| Inode::of(inode, bytes)) },
            _ => Change::Inode { inode, content: None },
        };
        self.changes.push(change);
        if self.changes.len() > MOST_TAGS {
            return Err(JournalDoubt::TooMany { most: MOST_TAGS, what: "fast commit tags" }.into());
        }
        Ok(())
    }

    /// Finds what the complete commits allocate.
    fn finish(mut self, window: &Window<'_>) -> Result<FastCommits, Stop> {
        self.changes.truncate(self.complete);
        let mut blocks = Vec::new();
        let mut inodes: BTreeMap<u32, Option<Inode>> = BTreeMap::new();
        for change in self.changes {
            match change {
                Change::Range { inode, blocks: range } => {
                    blocks.push(range);
                    inodes.entry(inode).or_default();
                }
                Change::Inode { inode, content } => {
                    blocks.extend(content.iter().filter_map(Inode::attributes).map(|block| block..block + 1));
                    let known = inodes.entry(inode).or_default();
                    *known = content.or(known.take());
                }
            }
        }
        for (number, content) in inodes {
            of_inode(window, self.superblock, number, content.as_ref(), &mut blocks)?;
        }
        let clusters = blocks.into_iter().map(|range| cluster_range(self.superblock, &range));
        let blocks: Option<Vec<_>> = clusters.collect();
        let blocks = blocks.ok_or(JournalDoubt::FastCommit("blocks outside of the file system"))?;
        Ok(FastCommits { count: self.count, blocks })
    }
}

/// Adds what an inode has in its map before the fast commits. `content` is the rest of the inode as a fast commit has
/// it; the map of a tree stays.
fn of_inode(
    window: &Window<'_>,
    superblock: &Superblock,
    number: u32,
    content: Option<&Inode>,
    blocks: &mut Vec<Range<u64>>,
) -> Result<(), Stop> {
    let before = Inode::read(window, superblock, number)?;
    let kind = content.unwrap_or(&before).map_kind();
    match kind {
        MapKind::Extents if mapping::is_tree(before.map()) => {
            let mapping = Maps { window, superblock, number }.extents(before.map(), None)?;
            blocks.extend(mapping.nodes.into_iter().map(|block| block..block + 1));
            blocks.extend(mapping.pieces.iter().map(|piece| piece.home..piece.home + u64::from(piece.len)));
            if blocks.len() > MOST_TAGS * 4 {
                return Err(JournalDoubt::TooMany { most: MOST_TAGS * 4, what: "blocks of fast commits" }.into());
            }
            Ok(())
        }
        // Linux makes an empty tree where there is none.
        MapKind::Extents | MapKind::None => Ok(()),
        // Of an inode that fast commits only name, the map does not change.
        MapKind::Pointers if content.is_none() => Ok(()),
        MapKind::Pointers => Err(JournalDoubt::FastCommit("an inode without a tree").into()),
    }
}

/// Returns the whole clusters of a range, or `None` when it is not in the file system.
fn cluster_range(superblock: &Superblock, range: &Range<u64>) -> Option<Range<u64>> {
    let ratio = u64::from(superblock.cluster_blocks);
    let inside = range.start >= superblock.first_block && range.end <= superblock.end_block;
    let down = |block: u64| block.checked_sub(superblock.first_block).map(|block| block - block % ratio);
    let start = down(range.start)? + superblock.first_block;
    let end = (range.end - superblock.first_block.min(range.end)).div_ceil(ratio) * ratio + superblock.first_block;
    inside.then_some(start..end.min(superblock.end_block))
}
