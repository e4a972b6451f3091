//! Images and swap state on disk: immutable objects named by their digest, and what is still arriving.

mod arrival;
mod gate;
mod incarnation;
mod local;
mod lock;
mod room;
mod staging;
mod whole;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use boss_api::ErrorCode;
use sigs::{ByteLen, ByteOffset, ByteRange, Digest, ReadAt};
use tokio::io::AsyncRead;
use web::words::bytes;

use crate::error::AppError;

pub use arrival::{Arrival, NoArrival};
pub use gate::Gate;
pub use incarnation::Incarnation;
pub(crate) use local::blocking;
pub use local::{LocalStore, make_private_dir};
pub use lock::StateLock;
pub use room::Room;
pub use staging::{Finished, StagedName, Staging};
pub(crate) use whole::is_whole;

/// What a store returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;
/// Bytes on their way in or out.
pub type ByteStream = Pin<Box<dyn AsyncRead + Send>>;

/// Whether an object was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored now, durably.
    Stored,
    /// It was there and was read back, or another stored it meanwhile.
    Present,
}

/// An object in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: ByteLen,
}

/// Immutable objects, named by the digest of their bytes.
pub trait ImageStore: Send + Sync + std::fmt::Debug {
    /// Stores bytes under their digest, durably, unless they are there and whole: what is damaged makes way.
    /// Refuses bytes that do not have the digest, and more than `limit` of them; then nothing is stored.
    fn put_if_absent<'a>(&'a self, digest: Digest, limit: ByteLen, bytes: ByteStream) -> StoreFuture<'a, Put>;

    /// Takes over a finished file of this machine, already flushed, as the object `digest`, unless that is there and
    /// whole: what is damaged, or cannot be read, is set aside and makes way.
    /// The caller computed the digest from the file. The file is gone afterwards; [`StoreError::Missing`] says that it was
    /// before, and that the object is not there either.
    fn put_file<'a>(&'a self, digest: Digest, file: &'a Path) -> StoreFuture<'a, Put>;

    /// Returns the bytes of an object, or of a range of it.
    fn get(&self, digest: Digest, range: Option<ByteRange>) -> StoreFuture<'_, (ByteLen, ByteStream)>;

    /// Opens an object to read it at any place. With `from_medium` what is cached is dropped first, so that the
    /// bytes read are those that were stored.
    fn open(&self, digest: Digest, from_medium: bool) -> StoreFuture<'_, Arc<dyn ReadAt>>;

    /// Returns the size of an object, if it is there.
    fn head(&self, digest: Digest) -> StoreFuture<'_, Option<ByteLen>>;

    /// Returns all objects.
    fn list(&self) -> StoreFuture<'_, Vec<StoredObject>>;

    /// Returns which file an object is, if it is there: to be asked before it is read.
    fn incarnation(&self, digest: Digest) -> StoreFuture<'_, Option<Incarnation>>;

    /// Takes an object that is damaged out of the store without destroying what is left of it; that it was not there, or
    /// is another file by now, is no error.
    fn set_aside(&self, digest: Digest, damaged: Incarnation) -> StoreFuture<'_, ()>;

    /// Removes an object; that it was not there is no error.
    fn delete(&self, digest: Digest) -> StoreFuture<'_, ()>;

    /// Returns where an object lies, for the view of links, where the store is a directory of this machine.
    fn path_of(&self, digest: Digest) -> Option<PathBuf>;
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes are not what they were announced as.
    #[error("the bytes have the digest {found}, not {expected}: they were damaged on the way; nothing was stored")]
    WrongDigest {
        /// Announced.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// Too many bytes.
    #[error("more than the {limit} bytes that are accepted here")]
    TooLarge {
        /// How many are accepted.
        limit: ByteLen,
    },
    /// No such object.
    #[error("the store has no object {0}")]
    Missing(Digest),
    /// A range that is not inside the object.
    #[error("the range from {start} is not inside the object {digest}")]
    BadRange {
        /// Of which object.
        digest: Digest,
        /// Where it begins.
        start: ByteOffset,
    },
    /// No room.
    #[error("the store is full: nothing was stored; make room in the state directory and try again")]
    NoSpace(#[source] io::Error),
    /// What is left is kept back.
    #[error(
        "the store has no room: {folder} has {} free, and {} must stay free (store/reserve_percent); nothing was stored; \
         make room there, at least {}, and try again",
        bytes(free.get()), bytes(kept.get()),
        bytes(wanted.get().saturating_add(kept.get()).saturating_sub(free.get()))
    )]
    NoRoom {
        /// How much was asked for.
        wanted: ByteLen,
        /// How much there is.
        free: ByteLen,
        /// How much of it is kept back.
        kept: ByteLen,
        /// Where.
        folder: PathBuf,
    },
    /// Another boss changes something in the store at this moment.
    #[error(
        "another boss is in the middle of a change in {0}: if it stands still there, end it, then start this one again"
    )]
    Busy(PathBuf),
    /// The database knows less than this very boss noted: it was put back, or exchanged, while boss ran.
    #[error(
        "machines had moved {noted} times, and the database knows of {found}: an older one was put in its place while boss \
         ran; start boss again, and it holds every machine until somebody has looked"
    )]
    DatabaseWentBack {
        /// How many moves were noted.
        noted: u64,
        /// How many the database knows of.
        found: u64,
    },
    /// The sender stopped, or the way broke.
    #[error("receive the bytes")]
    Receive(#[source] io::Error),
    /// The medium failed.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// The contents of a capture do not fit what arrived.
    #[error("{0}")]
    Refused(String),
    /// Another boss rules over this store, or it was exchanged: this one changes nothing in it.
    #[error(
        "the store's marker says term {}, this boss rules in term {own}: another boss took the store over, or it was \
         exchanged; nothing was changed",
        found.map_or_else(|| "none".to_owned(), |found| found.to_string())
    )]
    TermOver {
        /// The term of this boss.
        own: u64,
        /// The term of the marker.
        found: Option<u64>,
    },
    /// The marker says nothing that makes sense.
    #[error(
        "{0} says no term: it was damaged; put it back from a backup, or write \"term N\" and \"moves N\" into \
             it, each in a line of its own, with numbers not below any that were ever there"
    )]
    BadMarker(PathBuf),
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(source),
            _ => Self::Io { what, path, source },
        }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::WrongDigest { .. } | StoreError::Refused(_) => {
                Self::new(ErrorCode::VerificationFailed, error.to_string())
            }
            StoreError::TooLarge { .. } => Self::new(ErrorCode::TooLarge, error.to_string()),
            StoreError::Missing(_) => Self::new(ErrorCode::NotFound, error.to_string()),
            StoreError::BadRange { .. } => Self::new(ErrorCode::BadRequest, error.to_string()),
            StoreError::NoSpace(_) | StoreError::NoRoom { .. } => Self::new(ErrorCode::NoSpace, error.to_string()),
            StoreError::Receive(source) => {
                Self::new(ErrorCode::BadRequest, format!("the bytes did not arrive whole: {source}; send them again"))
            }
            StoreError::DatabaseWentBack { .. } | StoreError::Busy(_) => {
                Self::unavailable("boss must be started again", error)
            }
            StoreError::TermOver { .. } => Self::unavailable("another boss took over; ask that one", error),
            StoreError::Io { .. } | StoreError::BadMarker(_) => Self::internal(error),
        }
    }
}
