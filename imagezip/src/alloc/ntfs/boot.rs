//! The boot sector: how large everything is, and where the file table is.
//!
//! ```text
//! 3 "NTFS    "  11 bytes per sector  13 sectors per cluster  14 zeros, of which FAT has numbers  40 sectors
//! 48 cluster of the file table  56 of its mirror  64 size of a record  510 0x55 0xAA
//! ```

use super::NtfsDoubt;
use crate::alloc::bytes::{has, u8_at, u16_at, u64_at};
use crate::alloc::clusters::Clusters;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// What must be the same in the copy: all that says where things are. Whoever moves a partition changes the numbers at
/// 24 to 31, which are for firmware, in the first boot sector only; behind 80 is code.
const FIELDS: [std::ops::Range<usize>; 2] = [3..24, 40..80];

/// Where everything is. All of it was proved to be inside the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) clusters: Clusters,
    /// Where the file table begins, in bytes from the start of the partition.
    pub(super) table: u64,
    /// The size of a record.
    pub(super) record: u64,
}

impl Boot {
    /// Reads the boot sector and its copy.
    pub(super) fn read(window: &Window<'_>) -> Result<Self, Stop> {
        let bytes = window.fetch(0, 512)?;
        let (boot, copy_at) = Self::parse(&bytes).ok_or(NtfsDoubt::Boot("layout"))??;
        let partition = window.range().len.get();
        if boot.clusters.end() > partition || copy_at > partition {
            return Err(NtfsDoubt::LargerThanPartition.into());
        }
        let copy = window.fetch(copy_at, 512)?;
        let same = FIELDS.into_iter().all(|fields| copy.get(fields.clone()) == bytes.get(fields));
        if !same || !has(&copy, 510, &[0x55, 0xAA]) {
            return Err(NtfsDoubt::BackupDiffers { at: copy_at }.into());
        }
        Ok(boot)
    }

    /// Returns `None` where a number is not there or too large.
    fn parse(bytes: &[u8]) -> Option<Result<(Self, u64), NtfsDoubt>> {
        let sector = u64::from(u16_at(bytes, 11)?);
        let per_cluster = power(u8_at(bytes, 13)?)?;
        let sectors = u64_at(bytes, 40)?;
        let sane = sector.is_power_of_two()
            && (512..=4096).contains(&sector)
            && bytes.get(14..21)?.iter().all(|byte| *byte == 0)
            && bytes.get(22..24)? == [0, 0]
            && bytes.get(32..36)? == [0; 4]
            && has(bytes, 510, &[0x55, 0xAA]);
        if !sane {
            return Some(Err(NtfsDoubt::Boot("field")));
        }
        let size = per_cluster.checked_mul(sector).filter(|size| *size <= 2 << 20)?;
        let clusters = Clusters { start: 0, size, count: sectors / per_cluster };
        let record = match u8_at(bytes, 64)? {
            few @ 1..0x80 => u64::from(few).checked_mul(size)?,
            shift => 1_u64.checked_shl(256 - u32::from(shift))?,
        };
        if !record.is_power_of_two() || !(1024..=4096).contains(&record) {
            return Some(Err(NtfsDoubt::Boot("size of a record")));
        }
        let table = clusters.range(u64_at(bytes, 48)?, record.div_ceil(size))?;
        clusters.range(u64_at(bytes, 56)?, 1)?;
        let copy_at = sectors.checked_mul(sector)?;
        Some(Ok((Self { clusters, table: table.start.get(), record }, copy_at)))
    }
}

/// The number of sectors is a power of two, or where it is large, the exponent of one as a negative number.
fn power(byte: u8) -> Option<u64> {
    match byte {
        0x81.. => 1_u64.checked_shl(256 - u32::from(byte)),
        few => Some(u64::from(few)).filter(|few| few.is_power_of_two()),
    }
}
