//! Asking a transfer to end early: by a flag of the process that works on it (a signal, usually), or by a request that
//! another process leaves beside the journal.
//!
//! A request names the attempt that it is for, so one that was left behind stops nobody. It need not survive a crash of
//! the machine: that ends the attempt, too.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::journal::folder_of;

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Somebody asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// Whether an attempt is to end.
#[derive(Debug)]
pub(super) struct Stop<'a> {
    flag: &'a AtomicBool,
    request: Option<(PathBuf, u32)>,
}

impl<'a> Stop<'a> {
    /// Watches a flag, and the requests beside a journal for one attempt.
    pub(super) fn new(flag: &'a AtomicBool, journal: &Path, attempt: u32) -> Self {
        Self { flag, request: Some((request_beside(journal), attempt)) }
    }

    /// Watches a flag only, for what is no attempt.
    pub(super) const fn by(flag: &'a AtomicBool) -> Self {
        Self { flag, request: None }
    }

    /// Returns an error when it is to end.
    pub(super) fn check(&self) -> Result<(), Stopped> {
        let asked = || self.request.as_ref().is_some_and(|(path, attempt)| requested(path) == Some(*attempt));
        if self.flag.load(Ordering::Relaxed) || asked() { Err(Stopped) } else { Ok(()) }
    }

    /// Does nothing for so long, unless it is to end.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Stopped> {
        let begin = Instant::now();
        loop {
            self.check()?;
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

/// Returns the path of the request beside a journal.
pub(super) fn request_beside(journal: &Path) -> PathBuf {
    journal.with_extension("stop")
}

/// Returns the attempt that a request is for. What is no request asks for nothing.
pub(super) fn requested(request: &Path) -> Option<u32> {
    std::fs::read_to_string(request).ok()?.trim().parse().ok()
}

/// Asks an attempt to stop.
pub(super) fn ask(request: &Path, attempt: u32) -> io::Result<()> {
    if requested(request) == Some(attempt) {
        return Ok(());
    }
    // Whole or not at all: half a number is another number.
    let mut draft = tempfile::Builder::new().prefix(".stop-").suffix(".partial").tempfile_in(folder_of(request))?;
    writeln!(draft, "{attempt}")?;
    draft.persist(request).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stops_the_attempt_it_is_for_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("x.journal");
        let flag = AtomicBool::new(false);
        let stops = |attempt| Stop::new(&flag, &journal, attempt).check().is_err();
        assert!(!stops(2));
        ask(&request_beside(&journal), 2).unwrap();
        assert!([1, 2, 3].map(stops) == [false, true, false]);
        ask(&request_beside(&journal), 3).unwrap();
        assert!([1, 2, 3].map(stops) == [false, false, true]);
        std::fs::write(request_beside(&journal), b"\xff").unwrap();
        assert!(!stops(3));
        flag.store(true, Ordering::Relaxed);
        assert!(stops(3));
    }

    #[test]
    fn a_pause_ends_when_somebody_asks() {
        let folder = tempfile::tempdir().unwrap();
        let flag = AtomicBool::new(false);
        let stop = Stop::new(&flag, &folder.path().join("x.journal"), 1);
        assert!(stop.pause(Duration::from_millis(1)).is_ok());
        flag.store(true, Ordering::Relaxed);
        assert!(stop.pause(Duration::MAX).is_err());
    }
}
