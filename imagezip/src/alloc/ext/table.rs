//! The table of group descriptors, read in order and in small parts: it has 64 bytes for every 128 MiB.

use super::ExtDoubt;
use super::descriptors::Descriptor;
use super::superblock::Superblock;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// How much of the table is read at once where it lies in one piece.
const READ_BYTES: u32 = 64 * 1024;

/// Some descriptors that follow each other.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The group of the first one.
    pub(crate) first: u32,
    pub(crate) descriptors: Vec<Descriptor>,
}

/// Reads the primary descriptors, which stand behind the superblock or, with meta_bg, in the groups they describe.
pub(crate) fn batches<'a>(
    window: &'a Window<'_>,
    superblock: &'a Superblock,
) -> impl Iterator<Item = Result<Batch, Stop>> + 'a {
    let most = (READ_BYTES / superblock.block_size.bytes()).max(1);
    let mut next = 0;
    std::iter::from_fn(move || {
        let index = next;
        let left = superblock.descriptor_blocks().checked_sub(index).filter(|left| *left > 0)?;
        let in_copy = superblock.descriptor_blocks_in_copy.saturating_sub(index);
        let blocks = left.min(most).min(in_copy.max(1));
        next = index.saturating_add(blocks);
        Some(read(window, superblock, index, blocks))
    })
}

/// Reads the descriptor of one group.
pub(crate) fn descriptor(window: &Window<'_>, superblock: &Superblock, group: u32) -> Result<Descriptor, Stop> {
    let per_block = superblock.descriptors_per_block();
    let batch = read(window, superblock, group / per_block, 1)?;
    let at = usize::try_from(group % per_block).map_err(|_| ExtDoubt::DescriptorsCut)?;
    Ok(*batch.descriptors.get(at).ok_or(ExtDoubt::DescriptorsCut)?)
}

/// Reads some blocks of descriptors that lie in one piece.
fn read(window: &Window<'_>, superblock: &Superblock, index: u32, blocks: u32) -> Result<Batch, Stop> {
    let first = index.saturating_mul(superblock.descriptors_per_block());
    let count = superblock.groups.saturating_sub(first).min(blocks.saturating_mul(superblock.descriptors_per_block()));
    let size = u64::from(superblock.block_size.bytes());
    let place = superblock.descriptor_block(index).saturating_mul(size);
    let bytes = window.fetch(place, u64::from(blocks).saturating_mul(size))?;
    let len = usize::try_from(superblock.descriptor_len).map_err(|_| ExtDoubt::DescriptorsCut)?;
    let pieces = (first..).zip(bytes.chunks_exact(len)).take(usize::try_from(count).unwrap_or(0));
    let descriptors: Vec<Descriptor> =
        pieces.map(|(group, bytes)| Descriptor::parse(superblock, group, bytes)).collect::<Result<_, _>>()?;
    if u32::try_from(descriptors.len()) != Ok(count) {
        return Err(ExtDoubt::DescriptorsCut.into());
    }
    Ok(Batch { first, descriptors })
}
