//! Where the agent crosses to the engine: work that blocks, on a named thread, with a flag to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use boss_api::agent::WriteProgress;
use imagezip::control::{Control, Progress};
use sigs::ByteLen;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Counters and the flag to stop, shared with a thread of the engine.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) progress: Progress,
    cancel: AtomicBool,
    // Zeroing a whole disk is no work of the engine, so it has counters of its own.
    zeroing_total: AtomicU64,
    zeroing_done: AtomicU64,
}

impl Shared {
    pub(super) const fn control(&self) -> Control<'_> {
        Control { progress: &self.progress, cancel: &self.cancel }
    }

    /// Begins to zero a disk, and to read it back.
    pub(super) fn begin_zeroing(&self, disk: ByteLen) {
        self.zeroing_total.store(disk.get().saturating_mul(2), Ordering::Relaxed);
    }

    /// Counts bytes zeroed or read back.
    pub(super) fn zeroed(&self, len: ByteLen) {
        self.zeroing_done.fetch_add(len.get(), Ordering::Relaxed);
    }

    /// Returns how far zeroing is, or nothing when no disk is zeroed.
    pub(super) fn zeroing(&self) -> Option<WriteProgress> {
        let total_bytes = self.zeroing_total.load(Ordering::Relaxed);
        let done_bytes = self.zeroing_done.load(Ordering::Relaxed);
        (total_bytes > 0).then_some(WriteProgress { done_bytes, total_bytes })
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Runs `work` on a thread of its own until it ends. When `stop` fires the flag is set, and the end still waited for:
/// nobody leaves while a disk is being written.
///
/// # Errors
/// When the system gives no thread, or the thread ended without an answer.
pub(super) async fn run<T: Send + 'static>(
    name: &str,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
    work: impl FnOnce(&Shared) -> T + Send + 'static,
) -> std::io::Result<T> {
    let (sender, mut receiver) = oneshot::channel();
    let theirs = Arc::clone(shared);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The receiver is gone only when the program is ending.
        drop(sender.send(work(&theirs)));
    })?;
    let answer = tokio::select! {
        answer = &mut receiver => answer,
        () = stop.cancelled() => {
            shared.cancel.store(true, Ordering::Relaxed);
            receiver.await
        }
    };
    answer.map_err(|_| std::io::Error::other("a thread of the engine ended without an answer"))
}
