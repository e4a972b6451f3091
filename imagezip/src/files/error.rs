//! What can be wrong with a file that somebody wants.

use std::io;

use super::shown;
use crate::alloc::doubt::Stop;
use crate::alloc::{Content, Doubt, SurveyError};
use crate::package::PackageError;

/// How whatever is not read here can be read all the same.
const OTHERWISE: &str = "`imagezip export --format raw` or `imagezip serve` make a disk of it that Linux can mount";

/// Why a file or a folder cannot be had. Names in the messages cannot command a terminal.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The disk could not be read.
    #[error(transparent)]
    Read(#[from] SurveyError),
    /// Nothing says where the partitions are.
    #[error("the partition table is not understood; --partition 0 is the disk as a whole")]
    Table(#[source] Doubt),
    /// What was asked for is not there.
    #[error("there is no {wanted}; the disk has {found}")]
    NoPlace {
        /// Partition or volume.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// More than one file system, or none.
    #[error(
        "{count} of its places hold ext2, ext3 or ext4: name one with --partition or --volume; the disk has {found}"
    )]
    Choose {
        /// How many hold a file system that could be meant.
        count: usize,
        /// What there is.
        found: String,
    },
    /// Another file system, or none.
    #[error("{place} holds {content}, and only ext2, ext3 and ext4 are read: {OTHERWISE}")]
    NotExt {
        /// Where.
        place: String,
        /// What is there.
        content: Content,
    },
    /// A file system with something that is not handled, or is wrong.
    #[error("the file system is not understood: {OTHERWISE}")]
    FileSystem(#[source] Doubt),
    /// An inode that is damaged; the others may be well.
    #[error("{what} of inode {inode} is damaged: {OTHERWISE}")]
    Damaged {
        /// The inode.
        inode: u32,
        /// Which part of it.
        what: &'static str,
    },
    /// Larger than what is kept in memory.
    #[error("{what} of inode {inode} is larger than what is read here: {OTHERWISE}")]
    TooLarge {
        /// The inode.
        inode: u32,
        /// Which part of it.
        what: &'static str,
    },
    /// Without a key nothing in it can be read.
    #[error("inode {inode} is encrypted: {OTHERWISE}, and with the key of its owner read")]
    Encrypted {
        /// The inode.
        inode: u32,
    },
    /// A folder that is inside itself, or in two others.
    #[error("the folder of inode {inode} is reached in two ways, so the file system is damaged: {OTHERWISE}")]
    Loop {
        /// The inode.
        inode: u32,
    },
    /// Deeper than there are file descriptors.
    #[error("{path} lies deeper than {most} folders below where the copy begins: copy it by itself")]
    Deep {
        /// The path.
        path: String,
        /// The limit.
        most: usize,
    },
    /// A path that leads nowhere.
    #[error("there is no {path} in the file system{because}")]
    NotFound {
        /// The path, as far as it was followed.
        path: String,
        /// A link that led there.
        because: String,
    },
    /// A path that goes through what is no folder.
    #[error("{path} is no folder")]
    NotFolder {
        /// The path.
        path: String,
    },
    /// A path that goes round in circles.
    #[error("{path} leads through more than {most} symbolic links")]
    Links {
        /// The path.
        path: String,
        /// The limit.
        most: usize,
    },
    /// The target is taken.
    #[error("{path} is there already; --force writes over it")]
    Exists {
        /// Where to.
        path: String,
    },
    /// The target could not be written.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The target could not be written.
    #[error("write {path}")]
    Write {
        /// Where to.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A copy of a folder that ended early.
    #[error("{path} holds only a part of it, {files} files in {folders} finished folders: {next}")]
    Unfinished {
        /// Where to.
        path: String,
        /// How many files are complete.
        files: u64,
        /// How many folders are.
        folders: u64,
        /// What to do about it.
        next: &'static str,
        /// What ended it.
        #[source]
        source: Box<FilesError>,
    },
    /// Whoever takes the content did not want more.
    #[error("hand over the content")]
    Sink(#[source] io::Error),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl FilesError {
    /// Returns true if something else has to be asked for.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::NoPlace { .. } | Self::Choose { .. } | Self::Exists { .. })
    }

    /// Returns true if only the file or the folder itself cannot be read, and others may.
    pub const fn is_of_one_file(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::TooLarge { .. }
                | Self::Encrypted { .. }
                | Self::Loop { .. }
                | Self::Deep { .. }
        )
    }

    pub(super) fn write(path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Write { path: shown(path), source: source.into() }
    }

    /// Says of a parser that stopped in an inode what it stopped for.
    pub(super) fn in_inode(inode: u32, what: &'static str) -> impl Fn(Stop) -> Self {
        move |stop| match stop {
            Stop::Read(error) => Self::Read(error),
            Stop::Doubt(_) => Self::Damaged { inode, what },
        }
    }
}

impl From<Stop> for FilesError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Read(error) => Self::Read(error),
            Stop::Doubt(doubt) => Self::FileSystem(doubt),
        }
    }
}
