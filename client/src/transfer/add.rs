//! Saying what is to be transferred.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::record::{Addition, ItemKind, RawPath, Record};
use super::{Phase, Transfer, TransferError, source};

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
        let state = &self.desk.state;
        if state.phase != Phase::Created {
            return Err(TransferError::WrongPhase { id: state.id, why: "was dispatched: nothing can be added" });
        }
        let (source, destination) = (absolute(source)?, absolute(destination)?);
        if destination.starts_with(&source) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it lies in what is copied");
            return Err(TransferError::Io { action: "copy to", path: destination, source: error });
        }
        let mut found = Vec::new();
        let room = MAX_ITEMS.saturating_sub(state.items.len());
        source::walk(&source, &destination, &mut |source, destination, kind| {
            if found.len() >= room {
                let reason = format!("a transfer has at most {MAX_ITEMS} items");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
            found.push(Addition { source: RawPath::from(source), destination: RawPath::from(destination), kind });
            Ok(())
        })
        .map_err(|(path, source)| TransferError::Io { action: "add", path, source })?;
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
        let mut known: HashMap<PathBuf, (PathBuf, ItemKind)> = items
            .map(|item| (item.destination.as_path().to_owned(), (item.source.as_path().to_owned(), item.kind)))
            .collect();
        let mut fresh = Vec::new();
        for item in found {
            let (source, destination) = (item.source.as_path().to_owned(), item.destination.as_path().to_owned());
            match known.get(&destination) {
                None => {
                    known.insert(destination, (source, item.kind));
                    fresh.push(item);
                }
                Some((first, kind)) if *first == source && *kind == item.kind => {}
                Some((first, _)) => {
                    return Err(TransferError::Twice { destination, first: first.clone(), second: source });
                }
            }
        }
        Ok(fresh)
    }
}

fn size_of(item: &Addition) -> usize {
    item.source.as_path().as_os_str().len() + item.destination.as_path().as_os_str().len()
}

fn absolute(path: &Path) -> Result<PathBuf, TransferError> {
    std::path::absolute(path).map_err(|error| TransferError::Io {
        action: "find",
        path: path.to_owned(),
        source: error,
    })
}
