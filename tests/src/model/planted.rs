//! Defects of the protocol that are planted on purpose: the model must find every one, or its silence is worth nothing.

use super::properties as p;
use super::scenes::{NOTHING, Scene};
use super::site::Budget;

/// A planted defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Planted {
    /// An agent does not compare the epoch of a permit with its own.
    PermitWithoutEpoch,
    /// The database takes what a boss of an older term decided.
    OldTermInDatabase,
    /// The store deletes what a boss of an older term wants deleted.
    OldTermInStore,
    /// A boss does not look whether it still rules before it switches a machine.
    OldTermSwitchesPower,
    /// A boss whose database is older than what happened goes on as if nothing were amiss.
    RestoredDatabaseGoesOn,
    /// An older database is known only by how often machines changed hands, not by every move of a machine.
    MovesNotCounted,
    /// The row says that an object is there before it is.
    RowBeforeObject,
    /// VERIFIED without reading back.
    VerifiedWithoutReading,
    /// Garbage is removed without asking once more whether something refers to it.
    CollectedUnasked,
    /// A row refers to an object without looking whether it is there.
    ReferredUnasked,
    /// Only deltas are looked for when garbage is collected, not what they rest on.
    BasesCollected,
    /// What the agent of an earlier boot says is believed.
    OldBootBelieved,
    /// An attempt goes on where the one of an earlier boot ended.
    CaptureMixesBoots,
    /// A machine that is given out or taken back keeps its epoch.
    EpochKept,
    /// A capture of any epoch is evidence for this one.
    OldCaptureIsEvidence,
    /// A machine goes back to its experiment while it is overwritten.
    BackWhileSanitized,
    /// A machine is given out without being overwritten.
    FreedAsItIs,
    /// A job that saves is waived.
    SavingWaived,
    /// A held machine is given away when nobody came for long.
    HeldTimesOut,
    /// An error from COMMIT is taken for "not done", and what was done before is undone.
    CommitErrorUndone,
    /// The agent believes its writes.
    CheckedWithoutReading,
    /// A machine that was being loaded is overwritten by the very boot that still loads it.
    AbandonedBootGoesOn,
    /// The failure of an attempt counts as often as it is reported.
    FailureCountedTwice,
    /// A swap point is complete when its nodes are released, whatever was saved.
    PointAlwaysComplete,
    /// Machines are released before the others of the experiment are decided.
    ReleasedEarly,
    /// A machine is free before it is switched off.
    FreeBeforeOff,
    /// Nobody ends the boot of an agent that died.
    DeadBootWaitedFor,
}

impl Planted {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::PermitWithoutEpoch,
        Self::OldTermInDatabase,
        Self::OldTermInStore,
        Self::OldTermSwitchesPower,
        Self::RestoredDatabaseGoesOn,
        Self::MovesNotCounted,
        Self::RowBeforeObject,
        Self::VerifiedWithoutReading,
        Self::CollectedUnasked,
        Self::ReferredUnasked,
        Self::BasesCollected,
        Self::OldBootBelieved,
        Self::CaptureMixesBoots,
        Self::EpochKept,
        Self::OldCaptureIsEvidence,
        Self::BackWhileSanitized,
        Self::FreedAsItIs,
        Self::SavingWaived,
        Self::HeldTimesOut,
        Self::CommitErrorUndone,
        Self::CheckedWithoutReading,
        Self::AbandonedBootGoesOn,
        Self::FailureCountedTwice,
        Self::PointAlwaysComplete,
        Self::ReleasedEarly,
        Self::FreeBeforeOff,
        Self::DeadBootWaitedFor,
    ];

    /// Returns the property that must find it.
    pub const fn found_by(self) -> &'static str {
        match self {
            Self::OldTermInDatabase => p::FENCED,
            Self::OldTermSwitchesPower => p::RUNS,
            Self::PermitWithoutEpoch
            | Self::RestoredDatabaseGoesOn
            | Self::MovesNotCounted
            | Self::EpochKept
            | Self::OldCaptureIsEvidence
            | Self::SavingWaived
            | Self::OldBootBelieved
            | Self::HeldTimesOut => p::NOT_LOST,
            Self::RowBeforeObject | Self::CollectedUnasked | Self::ReferredUnasked | Self::CommitErrorUndone => {
                p::ROW_HAS_OBJECT
            }
            Self::VerifiedWithoutReading | Self::CaptureMixesBoots | Self::OldTermInStore => p::VERIFIED,
            Self::BasesCollected => p::CLOSED,
            Self::BackWhileSanitized | Self::CheckedWithoutReading => p::GIVEN_BACK,
            Self::FreedAsItIs | Self::AbandonedBootGoesOn | Self::FreeBeforeOff => p::NO_RESIDUE,
            Self::FailureCountedTwice => p::ONCE,
            Self::PointAlwaysComplete => p::COMPLETE,
            Self::ReleasedEarly => p::TOGETHER,
            Self::DeadBootWaitedFor => p::SETTLES,
        }
    }

    /// Returns the scene it is found in, with no more faults than that takes.
    pub fn scene(self) -> Scene {
        let faults = |faults, of: Budget| Budget { faults, ..of };
        let (scene, budget) = match self {
            Self::PermitWithoutEpoch
            | Self::EpochKept
            | Self::OldCaptureIsEvidence
            | Self::CollectedUnasked
            | Self::ReferredUnasked
            | Self::BasesCollected => (Scene::again(), NOTHING),
            Self::BackWhileSanitized => (Scene::undone(), NOTHING),
            Self::OldTermInDatabase | Self::OldTermSwitchesPower => {
                (Scene::round(), faults(1, Budget { bosses: 1, ..NOTHING }))
            }
            Self::OldTermInStore => (Scene::round(), faults(2, Budget { bosses: 1, damages: 1, ..NOTHING })),
            Self::RestoredDatabaseGoesOn | Self::MovesNotCounted => {
                (Scene::backup(), faults(1, Budget { bosses: 1, backups: 1, ..NOTHING }))
            }
            Self::RowBeforeObject | Self::FreedAsItIs | Self::SavingWaived | Self::FreeBeforeOff => {
                (Scene::round(), NOTHING)
            }
            Self::VerifiedWithoutReading => (Scene::round(), faults(1, Budget { damages: 1, ..NOTHING })),
            Self::OldBootBelieved => (Scene::round(), faults(2, Budget { agents: 1, blips: 1, ..NOTHING })),
            Self::CaptureMixesBoots => (Scene::round(), faults(1, Budget { blips: 1, ..NOTHING })),
            Self::HeldTimesOut => (Scene::round(), faults(1, Budget { claims: 1, ..NOTHING })),
            Self::CommitErrorUndone => (Scene::round(), faults(1, Budget { late: 1, ..NOTHING })),
            Self::CheckedWithoutReading | Self::FailureCountedTwice => {
                (Scene::round(), faults(1, Budget { errors: 1, ..NOTHING }))
            }
            Self::AbandonedBootGoesOn => (Scene::pair_in(), faults(1, Budget { claims: 1, ..NOTHING })),
            Self::PointAlwaysComplete => (Scene::pair_out(), faults(1, Budget { claims: 1, ..NOTHING })),
            Self::ReleasedEarly => (Scene::pair_out(), NOTHING),
            Self::DeadBootWaitedFor => (Scene::round(), faults(1, Budget { agents: 1, ..NOTHING })),
        };
        scene.with_faults(budget)
    }
}
