//! A machine: whose it is and what is being done to it.

use crate::{InvalidTransition, state_words};

/// A place in the cycle of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeStep {
    /// Nobody's; its disks hold nothing of anybody.
    Free,
    /// Taken for an experiment; boots the memory file system.
    Reserved,
    /// Its disks are being written.
    Restoring,
    /// Written and proved equal.
    Checked,
    /// Runs its own system for its experiment.
    InUse,
    /// Is shut down and boots the memory file system.
    Quiescing,
    /// Its disks are being saved.
    Capturing,
    /// Nothing on its disks would be lost.
    Releasable,
    /// Its disks are being overwritten for the next.
    Sanitizing,
    /// Goes back to its own system.
    Rebooting,
}

state_words!(NodeStep {
    Free => "free",
    Reserved => "reserved",
    Restoring => "restoring",
    Checked => "checked",
    InUse => "in_use",
    Quiescing => "quiescing",
    Capturing => "capturing",
    Releasable => "releasable",
    Sanitizing => "sanitizing",
    Rebooting => "rebooting",
});

impl NodeStep {
    /// Returns whether a machine here may hold what is saved nowhere: it runs, or ran, and nothing was proved since. One
    /// that is checked was perhaps started, and whoever started it did not hear of it.
    pub const fn may_hold_unsaved(self) -> bool {
        match self {
            Self::Checked | Self::InUse | Self::Quiescing | Self::Capturing | Self::Rebooting => true,
            Self::Free | Self::Reserved | Self::Restoring | Self::Releasable | Self::Sanitizing => false,
        }
    }

    /// Returns whether a machine here is as its experiment left it, so that it can go back to it.
    pub const fn is_untouched(self) -> bool {
        match self {
            Self::InUse | Self::Quiescing | Self::Capturing | Self::Releasable | Self::Rebooting => true,
            Self::Free | Self::Reserved | Self::Restoring | Self::Checked | Self::Sanitizing => false,
        }
    }
}

/// Why a machine is held: doubt, and nothing is overwritten until somebody decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What happened.
    pub reason: String,
    /// Who should look at it.
    pub owner: String,
    /// What to do next.
    pub next: String,
    /// Where it was, and where it goes back to.
    pub from: NodeStep,
}

impl Held {
    /// Who lets machines go on that are held for what they are doing.
    pub const OPERATOR: &str = "operator";
    /// The operators of the site and nobody else, machine by machine: what the database says of it may be over.
    pub const SITE: &str = "the site's operators";

    /// Returns whether the people of its experiment have no say in it.
    pub fn is_for_the_site(&self) -> bool {
        self.owner == Self::SITE
    }

    /// Returns it with a further doubt, which only the operators of the site can settle.
    #[must_use]
    pub fn for_the_site(self, reason: &str, next: &str) -> Self {
        let reason =
            if self.is_for_the_site() { self.reason } else { format!("{reason}; before that: {}", self.reason) };
        Self { reason, owner: Self::SITE.into(), next: next.into(), from: self.from }
    }
}

/// The state of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// In the cycle.
    At(NodeStep),
    /// Out of it, until somebody decides.
    Held(Held),
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// An experiment takes it.
    Reserve,
    /// Its memory file system is up and it is to be written; or its user wants another image on it.
    Load,
    /// What was written was read back and has the right root.
    Proved,
    /// Its own system was started.
    Booted,
    /// Its experiment gives it back.
    Quiesce,
    /// All machines of the experiment stand still: it is saved.
    Capture,
    /// Every disk of it is VERIFIED.
    Saved,
    /// Its user does not want it saved, and said so.
    Waive,
    /// It never ran for this experiment: what is on it came from the store.
    Abandon,
    /// It is overwritten for the next.
    Sanitize,
    /// It was overwritten, and that was proved.
    Freed,
    /// Its experiment wants it back as it is.
    GoBack,
    /// Doubt.
    Hold {
        /// What happened.
        reason: String,
        /// Who should look at it.
        owner: String,
        /// What to do next.
        next: String,
    },
    /// Somebody decided that it goes on where it was held.
    Retry,
    /// Somebody with the right to it gave up what is on a machine that could not be saved.
    Discard,
}

impl NodeEvent {
    /// Returns a word for the place it leads to.
    const fn to(&self) -> &'static str {
        match self {
            Self::Reserve => "reserved",
            Self::Load => "restoring",
            Self::Proved => "checked",
            Self::Booted => "in_use",
            Self::Quiesce => "quiescing",
            Self::Capture => "capturing",
            Self::Saved => "releasable, saved",
            Self::Waive => "releasable, by waiver",
            Self::Abandon => "releasable, never used",
            Self::Sanitize => "sanitizing",
            Self::Freed => "free",
            Self::GoBack => "rebooting",
            Self::Hold { .. } => "held",
            Self::Retry => "where it was held",
            Self::Discard => "releasable, given up",
        }
    }
}

