//! Whether an object is what its name says.

use std::io;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sigs::Digest;
use tokio::io::AsyncReadExt as _;

use super::{ImageStore, StoreError};

/// How long a medium may give nothing.
const STALL: Duration = Duration::from_secs(60);

/// Reads an object and compares it with its name.
///
/// # Errors
/// [`StoreError::Missing`], and when it cannot be read.
pub(crate) async fn is_whole(store: &dyn ImageStore, digest: Digest) -> Result<bool, StoreError> {
    let (_, mut bytes) = store.get(digest, None).await?;
    let path = store.path_of(digest).unwrap_or_else(|| digest.to_string().into());
    let (mut hash, mut buf) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        let read = tokio::time::timeout(STALL, bytes.read(&mut buf)).await;
        match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(StoreError::io("read", &path))? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into()) == digest),
            n => hash.update(&buf[..n]),
        }
    }
}
