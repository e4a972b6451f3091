//! What an agent remembers of boss: the highest term it heard, and the machine's highest epoch in that term. Answers,
//! orders and permits of a lower one are refused, whoever sends them.
//!
//! It is kept in the work folder, too, so that an agent that is started again on the same machine is not taken in by a
//! boss that is over. A boss of a higher term may count epochs anew: it was perhaps restored from an older backup.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use boss_api::client::{LowerTerm, TermMemory};
use serde::{Deserialize, Serialize};

use super::AgentError;
use super::room::NoRoom;

const FILE: &str = "heard.json";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heard {
    term: u64,
    epoch: u64,
}

/// The memory of an agent, or of a program that it started.
#[derive(Debug)]
pub struct Memory {
    heard: Mutex<Heard>,
    folder: Option<PathBuf>,
}

impl Memory {
    /// Reads what earlier agents on this machine heard, from the work folder.
    ///
    /// # Errors
    /// [`AgentError::Memory`] when it cannot be read, or makes no sense: then nobody is believed.
    pub fn open(folder: &Path) -> Result<Self, AgentError> {
        let path = folder.join(FILE);
        let failed = |source| AgentError::Memory { path: path.clone(), source };
        let heard = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Heard::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { heard: Mutex::new(heard), folder: Some(folder.to_owned()) })
    }

    /// Makes a memory that is gone with its program.
    pub fn of_this_program() -> Self {
        Self { heard: Mutex::default(), folder: None }
    }

    /// Returns the highest term.
    pub fn term(&self) -> u64 {
        self.lock().term
    }

    /// Takes note of the machine's epoch, in the term that was heard last.
    ///
    /// # Errors
    /// [`AgentError::OldEpoch`] when a higher one was heard before.
    pub fn hear_epoch(&self, epoch: u64) -> Result<(), AgentError> {
        let mut heard = self.lock();
        if epoch < heard.epoch {
            return Err(AgentError::OldEpoch { said: epoch, heard: heard.epoch });
        }
        if epoch > heard.epoch {
            heard.epoch = epoch;
            self.write_down(*heard)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the lock held, so that what is in the file never goes back either.
    fn write_down(&self, heard: Heard) -> Result<(), AgentError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        write(folder, heard).map_err(|source| match NoRoom::of(folder, source) {
            Ok(full) => full.into(),
            Err(source) => AgentError::Memory { path: folder.join(FILE), source },
        })
    }
}

impl TermMemory for Memory {
    fn hear(&self, term: u64) -> Result<(), LowerTerm> {
        let mut heard = self.lock();
        if term < heard.term {
            return Err(LowerTerm { said: term, heard: heard.term });
        }
        if term > heard.term {
            *heard = Heard { term, epoch: 0 };
            // What cannot be written down is remembered as long as this program runs.
            if let Err(error) = self.write_down(*heard) {
                tracing::error!("remember the term {term}: {}", crate::exit::chain(&error));
            }
        }
        Ok(())
    }
}

fn write(folder: &Path, heard: Heard) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(&heard)?)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(FILE)).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_remembered_and_less_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path()).unwrap();
        memory.hear(7).unwrap();
        memory.hear_epoch(12).unwrap();
        memory.hear(7).unwrap();
        assert_eq!(memory.hear(6), Err(LowerTerm { said: 6, heard: 7 }));
        assert!(matches!(memory.hear_epoch(11), Err(AgentError::OldEpoch { said: 11, heard: 12 })));
        let again = Memory::open(folder.path()).unwrap();
        assert_eq!(again.hear(6), Err(LowerTerm { said: 6, heard: 7 }));
        assert!(again.hear_epoch(11).is_err());
        again.hear(8).unwrap();
        again.hear_epoch(2).unwrap();
        assert_eq!(*Memory::open(folder.path()).unwrap().lock(), Heard { term: 8, epoch: 2 });
    }

    #[test]
    fn a_memory_that_makes_no_sense_is_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"term\": -1, \"epoch\": 0}", "{\"term\": 1, \"epoch\": 0, \"x\": 0}"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert!(matches!(Memory::open(folder.path()), Err(AgentError::Memory { .. })), "{text:?}");
        }
    }
}
