//! Transfers of files and directory trees that a crash interrupts and never corrupts.
//!
//! The verbs are those of AXL (create, add, dispatch, resume, cancel, forget, ...); what it gets wrong is done otherwise:
//! resuming trusts hashes instead of lengths, every failed flush ends its attempt, names are made durable, and nothing of a
//! source goes before everything arrived. What is done when is in `docs/transfers.md`; the table of it in [`recover`].
//!
//! - [`record`], [`journal`]: what is written down, and how
//! - [`state`]: what the records add up to; `class`: what kind of failure ended an attempt
//! - [`recover`]: what is done next, by the last record and what is on disk
//! - [`place`]: where an item comes from and goes to; [`boss`]: asking a boss for what it has
//! - `source`, `origin`, `object`, `copy`, `send`, `run`, `release`: doing it
//! - [`limit`], [`room`]: how fast it may be, and how full it may make what it copies to
//! - [`shelf`]: the directory of journals; [`watch`], [`stop`]: what others than its worker do with a transfer;
//!   [`fsck`]: what is wrong in there, and what to do about it

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use boss_api::client::ClientError;
use uuid::Uuid;

mod add;
pub mod boss;
mod class;
mod copy;
pub mod fsck;
pub mod journal;
pub mod limit;
mod object;
mod origin;
pub mod place;
pub mod record;
pub mod recover;
mod release;
pub mod room;
mod run;
mod send;
pub mod shelf;
mod source;
pub mod state;
pub mod stop;
pub mod watch;

use boss::Line;
pub use class::Class;
use journal::JournalError;
use place::{Address, Place};
pub use record::Options;
use record::Record;
use recover::Loss;
use room::NoRoom;
use run::{Attempt, Desk};
pub use shelf::Shelf;
pub use state::{Phase, State, Verdict};
pub use watch::Standing;

/// A transfer that could not be created, changed or finished. Its journal says the same.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The journal.
    #[error(transparent)]
    Journal(Box<JournalError>),
    /// Its records contradict each other.
    #[error("the journal of transfer {id} contradicts itself; nothing was touched")]
    Impossible {
        /// The transfer.
        id: Uuid,
        /// Where.
        #[source]
        source: state::Impossible,
    },
    /// A file or directory.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something cannot be transferred any more. All that is there stays.
    #[error("{item} {loss}")]
    Lost {
        /// What.
        item: Place,
        /// Why.
        loss: Loss,
    },
    /// What was read back is not what was written.
    #[error("{path} does not read back as it was written; it is begun again by the next attempt")]
    WrongContent {
        /// The temporary file.
        path: PathBuf,
    },
    /// What a boss sent has not the digest that was asked for.
    #[error(
        "what came is not {place}: it was altered or damaged; none of it is kept, and the next attempt begins again"
    )]
    WrongObject {
        /// What was asked for.
        place: Place,
    },
    /// A boss refuses, or cannot be reached.
    #[error("{action} {place}")]
    Boss {
        /// What was tried.
        action: &'static str,
        /// With what.
        place: Place,
        /// What it says.
        #[source]
        source: Box<ClientError>,
    },
    /// A boss has not what it said that it has.
    #[error("boss at {boss} lost again and again what was sent; look at its store")]
    Forgetful {
        /// Its address.
        boss: String,
    },
    /// Nobody is signed in at the boss that has something.
    #[error("nobody is signed in there to ask for {place}")]
    NoBoss {
        /// What.
        place: Place,
    },
    /// A transfer that removes its sources was to have one that only a boss can remove.
    #[error("{place} cannot be of a transfer that removes its sources: boss keeps what it has as its own rules say")]
    NotReleasable {
        /// What.
        place: Place,
    },
    /// What is with one boss was to have what is with another. Nothing was added.
    #[error("transfer {id} is with boss at {first}; make another one for what is with boss at {second}")]
    SecondBoss {
        /// The transfer.
        id: Uuid,
        /// Which boss it is with.
        first: Address,
        /// Which one more.
        second: Address,
    },
    /// A verb that does not fit how far the transfer is.
    #[error("transfer {id} {why}")]
    WrongPhase {
        /// The transfer.
        id: Uuid,
        /// Why not.
        why: &'static str,
    },
    /// There is not enough room. Nothing was written for what does not fit.
    #[error(
        "{folder} has {} bytes too few: {} are needed, {} are free, and {} of these are to stay free",
        lack.missing, lack.needed, lack.free, lack.reserve
    )]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// How much is missing.
        lack: NoRoom,
    },
    /// Two things were to have one name.
    #[error("{destination} is to be {first} already; it cannot be {second}, too")]
    Twice {
        /// The name.
        destination: String,
        /// What it is to be.
        first: String,
        /// What was added after that.
        second: String,
    },
    /// Somebody asked to stop.
    #[error("stopped on request; it can be resumed")]
    Stopped,
    /// A defect of this program.
    #[error("a record that does not fit was about to be believed: {record}")]
    Defect {
        /// Which.
        record: String,
    },
}

