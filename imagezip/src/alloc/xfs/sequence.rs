//! When a piece of metadata was last written, as a place in the log, found as Linux finds it: by the magic number of
//! what is there now, whatever it is going to be.

use super::raw::Raw;
use super::superblock::Superblock;

/// Where sequence number and UUID stand, by the magic number at the start.
const KINDS: &[(&[u8], usize, usize)] = &[
    (b"AB3B", 24, 32),
    (b"AB3C", 24, 32),
    (b"ABTB", 24, 32),
    (b"ABTC", 24, 32),
    (b"RMB3", 24, 32),
    (b"R3FC", 24, 32),
    (b"IAB3", 24, 32),
    (b"IABT", 24, 32),
    (b"BMA3", 32, 40),
    (b"BMAP", 32, 40),
    (b"XAGF", 208, 64),
    (b"XAFL", 24, 8),
    (b"XAGI", 320, 296),
    (b"XSLM", 48, 16),
    (b"XDB3", 16, 24),
    (b"XDD3", 16, 24),
    (b"XDF3", 16, 24),
];
/// Kinds that not every kernel looks at: the tree of free inodes, and those with a magic number of two bytes.
const DISPUTED: &[(usize, &[u8], usize, usize)] = &[
    (0, b"FIB3", 24, 32),
    (0, b"FIBT", 24, 32),
    (8, b"\x3d\xf1", 24, 32),
    (8, b"\x3d\xff", 24, 32),
    (8, b"\x3e\xbe", 24, 32),
    (8, b"\x3b\xee", 24, 32),
];
const SUPERBLOCK_SEQUENCE_AT: usize = 240;

/// When something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// It does not say: it is replaced whatever it is.
    None,
    Known(u64),
    /// Kernels differ on whether it says so.
    Disputed(u64),
}

/// Returns when a piece of metadata was written.
pub(crate) fn of(superblock: &Superblock, bytes: &[u8]) -> Sequence {
    if !superblock.checksums {
        return Sequence::None;
    }
    let raw = Raw(bytes);
    if raw.has(0, b"XFSB") {
        // It was proved that this is the superblock of this file system.
        return raw.u64(SUPERBLOCK_SEQUENCE_AT).map_or(Sequence::None, Sequence::Known);
    }
    // A piece of another file system that was here before says nothing.
    let number = |at, uuid_at| (raw.uuid(uuid_at) == Some(superblock.uuid)).then(|| raw.u64(at)).flatten();
    if let Some((_, at, uuid_at)) = KINDS.iter().find(|(magic, _, _)| raw.has(0, magic)) {
        return number(*at, *uuid_at).filter(|number| *number != u64::MAX).map_or(Sequence::None, Sequence::Known);
    }
    let disputed = DISPUTED.iter().find(|(place, magic, _, _)| raw.has(*place, magic));
    disputed.and_then(|(_, _, at, uuid_at)| number(*at, *uuid_at)).map_or(Sequence::None, Sequence::Disputed)
}
