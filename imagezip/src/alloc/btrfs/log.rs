//! The tree log: what programs synced after the last commit, and what the next mount puts into the trees.
//!
//! Its blocks, and the extents of files that it refers to, are not in the extent tree yet.

use super::BtrfsDoubt;
use super::node::{Key, Pointer};
use super::tree::{KIND_ROOT, LOG_TREE, Next, Tree, Visit, Volume, root_of};
use crate::alloc::bytes::{u8_at, u64_at};
use crate::alloc::doubt::Stop;

/// How much of a log is followed. A commit every 30 seconds keeps real ones far below.
const MOST_AREAS: usize = 1 << 20;

const KIND_FILE_EXTENT: u8 = 108;
/// Inode, its names (two kinds), attributes, two of verity, orphan, two ranges of names, two kinds of directory
/// entries, checksums of data: nothing of it takes space outside the log.
const KINDS_WITHOUT_SPACE: [u8; 12] = [1, 12, 13, 24, 36, 37, 48, 60, 72, 84, 96, 128];

/// Where a file extent says what it is, where its extent is, and how long that is.
const KIND_AT: usize = 20;
const LOGICAL_AT: usize = 21;
const LEN_AT: usize = 29;

/// Returns where the log and what only it refers to lie on the device, at all their places, in order.
pub(super) fn places(volume: &Volume<'_>) -> Result<Vec<(u64, u64)>, Stop> {
    let Some(root) = volume.superblock.log_root else { return Ok(Vec::new()) };
    let newest = volume.superblock.generation.saturating_add(1);
    let node_size = u64::from(volume.superblock.node_size.bytes());
    let mut roots = Roots { areas: Areas { node_size, areas: Vec::new() }, roots: Vec::new() };
    volume.walk(Tree { owner: LOG_TREE, root, newest }, Key::FIRST, &mut roots)?;
    let Roots { areas, roots } = roots;
    let mut files = Files(areas);
    for root in roots {
        volume.walk(Tree { owner: LOG_TREE, root, newest }, Key::FIRST, &mut files)?;
    }
    on_device(volume, &files.0.areas)
}

fn on_device(volume: &Volume<'_>, areas: &[(u64, u64)]) -> Result<Vec<(u64, u64)>, Stop> {
    let mut places = Vec::with_capacity(areas.len());
    for (logical, len) in areas {
        let doubt = BtrfsDoubt::Extent { logical: *logical };
        let chunk = volume.chunks.holding(*logical, *len).ok_or(doubt)?;
        for piece in chunk.places() {
            let start = piece.saturating_add(logical.saturating_sub(chunk.logical));
            places.push((start, start.saturating_add(*len)));
        }
    }
    places.sort_unstable();
    Ok(places)
}

/// Logical ranges, in any order.
struct Areas {
    node_size: u64,
    areas: Vec<(u64, u64)>,
}

impl Areas {
    fn add(&mut self, logical: u64, len: u64) -> Result<(), BtrfsDoubt> {
        if self.areas.len() == MOST_AREAS {
            return Err(BtrfsDoubt::TooMany("ranges in the log"));
        }
        self.areas.push((logical, len));
        Ok(())
    }
}

/// Reads the tree that has a root for every tree with a log.
struct Roots {
    areas: Areas,
    roots: Vec<Pointer>,
}

impl Visit for Roots {
    fn block(&mut self, place: Pointer) -> Result<(), BtrfsDoubt> {
        self.areas.add(place.logical, self.areas.node_size)
    }

    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt> {
        if (key.objectid, key.kind) != (LOG_TREE, KIND_ROOT) || self.roots.len() == MOST_AREAS {
            return Err(BtrfsDoubt::Item { tree: "log", kind: key.kind });
        }
        self.roots.push(root_of(data).ok_or(BtrfsDoubt::Root { tree: key.offset })?);
        Ok(Next::Go)
    }
}

/// Reads the log of one tree of files.
struct Files(Areas);

impl Visit for Files {
    fn block(&mut self, place: Pointer) -> Result<(), BtrfsDoubt> {
        self.0.add(place.logical, self.0.node_size)
    }

    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt> {
        if KINDS_WITHOUT_SPACE.contains(&key.kind) {
            return Ok(Next::Go);
        }
        let kind = u8_at(data, KIND_AT).filter(|_| key.kind == KIND_FILE_EXTENT);
        match (kind, u64_at(data, LOGICAL_AT), u64_at(data, LEN_AT)) {
            // The data is in the item.
            (Some(0), ..) => {}
            // Written, or set aside; a hole is at address 0.
            (Some(1 | 2), Some(0), Some(_)) => {}
            (Some(1 | 2), Some(logical), Some(len)) => self.0.add(logical, len)?,
            _ => return Err(BtrfsDoubt::Item { tree: "log", kind: key.kind }),
        }
        Ok(Next::Go)
    }
}
