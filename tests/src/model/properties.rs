//! The invariants, as properties of every state; and states that must be reached, or the rest says nothing.

use boss_api::agent::FailureClass;
use boss_api::user::{ExperimentState, JobState, SwapPointState};
use boss_model::capture::CaptureStep;
use boss_model::node::NodeStep;
use boss_model::write::WriteState;
use stateright::Property;

use super::network::{Ordered, Told};
use super::protocol::{Protocol, Watched};
use super::site::{CaptureRow, Content, NODES, Place, Power, Site, Tenant, Wrong};

/// I1.
pub const NOT_LOST: &str = "I1: nothing is overwritten that is not saved or given up";
/// I2.
pub const VERIFIED: &str = "I2: what is VERIFIED is stored, and is what the disk held";
/// I4.
pub const FENCED: &str = "I4: nothing happens in a term that is over";
/// I4, seen from the machine.
pub const RUNS: &str = "I4: a machine in use runs its own system";
/// I5, I6.
pub const ROW_HAS_OBJECT: &str = "I5, I6: what a row says is stored is there";
/// I7.
pub const CLOSED: &str = "I7: what a saved state rests on is there";
/// I8.
pub const GIVEN_BACK: &str = "I8: what is given back is what was saved";
/// I9.
pub const NO_RESIDUE: &str = "I9: nothing of one project is seen by another, or left on a free machine";
/// I10.
pub const ONCE: &str = "I10: what arrives twice does what it does once";
/// I12.
pub const SETTLES: &str = "I12: when faults stop, all work ends or is held for somebody";
/// Swap points.
pub const COMPLETE: &str = "a complete swap point has every disk";
/// Nodes of one experiment.
pub const TOGETHER: &str = "nobody is released before all are decided";

/// Seen.
pub const SAVED: &str = "seen: P is saved and has given its machines back";
/// Seen.
pub const SAVED_AGAIN: &str = "seen: P is saved a second time";
/// Seen.
pub const RESTORED: &str = "seen: P runs from what was saved";
/// Seen.
pub const HANDED_ON: &str = "seen: Q uses a machine";
/// Seen.
pub const ENDED: &str = "seen: P is terminated and has no machine any more";
/// Seen.
pub const SUPERSEDED: &str = "seen: a boss that is over is about to do something";
/// Seen.
pub const TWO_CRASHES: &str = "seen: bosses crashed twice";
/// Seen.
pub const REFUTED: &str = "seen: a capture does not read back as what was saved";
/// Seen.
pub const LATE_UPLOAD: &str = "seen: an upload of an earlier boot is still under way";
/// Seen.
pub const OLD_PERMIT: &str = "seen: a permit of an earlier epoch reaches an agent";
/// Seen.
pub const HELD: &str = "seen: a job is held";
/// Seen.
pub const TAKEN_BACK: &str = "seen: P runs after its swap-out was taken back";
/// Seen.
pub const GIVEN_UP: &str = "seen: what is on a machine was given up";
/// Seen.
pub const INCOMPLETE: &str = "seen: one machine is saved and free, the other held";
/// Seen.
pub const ALL_KEPT: &str = "seen: a machine is saved and kept because another is not";
/// Seen.
pub const ORPHAN: &str = "seen: an object has no row";
/// Seen.
pub const OLDER_DATABASE: &str = "seen: a database is noticed to be older, and machines are held";

/// A property of a state.
pub(super) type Holds = fn(&Protocol, &Site) -> bool;

/// What must hold in every state.
pub(super) const INVARIANTS: &[(&str, Holds)] = &[
    (NOT_LOST, |_, site| site.wrong != Some(Wrong::Lost)),
    (VERIFIED, |_, site| captures(site).filter(is_verified).all(|row| is_true(row) && site_has(site, row))),
    (FENCED, |_, site| site.wrong != Some(Wrong::Stale)),
    (RUNS, |protocol, site| {
        (0..protocol.scene.nodes).all(|node| {
            site.db.nodes[node].place != Place::At(NodeStep::InUse) || site.machines[node].power == Power::Own
        })
    }),
    (ROW_HAS_OBJECT, |_, site| {
        let stored = |row: &&CaptureRow| matches!(row.step, CaptureStep::Received | CaptureStep::Verified);
        captures(site).filter(stored).all(|row| row.root.is_some_and(|root| site.store.find(root).is_some()))
    }),
    (CLOSED, |_, site| !captures(site).any(|row| is_verified(&row)) || site.store.is_whole(Content::Image)),
    (GIVEN_BACK, is_given_back),
    (NO_RESIDUE, has_no_residue),
    (ONCE, |_, site| site.wrong != Some(Wrong::Repeated)),
    (SETTLES, Protocol::settles),
    (COMPLETE, |_, site| {
        let complete = |row: &&CaptureRow| site.db.points[usize::from(row.point)] == Some(SwapPointState::Complete);
        captures(site).filter(complete).all(|row| is_verified(&row))
    }),
    (TOGETHER, |_, site| site.wrong != Some(Wrong::Released)),
];

