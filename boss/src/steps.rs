//! Whether somebody who reads the store, or writes what he found, comes on: how long it takes is up to the size of a
//! disk, so the limit is on standing still.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sigs::{ByteLen, ByteOffset, ByteRange, ReadAt, SectorSize};

/// How many steps there were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps(Arc<AtomicU64>);

impl Steps {
    /// Returns the same source with its reads counted.
    pub(crate) fn counted(&self, source: Arc<dyn ReadAt>) -> Arc<dyn ReadAt> {
        Arc::new(Counted { source, steps: self.clone() })
    }

    /// Counts one.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for `work`; nothing when no step ended for `limit`.
    pub(crate) async fn unless_still<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let before = self.0.load(Ordering::Relaxed);
            match tokio::time::timeout(limit, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.0.load(Ordering::Relaxed) == before => return None,
                Err(_) => {}
            }
        }
    }
}

#[derive(Debug)]
struct Counted {
    source: Arc<dyn ReadAt>,
    steps: Steps,
}

impl ReadAt for Counted {
    fn read_exact_at(&self, buf: &mut [u8], offset: ByteOffset) -> io::Result<()> {
        let read = self.source.read_exact_at(buf, offset);
        self.steps.add();
        read
    }

    fn len(&self) -> ByteLen {
        self.source.len()
    }

    fn sector_size(&self) -> SectorSize {
        self.source.sector_size()
    }

    fn next_data(&self, range: ByteRange) -> io::Result<Option<ByteOffset>> {
        self.source.next_data(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_now_and_then_may_take_long_and_who_stands_still_may_not() {
        let (limit, steps) = (Duration::from_secs(300), Steps::default());
        let source = steps.counted(Arc::new(vec![7_u8; 16]));
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(limit * 3 / 4).await;
                source.read_exact_at(&mut [0; 4], ByteOffset::ZERO).unwrap();
            }
            "done"
        };
        assert_eq!(steps.unless_still(limit, slow).await, Some("done"));
        assert_eq!(steps.unless_still(limit, std::future::pending::<()>()).await, None);
    }
}
