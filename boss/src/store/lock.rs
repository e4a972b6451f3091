//! One boss per state directory.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::make_private_dir;

/// The right to use a state directory; given back when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why the right was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another boss has it.
    #[error(
        "another boss uses the state directory {0}: stop it first, or give this one a directory of its own; \
         nothing was touched"
    )]
    Taken(PathBuf),
    /// The directory cannot be made or locked.
    #[error("lock the state directory {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StateLock {
    /// Takes the right, before anything in the directory is touched.
    ///
    /// # Errors
    /// [`LockError::Taken`] when another boss has it.
    pub fn take(state: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: state.to_path_buf(), source };
        make_private_dir(state).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(state.join("lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken(state.to_path_buf())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_boss_is_refused_until_the_first_is_gone() {
        let state = tempfile::tempdir().unwrap();
        let first = StateLock::take(state.path()).unwrap();
        let refused = StateLock::take(state.path()).unwrap_err();
        assert!(refused.to_string().contains("another boss"), "{refused}");
        drop(first);
        StateLock::take(state.path()).unwrap();
    }
}
