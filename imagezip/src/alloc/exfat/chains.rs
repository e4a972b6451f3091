//! The table, which for every cluster has the next one of its chain.

use sigs::ByteRange;

use super::boot::Boot;
use super::directory::Allocation;
use super::{ExfatDoubt, FIRST};
use crate::alloc::bytes::u32_at;
use crate::alloc::doubt::Stop;
use crate::alloc::window::Window;

/// How much of the table is kept at hand.
const PIECE: u64 = 64 << 10;
const LAST: u32 = u32::MAX;
/// What stands in front of the entries of clusters: the medium, and an end.
const START: [u32; 2] = [0xFFFF_FFF8, 0xFFFF_FFFF];

/// A volume and the piece of its table that was read last.
#[derive(Debug)]
pub(super) struct Chains<'a> {
    pub(super) window: &'a Window<'a>,
    pub(super) boot: Boot,
    piece: Vec<u8>,
    piece_at: u64,
}

impl<'a> Chains<'a> {
    /// Reads the start of the table.
    pub(super) fn open(window: &'a Window<'a>, boot: &Boot) -> Result<Self, Stop> {
        let piece = window.fetch(boot.table, PIECE)?;
        if [u32_at(&piece, 0), u32_at(&piece, 4)] != START.map(Some) {
            return Err(ExfatDoubt::TableStart.into());
        }
        Ok(Self { window, boot: *boot, piece, piece_at: 0 })
    }

    /// Returns where a cluster is; they are counted from 2.
    pub(super) fn place(&self, cluster: u32) -> Option<ByteRange> {
        self.boot.clusters.range(u64::from(cluster.checked_sub(FIRST)?), 1)
    }

    /// Calls `each` with the places of an allocation, in its order.
    pub(super) fn follow(
        &mut self,
        of: Allocation,
        mut each: impl FnMut(&Window<'_>, ByteRange) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let wrong = || ExfatDoubt::Chain { cluster: of.first };
        let count = of.len.div_ceil(self.boot.clusters.size);
        if !of.chained {
            let first = u64::from(of.first).checked_sub(FIRST.into()).ok_or_else(wrong)?;
            return each(self.window, self.boot.clusters.range(first, count).ok_or_else(wrong)?);
        }
        if count > self.boot.clusters.count {
            return Err(wrong().into());
        }
        let mut cluster = of.first;
        for index in 1..=count {
            each(self.window, self.place(cluster).ok_or_else(wrong)?)?;
            let next = self.next(cluster)?;
            if (next == LAST) != (index == count) {
                return Err(wrong().into());
            }
            cluster = next;
        }
        Ok(())
    }

    /// Returns how many clusters a chain has that says so only by its end: that of the root directory.
    pub(super) fn count(&mut self, first: u32) -> Result<u64, Stop> {
        let (mut cluster, mut count) = (first, 0);
        while cluster != LAST {
            count += 1;
            if self.place(cluster).is_none() || count > self.boot.clusters.count {
                return Err(ExfatDoubt::Chain { cluster: first }.into());
            }
            cluster = self.next(cluster)?;
        }
        Ok(count)
    }

    /// Returns the entry of a cluster that is there.
    fn next(&mut self, cluster: u32) -> Result<u32, Stop> {
        let at = u64::from(cluster) * 4;
        let start = at / PIECE * PIECE;
        if start != self.piece_at {
            self.piece = self.window.fetch(self.boot.table.saturating_add(start), PIECE)?;
            self.piece_at = start;
        }
        let inside = usize::try_from(at - start).unwrap_or(usize::MAX);
        Ok(u32_at(&self.piece, inside).ok_or(ExfatDoubt::Chain { cluster })?)
    }
}
