//! Who may change the store: the marker `store/term` says how far the boss was that ruled over it last.
//!
//! It is raised, durably, before a boss serves anybody, and read again before anything in the store is made or
//! removed: a boss that slept while another took over changes nothing. The lock on the folder makes the look and the
//! change one step; it protects a moment, no right is kept by it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use boss_model::term::Standing;

use super::StoreError;
use super::local::{make_private_dir, sync_dir};

/// The marker of a store, and the term that this boss may change it in.
#[derive(Debug)]
pub struct Gate {
    folder: PathBuf,
    own: Mutex<Standing>,
}

/// The right to change the store, for a moment: nobody takes over before this is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    _lock: File,
}

impl Gate {
    /// Returns how far the last boss of the store in `<state>/store` was; a store without a marker had none.
    ///
    /// # Errors
    /// [`StoreError`] naming the marker, when it cannot be read or says no such thing.
    pub fn last(state: &Path) -> Result<Standing, StoreError> {
        Ok(read(&state.join("store"))?.unwrap_or_default())
    }

    /// Raises the marker, durably. From now on whoever ruled before changes nothing in this store.
    ///
    /// # Errors
    /// [`StoreError::TermOver`] when the store has seen a later term; [`StoreError::Busy`] while another boss is in the
    /// middle of a change; [`StoreError`] when it cannot be written.
    pub fn raise(state: &Path, to: Standing) -> Result<Arc<Self>, StoreError> {
        let folder = state.join("store");
        make_private_dir(&folder).map_err(StoreError::io("make the directory", &folder))?;
        let lock = open(&folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy(folder)),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &folder)(error)),
        }
        match read(&folder)? {
            Some(found) if found.term > to.term => return Err(over(to, Some(found))),
            _ => write(&folder, to)?,
        }
        Ok(Arc::new(Self { folder, own: Mutex::new(to) }))
    }

    /// Notes how often machines have moved by now, so that an older database is known by it. Beside changes of the
    /// store, however long they take; while another boss takes over nothing is noted, and the next look is refused.
    ///
    /// # Errors
    /// As [`Self::raise`]; [`StoreError::DatabaseWentBack`] when there were more already.
    pub fn note(&self, moves: u64) -> Result<(), StoreError> {
        // Two looks of this boss note one after the other.
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(*own)?;
        if moves < own.moves {
            return Err(StoreError::DatabaseWentBack { noted: own.moves, found: moves });
        }
        if moves == own.moves {
            return Ok(());
        }
        // Whoever raises the marker has the folder alone.
        let lock = open(&self.folder)?;
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &self.folder)(error)),
        }
        self.check(*own)?;
        let noted = Standing { moves, ..*own };
        write(&self.folder, noted)?;
        *own = noted;
        Ok(())
    }

    /// Checks that this boss may change the store, and keeps it so until the answer is dropped.
    ///
    /// # Errors
    /// [`StoreError::TermOver`] when it may not any more.
    pub(super) fn enter(&self) -> Result<Entered, StoreError> {
        let lock = open(&self.folder)?;
        lock.lock_shared().map_err(StoreError::io("lock", &self.folder))?;
        self.check(*self.own.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(Entered { _lock: lock })
    }

    fn check(&self, own: Standing) -> Result<(), StoreError> {
        let found = read(&self.folder)?;
        // A lower term, too: then the store was exchanged under this boss.
        if found.is_some_and(|found| found.term == own.term) { Ok(()) } else { Err(over(own, found)) }
    }
}

fn over(own: Standing, found: Option<Standing>) -> StoreError {
    StoreError::TermOver { own: own.term, found: found.map(|found| found.term) }
}

fn open(folder: &Path) -> Result<File, StoreError> {
    File::open(folder).map_err(StoreError::io("open", folder))
}

fn marker(folder: &Path) -> PathBuf {
    folder.join("term")
}

fn read(folder: &Path) -> Result<Option<Standing>, StoreError> {
    let path = marker(folder);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path)(error)),
    };
    match parse(&text) {
        Some(standing) => Ok(Some(standing)),
        None => Err(StoreError::BadMarker(path)),
    }
}

fn parse(text: &str) -> Option<Standing> {
    let (term, moves) = text.strip_suffix('\n')?.split_once('\n')?;
    let term = term.strip_prefix("term ")?.parse().ok()?;
    Some(Standing { term, moves: moves.strip_prefix("moves ")?.parse().ok()? })
}

fn write(folder: &Path, standing: Standing) -> Result<(), StoreError> {
    let (path, new) = (marker(folder), folder.join("term.new"));
    let failed = || StoreError::io("write", &new);
    let mut file = File::create(&new).map_err(failed())?;
    let Standing { term, moves } = standing;
    file.write_all(format!("term {term}\nmoves {moves}\n").as_bytes()).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    fs::rename(&new, &path).map_err(StoreError::io("name", &path))?;
    sync_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, moves: u64) -> Standing {
        Standing { term, moves }
    }

    #[test]
    fn a_later_boss_shuts_the_gate_for_the_earlier_one() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Gate::last(state.path()).unwrap(), Standing::default());
        let first = Gate::raise(state.path(), at(3, 0)).unwrap();
        drop(first.enter().unwrap());
        first.note(5).unwrap();
        let back = first.note(4);
        assert!(matches!(back, Err(StoreError::DatabaseWentBack { noted: 5, found: 4 })), "{back:?}");
        assert_eq!(Gate::last(state.path()).unwrap(), at(3, 5), "it never goes back");
        let second = Gate::raise(state.path(), at(4, 5)).unwrap();
        for refused in [first.enter().map(drop), first.note(9)] {
            assert!(matches!(refused, Err(StoreError::TermOver { own: 3, found: Some(4) })), "{refused:?}");
        }
        drop(second.enter().unwrap());
        let late = Gate::raise(state.path(), at(3, 99));
        assert!(matches!(late, Err(StoreError::TermOver { own: 3, found: Some(4) })), "{late:?}");
        assert_eq!(Gate::last(state.path()).unwrap(), at(4, 5));
    }

    #[test]
    fn a_marker_that_is_gone_or_makes_no_sense_shuts_it_too() {
        let state = tempfile::tempdir().unwrap();
        let gate = Gate::raise(state.path(), at(3, 0)).unwrap();
        let path = state.path().join("store/term");
        for text in ["", "term 3", "term 3\nmoves\n", "term -3\nmoves 0\n", "moves 0\nterm 3\n", "term 3\nmoves 0\nx\n"]
        {
            fs::write(&path, text).unwrap();
            assert!(matches!(gate.enter(), Err(StoreError::BadMarker(_))), "{text:?}");
            assert!(Gate::last(state.path()).is_err(), "{text:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(gate.enter(), Err(StoreError::TermOver { own: 3, found: None })));
    }

    #[test]
    fn nobody_takes_over_while_something_is_changed() {
        let state = tempfile::tempdir().unwrap();
        let gate = Gate::raise(state.path(), at(3, 0)).unwrap();
        let entered = gate.enter().unwrap();
        assert!(matches!(Gate::raise(state.path(), at(4, 0)), Err(StoreError::Busy(_))));
        assert_eq!(Gate::last(state.path()).unwrap(), at(3, 0));
        // A change may take long, and machines move meanwhile.
        gate.note(7).unwrap();
        assert_eq!(Gate::last(state.path()).unwrap(), at(3, 7));
        drop(entered);
        Gate::raise(state.path(), at(4, 7)).unwrap();
    }
}
