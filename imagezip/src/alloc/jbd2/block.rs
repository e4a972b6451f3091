//! The blocks of a log: descriptors with their tags, revocations, commits.
//!
//! ```text
//! every one   0 magic  4 kind (1 descriptor, 2 commit, 5 revocations)  8 transaction
//! descriptor 12 tags  -4 checksum            tag: 0 place  4 checksum (16 bit)  6 flags (16)  8 upper half of place
//! revoke     12 bytes in use  16 places      tag with checksums of version 3: 0 place  4 flags (32)  8 upper half
//!            -4 checksum                          12 checksum (32)
//! commit     12 kind of checksum (8)  13 its size (8)  16 checksum  48 seconds (64)
//! ```
//!
//! A tag that is not of the same file system as the last one is followed by its uuid of 16 bytes.

use super::JournalDoubt;
use super::superblock::Protection;
use crate::alloc::bytes::{be16_at, be32_at, be64_at, u8_at};
use crate::alloc::crc::crc32c;

/// What every block of the log begins with.
pub(crate) const MAGIC: u32 = 0xC03B_3998;
/// How long the header of each block is.
const HEADER_BYTES: usize = 12;
const TAIL_BYTES: usize = 4;
const UUID_BYTES: usize = 16;
const COMMIT_CHECKSUM_AT: usize = 16;
const COMMIT_HEADER_BYTES: usize = 60;
/// Of the whole transaction: CRC-32 with 4 bytes.
const CRC32_TYPE: u8 = 1;
const CRC32_BYTES: u8 = 4;

const FLAG_ESCAPE: u32 = 1;
const FLAG_SAME_UUID: u32 = 2;
const FLAG_LAST_TAG: u32 = 8;

/// What a block of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It names places, and the blocks for them follow.
    Descriptor,
    /// It ends a transaction.
    Commit,
    /// It names places that no earlier transaction may write to.
    Revocations,
}

/// Returns the kind of a block and the transaction it belongs to, unless it is something else.
pub(crate) fn header(block: &[u8]) -> Option<(Kind, u32)> {
    let kind = match (be32_at(block, 0)? == MAGIC, be32_at(block, 4)?) {
        (true, 1) => Kind::Descriptor,
        (true, 2) => Kind::Commit,
        (true, 5) => Kind::Revocations,
        (_, _) => return None,
    };
    Some((kind, be32_at(block, 8)?))
}

/// How tags are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagFormat {
    /// Places of 64 bits.
    pub(crate) wide: bool,
    /// Checksums of version 2.
    pub(crate) v2: bool,
    /// Checksums of version 3.
    pub(crate) v3: bool,
}

impl TagFormat {
    fn bytes(self) -> usize {
        match (self.v3, self.v2, self.wide) {
            (true, _, _) => 16,
            (false, true, true) => 14,
            (false, true, false) => 10,
            (false, false, true) => 12,
            (false, false, false) => 8,
        }
    }

    fn tail_bytes(self) -> usize {
        if self.v2 || self.v3 { TAIL_BYTES } else { 0 }
    }
}

/// Where a block of the log belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) home: u64,
    /// The block begins like one of the log, and its first bytes were zeroed to tell them apart.
    pub(crate) escaped: bool,
    /// The checksum as far as the tag has one.
    checksum: u32,
}

/// Returns the tags of a descriptor.
pub(crate) fn tags(block: &[u8], format: TagFormat) -> Vec<Tag> {
    let mut tags = Vec::new();
    let end = block.len().saturating_sub(format.tail_bytes());
    let mut at = HEADER_BYTES;
    while at + format.bytes() <= end {
        let read = || {
            let (low, flags) = (be32_at(block, at)?, be16_at(block, at + 6)?);
            let high = if format.wide { be32_at(block, at + 8)? } else { 0 };
            let home = u64::from(low) | (u64::from(high) << 32);
            let checksum = if format.v3 { be32_at(block, at + 12)? } else { u32::from(be16_at(block, at + 4)?) };
            Some((home, u32::from(flags), checksum))
        };
        let Some((home, flags, checksum)) = read() else { break };
        tags.push(Tag { home, escaped: flags & FLAG_ESCAPE != 0, checksum });
        at += format.bytes();
        if flags & FLAG_SAME_UUID == 0 {
            at += UUID_BYTES;
        }
        if flags & FLAG_LAST_TAG != 0 {
            break;
        }
    }
    tags
}

impl Tag {
    /// Returns true if `block`, as it is in the log, has the checksum of the tag.
    pub(crate) fn matches(&self, block: &[u8], transaction: u32, format: TagFormat, protection: Protection) -> bool {
        let Protection::Blocks { seed } = protection else { return true };
        let crc = crc32c(crc32c(seed, &transaction.to_be_bytes()), block);
        self.checksum == if format.v3 { crc } else { crc & 0xFFFF }
    }
}

/// Returns the revoked places of a block, or `None` when they do not fit into it.
pub(crate) fn revocations(block: &[u8], format: TagFormat) -> Option<impl Iterator<Item = u64> + '_> {
    let used = usize::try_from(be32_at(block, 12)?).ok()?;
    let room = block.len().checked_sub(format.tail_bytes())?;
    let places = block.get(16..used.max(16)).filter(|_| used <= room)?;
    let size = if format.wide { 8 } else { 4 };
    Some(
        places
            .chunks_exact(size)
            .filter_map(move |place| if format.wide { be64_at(place, 0) } else { be32_at(place, 0).map(u64::from) }),
    )
}

