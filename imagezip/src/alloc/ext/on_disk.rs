//! The bitmaps as they are on the disk, where a replay would change them. They prove nothing: some are older and some
//! newer than others. They are taken along for who looks at the disk without a replay.

use super::ExtDoubt;
use super::bitmaps::ClusterMap;
use super::bits::Bits;
use super::superblock::Superblock;
use super::table;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;
use crate::extents::{Extents, ExtentsBuilder};

/// Returns what the bitmaps on the disk have as allocated in the groups of which `is_written` says that a replay writes
/// to the block of their descriptor or of their bitmap.
pub(crate) fn allocated(
    window: &Window<'_>,
    superblock: &Superblock,
    is_written: impl Fn(u64) -> bool,
) -> Result<Extents, Stop> {
    let size = u64::from(superblock.block_size.bytes());
    let mut list = ExtentsBuilder::new();
    for batch in table::batches(window, superblock) {
        let batch = batch?;
        for (group, descriptor) in (batch.first..).zip(&batch.descriptors) {
            let table_block = superblock.descriptor_block(group / superblock.descriptors_per_block());
            let changes = is_written(table_block) || is_written(descriptor.block_bitmap);
            // Without a bitmap only metadata is allocated, and that is after the replay, too.
            if !changes || descriptor.uninit {
                continue;
            }
            let place = descriptor.block_bitmap.checked_mul(size).ok_or(ExtDoubt::Pointer { group })?;
            let block = window.fetch(place, size)?;
            let map = ClusterMap::new(superblock, group);
            Bits::new(&block).set_runs(map.clusters, |run| {
                let blocks = map.blocks_of(run);
                list.push(blocks.start * size, blocks.end * size);
            });
        }
    }
    Ok(list.finish())
}
