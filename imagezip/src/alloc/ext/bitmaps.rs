//! The block bitmaps: one bit for each block of a group, set where the block is allocated.

use super::ExtDoubt;
use super::descriptors::Descriptor;
use super::layout::{Blocks, Layout};
use super::superblock::Superblock;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// What is allocated in one group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// In disk order, not touching each other.
    pub(crate) allocated: Vec<Blocks>,
    pub(crate) free: u64,
}

/// Finds what is allocated in a group, and proves it against the descriptor and the layout.
pub(crate) fn read(
    window: &Window<'_>,
    superblock: &Superblock,
    layout: &Layout,
    group: u32,
    descriptor: &Descriptor,
) -> Result<Group, Stop> {
    let (first, end) = superblock.group_blocks(group);
    let allocated = if descriptor.uninit {
        merged(layout.between(first, end))
    } else {
        let size = u64::from(superblock.block_size.bytes());
        // The layout has proved that the bitmap lies inside the file system, so the product fits.
        let block = window.fetch(descriptor.block_bitmap.saturating_mul(size), size)?;
        check_bitmap(superblock, group, descriptor, &block, end - first)?;
        let allocated = set_runs(&block, first, end);
        if let Some(missing) = first_missing(&allocated, layout.between(first, end)) {
            return Err(ExtDoubt::MetadataFree { block: missing }.into());
        }
        allocated
    };
    let used: u64 = allocated.iter().map(|blocks| blocks.end - blocks.start).sum();
    let free = (end - first).saturating_sub(used);
    if free != u64::from(descriptor.free_blocks) {
        return Err(ExtDoubt::GroupCount { group, bitmap: free, descriptor: u64::from(descriptor.free_blocks) }.into());
    }
    Ok(Group { allocated, free })
}

/// Checks what can be checked of a bitmap before its content is believed.
fn check_bitmap(
    superblock: &Superblock,
    group: u32,
    descriptor: &Descriptor,
    block: &[u8],
    blocks: u64,
) -> Result<(), ExtDoubt> {
    // blocks_per_group is a multiple of 8.
    let used = usize::try_from(superblock.blocks_per_group / 8).ok().and_then(|len| block.get(..len));
    let used = used.ok_or(ExtDoubt::BitmapCut { group })?;
    if !descriptor.bitmap_is_valid(superblock.protection, used) {
        return Err(ExtDoubt::BitmapChecksum { group });
    }
    // Everything that writes a bitmap sets the bits that stand for nothing. Where they are not set, this is
    // something else, say zeros from a disk that lost a block.
    if (0..).step_by(8).zip(block).any(|(first, byte)| !padding_is_set(*byte, blocks.saturating_sub(first))) {
        return Err(ExtDoubt::Padding { group });
    }
    Ok(())
}

/// Returns true if all bits of a byte are set but the first `blocks`, which may be anything.
fn padding_is_set(byte: u8, blocks: u64) -> bool {
    let padding = u32::try_from(blocks).ok().and_then(|blocks| u8::MAX.checked_shl(blocks)).unwrap_or(0);
    byte & padding == padding
}

/// Returns the runs of set bits, as blocks: the first bit stands for `first`, and bits from `end` on for nothing.
fn set_runs(bitmap: &[u8], first: u64, end: u64) -> Vec<Blocks> {
    let mut runs: Vec<Blocks> = Vec::new();
    let mut add = |start: u64, len: u64| {
        let end = (start + len).min(end);
        match runs.last_mut() {
            _ if start >= end => {}
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(Blocks { start, end }),
        }
    };
    for (start, byte) in (first..).step_by(8).zip(bitmap) {
        match byte {
            0 => {}
            0xFF => add(start, 8),
            byte => {
                for bit in (0..8_u8).filter(|bit| byte >> bit & 1 == 1) {
                    add(start + u64::from(bit), 1);
                }
            }
        }
    }
    runs
}

/// Returns sorted pieces with those joined that touch.
fn merged(pieces: impl Iterator<Item = Blocks>) -> Vec<Blocks> {
    let mut runs: Vec<Blocks> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some(last) if last.end == piece.start => last.end = piece.end,
            _ => runs.push(piece),
        }
    }
    runs
}

/// Returns the first block of `needed` that is not in `allocated`. Both are in disk order.
fn first_missing(allocated: &[Blocks], needed: impl Iterator<Item = Blocks>) -> Option<u64> {
    let mut runs = allocated.iter().peekable();
    for piece in needed {
        while runs.next_if(|run| run.end <= piece.start).is_some() {}
        match runs.peek() {
            Some(run) if run.start <= piece.start && run.end >= piece.end => {}
            Some(run) if run.start <= piece.start => return Some(run.end),
            _ => return Some(piece.start),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(pairs: &[(u64, u64)]) -> Vec<Blocks> {
        pairs.iter().map(|(start, end)| Blocks { start: *start, end: *end }).collect()
    }

    #[test]
    fn runs_of_bits() {
        assert_eq!(set_runs(&[0xFF, 0x01, 0x80, 0xFF], 100, 132), blocks(&[(100, 109), (123, 132)]));
        assert_eq!(set_runs(&[0xFF, 0x01, 0x80, 0xFF], 100, 126), blocks(&[(100, 109), (123, 126)]));
        assert_eq!(set_runs(&[0b0110_0101], 0, 8), blocks(&[(0, 1), (2, 3), (5, 7)]));
        assert_eq!(set_runs(&[0; 16], 0, 128), []);
    }

    #[test]
    fn padding() {
        assert!(padding_is_set(0, 8));
        assert!(padding_is_set(0, u64::MAX));
        assert!(padding_is_set(0xFF, 0));
        assert!(!padding_is_set(0x7F, 0));
        assert!(padding_is_set(0b1111_1000, 3));
        assert!(!padding_is_set(0b1111_0111, 3));
    }

    #[test]
    fn metadata_must_be_covered() {
        let allocated = blocks(&[(0, 10), (20, 30)]);
        let missing = |needed: &[(u64, u64)]| first_missing(&allocated, blocks(needed).into_iter());
        assert_eq!(missing(&[(0, 4), (5, 10), (25, 30)]), None);
        assert_eq!(missing(&[(8, 12)]), Some(10));
        assert_eq!(missing(&[(0, 1), (15, 16)]), Some(15));
        assert_eq!(missing(&[(25, 31)]), Some(30));
        assert_eq!(missing(&[(40, 41)]), Some(40));
    }
}
