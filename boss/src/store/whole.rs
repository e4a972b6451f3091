//! Whether an object is what its name says.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::Advice;
use sha2::{Digest as _, Sha256};
use sigs::{ByteLen, ByteOffset, Digest, FileSource, ReadAt};

use super::local::blocking;
use super::{ImageStore, StoreError};
use crate::steps::Steps;

/// How long a medium may give nothing.
const STALL: Duration = Duration::from_secs(60);
/// How much is read at a time.
const PIECE: ByteLen = ByteLen::new(1 << 20);

/// Reads an object from the medium and compares it with its name.
///
/// # Errors
/// [`StoreError::Missing`], and when it cannot be read.
pub(crate) async fn is_whole(store: &dyn ImageStore, digest: Digest) -> Result<bool, StoreError> {
    let path = store.path_of(digest).unwrap_or_else(|| digest.to_string().into());
    let (steps, failed) = (Steps::default(), StoreError::io("read", &path));
    let wanted = Wanted::default();
    let still = Arc::clone(&wanted.0);
    let reading = async {
        let source = steps.counted(store.open(digest, true).await?);
        blocking(move || digest_of(&*source, &still).map_err(StoreError::io("read", &path))).await
    };
    let found = steps.unless_still(STALL, reading).await;
    found.unwrap_or_else(|| Err(failed(io::ErrorKind::TimedOut.into()))).map(|found| found == digest)
}

/// Says until when it goes that somebody waits for what is read.
#[derive(Debug)]
struct Wanted(Arc<AtomicBool>);

impl Default for Wanted {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Computes the digest of all there is, while `wanted` says so.
fn digest_of(source: &dyn ReadAt, wanted: &AtomicBool) -> io::Result<Digest> {
    let (mut hash, mut buf, end) = (Sha256::new(), Vec::new(), source.len().get());
    let mut at = 0;
    while at < end {
        if !wanted.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "nobody waits for it any more"));
        }
        let len = PIECE.get().min(end - at);
        buf.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        source.read_exact_at(&mut buf, ByteOffset::new(at))?;
        hash.update(&buf);
        at += len;
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}

/// Computes the digest of a file that was flushed, from the medium, and returns how long it is.
pub(super) fn digest_on_medium(path: &Path) -> io::Result<(Digest, ByteLen)> {
    let source = FileSource::open(path)?;
    // The pages are clean; so they really go.
    rustix::fs::fadvise(source.file(), 0, None, Advice::DontNeed)?;
    Ok((digest_of(&source, &AtomicBool::new(true))?, source.len()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{ByteStream, Incarnation, Put, StoreFuture, StoredObject};
    use super::*;

    /// Has one object: what is cached of it, and what the medium has.
    #[derive(Debug)]
    struct One {
        cached: Vec<u8>,
        medium: Arc<dyn ReadAt>,
    }

    impl ImageStore for One {
        fn put_if_absent<'a>(&'a self, _: Digest, _: ByteLen, _: ByteStream) -> StoreFuture<'a, Put> {
            unreachable!("it is read only")
        }
        fn put_file<'a>(&'a self, _: Digest, _: &'a Path) -> StoreFuture<'a, Put> {
            unreachable!("it is read only")
        }
        fn get(&self, _: Digest, _: Option<sigs::ByteRange>) -> StoreFuture<'_, (ByteLen, ByteStream)> {
            let bytes: ByteStream = Box::pin(io::Cursor::new(self.cached.clone()));
            Box::pin(std::future::ready(Ok((ByteLen::of(&self.cached), bytes))))
        }
        fn open(&self, _: Digest, from_medium: bool) -> StoreFuture<'_, Arc<dyn ReadAt>> {
            let source = if from_medium { Arc::clone(&self.medium) } else { Arc::new(self.cached.clone()) };
            Box::pin(std::future::ready(Ok(source)))
        }
        fn head(&self, _: Digest) -> StoreFuture<'_, Option<ByteLen>> {
            Box::pin(std::future::ready(Ok(Some(ByteLen::of(&self.cached)))))
        }
        fn list(&self) -> StoreFuture<'_, Vec<StoredObject>> {
            unreachable!("it has one")
        }
        fn incarnation(&self, _: Digest) -> StoreFuture<'_, Option<Incarnation>> {
            unreachable!("it is read only")
        }
        fn set_aside(&self, _: Digest, _: Incarnation) -> StoreFuture<'_, ()> {
            unreachable!("it is read only")
        }
        fn delete(&self, _: Digest) -> StoreFuture<'_, ()> {
            unreachable!("it is read only")
        }
        fn path_of(&self, _: Digest) -> Option<PathBuf> {
            None
        }
    }

    #[tokio::test]
    async fn what_counts_is_what_the_medium_has() {
        let (good, mut bad) = (vec![7; (3 << 20) + 5], vec![7; (3 << 20) + 5]);
        bad[2 << 20] = 8;
        let digest = Digest::of(&good);
        let store =
            |cached: &Vec<u8>, medium: &Vec<u8>| One { cached: cached.clone(), medium: Arc::new(medium.clone()) };
        assert!(is_whole(&store(&bad, &good), digest).await.unwrap());
        assert!(!is_whole(&store(&good, &bad), digest).await.unwrap());
        assert!(!is_whole(&store(&good, &good[1..].to_vec()), digest).await.unwrap());
    }
}
