//! The directory in which the journals of transfers lie: create, open, list, free, forget.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::journal::{Journal, JournalError, folder_of};
use super::record::{Options, Record};
use super::run::{Desk, sync_directory};
use super::state::{Phase, State};
use super::stop::request_beside;
use super::watch::Seen;
use super::{Transfer, TransferError};

/// What ends the name of a journal.
const SUFFIX: &str = ".journal";

/// A directory of journals.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
}

/// What is known of a transfer.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub id: Uuid,
    /// How it stands, or why nobody knows.
    pub seen: Result<Seen, TransferError>,
}

impl Shelf {
    /// Opens a directory of journals; it is made when it is not there, for its owner alone, and its name is durable then: with
    /// it a crash would take all journals.
    ///
    /// # Errors
    /// [`TransferError::Io`].
    pub fn open(folder: &Path) -> Result<Self, TransferError> {
        let missing: Vec<_> = folder.ancestors().take_while(|path| !path.exists()).collect();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| TransferError::Io { action: "create", path: folder.to_owned(), source })?;
        for made in missing.iter().rev() {
            sync_directory(folder_of(made))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Creates a transfer of nothing.
    ///
    /// # Errors
    /// [`TransferError::Journal`].
    pub fn create(&self, options: Options) -> Result<Transfer, TransferError> {
        let id = Uuid::now_v7();
        let first = Record::Created { id, options };
        let journal = Journal::create(&self.path(id), &first)?;
        let state = State::of(&[first]).map_err(|source| TransferError::Impossible { id, source })?;
        Ok(Transfer { desk: Desk { journal, state } })
    }

    /// Opens a transfer to go on with it.
    ///
    /// # Errors
    /// [`TransferError::Journal`], also while another process works on it; [`TransferError::Impossible`].
    pub fn transfer(&self, id: Uuid) -> Result<Transfer, TransferError> {
        let (journal, records) = Journal::open(&self.path(id))?;
        let state = State::of(&records).map_err(|source| TransferError::Impossible { id, source })?;
        Ok(Transfer { desk: Desk { journal, state } })
    }

    /// Lists all transfers, the oldest first, those with unreadable journals too.
    ///
    /// # Errors
    /// [`TransferError::Io`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, TransferError> {
        let failed = |source| TransferError::Io { action: "list", path: self.folder.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            found.extend(id_of(&entry.map_err(failed)?.file_name()));
        }
        found.sort();
        Ok(found.into_iter().map(|id| Listed { id, seen: self.look(id) }).collect())
    }

    /// Removes the journal of a transfer that is over: everything arrived, or it was cancelled.
    ///
    /// # Errors
    /// [`TransferError::WrongPhase`] while it is not over.
    pub fn free(&self, id: Uuid) -> Result<(), TransferError> {
        let transfer = self.transfer(id)?;
        if transfer.state().phase != Phase::Closed {
            return Err(TransferError::WrongPhase { id, why: "is not over: finish it, cancel it or forget it" });
        }
        self.remove(id)
    }

    /// Removes the journal of a transfer, readable or not, and what it has under temporary names where they are known.
    /// Sources and what has its name stay.
    ///
    /// # Errors
    /// [`TransferError::Journal`] while another process works on it.
    pub fn forget(&self, id: Uuid) -> Result<(), TransferError> {
        let path = self.path(id);
        match Journal::open(&path) {
            Ok((journal, records)) => {
                if let Ok(state) = State::of(&records) {
                    remove_temporaries(&state)?;
                }
                self.remove(id)?;
                drop(journal);
                Ok(())
            }
            Err(JournalError::Corrupt { .. }) => self.remove(id),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether there is a journal of a transfer, readable or not.
    pub fn has(&self, id: Uuid) -> bool {
        self.path(id).symlink_metadata().is_ok()
    }

    /// Returns where a process that works in the background says what happened.
    pub fn log(&self, id: Uuid) -> PathBuf {
        self.path(id).with_extension("log")
    }

    /// Returns the directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, id: Uuid) -> PathBuf {
        self.folder.join(format!("{id}{SUFFIX}"))
    }

    /// Removes a journal and what lies beside it, the journal last: what is left of a removal that was cut off is listed.
    fn remove(&self, id: Uuid) -> Result<(), TransferError> {
        let path = self.path(id);
        for beside in [request_beside(&path), self.log(id)] {
            match fs::remove_file(&beside) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(TransferError::Io { action: "remove", path: beside, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        remove_durably(&path)
    }
}

/// Returns the transfer that a file of the directory is the journal of.
pub(super) fn id_of(name: &OsStr) -> Option<Uuid> {
    name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Removes what a transfer has under temporary names, durably: once its journal is gone, nobody would know whose they are.
pub(super) fn remove_temporaries(state: &State) -> Result<(), TransferError> {
    let mut changed = BTreeSet::new();
    for (number, item) in (0_u32..).zip(&state.items) {
        let Some(path) = item.temporary(state.id, number) else { continue };
        let removed = match fs::remove_file(&path) {
            Ok(()) => true,
            // A removal before this one may have been cut off.
            Err(source) if source.kind() == io::ErrorKind::NotFound => item.sealed.is_some() && !item.arrived(),
            Err(source) => return Err(TransferError::Io { action: "remove", path, source }),
        };
        let folder = folder_of(&path);
        if removed && folder.is_dir() {
            changed.insert(folder.to_owned());
        }
    }
    changed.iter().try_for_each(|folder| sync_directory(folder))
}

fn remove_durably(path: &Path) -> Result<(), TransferError> {
    let removed = fs::remove_file(path).and_then(|()| File::open(folder_of(path))?.sync_all());
    removed.map_err(|source| TransferError::Io { action: "remove", path: path.to_owned(), source })
}
