//! Newtypes for everything that has a unit, so that a byte never meets a block by accident.
//!
//! Arithmetic on values that may come from a disk, a file or the network is checked: it returns `None`
//! instead of wrapping.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! define_unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The value zero.
            pub const ZERO: Self = Self(0);
            /// The largest value.
            pub const MAX: Self = Self(u64::MAX);

            /// Wraps a bare number read from a format or a system call.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// Returns the bare number, to be written to a format or given to a system call.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns true for zero.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

define_unit! {
    /// A place on a disk or in a file, in bytes from its start.
    ByteOffset
}
define_unit! {
    /// A length in bytes.
    ByteLen
}
define_unit! {
    /// The number of a hash block, counted from 0 at the start of the disk.
    BlockIndex
}
define_unit! {
    /// How many hash blocks.
    BlockCount
}
define_unit! {
    /// The number of a chunk (1 MiB of disk, one page of a signature), counted from 0.
    ChunkIndex
}

impl ByteOffset {
    /// Returns the place `len` bytes further, or `None` past the end of the number range.
    pub const fn checked_add(self, len: ByteLen) -> Option<Self> {
        match self.0.checked_add(len.0) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Returns the distance from `earlier` to `self`, or `None` when `earlier` lies behind `self`.
    pub const fn checked_since(self, earlier: Self) -> Option<ByteLen> {
        match self.0.checked_sub(earlier.0) {
            Some(value) => Some(ByteLen(value)),
            None => None,
        }
    }
}

impl ByteLen {
    /// Returns the sum, or `None` when it does not fit.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Returns the length as a `usize` for a buffer of this process, or `None` when it cannot be one.
    pub fn to_usize(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }

    /// Returns how many bytes a slice holds.
    pub const fn of(bytes: &[u8]) -> Self {
        // A slice never holds more than isize::MAX bytes, so this widening is lossless on every target we build for.
        Self(bytes.len() as u64)
    }
}

/// The size of a logical sector of a disk: a power of two from 512 to 65536 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SectorSize(u32);

/// The size of a hash block: a power of two from 512 bytes to 1 MiB. 4096 unless a file says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct BlockSize(u32);

/// A size that is not a power of two in the allowed range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {value} bytes is not a power of two from {least} to {most}")]
pub struct BadSize {
    what: &'static str,
    value: u32,
    least: u32,
    most: u32,
}

/// How many bytes of disk one page of a signature describes.
pub const CHUNK_BYTES: u32 = 1 << 20;

impl SectorSize {
    /// 512 bytes, what a regular file has unless its partition table says otherwise.
    pub const S512: Self = Self(512);
    /// 4096 bytes.
    pub const S4096: Self = Self(4096);

    /// Parses a sector size.
    ///
    /// # Errors
    /// [`BadSize`] unless it is a power of two from 512 to 65536.
    pub const fn new(value: u32) -> Result<Self, BadSize> {
        if value.is_power_of_two() && value >= 512 && value <= 65536 {
            Ok(Self(value))
        } else {
            Err(BadSize { what: "a sector size", value, least: 512, most: 65536 })
        }
    }

    /// Returns the size in bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl BlockSize {
    /// 4 KiB, the default.
    pub const DEFAULT: Self = Self(4096);

    /// Parses a block size.
    ///
    /// # Errors
    /// [`BadSize`] unless it is a power of two from 512 to 1 MiB.
    pub const fn new(value: u32) -> Result<Self, BadSize> {
        if value.is_power_of_two() && value >= 512 && value <= CHUNK_BYTES {
            Ok(Self(value))
        } else {
            Err(BadSize { what: "a block size", value, least: 512, most: CHUNK_BYTES })
        }
    }

    /// Returns the size in bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Returns the size in bytes for indexing a buffer.
    pub const fn as_usize(self) -> usize {
        // At most 1 MiB, so it fits a usize of any target with an operating system.
        self.0 as usize
    }

    /// Returns how many blocks one chunk holds: 1 to 2048.
    pub const fn blocks_per_chunk(self) -> u32 {
        CHUNK_BYTES / self.0
    }

    /// Returns how many blocks a disk of `len` bytes has; a short last block counts as one.
    pub const fn blocks_in(self, len: ByteLen) -> BlockCount {
        BlockCount(len.0.div_ceil(self.0 as u64))
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = BadSize;
    fn try_from(value: u32) -> Result<Self, BadSize> {
        Self::new(value)
    }
}

impl From<SectorSize> for u32 {
    fn from(value: SectorSize) -> Self {
        value.0
    }
}

impl TryFrom<u32> for BlockSize {
    type Error = BadSize;
    fn try_from(value: u32) -> Result<Self, BadSize> {
        Self::new(value)
    }
}

impl From<BlockSize> for u32 {
    fn from(value: BlockSize) -> Self {
        value.0
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A non-wrapping range of bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteRange {
    /// Where the range begins.
    pub start: ByteOffset,
    /// How long it is.
    pub len: ByteLen,
}

impl ByteRange {
    /// Makes a range from its start and its end (the first byte after it), or `None` when `end` lies before `start`.
    pub const fn between(start: ByteOffset, end: ByteOffset) -> Option<Self> {
        match end.checked_since(start) {
            Some(len) => Some(Self { start, len }),
            None => None,
        }
    }

    /// Returns the first byte after the range, or `None` when it is past the number range.
    pub const fn checked_end(self) -> Option<ByteOffset> {
        self.start.checked_add(self.len)
    }
}