/// Returns true if a descriptor or a block of revocations has the checksum it states, where there is one.
pub(crate) fn tail_is_valid(block: &[u8], protection: Protection) -> bool {
    let Protection::Blocks { seed } = protection else { return true };
    let at = block.len().saturating_sub(TAIL_BYTES);
    let crc = block.get(..at).map(|before| crc32c(crc32c(seed, before), &[0; TAIL_BYTES]));
    crc.is_some() && crc == be32_at(block, at)
}

/// Returns when a commit block was written, in seconds.
pub(crate) fn commit_time(block: &[u8]) -> u64 {
    be64_at(block, 48).unwrap_or(0)
}

/// What the checksum of a commit block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is right, or there is none.
    Valid,
    /// It is right for the header with zeros behind it, and there is something else.
    HeaderOnly,
    Wrong,
}

/// Compares a commit block with the checksum it states. `transaction` is that over everything the transaction has,
/// where there is such a thing.
pub(crate) fn commit_verdict(block: &[u8], protection: Protection, transaction: u32) -> Verdict {
    let (kind, size) = (u8_at(block, 12), u8_at(block, 13));
    let stated = be32_at(block, COMMIT_CHECKSUM_AT);
    let valid = match protection {
        Protection::None => true,
        Protection::Transactions => match (kind, size, stated) {
            // The feature may have been turned on after this was written.
            (Some(0), Some(0), Some(0)) => true,
            (kind, size, stated) => (kind, size, stated) == (Some(CRC32_TYPE), Some(CRC32_BYTES), Some(transaction)),
        },
        Protection::Blocks { seed } => return commit_block_verdict(block, seed, stated),
    };
    if valid { Verdict::Valid } else { Verdict::Wrong }
}

fn commit_block_verdict(block: &[u8], seed: u32, stated: Option<u32>) -> Verdict {
    let mut bytes = block.to_vec();
    if let Some(checksum) = bytes.get_mut(COMMIT_CHECKSUM_AT..COMMIT_CHECKSUM_AT + 4) {
        checksum.fill(0);
    }
    if stated == Some(crc32c(seed, &bytes)) {
        return Verdict::Valid;
    }
    bytes.iter_mut().skip(COMMIT_HEADER_BYTES).for_each(|byte| *byte = 0);
    if stated == Some(crc32c(seed, &bytes)) { Verdict::HeaderOnly } else { Verdict::Wrong }
}

/// Continues the checksum of a whole transaction: CRC-32, the highest bit first, without a final inversion.
pub(crate) fn crc32_be(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        let [high, ..] = crc.to_be_bytes();
        // A u8 index into 256 entries cannot be out of range.
        (crc << 8) ^ CRC32_BE_TABLE[usize::from(high ^ byte)]
    })
}

const CRC32_BE_TABLE: [u32; 256] = crc32_be_table();

const fn crc32_be_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut value = 0_u32;
    while index < table.len() {
        let mut crc = value << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 == 1 { (crc << 1) ^ 0x04C1_1DB7 } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        value += 1;
    }
    table
}

/// Reports a checksum that is wrong.
pub(crate) const fn wrong(transaction: u32, part: &'static str) -> JournalDoubt {
    JournalDoubt::Checksum { transaction, part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_value() {
        // CRC-32/MPEG-2.
        assert_eq!(crc32_be(u32::MAX, b"123456789"), 0x0376_E6E7);
    }

    #[test]
    fn tags_end_with_the_last_one_or_with_the_block() {
        let mut block = vec![0; 64];
        let format = TagFormat { wide: false, v2: false, v3: false };
        // 12: a first tag with its uuid, then one that is escaped and the last.
        block[12..20].copy_from_slice(&[0, 0, 0, 7, 0, 0, 0, 0]);
        block[36..44].copy_from_slice(&[0, 0, 1, 0, 0, 0, 0, 1 + 2 + 8]);
        let found: Vec<_> = tags(&block, format).into_iter().map(|tag| (tag.home, tag.escaped)).collect();
        assert_eq!(found, [(7, false), (256, true)]);
        block[43] = 2;
        // Without an end there are as many as fit: at 36, 44; at 44 one without uuid takes 24.
        assert_eq!(tags(&block, format).len(), 3);
    }

    #[test]
    fn revocations_stay_in_their_block() {
        let mut block = vec![0; 32];
        let format = TagFormat { wide: false, v2: false, v3: false };
        block[15] = 24;
        block[19] = 5;
        block[23] = 6;
        assert_eq!(revocations(&block, format).unwrap().collect::<Vec<_>>(), [5, 6]);
        block[15] = 33;
        assert!(revocations(&block, format).is_none());
        block[15] = 29;
        assert_eq!(revocations(&block, format).unwrap().count(), 3);
        assert!(revocations(&block, TagFormat { v3: true, ..format }).is_none());
        block[15] = 3;
        assert_eq!(revocations(&block, format).unwrap().count(), 0);
    }
}
