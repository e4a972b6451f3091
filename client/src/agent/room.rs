//! No room for a file in the work folder: told apart from a broken machine, and said in words that name the folder.

use std::io;
use std::path::{Path, PathBuf};

use boss_api::client::ClientError;

/// The file system of the work folder has no room left.
#[derive(Debug, thiserror::Error)]
#[error("the file system of the agent's work folder {folder} is full; make room there")]
pub struct NoRoom {
    folder: PathBuf,
    #[source]
    source: io::Error,
}

impl NoRoom {
    /// Takes an error of a file in the work folder when a lack of room is what it says, and gives others back.
    pub(super) fn of(folder: &Path, source: io::Error) -> Result<Self, io::Error> {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(Self { folder: folder.to_owned(), source }),
            _ => Err(source),
        }
    }

    /// Does the same with an error of a request whose answer goes into the work folder.
    pub(super) fn of_request(folder: &Path, error: ClientError) -> Result<Self, ClientError> {
        match error {
            ClientError::File { action, path, source } => {
                Self::of(folder, source).map_err(|source| ClientError::File { action, path, source })
            }
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::chain;

    #[test]
    fn only_a_lack_of_room_is_one() {
        let folder = Path::new("/run/agent/boot-1");
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let said = chain(&NoRoom::of(folder, kind.into()).unwrap());
            assert!(said.contains("/run/agent/boot-1 is full; make room"), "{said}");
            let file = ClientError::File { action: "write", path: folder.join("x"), source: kind.into() };
            assert!(NoRoom::of_request(folder, file).is_ok());
        }
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(NoRoom::of(folder, denied()).is_err());
        let file = ClientError::File { action: "write", path: folder.join("x"), source: denied() };
        let kept = NoRoom::of_request(folder, file).unwrap_err();
        assert_eq!(chain(&kept), "write /run/agent/boot-1/x: permission denied");
    }
}
