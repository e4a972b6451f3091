//! What a person asked for and can watch.

use boss_api::user::{JobKind, JobState};

use crate::InvalidTransition;

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// It is done.
    Finish,
    /// It ended without success, and nothing is held.
    Fail,
    /// It waits for a person.
    Hold,
    /// A person let it go on.
    Resume,
}

/// Returns the word for the database.
pub const fn state_word(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Failed => "failed",
        JobState::Held => "held",
    }
}

/// Returns the word for the database.
pub const fn kind_word(kind: JobKind) -> &'static str {
    match kind {
        JobKind::SwapIn => "swap-in",
        JobKind::SwapOut => "swap-out",
        JobKind::Terminate => "terminate",
        JobKind::Load => "load",
        JobKind::Cancel => "cancel",
        JobKind::GiveUp => "give-up",
    }
}

/// Parses a word made by [`kind_word`].
///
/// # Errors
/// [`crate::UnknownState`] for another word.
pub fn parse_kind(word: &str) -> Result<JobKind, crate::UnknownState> {
    use JobKind as K;
    [K::SwapIn, K::SwapOut, K::Terminate, K::Load, K::Cancel, K::GiveUp]
        .into_iter()
        .find(|kind| kind_word(*kind) == word)
        .ok_or_else(|| crate::UnknownState(word.into()))
}

/// Parses a word made by [`state_word`].
///
/// # Errors
/// [`crate::UnknownState`] for another word.
pub fn parse_state(word: &str) -> Result<JobState, crate::UnknownState> {
    [JobState::Running, JobState::Done, JobState::Failed, JobState::Held]
        .into_iter()
        .find(|state| state_word(*state) == word)
        .ok_or_else(|| crate::UnknownState(word.into()))
}

/// Makes the move.
///
/// # Errors
/// [`InvalidTransition`] when there is none from here.
pub const fn apply(from: JobState, event: JobEvent) -> Result<JobState, InvalidTransition> {
    let to = match event {
        JobEvent::Finish => JobState::Done,
        JobEvent::Fail => JobState::Failed,
        JobEvent::Hold => JobState::Held,
        JobEvent::Resume => JobState::Running,
    };
    match (from, event) {
        (JobState::Running, JobEvent::Finish | JobEvent::Fail | JobEvent::Hold)
        // One that is taken back, given up or terminated instead fails.
        | (JobState::Held, JobEvent::Resume | JobEvent::Fail) => Ok(to),
        (
            JobState::Running | JobState::Done | JobState::Failed | JobState::Held,
            JobEvent::Finish | JobEvent::Fail | JobEvent::Hold | JobEvent::Resume,
        ) => Err(InvalidTransition { from: state_word(from), to: state_word(to) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        let events = [JobEvent::Finish, JobEvent::Fail, JobEvent::Hold, JobEvent::Resume];
        let (done, failed, held, running) = (JobState::Done, JobState::Failed, JobState::Held, JobState::Running);
        let table = [
            (running, [Some(done), Some(failed), Some(held), None]),
            (done, [None; 4]),
            (failed, [None; 4]),
            (held, [None, Some(failed), None, Some(running)]),
        ];
        for (from, row) in table {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(apply(from, event).ok(), expected, "{from:?} by {event:?}");
            }
        }
    }
}
