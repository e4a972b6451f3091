//! Files fetched from boss, each once, kept for this boot under their digest.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use boss_api::agent::{FailureClass, ObjectRef};
use boss_api::client::{AgentClient, ClientError};
use sigs::Digest;

use super::room::NoRoom;
use crate::retry::persist;

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    NoRoom(NoRoom),
    #[error(transparent)]
    Client(ClientError),
}

impl FetchError {
    pub(super) const fn class(&self) -> FailureClass {
        match self {
            Self::Client(ClientError::WrongBytes { .. }) => FailureClass::Corruption,
            Self::Client(_) | Self::NoRoom(_) => FailureClass::Transient,
        }
    }

    /// Returns whether the attempt or the boot that asked is over.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_stale())
    }
}

/// Where fetched files are.
#[derive(Debug)]
pub(super) struct Depot {
    folder: PathBuf,
    client: AgentClient,
    // One lock for each file, so that two disks of one image fetch it once.
    under_way: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<bool>>>>,
}

impl Depot {
    pub(super) fn new(folder: PathBuf, client: AgentClient) -> Self {
        Self { folder, client, under_way: Mutex::default() }
    }

    /// Returns the file with these bytes; digest and size were checked on the bytes as they came.
    pub(super) async fn fetch(&self, object: &ObjectRef) -> Result<PathBuf, FetchError> {
        let path = self.folder.join(object.digest.to_string());
        let lock = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(under_way.entry(object.digest).or_default())
        };
        let mut complete = lock.lock().await;
        if !*complete {
            let fetched = persist("fetch an object", None, || self.client.object(object, &path)).await;
            fetched.map_err(|error| match NoRoom::of_request(&self.folder, error) {
                Ok(full) => FetchError::NoRoom(full),
                Err(error) => FetchError::Client(error),
            })?;
            *complete = true;
        }
        Ok(path)
    }
}