/// What is seen in some state.
pub(super) const SIGHTS: &[(&str, Holds)] = &[
    (SAVED, |_, site| {
        site.db.points.contains(&Some(SwapPointState::Complete)) && site.db.nodes_of(Tenant::P).next().is_none()
    }),
    (SAVED_AGAIN, |_, site| site.db.points == [Some(SwapPointState::Complete); 2]),
    (RESTORED, |_, site| {
        site.db.points.contains(&Some(SwapPointState::Complete)) && is_at(site, Tenant::P, NodeStep::InUse)
    }),
    (HANDED_ON, |_, site| is_at(site, Tenant::Q, NodeStep::InUse)),
    (ENDED, |_, site| site.db.experiment(Tenant::P).state == ExperimentState::Ended),
    (SUPERSEDED, |_, site| site.paused.is_some()),
    (TWO_CRASHES, |_, site| site.db.term == 3),
    (REFUTED, |_, site| captures(site).any(|row| row.class == Some(FailureClass::Corruption))),
    (LATE_UPLOAD, |_, site| {
        site.messages.iter().any(|message| {
            let now = site.db.nodes[usize::from(message.node)].boot;
            matches!(message.what, Told::Finish { .. }) && now.is_some_and(|now| now.id != message.boot)
        })
    }),
    (OLD_PERMIT, |_, site| {
        site.orders.iter().any(|order| {
            let agent = site.machines[usize::from(order.node)].agent();
            matches!(order.what, Ordered::Write { .. }) && agent.is_some_and(|agent| agent.epoch > order.epoch)
        })
    }),
    (HELD, |_, site| site.db.experiments.iter().any(|of| of.job.is_some_and(|job| job.state == JobState::Held))),
    (TAKEN_BACK, |protocol, site| {
        site.left.cancel < protocol.scene.budget.cancel && is_at(site, Tenant::P, NodeStep::InUse)
    }),
    (GIVEN_UP, |_, site| site.db.nodes.iter().any(|row| row.given_up.is_some())),
    (INCOMPLETE, |_, site| {
        site.db.points.contains(&Some(SwapPointState::Incomplete)) && is_held(site) && is_free(site)
    }),
    (ALL_KEPT, |_, site| {
        let mut nodes = site.db.nodes_of(Tenant::P);
        let kept = nodes.next().is_some() && site.db.nodes_of(Tenant::P).all(|node| is_held_at(site, node));
        kept && captures(site).any(|row| is_verified(&row))
    }),
    (ORPHAN, |_, site| {
        site.store
            .objects
            .iter()
            .any(|object| object.name != Content::Image && !captures(site).any(|row| row.root == Some(object.name)))
    }),
    (OLDER_DATABASE, |_, site| site.restored && site.db.nodes_of(Tenant::P).next().is_some() && is_held(site)),
];

fn is_at(site: &Site, of: Tenant, step: NodeStep) -> bool {
    site.db.nodes_of(of).any(|node| site.db.nodes[node].place == Place::At(step))
}

fn is_held_at(site: &Site, node: usize) -> bool {
    matches!(site.db.nodes[node].place, Place::Held(_))
}

fn is_held(site: &Site) -> bool {
    (0..NODES).any(|node| is_held_at(site, node))
}

fn is_free(site: &Site) -> bool {
    site.db.nodes.iter().any(|row| row.place == Place::At(NodeStep::Free))
}

/// Returns what is looked at.
pub(super) fn watched(what: Watched) -> Vec<Property<Protocol>> {
    let all = match what {
        Watched::Invariants | Watched::One(_) => INVARIANTS,
        Watched::Sights => SIGHTS,
    };
    let asked = all.iter().filter(|(name, _)| match what {
        Watched::Invariants | Watched::Sights => true,
        Watched::One(one) => *name == one,
    });
    asked
        .map(|(name, holds)| match what {
            Watched::Invariants | Watched::One(_) => Property::<Protocol>::always(name, *holds),
            Watched::Sights => Property::<Protocol>::sometimes(name, *holds),
        })
        .collect()
}

fn captures(site: &Site) -> impl Iterator<Item = &CaptureRow> {
    site.db.nodes.iter().flat_map(|node| node.captures.iter().flatten())
}

fn is_verified(row: &&CaptureRow) -> bool {
    row.step == CaptureStep::Verified
}

fn is_true(row: &CaptureRow) -> bool {
    let Some(Content::State { of, place, .. }) = row.root else { return false };
    of == row.of && place == row.place && row.truth == row.root
}

fn site_has(site: &Site, row: &CaptureRow) -> bool {
    row.root.is_some_and(|root| site.store.is_whole(root))
}

fn is_given_back(_: &Protocol, site: &Site) -> bool {
    site.db.nodes.iter().zip(&site.machines).all(|(row, machine)| {
        let owner = row.of.filter(|_| !site.restored);
        match (row.place, owner) {
            // Nothing runs there yet: the disk is exactly what was ordered.
            (Place::At(NodeStep::Checked), Some(_)) => {
                let written = row.write.filter(|write| write.state == WriteState::Done);
                written.is_some_and(|write| write.target == machine.disk)
            }
            // A machine that runs, or goes back to its experiment, has a whole disk.
            (Place::At(NodeStep::InUse | NodeStep::Rebooting), Some((of, place))) => match machine.disk {
                Content::Image => of == Tenant::Q,
                Content::State { of: whose, place: at, .. } => (whose, at) == (of, place),
                Content::Zeros | Content::Torn(_) => false,
            },
            _ => true,
        }
    })
}

fn has_no_residue(protocol: &Protocol, site: &Site) -> bool {
    (0..protocol.scene.nodes).all(|node| {
        let (row, machine) = (&site.db.nodes[node], &site.machines[node]);
        let free = row.place == Place::At(NodeStep::Free);
        let allowed = match (machine.power, row.of) {
            (Power::Own, Some((of, _))) if !site.restored => of.bit(),
            _ => u8::MAX,
        };
        machine.disk.traces() & !allowed == 0 && (!free || machine.disk.traces() == 0 && machine.power == Power::Off)
    })
}
