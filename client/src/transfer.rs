//! Transfers of files and directory trees that a crash interrupts and never corrupts.
//!
//! The verbs are those of AXL (create, add, dispatch, resume, cancel, forget, ...); what it gets wrong is done otherwise:
//! resuming trusts hashes instead of lengths, every failed flush ends its attempt, names are made durable, and nothing of a
//! source goes before everything arrived. What is done when is in `docs/transfers.md`; the table of it in [`recover`].
//!
//! - [`record`], [`journal`]: what is written down, and how
//! - [`state`]: what the records add up to
//! - [`recover`]: what is done next, by the last record and what is on disk
//! - `source`, `copy`, `run`: doing it
//! - [`shelf`]: the directory of journals

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use uuid::Uuid;

mod copy;
pub mod journal;
pub mod record;
pub mod recover;
mod run;
pub mod shelf;
mod source;
pub mod state;

use journal::JournalError;
pub use record::Options;
use record::{RawPath, Record};
use recover::Loss;
use run::{Attempt, Desk};
pub use shelf::Shelf;
pub use state::{Phase, State, Verdict};

/// How many items a transfer has at most.
const MAX_ITEMS: usize = 1 << 20;

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
    #[error("{item} {}", reason(*loss))]
    Lost {
        /// What.
        item: PathBuf,
        /// Why.
        loss: Loss,
    },
    /// What was read back is not what was written.
    #[error("{path} does not read back as it was written; it is begun again by the next attempt")]
    WrongContent {
        /// The temporary file.
        path: PathBuf,
    },
    /// A verb that does not fit how far the transfer is.
    #[error("transfer {id} {why}")]
    WrongPhase {
        /// The transfer.
        id: Uuid,
        /// Why not.
        why: &'static str,
    },
    /// The caller asked to stop.
    #[error("stopped on request; it can be resumed")]
    Cancelled,
    /// A defect of this program.
    #[error("a record that does not fit was about to be believed: {record}")]
    Defect {
        /// Which.
        record: String,
    },
}

const fn reason(loss: Loss) -> &'static str {
    match loss {
        Loss::SourceChanged => {
            "changed since the transfer began: going on would mix two files; forget the transfer and create it anew"
        }
        Loss::SourceGone => "is gone, and not all of it was copied",
        Loss::InTheWay => "is in the way: what is there is not of this transfer and is not overwritten",
    }
}

impl TransferError {
    /// Returns the class that the journal has of it: whether trying again can help.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Lost { .. } => "lost",
            Self::WrongContent { .. } => "corruption",
            Self::Impossible { .. } | Self::Defect { .. } | Self::WrongPhase { .. } => "defect",
            Self::Io { .. } | Self::Journal(_) => "transient",
        }
    }
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

    /// Adds a file, a link, or a directory with all that is in it. Nothing is copied.
    ///
    /// # Errors
    /// [`TransferError::WrongPhase`] once it was dispatched; [`TransferError::Io`] with the path that cannot be added.
    pub fn add(&mut self, source: &Path, destination: &Path) -> Result<(), TransferError> {
        let desk = &mut self.desk;
        if desk.state.phase != Phase::Created {
            return Err(TransferError::WrongPhase { id: desk.state.id, why: "was dispatched: nothing can be added" });
        }
        let absolute = |path: &Path| {
            let found = std::path::absolute(path);
            found.map_err(|error| TransferError::Io { action: "find", path: path.to_owned(), source: error })
        };
        let (source, destination) = (absolute(source)?, absolute(destination)?);
        if destination.starts_with(&source) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it lies in what is copied");
            return Err(TransferError::Io { action: "copy to", path: destination, source: error });
        }
        let mut found = Vec::new();
        let room = MAX_ITEMS.saturating_sub(desk.state.items.len());
        source::walk(&source, &destination, &mut |source, destination, kind| {
            if found.len() >= room {
                let reason = format!("a transfer has at most {MAX_ITEMS} items");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
            found.push((RawPath::from(source), RawPath::from(destination), kind));
            Ok(())
        })
        .map_err(|(path, source)| TransferError::Io { action: "add", path, source })?;
        for (source, destination, kind) in found {
            desk.record(&Record::Added { source, destination, kind })?;
        }
        Ok(())
    }

    /// Copies everything and waits for the end. A transfer that was dispatched before is resumed.
    ///
    /// # Errors
    /// [`TransferError`]; the journal has it, too, and the transfer can be resumed unless it says otherwise.
    pub fn run(&mut self, cancel: &AtomicBool) -> Result<(), TransferError> {
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
        let done = Attempt::new(&mut self.desk, cancel).run();
        if let Err(error) = &done
            && !matches!(error, TransferError::Cancelled | TransferError::Journal(_))
        {
            let (class, detail) = (error.class().to_owned(), crate::exit::chain(error));
            self.desk.record(&Record::Failed { item: None, class, detail })?;
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
