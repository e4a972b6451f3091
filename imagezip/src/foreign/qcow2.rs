//! The images of QEMU: a reader of versions 2 and 3, and a writer of version 3.
//!
//! ```text
//! header | tables and clusters in any order
//! L1 table: one entry for each L2 table    L2 table: one entry for each cluster of the disk
//! refcount table: one entry for each refcount block    refcount block: how often each cluster of the file is used
//! ```
//! All integers are big endian. What is refused, and why: `docs/formats/foreign.md`.
//!
//! - [`header`]: what the first bytes say, and what is refused for it
//! - [`entry`]: what an entry of an L2 table says
//! - [`reader`]: the file as a disk
//! - [`census`]: one walk through all tables before anything is believed
//! - [`codec`]: compressed clusters
//! - [`writer`]: a file written in one go, with [`refcounts`] that follow it
//! - [`export`]: an image of ours as such a file, read back and proved

mod census;
mod codec;
mod entry;
pub mod export;
mod header;
mod reader;
mod refcounts;
mod writer;

pub use codec::Compression;
pub use header::Refused;
pub use reader::{Disk, OpenError};
pub use writer::{Layout, Stored, WriteError, Writer};

/// The first four bytes: `QFI` and 0xfb.
const MAGIC: u32 = 0x5146_49fb;
/// Bits 9 to 55 of an entry: where a table or a cluster lies in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of an entry: the cluster is used exactly once.
const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry: the cluster reads as zeros, whatever the rest says.
const ZERO: u64 = 1;

/// Incompatible feature bit 0: refcounts may be wrong.
const DIRTY: u64 = 1;
/// Incompatible feature bit 1: something is known to be wrong.
const CORRUPT: u64 = 1 << 1;
/// Incompatible feature bit 2: the data is in another file.
const DATA_FILE: u64 = 1 << 2;
/// Incompatible feature bit 3: the header says how clusters are compressed.
const COMPRESSION_TYPE: u64 = 1 << 3;
/// Incompatible feature bit 4: L2 entries have 16 bytes.
const EXTENDED_L2: u64 = 1 << 4;

/// Returns a size or a number of entries as an index; saturated where memory could not hold it anyway.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Returns the length of a slice as a number of a format.
fn count<T>(slice: &[T]) -> u64 {
    u64::try_from(slice.len()).unwrap_or(u64::MAX)
}
