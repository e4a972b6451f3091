//! What makes going down a damaged tree end: a sound one has every folder in one place.

use std::collections::HashSet;

use super::{FilesError, Node};

/// The folders that were gone into. Memory: some ten bytes for each.
#[derive(Debug, Default)]
pub struct Seen(HashSet<u32>);

impl Seen {
    /// Takes note of a folder.
    ///
    /// # Errors
    /// [`FilesError::Loop`] when it was there before.
    pub fn enter(&mut self, folder: &Node) -> Result<(), FilesError> {
        if self.0.insert(folder.number()) { Ok(()) } else { Err(FilesError::Loop { inode: folder.number() }) }
    }
}
