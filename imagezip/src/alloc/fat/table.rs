//! The table: for every cluster the next one of its chain, or that it is the last, bad or free.

use super::FatDoubt;
use super::boot::{Boot, FatKind};
use crate::alloc::bytes::{u16_at, u32_at};
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;
use crate::extents::{Extents, ExtentsBuilder};

/// How much of the tables is looked at at once: whole entries of every kind.
const PIECE: u64 = 192 << 10;
/// The number of the first cluster; two entries before it stand for something else.
const FIRST: u32 = 2;

/// What an entry says of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Free,
    Next(u32),
    Last,
    Bad,
    Impossible,
}

/// Reads both tables. Returns what is allocated of the partition, and how many clusters are free.
pub(super) fn read(window: &Window<'_>, boot: &Boot) -> Result<(Extents, u32), Stop> {
    let mut list = ExtentsBuilder::new();
    list.push(0, boot.clusters_at);
    // One bit for each cluster, at most 32 MiB: what some chain goes on in.
    let mut entered = Bits::new(boot.clusters);
    if let Some(root) = boot.root {
        entered.set(root)?;
    }
    let mut free = 0_u32;
    let mut cluster = 0_u32;
    let mut offset = 0;
    while offset < boot.table_len {
        let len = PIECE.min(boot.table_len - offset);
        let [first, second] = boot.tables;
        let piece = window.fetch(first + offset, len)?;
        if piece != window.fetch(second + offset, len)? {
            return Err(FatDoubt::TablesDiffer { cluster }.into());
        }
        for value in values(boot.kind, &piece) {
            if cluster >= FIRST && cluster - FIRST < boot.clusters {
                match entry(boot.kind, value) {
                    Entry::Free => free += 1,
                    Entry::Next(next) => entered.set(next).map_err(|_| FatDoubt::Chain { cluster })?,
                    Entry::Last | Entry::Bad => {}
                    Entry::Impossible => return Err(FatDoubt::Chain { cluster }.into()),
                }
                if entry(boot.kind, value) != Entry::Free {
                    let start = place(boot, cluster);
                    list.push(start, start + boot.cluster_size);
                }
            } else if cluster < FIRST {
                check_start(boot, cluster, value)?;
            }
            cluster = cluster.saturating_add(1);
        }
        offset += len;
    }
    list.push(boot.clusters_end(), window.range().len.get());
    let allocated = list.finish();
    refuse_chains_into_free(boot, &allocated, &entered)?;
    Ok((allocated, free))
}

/// The first entry repeats the medium; the second is an end, in which Windows clears bits while the volume is in use
/// or when it saw errors.
fn check_start(boot: &Boot, cluster: u32, value: u32) -> Result<(), FatDoubt> {
    let (ones, bad) = match boot.kind {
        FatKind::Fat12 => (0xFFF, 0),
        FatKind::Fat16 => (0xFFFF, 0xC000),
        FatKind::Fat32 => (0x0FFF_FFFF, 0x0C00_0000),
    };
    let value = value & ones;
    if cluster == 0 {
        let medium = (ones & !0xFF) | u32::from(boot.medium);
        return if value == medium { Ok(()) } else { Err(FatDoubt::TableStart) };
    }
    if value & bad != bad {
        return Err(FatDoubt::Dirty);
    }
    if entry(boot.kind, value) == Entry::Last { Ok(()) } else { Err(FatDoubt::TableStart) }
}

/// A chain that goes on in a free cluster is read by some systems and not by others.
fn refuse_chains_into_free(boot: &Boot, allocated: &Extents, entered: &Bits) -> Result<(), FatDoubt> {
    let mut behind = boot.clusters_at;
    let ranges = allocated.iter().map(|range| (range.start.get(), range.start.get().saturating_add(range.len.get())));
    // What is free at the very end has no range behind it.
    for (start, end) in ranges.chain([(boot.clusters_end(), boot.clusters_end())]) {
        if start > behind {
            let number = |at: u64| (at - boot.clusters_at) / boot.cluster_size;
            for index in number(behind)..number(start) {
                let cluster = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(FIRST);
                if entered.has(cluster) {
                    return Err(FatDoubt::Chain { cluster });
                }
            }
        }
        behind = behind.max(end);
    }
    Ok(())
}

fn place(boot: &Boot, cluster: u32) -> u64 {
    boot.clusters_at + u64::from(cluster - FIRST) * boot.cluster_size
}

