//! The words every other crate speaks: units, the total map of a disk, signatures, manifests and their seals.
//!
//! A leaf library: it reads and writes formats and computes roots, and does no imaging, no networking and no SQL.
//!
//! - [`units`], [`digest`]: newtypes for what has a unit or a meaning
//! - [`map`]: the total map of a disk, its coarse table and its root
//! - [`signature`]: `.sig` files
//! - [`image_map`]: where each block of an image's target state comes from
//! - [`zdi`]: the container of an image, `.zdi`
//! - [`manifest`]: what an image is
//! - [`seal`]: ed25519 signatures over exact bytes
//! - [`source`]: reading bytes at any place

pub mod digest;
pub mod image_map;
pub mod manifest;
pub mod map;
pub mod seal;
pub mod signature;
pub mod source;
pub mod units;
pub mod zdi;

pub use digest::{BlockHash, Digest, Root};
pub use map::{BlockCounts, BlockKind, BlockState, ChunkState, CoarseTable, Geometry, RootBuilder};
pub use signature::{Signature, SignatureError, SignatureWriter};
pub use source::{FileSource, ReadAt};
pub use units::{
    BlockCount, BlockIndex, BlockSize, ByteLen, ByteOffset, ByteRange, CHUNK_BYTES, ChunkIndex, SectorSize,
};
