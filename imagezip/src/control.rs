//! Watching a long operation from another thread, and stopping it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use serde::Serialize;
use sigs::ByteLen;

/// What a long operation does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Reading the disk, hashing, compressing.
    Scan,
    /// Checking an image before it is used.
    Check,
    /// Writing to the target.
    Write,
    /// Reading the target back.
    ReadBack,
}

/// Counters of a long operation; one thread works on them, any other may look.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    total: AtomicU64,
    done: AtomicU64,
    changed: AtomicU64,
    stored: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// What is being done.
    pub phase: Phase,
    /// How many bytes this phase has to go through: allocated bytes for a scan.
    pub total_bytes: ByteLen,
    /// How many it went through.
    pub done_bytes: ByteLen,
    /// How many bytes of the disk differ from the bases (capture) or were written (restore).
    pub changed_bytes: ByteLen,
    /// How many bytes of frames were handed to the sink.
    pub stored_bytes: ByteLen,
}

impl Progress {
    /// Returns the counters.
    pub fn snapshot(&self) -> Snapshot {
        let load = |counter: &AtomicU64| ByteLen::new(counter.load(Ordering::Relaxed));
        let phase = match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Scan,
            1 => Phase::Check,
            2 => Phase::Write,
            _ => Phase::ReadBack,
        };
        Snapshot {
            phase,
            total_bytes: load(&self.total),
            done_bytes: load(&self.done),
            changed_bytes: load(&self.changed),
            stored_bytes: load(&self.stored),
        }
    }

    pub(crate) fn begin(&self, phase: Phase, total: ByteLen) {
        let code = match phase {
            Phase::Scan => 0,
            Phase::Check => 1,
            Phase::Write => 2,
            Phase::ReadBack => 3,
        };
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total.get(), Ordering::Relaxed);
        self.phase.store(code, Ordering::Relaxed);
    }

    pub(crate) fn add_done(&self, len: ByteLen) {
        self.done.fetch_add(len.get(), Ordering::Relaxed);
    }

    pub(crate) fn add_changed(&self, len: ByteLen) {
        self.changed.fetch_add(len.get(), Ordering::Relaxed);
    }

    pub(crate) fn add_stored(&self, len: ByteLen) {
        self.stored.fetch_add(len.get(), Ordering::Relaxed);
    }
}

/// How a caller watches and stops an operation.
#[derive(Clone, Copy, Debug)]
pub struct Control<'a> {
    /// Counts what is done.
    pub progress: &'a Progress,
    /// Becomes true when the operation has to stop; looked at for every chunk and every frame.
    pub cancel: &'a AtomicBool,
}

impl Control<'_> {
    pub(crate) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Returns how many threads to use when nobody says: one for each core.
pub fn default_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
