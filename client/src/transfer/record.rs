//! What a journal can say. Names and fields are part of the format: `docs/formats/journal.md`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sigs::{ByteLen, Digest};

use super::limit::Rate;
use super::place::Place;
use super::room::Reserve;

/// A path as its bytes in hexadecimal: names of files need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawPath(PathBuf);

impl RawPath {
    /// Returns the path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl From<&Path> for RawPath {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl From<RawPath> for String {
    fn from(path: RawPath) -> Self {
        hex::encode(path.0.as_os_str().as_bytes())
    }
}

impl TryFrom<String> for RawPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = hex::decode(text).map_err(|error| error.to_string())?;
        if bytes.is_empty() || bytes.contains(&0) {
            return Err("an empty path, or one with a zero byte".to_owned());
        }
        Ok(Self(PathBuf::from(OsStr::from_bytes(&bytes))))
    }
}

/// What is to be transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// A regular file, or an object of a boss.
    File,
    /// A directory by itself; what is in it are items of their own.
    Directory,
    /// A symbolic link; it is not followed.
    Link,
}

/// One thing that is to be transferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// Where it is.
    pub source: Place,
    /// Where it goes.
    pub destination: Place,
    /// What it is.
    pub kind: ItemKind,
}

/// What identifies a source: if any of it changed, so may have the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Which file system.
    pub device: u64,
    /// Which file of it.
    pub inode: u64,
    /// How large.
    pub size: ByteLen,
    /// When its content changed, in nanoseconds.
    pub modified: Timestamp,
    /// When anything of it changed; nobody can set this one.
    pub changed: Timestamp,
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanoseconds: u32,
}

/// What a file has besides its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: u32,
    /// Group.
    pub group: u32,
    /// When it was read.
    pub accessed: Timestamp,
    /// When its content changed.
    pub modified: Timestamp,
    /// Extended attributes: name and value, in hexadecimal.
    pub attributes: Vec<(RawPath, String)>,
}

/// How a transfer is done. Once created it never changes: whoever resumes need not remember it, and cannot alter it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How many files are copied at once.
    pub threads: u16,
    /// Whether the sources go when everything arrived.
    pub release_sources: bool,
    /// How fast it may be.
    pub limit: Option<Rate>,
    /// What it leaves free on the file systems it copies to.
    pub reserve: Option<Reserve>,
}

/// One record. Items are named by their number, counted from 0 in the order they were added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// The transfer exists.
    Created {
        /// Its name.
        id: uuid::Uuid,
        /// How it is done.
        options: Options,
    },
    /// Things are to be transferred.
    Added {
        /// They, in order.
        items: Vec<Addition>,
    },
    /// What a source was when the transfer began; whatever else is found there later is an error.
    Sealed {
        /// Which item.
        item: u32,
        /// The source.
        seal: Seal,
        /// What it has besides its content.
        metadata: Metadata,
    },
    /// How large the object of a boss is that is fetched; besides that it is sealed by its digest.
    Measured {
        /// Which item.
        item: u32,
        /// Its size.
        bytes: ByteLen,
    },
    /// A boss has the content of an item, durably, as an object.
    Stored {
        /// Which item.
        item: u32,
        /// The digest of the object.
        digest: Digest,
    },
    /// The copying begins.
    Dispatched {
        /// Counted from 1.
        attempt: u32,
    },
    /// Chunks that follow each other are durable in the temporary file.
    Chunks {
        /// Which item.
        item: u32,
        /// The first of them.
        first: u32,
        /// Their digests.
        digests: Vec<Digest>,
    },
    /// What was written of an item so far is not used; it begins again.
    Discarded {
        /// Which item.
        item: u32,
    },
    /// All chunks are durable.
    DataComplete {
        /// Which item.
        item: u32,
        /// The digest over the digests of the chunks.
        digest: Digest,
    },
    /// The temporary file was read back from the medium and is what was sent.
    Verified {
        /// Which item.
        item: u32,
    },
    /// The temporary file is about to get its metadata and its name.
    Finalizing {
        /// Which item.
        item: u32,
    },
    /// It has its name, durably.
    Renamed {
        /// Which item.
        item: u32,
    },
    /// Everything arrived.
    Committed,
    /// A source was removed.
    SourceReleased {
        /// Which item.
        item: u32,
    },
    /// Nothing is left to do.
    Closed,
    /// Somebody wants no more of it.
    Cancelled,
    /// An attempt ended; the transfer can be resumed.
    Failed {
        /// Which item, where it was one.
        item: Option<u32>,
        /// What kind of failure.
        class: String,
        /// What happened.
        detail: String,
    },
    /// An attempt ended because somebody asked it to; the transfer can be resumed.
    Stopped,
    /// Another attempt begins.
    Resumed {
        /// Counted from 1.
        attempt: u32,
    },
}
