//! Saying what is to be transferred.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::place::{Address, Object, Place, Store};
use super::record::{Addition, ItemKind, Record};
use super::{Desk, Phase, Transfer, TransferError, source};

/// How many items a transfer has at most.
const MAX_ITEMS: usize = 1 << 20;
/// How many bytes of paths go into one record, short of those that a record can have: they are written as hexadecimal.
const BATCH_BYTES: usize = 8 << 10;

impl Transfer {
    /// Adds a file, a link, or a directory with all that is in it. Nothing is copied. What was added before is not added
    /// again, so an adding that was cut off is finished by doing it once more.
    ///
    /// # Errors
    /// [`TransferError::WrongPhase`] once it was dispatched; [`TransferError::Twice`]; [`TransferError::Io`] with the path
    /// that cannot be added. Nothing was added then.
    pub fn add(&mut self, source: &Path, destination: &Path) -> Result<(), TransferError> {
        self.still_created()?;
        let (source, destination) = (absolute(source)?, absolute(destination)?);
        if destination.starts_with(&source) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it lies in what is copied");
            return Err(TransferError::Io { action: "copy to", path: destination, source: error });
        }
        let mut found = Vec::new();
        let room = MAX_ITEMS.saturating_sub(self.desk.state.items.len());
        source::walk(&source, &destination, &mut |source, destination, kind| {
            if found.len() >= room {
                return Err(no_more());
            }
            found.push(Addition { source: source.into(), destination: destination.into(), kind });
            Ok(())
        })
        .map_err(|(path, source)| TransferError::Io { action: "add", path, source })?;
        self.note(found)
    }

    /// Adds an object of a boss, to be fetched. Nothing is asked for yet.
    ///
    /// # Errors
    /// As [`Transfer::add`]; [`TransferError::NotReleasable`]; [`TransferError::SecondBoss`].
    pub fn add_object(&mut self, object: Object, destination: &Path) -> Result<(), TransferError> {
        self.still_created()?;
        self.may_be_with(&object.boss)?;
        let (source, destination) = (Place::Object(object), absolute(destination)?);
        if self.desk.state.options.release_sources {
            return Err(TransferError::NotReleasable { place: source });
        }
        if self.desk.state.items.len() >= MAX_ITEMS {
            return Err(too_many(&destination));
        }
        self.note(vec![Addition { source, destination: destination.into(), kind: ItemKind::File }])
    }

    /// Adds a file that is to become an object of a boss. Nothing is read or sent yet.
    ///
    /// # Errors
    /// As [`Transfer::add`]; [`TransferError::NotReleasable`]; [`TransferError::SecondBoss`].
    pub fn add_upload(&mut self, source: &Path, boss: Address) -> Result<(), TransferError> {
        self.still_created()?;
        self.may_be_with(&boss)?;
        let (source, destination) = (absolute(source)?, Place::Store(Store { boss }));
        let failed = |error| TransferError::Io { action: "add", path: source.clone(), source: error };
        if !std::fs::symlink_metadata(&source).map_err(failed)?.is_file() {
            let reason = "it is no file, and boss takes nothing else";
            return Err(failed(io::Error::new(io::ErrorKind::Unsupported, reason)));
        }
        if self.desk.state.options.release_sources {
            return Err(TransferError::NotReleasable { place: destination });
        }
        if self.desk.state.items.len() >= MAX_ITEMS {
            return Err(too_many(&source));
        }
        self.note(vec![Addition { source: source.into(), destination, kind: ItemKind::File }])
    }

    fn still_created(&self) -> Result<(), TransferError> {
        let state = &self.desk.state;
        match state.phase {
            Phase::Created => Ok(()),
            Phase::Dispatched | Phase::Committed | Phase::Closed => {
                Err(TransferError::WrongPhase { id: state.id, why: "was dispatched: nothing can be added" })
            }
        }
    }

    /// A transfer is with one boss: an attempt is made as who is signed in there. Nothing can be taken out of it again, so
    /// what could never be done is not added.
    fn may_be_with(&self, boss: &Address) -> Result<(), TransferError> {
        let Desk { journal, state } = &self.desk;
        if !journal.has_bosses() {
            let why = "was created by an older version, whose journals have nothing of a boss; create another";
            return Err(TransferError::WrongPhase { id: state.id, why });
        }
        let mut known = state.items.iter().flat_map(|item| [&item.source, &item.destination]).filter_map(Place::boss);
        match known.find(|known| *known != boss) {
            None => Ok(()),
            Some(first) => Err(TransferError::SecondBoss { id: state.id, first: first.clone(), second: boss.clone() }),
        }
    }

    /// Records what is new of this, in pieces that fit into records.
    fn note(&mut self, found: Vec<Addition>) -> Result<(), TransferError> {
        let mut fresh = self.without_known(found)?.into_iter().peekable();
        while fresh.peek().is_some() {
            let mut bytes = 0;
            let mut items = Vec::new();
            while let Some(item) = fresh.next_if(|item| items.is_empty() || bytes + size_of(item) <= BATCH_BYTES) {
                bytes += size_of(&item);
                items.push(item);
            }
            self.desk.record(&Record::Added { items })?;
        }
        Ok(())
    }

    /// Leaves out what was added before; two things under one name are refused.
    fn without_known(&self, found: Vec<Addition>) -> Result<Vec<Addition>, TransferError> {
        let items = self.desk.state.items.iter();
        let mut known: HashMap<Name, (Place, ItemKind)> =
            items.map(|item| (name_of(&item.source, &item.destination), (item.source.clone(), item.kind))).collect();
        let mut fresh = Vec::new();
        for item in found {
            let (source, destination) = (item.source.clone(), item.destination.clone());
            let name = name_of(&source, &destination);
            match known.get(&name) {
                None => {
                    known.insert(name, (source, item.kind));
                    fresh.push(item);
                }
                Some((first, kind)) if *first == source && *kind == item.kind => {}
                Some((first, _)) => {
                    let [destination, first, second] = [&destination, first, &source].map(Place::to_string);
                    return Err(TransferError::Twice { destination, first, second });
                }
            }
        }
        Ok(fresh)
    }
}

/// What can only be one thing: a destination, or in a store, which takes everything, one for each source.
type Name = (Place, Option<Place>);

fn name_of(source: &Place, destination: &Place) -> Name {
    let in_store = matches!(destination, Place::Store(_));
    (destination.clone(), in_store.then(|| source.clone()))
}

fn size_of(item: &Addition) -> usize {
    [&item.source, &item.destination].map(|place| place.to_string().len()).iter().sum()
}

fn no_more() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("a transfer has at most {MAX_ITEMS} items"))
}

fn too_many(path: &Path) -> TransferError {
    TransferError::Io { action: "add", path: path.to_owned(), source: no_more() }
}

fn absolute(path: &Path) -> Result<PathBuf, TransferError> {
    std::path::absolute(path).map_err(|error| TransferError::Io {
        action: "find",
        path: path.to_owned(),
        source: error,
    })
}
