//! The directory in which the journals of transfers lie: create, open, list, forget.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::journal::{Journal, JournalError, folder_of};
use super::record::{Options, Record};
use super::run::{Desk, temporary_name};
use super::state::State;
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
    /// What its journal says, or why it says nothing.
    pub state: Result<State, TransferError>,
}

impl Shelf {
    /// Opens a directory of journals; it is made when it is not there, for its owner alone.
    ///
    /// # Errors
    /// [`TransferError::Io`].
    pub fn open(folder: &Path) -> Result<Self, TransferError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| TransferError::Io { action: "create", path: folder.to_owned(), source })?;
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

    /// Returns what a transfer is at, whoever works on it.
    ///
    /// # Errors
    /// [`TransferError`] when its journal cannot be read.
    pub fn status(&self, id: Uuid) -> Result<State, TransferError> {
        let records = Journal::peek(&self.path(id))?;
        State::of(&records).map_err(|source| TransferError::Impossible { id, source })
    }

    /// Lists all transfers, the oldest first, those with unreadable journals too.
    ///
    /// # Errors
    /// [`TransferError::Io`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, TransferError> {
        let failed = |source| TransferError::Io { action: "list", path: self.folder.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let id: Option<Uuid> =
                name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|id| id.parse().ok());
            found.extend(id);
        }
        found.sort();
        Ok(found.into_iter().map(|id| Listed { id, state: self.status(id) }).collect())
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
                remove_durably(&path)?;
                drop(journal);
                Ok(())
            }
            Err(JournalError::Corrupt { .. }) => remove_durably(&path),
            Err(error) => Err(error.into()),
        }
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.folder.join(format!("{id}{SUFFIX}"))
    }
}

/// Removes what a transfer has under temporary names.
pub(super) fn remove_temporaries(state: &State) -> Result<(), TransferError> {
    for (number, item) in (0_u32..).zip(&state.items) {
        let path = folder_of(item.destination.as_path()).join(temporary_name(state.id, number));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(TransferError::Io { action: "remove", path, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn remove_durably(path: &Path) -> Result<(), TransferError> {
    let removed = fs::remove_file(path).and_then(|()| File::open(folder_of(path))?.sync_all());
    removed.map_err(|source| TransferError::Io { action: "remove", path: path.to_owned(), source })
}
