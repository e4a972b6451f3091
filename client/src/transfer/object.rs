//! What an object of a boss has in place of a seal: its size, asked for before anything is written, and its digest, looked
//! at before it has a name.

use sha2::{Digest as _, Sha256};
use sigs::Digest;

use super::TransferError;
use super::boss::Unanswered;
use super::origin::{line_to, refused};
use super::record::{ItemKind, Record};
use super::run::Attempt;
use super::state::{Item, Progress};

impl Attempt<'_> {
    /// Asks how large the objects are that nobody asked for yet: before anything is written, so that the room for
    /// everything can be asked for.
    pub(super) fn measure(&self, count: usize) -> Result<(), TransferError> {
        self.each(count, ItemKind::File, |number, item| {
            let (Progress::Added, Some(object)) = (&item.progress, item.object()) else { return Ok(()) };
            let size = line_to(self.line, &item.source)?.size(object.digest, &self.stop);
            let bytes = size.map_err(|why| match why {
                Unanswered::Refused(error) => refused("ask for the size of", &item.source)(error),
                Unanswered::Stopped => TransferError::Stopped,
            })?;
            self.record(&Record::Measured { item: number, bytes })
        })
    }
}

/// The digest of a whole object, as its chunks are read.
pub(super) struct Whole {
    wanted: Option<Digest>,
    hasher: Sha256,
}

impl Whole {
    /// Expects the object that an item is a copy of; of a copy of a file nothing.
    pub(super) fn of(item: &Item) -> Self {
        Self { wanted: item.object().map(|object| object.digest), hasher: Sha256::new() }
    }

    /// Takes the next chunk.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        if self.wanted.is_some() {
            self.hasher.update(chunk);
        }
    }

    /// Returns whether it was the object.
    pub(super) fn arrived(self) -> bool {
        let found = Digest::from_bytes(self.hasher.finalize().into());
        self.wanted.is_none_or(|wanted| wanted == found)
    }
}
