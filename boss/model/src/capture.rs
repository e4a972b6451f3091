//! The saving of one disk in one swap point.

use boss_api::agent::FailureClass;

use crate::{InvalidTransition, state_words};

/// A place in the life of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaptureStep {
    /// To be taken.
    Planned,
    /// The disks stand still; the scan begins.
    Frozen,
    /// Frames arrive.
    Streaming,
    /// All is here, and not believed yet.
    Received,
    /// Read back and proved: the state is saved.
    Verified,
    /// Not needed any more.
    Retired,
    /// Ended without success.
    Failed,
}

state_words!(CaptureStep {
    Planned => "planned",
    Frozen => "frozen",
    Streaming => "streaming",
    Received => "received",
    Verified => "verified",
    Retired => "retired",
    Failed => "failed",
});

/// The state of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureState {
    /// See [`CaptureStep::Planned`].
    Planned,
    /// See [`CaptureStep::Frozen`].
    Frozen,
    /// See [`CaptureStep::Streaming`].
    Streaming,
    /// See [`CaptureStep::Received`].
    Received,
    /// See [`CaptureStep::Verified`].
    Verified,
    /// See [`CaptureStep::Retired`].
    Retired,
    /// Ended without success.
    Failed {
        /// Whether a new attempt can help.
        class: FailureClass,
        /// What happened.
        reason: String,
    },
}

/// What happens to a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureEvent {
    /// The agent froze the disks.
    Begin,
    /// Frames or progress arrive.
    Stream,
    /// The end arrived, and everything is here.
    Receive,
    /// Read back from the medium, and the root is right.
    Verify,
    /// Not needed any more.
    Retire,
    /// It ended without success.
    Fail {
        /// Whether a new attempt can help.
        class: FailureClass,
        /// What happened.
        reason: String,
    },
    /// boss tries again by itself: only what passes by itself.
    NewAttempt,
    /// A person wants it tried again.
    Retry,
    /// A person wants the next attempt to save the whole disk, compared with nothing.
    Whole,
}

impl CaptureEvent {
    const fn to(&self) -> CaptureStep {
        match self {
            Self::Begin => CaptureStep::Frozen,
            Self::Stream => CaptureStep::Streaming,
            Self::Receive => CaptureStep::Received,
            Self::Verify => CaptureStep::Verified,
            Self::Retire => CaptureStep::Retired,
            Self::Fail { .. } => CaptureStep::Failed,
            Self::NewAttempt | Self::Retry | Self::Whole => CaptureStep::Planned,
        }
    }
}

impl CaptureState {
    /// Returns the place.
    pub const fn step(&self) -> CaptureStep {
        match self {
            Self::Planned => CaptureStep::Planned,
            Self::Frozen => CaptureStep::Frozen,
            Self::Streaming => CaptureStep::Streaming,
            Self::Received => CaptureStep::Received,
            Self::Verified => CaptureStep::Verified,
            Self::Retired => CaptureStep::Retired,
            Self::Failed { .. } => CaptureStep::Failed,
        }
    }

    /// Makes the move.
    ///
    /// # Errors
    /// [`InvalidTransition`] when there is none from here.
    pub fn apply(self, event: CaptureEvent) -> Result<Self, InvalidTransition> {
        let invalid = InvalidTransition { from: self.step().as_str(), to: event.to().as_str() };
        match (self, event) {
            (Self::Planned, CaptureEvent::Begin) => Ok(Self::Frozen),
            (Self::Frozen, CaptureEvent::Stream) => Ok(Self::Streaming),
            // An unchanged disk has no frames, so there may be nothing between the freezing and the end.
            (Self::Frozen | Self::Streaming, CaptureEvent::Receive) => Ok(Self::Received),
            (Self::Received, CaptureEvent::Verify) => Ok(Self::Verified),
            (Self::Verified, CaptureEvent::Retire) => Ok(Self::Retired),
            (Self::Planned | Self::Frozen | Self::Streaming | Self::Received, CaptureEvent::Fail { class, reason }) => {
                Ok(Self::Failed { class, reason })
            }
            (Self::Failed { class: FailureClass::Transient, .. }, CaptureEvent::NewAttempt)
            | (Self::Failed { .. }, CaptureEvent::Retry)
            | (Self::Planned | Self::Failed { .. }, CaptureEvent::Whole) => Ok(Self::Planned),
            (
                Self::Planned
                | Self::Frozen
                | Self::Streaming
                | Self::Received
                | Self::Verified
                | Self::Retired
                | Self::Failed { .. },
                CaptureEvent::Begin
                | CaptureEvent::Stream
                | CaptureEvent::Receive
                | CaptureEvent::Verify
                | CaptureEvent::Retire
                | CaptureEvent::Fail { .. }
                | CaptureEvent::NewAttempt
                | CaptureEvent::Retry
                | CaptureEvent::Whole,
            ) => Err(invalid),
        }
    }
}

/// Returns the word for a class of failure, as the database has it.
pub const fn class_word(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Transient => "transient",
        FailureClass::Corruption => "corruption",
        FailureClass::Machine => "machine",
    }
}

/// Parses a word made by [`class_word`].
///
/// # Errors
/// [`crate::UnknownState`] for another word.
pub fn parse_class(word: &str) -> Result<FailureClass, crate::UnknownState> {
    match word {
        "transient" => Ok(FailureClass::Transient),
        "corruption" => Ok(FailureClass::Corruption),
        "machine" => Ok(FailureClass::Machine),
        other => Err(crate::UnknownState(other.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CaptureStep as S;

    fn failed(class: FailureClass) -> CaptureState {
        CaptureState::Failed { class, reason: "r".into() }
    }

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        let fail = || CaptureEvent::Fail { class: FailureClass::Machine, reason: "r".into() };
        let states = [
            CaptureState::Planned,
            CaptureState::Frozen,
            CaptureState::Streaming,
            CaptureState::Received,
            CaptureState::Verified,
            CaptureState::Retired,
            failed(FailureClass::Transient),
            failed(FailureClass::Corruption),
            failed(FailureClass::Machine),
        ];
        // Columns: begin, stream, receive, verify, retire, fail, new attempt, retry, whole.
        let table: [[Option<S>; 9]; 9] = [
            [Some(S::Frozen), None, None, None, None, Some(S::Failed), None, None, Some(S::Planned)],
            [None, Some(S::Streaming), Some(S::Received), None, None, Some(S::Failed), None, None, None],
            [None, None, Some(S::Received), None, None, Some(S::Failed), None, None, None],
            [None, None, None, Some(S::Verified), None, Some(S::Failed), None, None, None],
            [None, None, None, None, Some(S::Retired), None, None, None, None],
            [None; 9],
            [None, None, None, None, None, None, Some(S::Planned), Some(S::Planned), Some(S::Planned)],
            [None, None, None, None, None, None, None, Some(S::Planned), Some(S::Planned)],
            [None, None, None, None, None, None, None, Some(S::Planned), Some(S::Planned)],
        ];
        for (state, row) in states.iter().zip(table) {
            let events = [
                CaptureEvent::Begin,
                CaptureEvent::Stream,
                CaptureEvent::Receive,
                CaptureEvent::Verify,
                CaptureEvent::Retire,
                fail(),
                CaptureEvent::NewAttempt,
                CaptureEvent::Retry,
                CaptureEvent::Whole,
            ];
            for (event, expected) in events.into_iter().zip(row) {
                let found = state.clone().apply(event.clone()).ok().map(|state| state.step());
                assert_eq!(found, expected, "{state:?} by {event:?}");
            }
        }
    }
}
