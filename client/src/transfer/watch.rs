//! What others than its worker do with a transfer: look how it stands, wait for its end, ask it to stop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::copy::CHUNK_BYTES;
use super::journal::Journal;
use super::record::ItemKind;
use super::room::size_now;
use super::state::{Item, Phase, Progress, State, Verdict};
use super::stop::{ask, request_beside};
use super::{Shelf, TransferError};

/// How often a transfer is looked at that somebody waits for.
const LOOK: Duration = Duration::from_millis(100);

/// How a transfer stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "standing", rename_all = "kebab-case")]
pub enum Standing {
    /// Things are being added; it was not dispatched yet.
    Created,
    /// Somebody works on it.
    Running,
    /// Everything arrived.
    Done,
    /// It was stopped on request, and can be resumed.
    Stopped,
    /// Whoever worked on it is gone, and it can be resumed.
    CutOff,
    /// The last attempt failed; it can be resumed.
    Failed {
        /// What kind of failure.
        class: String,
        /// What happened.
        detail: String,
    },
    /// Somebody wants no more of it.
    Cancelled,
    /// It is to be cancelled, and whoever did that is gone before the end. Cancelling again finishes it.
    Cancelling,
}

impl Standing {
    /// Judges what a journal says, given whether somebody works on it.
    pub fn of(state: &State, busy: bool) -> Self {
        match (state.phase, &state.verdict) {
            (Phase::Closed, Verdict::Cancelled) => Self::Cancelled,
            (Phase::Closed, _) => Self::Done,
            // Adding takes the journal, too.
            (Phase::Created, Verdict::Open) => Self::Created,
            (_, _) if busy => Self::Running,
            (_, Verdict::Cancelled) => Self::Cancelling,
            (_, Verdict::Stopped) => Self::Stopped,
            (_, Verdict::Failed { class, detail }) => Self::Failed { class: class.clone(), detail: detail.clone() },
            (_, Verdict::Open) => Self::CutOff,
        }
    }
}

/// How much of a transfer arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// How many files, directories and links.
    pub items: u64,
    /// How many of them have their names.
    pub items_done: u64,
    /// How many bytes all files have; as they are now where nobody looked at them yet.
    pub bytes: u64,
    /// How many of these are durable at their destination.
    pub bytes_done: u64,
}

impl Tally {
    /// Adds up the items of a transfer.
    pub fn of(state: &State) -> Self {
        let mut tally = Self::default();
        for item in &state.items {
            let size = size_of(item);
            tally.items = tally.items.saturating_add(1);
            tally.bytes = tally.bytes.saturating_add(size);
            let done = match &item.progress {
                Progress::Added => 0,
                Progress::Sealed { chunks } => {
                    size.min(u64::try_from(chunks.len()).unwrap_or(u64::MAX).saturating_mul(CHUNK_BYTES))
                }
                Progress::DataComplete { .. }
                | Progress::Verified { .. }
                | Progress::Finalizing { .. }
                | Progress::Renamed { .. }
                | Progress::Stored { .. }
                | Progress::Released => size,
            };
            tally.bytes_done = tally.bytes_done.saturating_add(done);
            tally.items_done = tally.items_done.saturating_add(u64::from(item.arrived()));
        }
        tally
    }
}

fn size_of(item: &Item) -> u64 {
    match (item.kind, &item.sealed) {
        (ItemKind::Directory | ItemKind::Link, _) => 0,
        (ItemKind::File, Some(sealed)) => sealed.size().get(),
        (ItemKind::File, None) => size_now(item).get(),
    }
}

/// A transfer at one moment.
#[derive(Debug)]
pub struct Seen {
    /// What its journal says.
    pub state: State,
    /// How it stands.
    pub standing: Standing,
}

impl Shelf {
    /// Looks at a transfer, whoever works on it.
    ///
    /// # Errors
    /// [`TransferError`] when its journal cannot be read.
    pub fn look(&self, id: Uuid) -> Result<Seen, TransferError> {
        look(&self.path(id), id)
    }

    /// Waits until nobody works on a transfer, or time is over, or `enough` becomes true; returns how it stands then.
    ///
    /// # Errors
    /// As [`Shelf::look`].
    pub fn wait(&self, id: Uuid, time: Option<Duration>, enough: &AtomicBool) -> Result<Seen, TransferError> {
        self.watch(id, time, enough, |_| Ok(()))
    }

    /// Asks whoever works on a transfer to stop, and waits as [`Shelf::wait`] does. What is durable by then stays and is
    /// not copied again.
    ///
    /// # Errors
    /// As [`Shelf::look`]; [`TransferError::Io`] when it cannot be asked.
    pub fn stop(&self, id: Uuid, time: Option<Duration>, enough: &AtomicBool) -> Result<Seen, TransferError> {
        let request = request_beside(&self.path(id));
        // Asked anew each time: it may have been about to begin another attempt.
        self.watch(id, time, enough, |state| {
            let asked = ask(&request, state.attempt);
            asked.map_err(|source| TransferError::Io { action: "write", path: request.clone(), source })
        })
    }

    fn watch(
        &self,
        id: Uuid,
        time: Option<Duration>,
        enough: &AtomicBool,
        mut each: impl FnMut(&State) -> Result<(), TransferError>,
    ) -> Result<Seen, TransferError> {
        let begin = Instant::now();
        loop {
            let looking = Instant::now();
            let seen = self.look(id)?;
            let looked = looking.elapsed();
            let late = time.is_some_and(|time| begin.elapsed() >= time);
            if seen.standing != Standing::Running {
                return Ok(seen);
            }
            each(&seen.state)?;
            if late || enough.load(Ordering::Relaxed) {
                return Ok(seen);
            }
            // A long journal is read less often.
            thread::sleep(LOOK.max(looked.saturating_mul(10)));
        }
    }
}

fn look(path: &Path, id: Uuid) -> Result<Seen, TransferError> {
    let found = Journal::glance(path)?;
    if let Some(damage) = found.damage {
        return Err(damage.into());
    }
    let state = State::of(&found.records).map_err(|source| TransferError::Impossible { id, source })?;
    let standing = Standing::of(&state, found.busy);
    Ok(Seen { state, standing })
}
