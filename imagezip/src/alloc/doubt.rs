//! Why something is data although it looks like something we know, and the one thing that is an error.

use std::io;

use sigs::ByteOffset;

use super::btrfs::BtrfsDoubt;
use super::content::Content;
use super::exfat::ExfatDoubt;
use super::ext::ExtDoubt;
use super::fat::FatDoubt;
use super::jbd2::JournalDoubt;
use super::lvm::LvmDoubt;
use super::ntfs::NtfsDoubt;
use super::partclone::PartcloneDoubt;
use super::swap::SwapDoubt;
use super::table::TableDoubt;
use super::xfs::XfsDoubt;

/// The survey could not be finished, because the disk could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// A read failed.
    #[error("read the disk at byte {offset}")]
    Read {
        /// Where on the disk the read began.
        offset: ByteOffset,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
}

/// Why a partition or a disk is taken whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// An ext file system that is not clean, not valid, or not understood.
    #[error(transparent)]
    Ext(#[from] ExtDoubt),
    /// The journal of an ext file system that was in use, and is not understood.
    #[error(transparent)]
    Journal(#[from] JournalDoubt),
    /// A btrfs that is not valid or not understood.
    #[error(transparent)]
    Btrfs(#[from] BtrfsDoubt),
    /// An XFS file system that is not valid, or not understood.
    #[error(transparent)]
    Xfs(#[from] XfsDoubt),
    /// A FAT volume that is not clean or not valid.
    #[error(transparent)]
    Fat(#[from] FatDoubt),
    /// An NTFS volume that is not clean or not valid.
    #[error(transparent)]
    Ntfs(#[from] NtfsDoubt),
    /// An exFAT volume that is not clean or not valid.
    #[error(transparent)]
    Exfat(#[from] ExfatDoubt),
    /// A file system to which partclone does not agree.
    #[error(transparent)]
    Partclone(#[from] PartcloneDoubt),
    /// A swap area that is not plain.
    #[error(transparent)]
    Swap(#[from] SwapDoubt),
    /// An LVM2 physical volume, or a logical volume, that is not plain or not valid.
    #[error(transparent)]
    Lvm(#[from] LvmDoubt),
    /// A partition table that cannot be trusted.
    #[error(transparent)]
    Table(#[from] TableDoubt),
    /// The signatures of several owners; all but one are stale, and nothing says which.
    #[error("it carries the marks of {first} and of {second}")]
    Several {
        /// One owner.
        first: Content,
        /// Another one.
        second: Content,
    },
    /// What the partition table says of the partition does not go with what is in it.
    #[error("the partition table calls it {kind:?}, but it holds {content}")]
    Kind {
        /// The kind in the partition table.
        kind: String,
        /// What was recognised.
        content: Content,
    },
    /// Something encrypted: what is free in it looks like what is not.
    #[error("{0} is encrypted, so nothing in it can be told to be free, and nothing of it compresses")]
    Encrypted(Content),
    /// A file system of which another partition has hashes of every block.
    #[error("the disk has a partition of hashes that may cover its free blocks too")]
    Hashed,
    /// A file system that a hibernated machine has in its memory.
    #[error("the disk holds a hibernation image, and its machine may know of more in use than is on the disk")]
    Hibernated,
    /// A recognised owner whose allocation is not read.
    #[error("{0} is not read for what it has allocated")]
    NotRead(Content),
    /// What says how much is allocated cannot be read.
    #[error("the disk cannot be read at byte {offset}")]
    Unreadable {
        /// Where on the disk the read began.
        offset: ByteOffset,
    },
    /// Nothing known.
    #[error("nothing known is in it")]
    Unknown,
    /// The caller wanted everything.
    #[error("everything was asked for")]
    Raw,
}

/// What ends a parser early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The disk could not be read.
    Read(SurveyError),
    /// The bytes could not be believed.
    Doubt(Doubt),
}

impl From<SurveyError> for Stop {
    fn from(error: SurveyError) -> Self {
        Self::Read(error)
    }
}

impl<D: Into<Doubt>> From<D> for Stop {
    fn from(doubt: D) -> Self {
        Self::Doubt(doubt.into())
    }
}
