//! Why something is data although it looks like something we know, and the one thing that is an error.

use std::io;

use sigs::ByteOffset;

use super::content::Content;
use super::ext::ExtDoubt;
use super::swap::SwapDoubt;
use super::table::TableDoubt;

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
    /// A swap area that is not plain.
    #[error(transparent)]
    Swap(#[from] SwapDoubt),
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
    /// A recognised owner whose allocation is not read.
    #[error("{0} is not read for what it has allocated")]
    NotRead(Content),
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