/// Returns the entries in a piece of a table that starts with a whole one.
fn values(kind: FatKind, piece: &[u8]) -> Box<dyn Iterator<Item = u32> + '_> {
    match kind {
        FatKind::Fat12 => Box::new(piece.chunks(3).flat_map(|three| {
            // Two entries in three bytes: the low nibble of the middle one belongs to the first.
            let first = u16_at(three, 0).map(|low| u32::from(low & 0xFFF));
            let second = u16_at(three, 1).map(|high| u32::from(high >> 4));
            [first, second].into_iter().flatten()
        })),
        FatKind::Fat16 => Box::new(piece.chunks(2).filter_map(|two| u16_at(two, 0)).map(u32::from)),
        FatKind::Fat32 => Box::new(piece.chunks(4).filter_map(|four| u32_at(four, 0))),
    }
}

fn entry(kind: FatKind, value: u32) -> Entry {
    // The upper four bits of a FAT32 entry are reserved and kept as they are.
    let (value, bad) = match kind {
        FatKind::Fat12 => (value, 0xFF7),
        FatKind::Fat16 => (value, 0xFFF7),
        FatKind::Fat32 => (value & 0x0FFF_FFFF, 0x0FFF_FFF7),
    };
    match value {
        0 => Entry::Free,
        1 => Entry::Impossible,
        value if value > bad => Entry::Last,
        value if value == bad => Entry::Bad,
        value => Entry::Next(value),
    }
}

/// One bit for each cluster.
struct Bits {
    bytes: Vec<u8>,
    clusters: u32,
}

impl Bits {
    fn new(clusters: u32) -> Self {
        let len = usize::try_from(clusters.div_ceil(8)).unwrap_or(0);
        Self { bytes: vec![0; len], clusters }
    }

    /// Sets the bit of a cluster that is there and not set.
    fn set(&mut self, cluster: u32) -> Result<(), FatDoubt> {
        let doubt = FatDoubt::Chain { cluster };
        let index = cluster.checked_sub(FIRST).filter(|index| *index < self.clusters).ok_or(doubt.clone())?;
        let byte = usize::try_from(index / 8).ok().and_then(|at| self.bytes.get_mut(at)).ok_or(doubt.clone())?;
        let bit = 1 << (index % 8);
        if *byte & bit != 0 {
            return Err(doubt);
        }
        *byte |= bit;
        Ok(())
    }

    fn has(&self, cluster: u32) -> bool {
        let index = cluster.saturating_sub(FIRST);
        let byte = usize::try_from(index / 8).ok().and_then(|at| self.bytes.get(at));
        byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_every_width() {
        let all = |kind, bytes: &[u8]| values(kind, bytes).collect::<Vec<_>>();
        assert_eq!(all(FatKind::Fat12, &[0xF8, 0xFF, 0xFF, 0x03, 0x40, 0x00]), [0xFF8, 0xFFF, 3, 4]);
        assert_eq!(all(FatKind::Fat12, &[0xF8, 0xFF, 0xFF, 0x03, 0x40]), [0xFF8, 0xFFF, 3]);
        assert_eq!(all(FatKind::Fat16, &[1, 2, 3, 4]), [0x0201, 0x0403]);
        assert_eq!(all(FatKind::Fat32, &[1, 2, 3, 4]), [0x0403_0201]);
        assert_eq!(entry(FatKind::Fat12, 0xFF6), Entry::Next(0xFF6));
        assert_eq!(entry(FatKind::Fat12, 0xFF7), Entry::Bad);
        assert_eq!(entry(FatKind::Fat12, 0xFF8), Entry::Last);
        assert_eq!(entry(FatKind::Fat32, 0xF000_0000), Entry::Free);
        assert_eq!(entry(FatKind::Fat16, 1), Entry::Impossible);
    }

    #[test]
    fn a_cluster_is_entered_once() {
        let mut bits = Bits::new(10);
        assert!(bits.set(2).is_ok() && bits.set(11).is_ok());
        assert!(bits.set(2).is_err() && bits.set(12).is_err() && bits.set(1).is_err() && bits.set(u32::MAX).is_err());
        assert!(bits.has(2) && bits.has(11) && !bits.has(3) && !bits.has(12) && !bits.has(u32::MAX));
    }
}
