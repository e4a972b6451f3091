//! What must be undone at the end, however the end comes: by return, by error, by panic, or by Ctrl-C.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

type Action = Box<dyn FnOnce() + Send>;

static PENDING: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static WATCHING: Once = Once::new();
static INTERRUPTED: AtomicU8 = AtomicU8::new(130);

/// Something to undo: when it is dropped, or when a signal ends the program.
#[derive(Debug)]
#[must_use = "dropping it undoes at once"]
pub struct Cleanup(u64);

impl Cleanup {
    /// Remembers what to undo. The latest is undone first.
    pub fn new(action: impl FnOnce() + Send + 'static) -> Self {
        watch_signals();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        pending().push((id, Box::new(action)));
        Self(id)
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let mut list = pending();
        let mine = list.iter().position(|(id, _)| *id == self.0).map(|at| list.remove(at));
        drop(list);
        if let Some((_, action)) = mine {
            action();
        }
    }
}

/// Says that being interrupted is the usual end from now on, as for something that serves until Ctrl-C.
pub fn interruption_is_success() {
    INTERRUPTED.store(0, Ordering::Relaxed);
}

/// Undoes everything, and gives the exit code back for `main` to return.
pub fn finish(code: u8) -> ExitCode {
    undo_all();
    ExitCode::from(code)
}

fn pending() -> MutexGuard<'static, Vec<(u64, Action)>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn undo_all() {
    loop {
        let last = pending().pop();
        let Some((_, action)) = last else { return };
        action();
    }
}

/// A thread of its own waits for signals, since what the others wait for may never come.
fn watch_signals() {
    WATCHING.call_once(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let Ok(runtime) = runtime else { return };
        // Installed before this returns: from here on a signal undoes first.
        let _entered = runtime.enter();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let Ok([mut interrupt, mut terminate, mut hangup]) =
            kinds.map(signal).into_iter().collect::<Result<Vec<_>, _>>().and_then(|signals| {
                <[_; 3]>::try_from(signals).map_err(|_| std::io::Error::other("three kinds give three signals"))
            })
        else {
            return;
        };
        drop(_entered);
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            crate::talk::say("interrupted: stopping everything");
            undo_all();
            std::process::exit(INTERRUPTED.load(Ordering::Relaxed).into());
        });
    });
}
