//! The file that holds the journal: usually inode 8, which no folder has.

use crate::alloc::bytes::{u8_at, u32_at};
use crate::alloc::doubt::Stop;
use crate::alloc::ext::inode::{Inode, MAP_BYTES, MapKind};
use crate::alloc::ext::mapping::{Maps, Piece};
use crate::alloc::ext::superblock::{SUPERBLOCK_AT, Superblock};
use crate::alloc::jbd2::JournalDoubt;
use crate::alloc::jbd2::place::{Place, Run};
use crate::alloc::window::Window;

/// In the superblock: the map of the journal once more, and of what kind that copy is.
const COPY_AT: usize = 0x10C;
const COPY_KIND_AT: usize = 0xFD;
const COPY_OF_MAP: u8 = 1;

/// The file that holds the journal.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) inode: Inode,
    pub(super) place: Place,
    /// The blocks that only say where the others are.
    pub(super) nodes: Vec<u64>,
    /// How many blocks it has by its size.
    pub(super) blocks: u32,
}

/// Reads the inode of the journal and follows its map.
pub(super) fn journal(window: &Window<'_>, superblock: &Superblock, number: u32) -> Result<Found, Stop> {
    let inode = Inode::read(window, superblock, number)?;
    let wrong = if !inode.is_valid(superblock.protection) {
        Some("has a wrong checksum")
    } else if !inode.is_regular() || !inode.is_linked() {
        Some("is not a file")
    } else if !copy_agrees(window, &inode)? {
        Some("is not the one the superblock has a copy of")
    } else {
        None
    };
    if let Some(what) = wrong {
        return Err(JournalDoubt::Place(what).into());
    }
    let size = u64::from(superblock.block_size.bytes());
    let blocks = u32::try_from(inode.size() / size).map_err(|_| JournalDoubt::Place("is too long"))?;
    let maps = Maps { window, superblock, number };
    let mapping = match inode.map_kind() {
        MapKind::Extents => maps.extents(inode.map(), inode.seed(superblock.protection))?,
        MapKind::Pointers => maps.pointers(inode.map(), blocks)?,
        MapKind::None => return Err(JournalDoubt::Place("has no blocks").into()),
    };
    if mapping.pieces.iter().any(|piece| !piece.written) {
        return Err(JournalDoubt::Place("was never written").into());
    }
    let nodes = mapping.nodes;
    let run = |piece: Piece| Run { first: piece.first, home: piece.home, len: piece.len };
    let place = Place::new(mapping.pieces.into_iter().map(run))?;
    if place.blocks() < blocks {
        return Err(JournalDoubt::Place("has a hole at its end").into());
    }
    Ok(Found { inode, place, nodes, blocks })
}

/// Returns true if the superblock has the same map of the journal, or none.
fn copy_agrees(window: &Window<'_>, inode: &Inode) -> Result<bool, Stop> {
    let superblock = window.fetch(SUPERBLOCK_AT, 1024)?;
    if u8_at(&superblock, COPY_KIND_AT) != Some(COPY_OF_MAP) {
        return Ok(true);
    }
    let map = superblock.get(COPY_AT..COPY_AT + MAP_BYTES);
    // Behind the map are the two halves of the size, of which only the lower one was always written.
    let size = u32_at(&superblock, COPY_AT + MAP_BYTES + 4).map(u64::from);
    Ok(map == Some(inode.map()) && size == Some(inode.size() & 0xFFFF_FFFF))
}
