//! SHA-256 values, each with its own meaning: the hash of a block, the digest of stored bytes, the root of a state.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

mod lanes;

/// Text that is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is written as 64 hexadecimal digits, this is not: {text:?}")]
pub struct BadHex {
    what: &'static str,
    text: String,
}

macro_rules! define_hash {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes read from a format.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = BadHex;
            fn from_str(text: &str) -> Result<Self, BadHex> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| BadHex {
                    what: $what,
                    text: text.chars().take(80).collect(),
                })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

define_hash! {
    /// The hash of the content of one block, at its true length.
    BlockHash, "a block hash"
}
define_hash! {
    /// The digest of bytes as they are stored: a frame, a file, a table.
    Digest, "a digest"
}
define_hash! {
    /// The root of a state: geometry and total map of a disk. Two disks with one root have equal DATA and ZERO blocks.
    Root, "a root"
}

impl BlockHash {
    /// Hashes the content of a block.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// Hashes the content of many blocks, several at once, and hands their hashes to `take` in order.
    pub fn of_each<'a>(blocks: impl Iterator<Item = &'a [u8]>, take: impl FnMut(Self)) {
        lanes::hash_blocks(blocks, take);
    }
}

impl Digest {
    /// Digests bytes as they are stored.
    pub fn of(stored: &[u8]) -> Self {
        Self(Sha256::digest(stored).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hashed_together_are_as_one_by_one() {
        for len in [0, 1, 511, 512, 5 * 512, 16 * 512 + 100, 33 * 512] {
            let content: Vec<u8> = (0..len).map(|at: u32| (at * 31 % 251).to_le_bytes()[0]).collect();
            let mut found = Vec::new();
            BlockHash::of_each(content.chunks(512), |hash| found.push(hash));
            assert_eq!(found, content.chunks(512).map(BlockHash::of).collect::<Vec<_>>());
        }
    }

    #[test]
    fn text_and_bytes_round_trip() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("ba78".parse::<Digest>().unwrap_err().to_string().contains("64 hexadecimal digits"));
    }
}