impl TransferError {
    /// Returns what kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Lost { .. } | Self::Twice { .. } => Class::Lost,
            Self::WrongContent { .. } | Self::WrongObject { .. } | Self::Impossible { .. } => Class::Corruption,
            Self::Boss { source, .. } => Class::of_boss(source),
            Self::NoBoss { .. } => Class::NotAllowed,
            Self::NotReleasable { .. } | Self::SecondBoss { .. } => Class::BadRequest,
            Self::WrongPhase { .. } => Class::WrongState,
            Self::Defect { .. } => Class::Defect,
            Self::NoRoom { .. } => Class::NoSpace,
            Self::Io { source, .. } => Class::of_io(source),
            Self::Journal(_) | Self::Stopped | Self::Forgetful { .. } => Class::Transient,
        }
    }
}

/// Returns true for what a file system says that has no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A transfer that nobody else works on.
#[derive(Debug)]
pub struct Transfer {
    desk: Desk,
}

impl Transfer {
    /// Returns how far it is.
    pub const fn state(&self) -> &State {
        &self.desk.state
    }

    /// Copies everything and waits for the end. A transfer that was dispatched before is resumed. It ends early when `stop`
    /// becomes true, or when another process asks for it ([`Shelf::stop`]). What is with a boss is asked for on `line`.
    ///
    /// # Errors
    /// [`TransferError`]; the journal has it, too, and the transfer can be resumed unless it says otherwise.
    pub fn run(&mut self, line: Option<&Line>, stop: &AtomicBool) -> Result<(), TransferError> {
        let state = &self.desk.state;
        if state.verdict == Verdict::Cancelled {
            return Err(TransferError::WrongPhase { id: state.id, why: "was cancelled; create another" });
        }
        let next = match state.phase {
            Phase::Closed => return Ok(()),
            Phase::Created => Record::Dispatched { attempt: 1 },
            Phase::Dispatched | Phase::Committed => Record::Resumed { attempt: state.attempt.saturating_add(1) },
        };
        self.desk.record(&next)?;
        let done = Attempt::new(&mut self.desk, line, stop).run();
        match &done {
            // After an error of the journal nothing can be written to it.
            Ok(()) | Err(TransferError::Journal(_)) => {}
            Err(TransferError::Stopped) => self.desk.record(&Record::Stopped)?,
            Err(error) => {
                let (class, detail) = (error.class().name().to_owned(), crate::exit::chain(error));
                self.desk.record(&Record::Failed { item: None, class, detail })?;
            }
        }
        done
    }

    /// Ends it for good. What has its name stays, and so do the sources; what has no name yet is removed. Cut off, it is
    /// finished by cancelling again.
    ///
    /// # Errors
    /// [`TransferError::WrongPhase`] once everything arrived or it was cancelled.
    pub fn cancel(&mut self) -> Result<(), TransferError> {
        let id = self.desk.state.id;
        if matches!(self.desk.state.phase, Phase::Committed | Phase::Closed) {
            return Err(TransferError::WrongPhase { id, why: "is done: there is nothing to cancel" });
        }
        if self.desk.state.verdict != Verdict::Cancelled {
            self.desk.record(&Record::Cancelled)?;
        }
        shelf::remove_temporaries(&self.desk.state)?;
        self.desk.record(&Record::Closed)
    }
}

#[cfg(test)]
mod tests;
