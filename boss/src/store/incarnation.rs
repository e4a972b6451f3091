//! Which file has the name of an object: what was found damaged may have made way for a good one since.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::StoreError;

/// The file that has the name of an object. Another one that gets the name has another, also when it is the same inode
/// used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Incarnation {
    fn new(meta: &Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino(), changed: (meta.ctime(), meta.ctime_nsec()) }
    }

    /// Returns that of what is there under a path, if anything is.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, StoreError> {
        match fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(Self::new(&meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look at", path)(error)),
        }
    }
}
