//! An experiment: Emulab's states, and held.

use boss_api::user::{ExperimentState, JobKind};

use crate::InvalidTransition;

/// What happens to an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExperimentEvent {
    /// Its user wants machines.
    SwapIn,
    /// All its machines run.
    Activated,
    /// Its user gives the machines back.
    SwapOut,
    /// All its machines are given back.
    SwappedOut,
    /// Its user ends it.
    Terminate,
    /// All its machines are given back for good.
    Ended,
    /// A machine of it is held.
    Hold,
    /// The held machines go on, for this job; without one it ran.
    Resume(Option<JobKind>),
    /// Its user takes the swap-out back.
    Cancel,
    /// Its user gives a held swap-in up.
    GiveUp,
}

const fn word(state: ExperimentState) -> &'static str {
    match state {
        ExperimentState::Swapped => "swapped",
        ExperimentState::Activating => "activating",
        ExperimentState::Active => "active",
        ExperimentState::Swapping => "swapping",
        ExperimentState::Terminating => "terminating",
        ExperimentState::Ended => "ended",
        ExperimentState::Held => "held",
    }
}

/// Returns the state an experiment is in while a job of this kind runs.
pub const fn while_running(kind: JobKind) -> ExperimentState {
    match kind {
        JobKind::SwapIn | JobKind::Cancel => ExperimentState::Activating,
        JobKind::SwapOut | JobKind::GiveUp => ExperimentState::Swapping,
        JobKind::Terminate => ExperimentState::Terminating,
        JobKind::Load => ExperimentState::Active,
    }
}

/// Makes the move.
///
/// # Errors
/// [`InvalidTransition`] when there is none from here.
pub const fn apply(from: ExperimentState, event: ExperimentEvent) -> Result<ExperimentState, InvalidTransition> {
    use ExperimentEvent as E;
    use ExperimentState as S;
    let to = match event {
        E::SwapIn => S::Activating,
        E::Activated => S::Active,
        E::SwapOut => S::Swapping,
        E::SwappedOut => S::Swapped,
        E::Terminate => S::Terminating,
        E::Ended => S::Ended,
        E::Hold => S::Held,
        E::Resume(Some(kind)) => while_running(kind),
        E::Resume(None) => S::Active,
        E::Cancel => while_running(JobKind::Cancel),
        E::GiveUp => while_running(JobKind::GiveUp),
    };
    match (from, event) {
        (S::Swapped, E::SwapIn | E::Terminate)
        | (S::Activating, E::Activated | E::Hold)
        // Loading one machine on demand leaves the experiment active, and may end in doubt, too.
        | (S::Active, E::SwapOut | E::Terminate | E::Hold)
        | (S::Swapping, E::SwappedOut | E::Hold | E::Cancel)
        | (S::Terminating, E::Ended | E::Hold)
        | (S::Held, E::Resume(_) | E::Terminate | E::Cancel | E::GiveUp) => Ok(to),
        (
            S::Swapped | S::Activating | S::Active | S::Swapping | S::Terminating | S::Ended | S::Held,
            E::SwapIn
            | E::Activated
            | E::SwapOut
            | E::SwappedOut
            | E::Terminate
            | E::Ended
            | E::Hold
            | E::Resume(_)
            | E::Cancel
            | E::GiveUp,
        ) => Err(InvalidTransition { from: word(from), to: word(to) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExperimentEvent as E;
    use ExperimentState as S;

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        let states = [S::Swapped, S::Activating, S::Active, S::Swapping, S::Terminating, S::Ended, S::Held];
        let events = [
            E::SwapIn,
            E::Activated,
            E::SwapOut,
            E::SwappedOut,
            E::Terminate,
            E::Ended,
            E::Hold,
            E::Resume(Some(JobKind::SwapIn)),
            E::Resume(Some(JobKind::SwapOut)),
            E::Resume(Some(JobKind::Terminate)),
            E::Resume(Some(JobKind::Load)),
            E::Resume(Some(JobKind::Cancel)),
            E::Resume(Some(JobKind::GiveUp)),
            E::Resume(None),
            E::Cancel,
            E::GiveUp,
        ];
        let moves = [
            (S::Swapped, E::SwapIn, S::Activating),
            (S::Swapped, E::Terminate, S::Terminating),
            (S::Activating, E::Activated, S::Active),
            (S::Activating, E::Hold, S::Held),
            (S::Active, E::SwapOut, S::Swapping),
            (S::Active, E::Terminate, S::Terminating),
            (S::Active, E::Hold, S::Held),
            (S::Swapping, E::SwappedOut, S::Swapped),
            (S::Swapping, E::Hold, S::Held),
            (S::Terminating, E::Ended, S::Ended),
            (S::Terminating, E::Hold, S::Held),
            (S::Held, E::Terminate, S::Terminating),
            (S::Held, E::Resume(Some(JobKind::SwapIn)), S::Activating),
            (S::Held, E::Resume(Some(JobKind::SwapOut)), S::Swapping),
            (S::Held, E::Resume(Some(JobKind::Terminate)), S::Terminating),
            (S::Held, E::Resume(Some(JobKind::Load)), S::Active),
            (S::Held, E::Resume(Some(JobKind::Cancel)), S::Activating),
            (S::Held, E::Resume(Some(JobKind::GiveUp)), S::Swapping),
            (S::Held, E::Resume(None), S::Active),
            (S::Swapping, E::Cancel, S::Activating),
            (S::Held, E::Cancel, S::Activating),
            (S::Held, E::GiveUp, S::Swapping),
        ];
        for from in states {
            for event in events {
                let expected = moves.iter().find(|(f, e, _)| *f == from && *e == event).map(|(_, _, to)| *to);
                assert_eq!(apply(from, event).ok(), expected, "{from:?} by {event:?}");
            }
        }
    }
}
