//! The superblock of a journal: where its log begins, and how it is written.
//!
//! ```text
//!  0 magic  4 kind (3 or 4)  12 block size  16 blocks  20 first block of the log  24 first transaction
//! 28 where it begins, 0 for an empty log  32 error; in the second version: 36, 40, 44 features (compat, incompat,
//! ro_compat)  48 uuid  64 users  80 kind of checksum  84 fast commit blocks  252 checksum
//! ```

use std::ops::Range;

use super::JournalDoubt;
use super::block::{self, TagFormat};
use crate::alloc::bytes::{array, be32_at, u8_at};
use crate::alloc::crc::{CRC32C_START, crc32c};

const BYTES: usize = 1024;
const VERSION_1: u32 = 3;
const VERSION_2: u32 = 4;

const COMPAT_CHECKSUM: u32 = 0x1;
const INCOMPAT_REVOKE: u32 = 0x1;
const INCOMPAT_64BIT: u32 = 0x2;
const INCOMPAT_ASYNC_COMMIT: u32 = 0x4;
const INCOMPAT_CSUM_V2: u32 = 0x8;
const INCOMPAT_CSUM_V3: u32 = 0x10;
const INCOMPAT_FAST_COMMIT: u32 = 0x20;
const INCOMPAT_KNOWN: u32 = INCOMPAT_REVOKE
    | INCOMPAT_64BIT
    | INCOMPAT_ASYNC_COMMIT
    | INCOMPAT_CSUM_V2
    | INCOMPAT_CSUM_V3
    | INCOMPAT_FAST_COMMIT;

const CHECKSUM_AT: usize = 252;
const CRC32C_TYPE: u8 = 4;
/// How many blocks fast commits have where the superblock does not say.
const DEFAULT_FAST_COMMIT_BLOCKS: u32 = 256;
/// The least length of a journal, and of its log.
const LEAST_BLOCKS: u32 = 1024;

/// How transactions are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Not at all.
    None,
    /// One CRC-32 over all of a transaction, in its commit block.
    Transactions,
    /// A CRC-32C for each block.
    Blocks {
        /// What is mixed into each.
        seed: u32,
    },
}

/// What the superblock says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) block_size: u32,
    /// The blocks of the ring.
    pub(crate) ring: Range<u32>,
    /// The first block of the log, or 0.
    pub(crate) start: u32,
    /// The number of the first transaction.
    pub(crate) sequence: u32,
    pub(crate) protection: Protection,
    /// A commit block may reach the disk before what it commits.
    pub(crate) async_commit: bool,
    pub(crate) tags: TagFormat,
    pub(crate) fast_commits: Option<Range<u32>>,
}

impl Superblock {
    /// Parses the first block of a journal that has `blocks` blocks.
    pub(crate) fn parse(bytes: &[u8], block_size: u32, blocks: u32) -> Result<Self, JournalDoubt> {
        let read = |at| be32_at(bytes, at).ok_or(JournalDoubt::Superblock("length"));
        require(read(0)? == block::MAGIC, "magic number")?;
        let kind = read(4)?;
        require(kind == VERSION_1 || kind == VERSION_2, "version")?;
        require(read(12)? == block_size, "block size")?;
        let len = read(16)?;
        // With less, e2fsck takes the journal away instead of replaying it.
        require(len >= LEAST_BLOCKS && len <= blocks, "length")?;
        let errno = read(32)?;
        if errno != 0 {
            return Err(JournalDoubt::Recorded(errno.cast_signed()));
        }

        let features = if kind == VERSION_1 { [0; 3] } else { [read(36)?, read(40)?, read(44)?] };
        let [compat, incompat, _] = features;
        for (set, flags, known) in
            [("compat", compat, COMPAT_CHECKSUM), ("incompat", incompat, INCOMPAT_KNOWN), ("ro_compat", features[2], 0)]
        {
            if flags & !known != 0 {
                return Err(JournalDoubt::Feature { set, flags: flags & !known });
            }
        }
        let protection = protection(bytes, compat, incompat)?;
        // A journal inside a file system has one user; the field is not always filled in.
        require(kind == VERSION_1 || read(64)? <= 1, "number of users")?;

        let first = read(20)?;
        let (ring, fast_commits) = divide(first, len, incompat, read(84)?)?;
        let start = read(28)?;
        require(start == 0 || ring.contains(&start), "start of the log")?;
        Ok(Self {
            block_size,
            ring,
            start,
            sequence: read(24)?,
            protection,
            async_commit: incompat & INCOMPAT_ASYNC_COMMIT != 0,
            tags: TagFormat {
                wide: incompat & INCOMPAT_64BIT != 0,
                v2: incompat & INCOMPAT_CSUM_V2 != 0,
                v3: incompat & INCOMPAT_CSUM_V3 != 0,
            },
            fast_commits,
        })
    }
}

fn protection(bytes: &[u8], compat: u32, incompat: u32) -> Result<Protection, JournalDoubt> {
    let transactions = compat & COMPAT_CHECKSUM != 0;
    let (v2, v3) = (incompat & INCOMPAT_CSUM_V2 != 0, incompat & INCOMPAT_CSUM_V3 != 0);
    require(!(v2 && v3) && !(transactions && (v2 || v3)), "choice of checksums")?;
    if !(v2 || v3) {
        return Ok(if transactions { Protection::Transactions } else { Protection::None });
    }
    let uuid: Option<[u8; 16]> = array(bytes, 48);
    let parts = (bytes.get(..CHECKSUM_AT), bytes.get(CHECKSUM_AT + 4..BYTES), uuid, be32_at(bytes, CHECKSUM_AT));
    let (Some(before), Some(behind), Some(uuid), Some(stated)) = parts else {
        return Err(JournalDoubt::Superblock("length"));
    };
    let crc = crc32c(crc32c(crc32c(CRC32C_START, before), &[0; 4]), behind);
    require(u8_at(bytes, 80) == Some(CRC32C_TYPE) && crc == stated, "checksum")?;
    Ok(Protection::Blocks { seed: crc32c(CRC32C_START, &uuid) })
}

/// Divides the journal into the ring of the log and the blocks of fast commits, between which a block is lost.
fn divide(
    first: u32,
    len: u32,
    incompat: u32,
    fast_commit_blocks: u32,
) -> Result<(Range<u32>, Option<Range<u32>>), JournalDoubt> {
    let mut last = len;
    let mut fast_commits = None;
    if incompat & INCOMPAT_FAST_COMMIT != 0 {
        let wanted = if fast_commit_blocks == 0 { DEFAULT_FAST_COMMIT_BLOCKS } else { fast_commit_blocks };
        last = len.checked_sub(wanted).filter(|last| *last >= LEAST_BLOCKS).unwrap_or(0);
        // Linux and e2fsck do not agree on where they are in a journal that is too short for them.
        require(last > 0, "number of fast commit blocks")?;
        fast_commits = Some(last + 1..len);
    }
    require(first > 0 && first < last, "first block of the log")?;
    Ok((first..last, fast_commits))
}

fn require(holds: bool, what: &'static str) -> Result<(), JournalDoubt> {
    if holds { Ok(()) } else { Err(JournalDoubt::Superblock(what)) }
}
