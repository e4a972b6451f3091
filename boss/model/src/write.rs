//! A write to a disk, and the permit it happens under.

use crate::{InvalidTransition, state_words};

/// The state of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteState {
    /// Permitted, not begun.
    Issued,
    /// Under way.
    Running,
    /// Written, flushed and read back.
    Done,
    /// Ended without success.
    Failed,
    /// The permit is over.
    Void,
}

state_words!(WriteState {
    Issued => "issued",
    Running => "running",
    Done => "done",
    Failed => "failed",
    Void => "void",
});

/// What happens to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEvent {
    /// The agent is at it.
    Progress,
    /// The agent read back what it should be.
    Done,
    /// It ended without success.
    Fail,
    /// It begins again in another boot: the permit is repeatable in its epoch.
    NewAttempt,
    /// The permit is taken back.
    Void,
}

impl WriteState {
    /// Makes the move.
    ///
    /// # Errors
    /// [`InvalidTransition`] when there is none from here.
    pub const fn apply(self, event: WriteEvent) -> Result<Self, InvalidTransition> {
        let to = match event {
            WriteEvent::Progress => Self::Running,
            WriteEvent::Done => Self::Done,
            WriteEvent::Fail => Self::Failed,
            WriteEvent::NewAttempt => Self::Issued,
            WriteEvent::Void => Self::Void,
        };
        match (self, event) {
            (Self::Issued | Self::Running, WriteEvent::Progress | WriteEvent::Done | WriteEvent::Fail)
            | (Self::Issued | Self::Running | Self::Failed, WriteEvent::NewAttempt | WriteEvent::Void) => Ok(to),
            (Self::Failed | Self::Done | Self::Void, WriteEvent::Progress | WriteEvent::Done | WriteEvent::Fail)
            | (Self::Done | Self::Void, WriteEvent::NewAttempt | WriteEvent::Void) => {
                Err(InvalidTransition { from: self.as_str(), to: to.as_str() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WriteState as S;

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        let events =
            [WriteEvent::Progress, WriteEvent::Done, WriteEvent::Fail, WriteEvent::NewAttempt, WriteEvent::Void];
        let open = [Some(S::Running), Some(S::Done), Some(S::Failed), Some(S::Issued), Some(S::Void)];
        let table = [
            (S::Issued, open),
            (S::Running, open),
            (S::Done, [None; 5]),
            (S::Failed, [None, None, None, Some(S::Issued), Some(S::Void)]),
            (S::Void, [None; 5]),
        ];
        for (from, row) in table {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(from.apply(event).ok(), expected, "{from:?} by {event:?}");
            }
        }
    }
}
