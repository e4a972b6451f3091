//! The boot region: twelve sectors with a checksum, and a copy behind them.
//!
//! ```text
//! 3 "EXFAT   "  11 zeros  72 sectors  80 table  84 its sectors  88 clusters  92 how many  96 root  104 version
//! 106 flags  108 exponent of the sector  109 of the sectors in a cluster  110 tables  112 percent in use
//! ```

use super::{ExfatDoubt, FIRST};
use crate::alloc::bytes::{has, u8_at, u16_at, u32_at, u64_at};
use crate::alloc::clusters::Clusters;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

const SECTORS: u64 = 12;
/// What changes while the volume is used: flags and percentage. Neither checksum nor copy have them.
const CHANGING: [usize; 3] = [106, 107, 112];
/// In use, errors seen; the first bit chooses a table, which is another format.
const FLAGS_BAD: u16 = 0x7;

/// Where everything is. All of it was proved to be inside the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) clusters: Clusters,
    /// Where the table is, in bytes from the start of the partition.
    pub(super) table: u64,
    /// The first cluster of the root directory.
    pub(super) root: u32,
    /// The end of the volume.
    pub(super) end: u64,
}

impl Boot {
    /// Reads the boot region and its copy.
    pub(super) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let first = window.fetch(0, 512)?;
        let (boot, sector) = Self::parse(&first).ok_or(ExfatDoubt::Boot("layout"))??;
        if boot.end > window.range().len.get() {
            return Err(ExfatDoubt::LargerThanPartition.into());
        }
        let flags = u16_at(&first, 106).unwrap_or(FLAGS_BAD);
        if flags & FLAGS_BAD != 0 {
            return Err(ExfatDoubt::Dirty(flags).into());
        }
        let len = SECTORS * sector;
        let (mut region, mut copy) = (window.fetch(0, len)?, window.fetch(len, len)?);
        let size = usize::try_from(sector).unwrap_or(512);
        if !has_checksum(&region, size) || !has_checksum(&copy, size) {
            return Err(ExfatDoubt::Checksum.into());
        }
        for at in CHANGING {
            for bytes in [&mut region, &mut copy] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = 0;
                }
            }
        }
        if region == copy { Ok(boot) } else { Err(ExfatDoubt::BackupDiffers.into()) }
    }

    /// Returns `None` where a number is not there or too large.
    fn parse(bytes: &[u8]) -> Option<Result<(Self, u64), ExfatDoubt>> {
        let (sector_bits, cluster_bits) = (u32::from(u8_at(bytes, 108)?), u32::from(u8_at(bytes, 109)?));
        let sane = has(bytes, 0, b"\xEB\x76\x90EXFAT   ")
            && bytes.get(11..64)?.iter().all(|byte| *byte == 0)
            && u16_at(bytes, 104)? >> 8 == 1
            && (9..=12).contains(&sector_bits)
            && sector_bits + cluster_bits <= 25
            && has(bytes, 510, &[0x55, 0xAA]);
        if !sane {
            return Some(Err(ExfatDoubt::Boot("field")));
        }
        if u8_at(bytes, 110)? != 1 {
            return Some(Err(ExfatDoubt::Boot("number of tables")));
        }
        let sector = 1_u64 << sector_bits;
        let size = sector << cluster_bits;
        let sectors = u64_at(bytes, 72)?;
        let (table, per_table) = (u64::from(u32_at(bytes, 80)?), u64::from(u32_at(bytes, 84)?));
        let (heap, count) = (u64::from(u32_at(bytes, 88)?), u32_at(bytes, 92)?);
        let clusters = Clusters { start: heap.checked_mul(sector)?, size, count: count.into() };
        let end = sectors.checked_mul(sector)?;
        let in_order = table >= 2 * SECTORS
            && table.checked_add(per_table)? <= heap
            && clusters.end() <= end
            && (u64::from(count) + u64::from(FIRST)) * 4 <= per_table * sector
            && (1..=0xFFFF_FFF5).contains(&count);
        if !in_order {
            return Some(Err(ExfatDoubt::Boot("layout")));
        }
        let root = u32_at(bytes, 96)?;
        Some(Ok((Self { clusters, table: table * sector, root, end }, sector)))
    }
}

/// Returns true if the last sector of a region repeats the checksum of the others.
fn has_checksum(region: &[u8], sector: usize) -> bool {
    let Some((summed, last)) = region.split_at_checked(11 * sector) else { return false };
    let relevant = summed.iter().enumerate().filter(|(at, _)| !CHANGING.contains(at));
    let sum = relevant.fold(0_u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte)));
    last.len() == sector && last.as_chunks::<4>().0.iter().all(|word| *word == sum.to_le_bytes())
}
