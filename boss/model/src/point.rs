//! A swap point: one saved state of all nodes of an experiment, taken at one time.

use boss_api::user::{OnFailure, SwapPointState};

use crate::InvalidTransition;
use crate::node::NodeStep;

/// What happens to a swap point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointEvent {
    /// Every capture is VERIFIED.
    Complete,
    /// Every node is decided, and some are not saved.
    Miss,
    /// What is not saved was given up for good: what is saved is all there will be.
    GiveUpRest,
}

/// Returns the word for the database.
pub const fn word(state: SwapPointState) -> &'static str {
    match state {
        SwapPointState::Open => "open",
        SwapPointState::Complete => "complete",
        SwapPointState::Incomplete => "incomplete",
    }
}

/// Parses a word made by [`word`].
///
/// # Errors
/// [`crate::UnknownState`] for another word.
pub fn parse(text: &str) -> Result<SwapPointState, crate::UnknownState> {
    [SwapPointState::Open, SwapPointState::Complete, SwapPointState::Incomplete]
        .into_iter()
        .find(|state| word(*state) == text)
        .ok_or_else(|| crate::UnknownState(text.into()))
}

/// Makes the move.
///
/// # Errors
/// [`InvalidTransition`] when there is none from here.
pub const fn apply(from: SwapPointState, event: PointEvent) -> Result<SwapPointState, InvalidTransition> {
    use SwapPointState as S;
    match (from, event) {
        // A held node stood still all the time, so saving it later still is the state of that moment.
        (S::Open | S::Incomplete, PointEvent::Complete) => Ok(S::Complete),
        (S::Open, PointEvent::Miss) | (S::Open | S::Incomplete, PointEvent::GiveUpRest) => Ok(S::Incomplete),
        (S::Complete | S::Incomplete, PointEvent::Miss) | (S::Complete, PointEvent::GiveUpRest) => {
            Err(InvalidTransition { from: word(from), to: "incomplete" })
        }
        (S::Complete, PointEvent::Complete) => Err(InvalidTransition { from: "complete", to: "complete" }),
    }
}

/// What is to be done with the nodes of an experiment that is being saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some are not decided yet: nobody is released.
    Wait,
    /// Release those that are saved.
    ReleaseSaved,
    /// Some could not be saved, and the site wants all of them kept.
    HoldAll,
}

/// Decides about the nodes of an experiment: `None` is a held node.
pub fn decide(nodes: &[Option<NodeStep>], on_failure: OnFailure) -> Verdict {
    let waits = |step: &NodeStep| matches!(step, NodeStep::Quiescing | NodeStep::Capturing | NodeStep::InUse);
    if nodes.iter().flatten().any(waits) {
        return Verdict::Wait;
    }
    match (nodes.contains(&None), on_failure) {
        (false, _) | (true, OnFailure::ReleaseVerified) => Verdict::ReleaseSaved,
        (true, OnFailure::HoldAll) => Verdict::HoldAll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        use SwapPointState as S;
        let table = [
            (S::Open, PointEvent::Complete, Some(S::Complete)),
            (S::Open, PointEvent::Miss, Some(S::Incomplete)),
            (S::Incomplete, PointEvent::Complete, Some(S::Complete)),
            (S::Incomplete, PointEvent::Miss, None),
            (S::Complete, PointEvent::Complete, None),
            (S::Complete, PointEvent::Miss, None),
            (S::Open, PointEvent::GiveUpRest, Some(S::Incomplete)),
            (S::Incomplete, PointEvent::GiveUpRest, Some(S::Incomplete)),
            (S::Complete, PointEvent::GiveUpRest, None),
        ];
        for (from, event, expected) in table {
            assert_eq!(apply(from, event).ok(), expected, "{from:?} by {event:?}");
        }
    }

    #[test]
    fn nobody_is_released_before_all_are_decided_and_the_site_decides_about_the_rest() {
        let (saved, saving, held) = (Some(NodeStep::Releasable), Some(NodeStep::Capturing), None);
        for on_failure in [OnFailure::ReleaseVerified, OnFailure::HoldAll] {
            assert_eq!(decide(&[saved, saving], on_failure), Verdict::Wait);
            assert_eq!(decide(&[held, saving], on_failure), Verdict::Wait);
            assert_eq!(decide(&[saved, saved], on_failure), Verdict::ReleaseSaved);
        }
        assert_eq!(decide(&[saved, held], OnFailure::ReleaseVerified), Verdict::ReleaseSaved);
        assert_eq!(decide(&[saved, held], OnFailure::HoldAll), Verdict::HoldAll);
    }
}
