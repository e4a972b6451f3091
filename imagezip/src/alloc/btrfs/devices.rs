//! Device extents: the device tree has every piece of a chunk once more, in the order of the device.
//!
//! ```text
//! key: device, 204, place    0 chunk tree  8 256  16 logical address of the chunk  24 length  32 UUID
//! ```

use super::BtrfsDoubt;
use super::chunks::{Chunk, Chunks};
use super::node::Key;
use super::tree::{DEVICE_TREE, Next, Visit, Volume};
use crate::alloc::bytes::u64_at;
use crate::alloc::doubt::Stop;

const KIND_STATS: u8 = 249;
const KIND_REPLACE: u8 = 250;
const KIND_EXTENT: u8 = 204;
/// The states of a replacement of the device that is not under way: never started, finished, cancelled.
const REPLACE_IDLE: [u64; 3] = [0, 2, 3];

/// A chunk at one of its places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) physical: u64,
    pub(super) chunk: Chunk,
}

/// Returns the pieces of all chunks in the order of the device, proved to be apart and to agree with the device tree.
pub(super) fn pieces(volume: &Volume<'_>) -> Result<Vec<Piece>, Stop> {
    let pieces = in_order(&volume.chunks)?;
    let mut compare = Compare { device: volume.superblock.device.id, pieces: &pieces, seen: 0 };
    volume.walk(volume.tree(DEVICE_TREE)?, Key::FIRST, &mut compare)?;
    if let Some(missing) = pieces.get(compare.seen) {
        return Err(BtrfsDoubt::DeviceExtent { physical: missing.physical }.into());
    }
    Ok(pieces)
}

fn in_order(chunks: &Chunks) -> Result<Vec<Piece>, BtrfsDoubt> {
    let places = |chunk: &Chunk| {
        let chunk = *chunk;
        chunk.places().map(move |physical| Piece { physical, chunk })
    };
    let mut pieces: Vec<Piece> = chunks.iter().flat_map(places).collect();
    pieces.sort_unstable_by_key(|piece| piece.physical);
    for pair in pieces.windows(2) {
        if let [first, second] = pair
            && first.physical.saturating_add(first.chunk.len) > second.physical
        {
            return Err(BtrfsDoubt::DeviceExtent { physical: second.physical });
        }
    }
    Ok(pieces)
}

struct Compare<'a> {
    device: u64,
    pieces: &'a [Piece],
    seen: usize,
}

impl Visit for Compare<'_> {
    fn item(&mut self, key: Key, data: &[u8]) -> Result<Next, BtrfsDoubt> {
        match (key.objectid, key.kind) {
            (0, KIND_STATS) => Ok(Next::Go),
            (0, KIND_REPLACE) => match u64_at(data, 32) {
                Some(state) if REPLACE_IDLE.contains(&state) => Ok(Next::Go),
                _ => Err(BtrfsDoubt::Replacing),
            },
            (device, KIND_EXTENT) if device == self.device => {
                let same = self.pieces.get(self.seen).is_some_and(|piece| {
                    piece.physical == key.offset
                        && u64_at(data, 16) == Some(piece.chunk.logical)
                        && u64_at(data, 24) == Some(piece.chunk.len)
                });
                self.seen += 1;
                if same { Ok(Next::Go) } else { Err(BtrfsDoubt::DeviceExtent { physical: key.offset }) }
            }
            _ => Err(BtrfsDoubt::Item { tree: "device", kind: key.kind }),
        }
    }
}
