//! The words every other crate speaks: units, the total map of a disk, signatures, manifests and their seals.
//!
//! A leaf library: it reads and writes formats and computes roots, and does no imaging, no networking and no SQL.

pub mod units;

pub use units::{
    BlockCount, BlockIndex, BlockSize, ByteLen, ByteOffset, ByteRange, CHUNK_BYTES, ChunkIndex, SectorSize,
};