impl NodeState {
    /// Returns the word for the database.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::At(step) => step.as_str(),
            Self::Held(_) => "held",
        }
    }

    /// Returns the place in the cycle, unless it is held.
    pub const fn step(&self) -> Option<NodeStep> {
        match self {
            Self::At(step) => Some(*step),
            Self::Held(_) => None,
        }
    }

    /// Makes the move.
    ///
    /// # Errors
    /// [`InvalidTransition`] when there is none from here.
    pub fn apply(self, event: NodeEvent) -> Result<Self, InvalidTransition> {
        use NodeStep as S;
        let invalid = InvalidTransition { from: self.as_str(), to: event.to() };
        let step = match self {
            Self::At(step) => step,
            // Held is left only because a person said so, so that nothing happens to a machine in doubt.
            Self::Held(held) if event == NodeEvent::Retry => return Ok(Self::At(held.from)),
            Self::Held(Held { from: S::Quiescing | S::Capturing, .. }) if event == NodeEvent::Discard => {
                return Ok(Self::At(S::Releasable));
            }
            Self::Held(_) => return Err(invalid),
        };
        let next = match (step, event) {
            (S::Free, NodeEvent::Reserve) => S::Reserved,
            (S::Reserved | S::InUse, NodeEvent::Load) => S::Restoring,
            (S::Restoring, NodeEvent::Proved) => S::Checked,
            (S::Checked | S::Rebooting, NodeEvent::Booted) => S::InUse,
            (S::InUse | S::Rebooting, NodeEvent::Quiesce) => S::Quiescing,
            (S::Quiescing, NodeEvent::Capture) => S::Capturing,
            (S::Capturing, NodeEvent::Saved) => S::Releasable,
            (S::Quiescing | S::Capturing, NodeEvent::Waive) => S::Releasable,
            (S::Reserved | S::Restoring | S::Checked, NodeEvent::Abandon) => S::Releasable,
            (S::Releasable, NodeEvent::Sanitize) => S::Sanitizing,
            (S::Sanitizing, NodeEvent::Freed) => S::Free,
            (S::Quiescing | S::Capturing | S::Releasable, NodeEvent::GoBack) => S::Rebooting,
            (from, NodeEvent::Hold { reason, owner, next }) => {
                return Ok(Self::Held(Held { reason, owner, next, from }));
            }
            (
                _,
                NodeEvent::Reserve
                | NodeEvent::Load
                | NodeEvent::Proved
                | NodeEvent::Booted
                | NodeEvent::Quiesce
                | NodeEvent::Capture
                | NodeEvent::Saved
                | NodeEvent::Waive
                | NodeEvent::Abandon
                | NodeEvent::Sanitize
                | NodeEvent::Freed
                | NodeEvent::GoBack
                | NodeEvent::Retry
                | NodeEvent::Discard,
            ) => return Err(invalid),
        };
        Ok(Self::At(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NodeStep as S;

    fn events() -> Vec<NodeEvent> {
        vec![
            NodeEvent::Reserve,
            NodeEvent::Load,
            NodeEvent::Proved,
            NodeEvent::Booted,
            NodeEvent::Quiesce,
            NodeEvent::Capture,
            NodeEvent::Saved,
            NodeEvent::Waive,
            NodeEvent::Abandon,
            NodeEvent::Sanitize,
            NodeEvent::Freed,
            NodeEvent::GoBack,
            NodeEvent::Retry,
            NodeEvent::Discard,
        ]
    }

    /// Every move there is; whatever is not listed must be refused.
    const MOVES: &[(S, NodeEvent, S)] = &[
        (S::Free, NodeEvent::Reserve, S::Reserved),
        (S::Reserved, NodeEvent::Load, S::Restoring),
        (S::InUse, NodeEvent::Load, S::Restoring),
        (S::Restoring, NodeEvent::Proved, S::Checked),
        (S::Checked, NodeEvent::Booted, S::InUse),
        (S::Rebooting, NodeEvent::Booted, S::InUse),
        (S::InUse, NodeEvent::Quiesce, S::Quiescing),
        (S::Rebooting, NodeEvent::Quiesce, S::Quiescing),
        (S::Quiescing, NodeEvent::Capture, S::Capturing),
        (S::Capturing, NodeEvent::Saved, S::Releasable),
        (S::Quiescing, NodeEvent::Waive, S::Releasable),
        (S::Capturing, NodeEvent::Waive, S::Releasable),
        (S::Reserved, NodeEvent::Abandon, S::Releasable),
        (S::Restoring, NodeEvent::Abandon, S::Releasable),
        (S::Checked, NodeEvent::Abandon, S::Releasable),
        (S::Releasable, NodeEvent::Sanitize, S::Sanitizing),
        (S::Sanitizing, NodeEvent::Freed, S::Free),
        (S::Quiescing, NodeEvent::GoBack, S::Rebooting),
        (S::Capturing, NodeEvent::GoBack, S::Rebooting),
        (S::Releasable, NodeEvent::GoBack, S::Rebooting),
    ];

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        for from in S::ALL {
            for event in events() {
                let expected = MOVES.iter().find(|(f, e, _)| f == from && *e == event).map(|(_, _, to)| *to);
                let found = NodeState::At(*from).apply(event.clone());
                assert_eq!(found.as_ref().ok().and_then(NodeState::step), expected, "{from} by {event:?}");
            }
        }
    }

    #[test]
    fn held_is_reached_from_everywhere_and_left_only_back_or_by_giving_up_what_was_to_be_saved() {
        for from in S::ALL {
            let hold = NodeEvent::Hold { reason: "r".into(), owner: "o".into(), next: "n".into() };
            let held = NodeState::At(*from).apply(hold.clone()).unwrap();
            assert_eq!(held.as_str(), "held");
            for event in events().into_iter().chain([hold]) {
                let expected = match (from, &event) {
                    (_, NodeEvent::Retry) => Some(NodeState::At(*from)),
                    (S::Quiescing | S::Capturing, NodeEvent::Discard) => Some(NodeState::At(S::Releasable)),
                    _ => None,
                };
                assert_eq!(held.clone().apply(event.clone()).ok(), expected, "held from {from} by {event:?}");
            }
        }
    }

    #[test]
    fn the_words_of_the_database_come_back() {
        for step in S::ALL {
            assert_eq!(step.as_str().parse::<S>().unwrap(), *step);
        }
        assert!("held".parse::<S>().is_err());
    }
}
