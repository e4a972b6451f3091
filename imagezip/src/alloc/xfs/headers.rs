//! The headers of an allocation group, in the second to fourth sector: what it has free, its inodes, and the list of
//! blocks set aside for the trees.
//!
//! ```text
//! AGF   0 "XAGF"  4 version  8 number  12 blocks  16 roots: by block, by size, of reverse maps  28 levels of these
//!      40 first, 44 last used slot of the list  48 used slots  52 free blocks  56 longest free extent
//!      60 blocks of the trees but their roots  64 UUID  80 blocks of the reverse maps  208 sequence  216 checksum
//! AGI   0 "XAGI"  4 version  8 number  12 blocks  296 UUID  312 checksum  320 sequence
//! AGFL  0 "XAFL"  4 number  8 UUID  24 sequence  32 checksum  36 slots; without checksums slots only
//! ```

use super::doubt::XfsDoubt;
use super::raw::Raw;
use super::superblock::Trust;
use super::view::{Piece, View};
use crate::alloc::doubt::Stop;

/// No tree is higher.
const MOST_LEVELS: u32 = 9;

/// What the headers of a group say, each field checked as far as it can be alone.
#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) by_block: Root,
    pub(crate) by_size: Root,
    pub(crate) free_blocks: u32,
    pub(crate) longest: u32,
    /// The blocks of all trees of the header, without the roots.
    pub(crate) tree_blocks: u32,
    /// Those of them that are of the tree of reverse maps.
    pub(crate) reverse_map_blocks: u32,
    /// The blocks set aside for the trees: used, although they hold nothing.
    pub(crate) set_aside: Vec<u32>,
}

/// Where a tree begins, and how high it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    pub(crate) block: u32,
    pub(crate) levels: u16,
}

/// What all headers have in common, and where.
struct Common {
    what: &'static str,
    magic: &'static [u8],
    version_at: Option<usize>,
    number_at: usize,
    len_at: Option<usize>,
    uuid_at: usize,
    sequence_at: usize,
    checksum_at: usize,
}

const FREE_SPACE: Common = Common {
    what: "free space header",
    magic: b"XAGF",
    version_at: Some(4),
    number_at: 8,
    len_at: Some(12),
    uuid_at: 64,
    sequence_at: 208,
    checksum_at: 216,
};
const INODES: Common = Common {
    what: "inode header",
    magic: b"XAGI",
    version_at: Some(4),
    number_at: 8,
    len_at: Some(12),
    uuid_at: 296,
    sequence_at: 320,
    checksum_at: 312,
};
const LIST: Common = Common {
    what: "free list",
    magic: b"XAFL",
    version_at: None,
    number_at: 4,
    len_at: None,
    uuid_at: 8,
    sequence_at: 24,
    checksum_at: 32,
};
const LIST_SLOTS_AT: usize = 36;

impl Headers {
    /// Reads the headers of a group.
    pub(crate) fn read(view: &View<'_>, group: u32) -> Result<Self, Stop> {
        if group > 0 {
            // Copies are never logged; whatever changes them writes them itself.
            view.superblock.check_copy(
                &view.window.fetch(view.superblock.group_start(group), view.superblock.sector_bytes)?,
                group,
            )?;
        }
        let free_space = view.header(group, 1)?;
        check(view, group, &FREE_SPACE, &free_space)?;
        let inodes = view.header(group, 2)?;
        check(view, group, &INODES, &inodes)?;
        let list = view.header(group, 3)?;
        // Without checksums the list is nothing but slots.
        if view.superblock.checksums {
            check(view, group, &LIST, &list)?;
        }
        Ok(parse(view, group, &Raw(&free_space.bytes), &list.bytes)?)
    }
}

fn check(view: &View<'_>, group: u32, common: &Common, piece: &Piece) -> Result<(), XfsDoubt> {
    let raw = Raw(&piece.bytes);
    let wrong = |field| XfsDoubt::Header { what: common.what, group, field };
    let require = |holds: bool, field| if holds { Ok(()) } else { Err(wrong(field)) };
    require(raw.has(0, common.magic), "magic number")?;
    if view.superblock.checksums {
        if piece.trust == Trust::Verify && !raw.checksum_is_valid(common.checksum_at) {
            return Err(XfsDoubt::Checksum { what: common.what, group });
        }
        require(raw.uuid(common.uuid_at) == Some(view.superblock.uuid), "UUID")?;
        let sequence = raw.u64(common.sequence_at).ok_or(wrong("length"))?;
        if view.is_too_new(piece, sequence) {
            return Err(XfsDoubt::NewerThanLog { group });
        }
    }
    if let Some(at) = common.version_at {
        require(raw.u32(at) == Some(1), "version")?;
    }
    require(raw.u32(common.number_at) == Some(group), "group number")?;
    if let Some(at) = common.len_at {
        require(raw.u32(at) == Some(view.superblock.group_len(group)), "number of blocks")?;
    }
    Ok(())
}

fn parse(view: &View<'_>, group: u32, raw: &Raw<'_>, list: &[u8]) -> Result<Headers, XfsDoubt> {
    let wrong = |field| XfsDoubt::Header { what: FREE_SPACE.what, group, field };
    let number = |at: usize| raw.u32(at).ok_or(wrong("length"));
    let len = view.superblock.group_len(group);
    let root = |at: usize, levels_at: usize| {
        let (block, levels) = (number(at)?, number(levels_at)?);
        let inside = block >= view.superblock.header_blocks() && block < len;
        let levels = u16::try_from(levels).ok().filter(|_| (1..=MOST_LEVELS).contains(&levels) && inside);
        levels.map(|levels| Root { block, levels }).ok_or(wrong("root of a tree"))
    };
    let headers = Headers {
        by_block: root(16, 28)?,
        by_size: root(20, 32)?,
        free_blocks: number(52)?,
        longest: number(56)?,
        tree_blocks: number(60)?,
        reverse_map_blocks: if view.superblock.rmap { number(80)? } else { 0 },
        set_aside: set_aside(view, group, (number(40)?, number(44)?, number(48)?), list)?,
    };
    let sane = headers.free_blocks <= len && headers.longest <= headers.free_blocks && headers.tree_blocks < len;
    if sane { Ok(headers) } else { Err(wrong("number of free blocks")) }
}

/// Reads the used slots of the list, which is a ring.
fn set_aside(view: &View<'_>, group: u32, used: (u32, u32, u32), list: &[u8]) -> Result<Vec<u32>, XfsDoubt> {
    let wrong = |field| XfsDoubt::Header { what: LIST.what, group, field };
    let (first, last, count) = used;
    let slots = if view.superblock.checksums { list.get(LIST_SLOTS_AT..) } else { Some(list) };
    let slots: Vec<u32> = slots.unwrap_or_default().chunks_exact(4).filter_map(|slot| Raw(slot).u32(0)).collect();
    let size = u32::try_from(slots.len()).ok().filter(|size| first < *size && last < *size && count <= *size);
    let size = size.ok_or(wrong("slot number"))?;
    // Of an empty ring the last slot is the one before the first.
    let between = (last + size - first) % size + 1;
    if between % size != count % size {
        return Err(wrong("number of used slots"));
    }
    let places = slots
        .iter()
        .cycle()
        .skip(usize::try_from(first).unwrap_or(usize::MAX))
        .take(usize::try_from(count).unwrap_or(0));
    let len = view.superblock.group_len(group);
    let inside = |block: &u32| *block >= view.superblock.header_blocks() && *block < len;
    let blocks: Vec<u32> = places.copied().collect();
    if blocks.iter().all(inside) { Ok(blocks) } else { Err(wrong("block")) }
}
