//! What an entry of an L2 table says of one cluster of the disk.

use super::header::{Header, Refused};
use super::{COMPRESSED, COPIED, OFFSET_MASK, ZERO};

/// Where a cluster of the disk is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Nowhere: it reads as zeros.
    Hole,
    /// In the file.
    Plain {
        offset: u64,
        /// One bit for each 32nd of the cluster that is really there; the others read as zeros.
        present: u32,
    },
    /// Compressed: the file has `len` bytes that begin with its content. Some of them may belong to the next cluster.
    Compressed { offset: u64, len: u64 },
}

impl Header {
    /// Reads an entry: its first 8 bytes, and the next 8 where entries have 16.
    ///
    /// `disk_offset` is for messages. Whether the place is inside the file is checked by the caller.
    pub(super) fn cluster(&self, entry: u64, bitmap: u64, disk_offset: u64) -> Result<Cluster, Refused> {
        let wrong = |reason| Err(Refused::Entry { offset: disk_offset, reason });
        if entry & COMPRESSED != 0 {
            // The lower bits hold the place, byte by byte; the upper ones how many sectors it reaches into, less one.
            let place_bits = 62 - (self.cluster_bits - 8);
            let offset = entry & ((1 << place_bits) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> place_bits) + 1;
            if entry & COPIED != 0 || bitmap != 0 {
                return wrong("a compressed cluster has flags that it cannot have");
            }
            if offset == 0 {
                return wrong("a compressed cluster lies on the header");
            }
            return Ok(Cluster::Compressed { offset, len: sectors * 512 - offset % 512 });
        }
        let zero_flag = if self.version >= 3 && !self.extended_l2 { ZERO } else { 0 };
        let offset = entry & OFFSET_MASK;
        if entry & !(OFFSET_MASK | COPIED | zero_flag) != 0 {
            return wrong("bits are set that mean nothing");
        }
        if !offset.is_multiple_of(self.cluster_bytes()) {
            return wrong("the cluster is not aligned");
        }
        let (present, zeros) = if self.extended_l2 { halves(bitmap) } else { (u32::MAX, 0) };
        if present & zeros != 0 {
            return wrong("a part of the cluster is both present and zero");
        }
        match (entry & zero_flag != 0 || present == 0, offset) {
            (true, _) => Ok(Cluster::Hole),
            (false, 0) if self.extended_l2 => wrong("parts of a cluster are present that is nowhere"),
            (false, 0) => Ok(Cluster::Hole),
            (false, offset) => Ok(Cluster::Plain { offset, present }),
        }
    }
}

/// Splits the bitmap of an extended entry: which parts are present, which are zeros.
fn halves(bitmap: u64) -> (u32, u32) {
    let low = u32::try_from(bitmap & u64::from(u32::MAX)).unwrap_or(0);
    (low, u32::try_from(bitmap >> 32).unwrap_or(0))
}
