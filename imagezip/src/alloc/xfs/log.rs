//! The log: a ring of sectors of 512 bytes, written in records. Each sector begins with the number of the round
//! (cycle) in which it was written, so that the end can be found; what stood there is kept in the header of the record.

mod head;
pub(crate) mod item;
mod record;
mod replay;
mod transactions;

use super::superblock::Superblock;
use crate::alloc::bytes::be32_at;
use crate::alloc::doubt::{Stop, SurveyError};
use crate::alloc::window::Window;
pub(crate) use head::{End, State};
use record::Header;
pub(crate) use replay::Replay;

/// The unit of the log, whatever the sectors of the disk are.
const SECTOR: u64 = 512;

/// Why a log is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogDoubt {
    /// mkfs.xfs writes a record; this log has none.
    #[error("the log was never written")]
    NeverWritten,
    /// The numbers of rounds do not say where it ends.
    #[error("the end of the log cannot be found ({0})")]
    NoEnd(&'static str),
    /// A record that does not belong there or makes no sense.
    #[error("the log record in sector {sector} of the log has an impossible {field}")]
    Record {
        /// Where its header is.
        sector: u32,
        /// What is wrong with it.
        field: &'static str,
    },
    /// An operation that makes no sense.
    #[error("an operation in the log has an impossible {0}")]
    Operation(&'static str),
    /// An item that makes no sense.
    #[error("an item in the log has an impossible {0}")]
    Item(&'static str),
    /// An item that is not known.
    #[error("the log holds items of the unknown kind {0:#x}")]
    Kind(u16),
    /// Transactions that were committed in another order than they began.
    #[error("the transactions in the log are not in order")]
    Order,
    /// Something that some kernels would replay and others not.
    #[error("it depends on the kernel what a replay of the log does")]
    Age,
    /// More than fits in memory.
    #[error("the log changes more than can be kept in memory")]
    TooMuch,
}

/// The log of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log<'a> {
    window: &'a Window<'a>,
    start: u64,
    sectors: u32,
    uuid: [u8; 16],
}

impl<'a> Log<'a> {
    /// Makes the log of a file system whose superblock has proved that it lies inside.
    pub(crate) fn new(window: &'a Window<'a>, superblock: &Superblock) -> Self {
        let place = &superblock.log;
        let sectors = u64::from(place.blocks) * superblock.block_bytes() / SECTOR;
        Self {
            window,
            start: superblock.block_start(place.group, place.first),
            // At most 2 GiB, so at most 4 million.
            sectors: u32::try_from(sectors).unwrap_or(u32::MAX),
            uuid: place.uuid,
        }
    }

    /// Finds the end of the log, and whether the file system was unmounted there.
    pub(crate) fn state(&self) -> Result<State, Stop> {
        head::find(self)
    }

    /// Computes what a replay up to the end would change.
    pub(crate) fn replay(&self, end: &End, superblock: &Superblock) -> Result<Replay, Stop> {
        Replay::new(self, end, superblock)
    }

    /// Reads `count` sectors from `sector` on, going round the ring.
    fn read(&self, sector: u32, count: u32) -> Result<Vec<u8>, SurveyError> {
        let first = count.min(self.sectors.saturating_sub(sector));
        let mut bytes = self.window.fetch(self.start + u64::from(sector) * SECTOR, u64::from(first) * SECTOR)?;
        if first < count {
            bytes.extend(self.window.fetch(self.start, u64::from((count - first).min(self.sectors)) * SECTOR)?);
        }
        Ok(bytes)
    }

    /// Returns the number of the round in which a sector was written.
    fn round(&self, sector: u32) -> Result<u32, SurveyError> {
        Ok(round_of(&self.read(sector, 1)?))
    }

    /// Returns the sector `count` behind another, going round the ring.
    fn forward(&self, sector: u32, count: u32) -> u32 {
        let place = (u64::from(sector) + u64::from(count)) % u64::from(self.sectors.max(1));
        u32::try_from(place).unwrap_or(0)
    }

    /// Returns how many sectors lie from one to before another, going round the ring.
    fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { self.sectors.saturating_sub(from).saturating_add(to) }
    }
}

/// Returns the number of the round from the start of a sector: a header has it second.
fn round_of(sector: &[u8]) -> u32 {
    let word = be32_at(sector, 0).unwrap_or(0);
    if word == record::MAGIC { be32_at(sector, 4).unwrap_or(0) } else { word }
}
