//! The four checksums a btrfs can be made with. The bytes they stand in are the first 32 of what they protect.

use std::fmt;

use blake2::Blake2b256;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use twox_hash::XxHash64;

use crate::alloc::crc::{CRC32C_START, crc32c};

/// How many bytes a block keeps for its checksum, whatever its kind.
const PLACE: usize = 32;

/// The checksum of the metadata of a btrfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum BtrfsChecksum {
    Crc32c,
    Xxhash64,
    Sha256,
    Blake2b,
}

impl fmt::Display for BtrfsChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crc32c => "crc32c",
            Self::Xxhash64 => "xxhash64",
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
        })
    }
}

impl BtrfsChecksum {
    /// Returns the kind for the number in a superblock.
    pub(super) fn of_number(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Crc32c),
            1 => Some(Self::Xxhash64),
            2 => Some(Self::Sha256),
            3 => Some(Self::Blake2b),
            _ => None,
        }
    }

    /// Returns true if a block starts with the checksum of the rest of it.
    pub(super) fn is_valid(self, block: &[u8]) -> bool {
        let Some((stored, rest)) = block.split_at_checked(PLACE) else { return false };
        match self {
            Self::Crc32c => stored.starts_with(&(!crc32c(CRC32C_START, rest)).to_le_bytes()),
            Self::Xxhash64 => stored.starts_with(&XxHash64::oneshot(0, rest).to_le_bytes()),
            Self::Sha256 => stored == Sha256::digest(rest).as_slice(),
            Self::Blake2b => stored == Blake2b256::digest(rest).as_slice(),
        }
    }
}
