//! Where an exploration begins and what may happen in it. Every scene is explored to the end.

use boss_api::user::{ExperimentState, OnFailure, SwapPointState};
use boss_model::capture::CaptureStep;
use boss_model::node::NodeStep;

use super::properties as p;
use super::site::{
    Boss, Budget, CaptureRow, Content, Db, ExperimentRow, Health, Machine, NODES, NodeRow, Object, POINTS, Place,
    Power, Site, Store, Tenant,
};

/// A beginning, and bounds.
#[derive(Clone, Debug)]
pub struct Scene {
    /// A short name.
    pub name: &'static str,
    /// What it is about, for people.
    pub about: &'static str,
    /// How many machines there are.
    pub(super) nodes: usize,
    /// How many virtual nodes P and Q have.
    pub(super) places: [u8; 2],
    /// How often a disk is changed at most.
    pub(super) generations: u8,
    /// What becomes of saved machines when another could not be saved.
    pub(super) on_failure: OnFailure,
    /// Whether P is swapped in; else it is saved, and its machines are free.
    pub(super) active: bool,
    /// What may happen.
    pub(super) budget: Budget,
    /// What must be seen in it.
    pub(super) sights: &'static [&'static str],
}

/// Nothing happens.
pub(super) const NOTHING: Budget = Budget {
    swap_out: [0; 2],
    swap_in: [0; 2],
    terminate: [0; 2],
    retry: 0,
    cancel: 0,
    discard: 0,
    faults: 0,
    bosses: 0,
    agents: 0,
    blips: 0,
    damages: 0,
    late: 0,
    errors: 0,
    claims: 0,
    collections: 0,
    backups: 0,
};

/// Every fault there is but a database that is restored; the scene says how many of them come together.
const FAULTS: Budget = Budget { bosses: 2, agents: 2, blips: 1, damages: 1, late: 2, errors: 2, claims: 1, ..NOTHING };

impl Scene {
    /// All of them.
    pub fn all() -> Vec<Self> {
        vec![
            Self::round(),
            Self::again(),
            Self::undone(),
            Self::pair_out(),
            Self::pair_held(),
            Self::pair_in(),
            Self::backup(),
            Self::crashes(),
        ]
    }

    /// One machine goes round.
    pub(super) fn round() -> Self {
        Self {
            name: "round",
            about: "one machine: P is saved, Q has it meanwhile, P comes back",
            nodes: 1,
            places: [1, 1],
            generations: 2,
            on_failure: OnFailure::ReleaseVerified,
            active: true,
            budget: Budget { swap_out: [1, 1], swap_in: [1, 1], retry: 1, faults: 2, ..FAULTS },
            sights: &[
                p::SAVED,
                p::RESTORED,
                p::HANDED_ON,
                p::SUPERSEDED,
                p::REFUTED,
                p::LATE_UPLOAD,
                p::OLD_PERMIT,
                p::HELD,
                p::ORPHAN,
            ],
        }
    }

    /// One machine is saved twice.
    pub(super) fn again() -> Self {
        Self {
            name: "again",
            about: "one machine: P is saved, comes back, goes on, and is saved again",
            places: [1, 0],
            budget: Budget { swap_out: [2, 0], swap_in: [1, 0], retry: 1, faults: 1, collections: 2, ..FAULTS },
            sights: &[p::SAVED_AGAIN, p::OLD_PERMIT],
            ..Self::round()
        }
    }

    /// A swap-out is taken back, or what cannot be saved is given up.
    pub(super) fn undone() -> Self {
        Self {
            name: "undone",
            about: "one machine: P is taken back while it is saved, goes on, and is saved again; or it is given up",
            places: [1, 0],
            budget: Budget { swap_out: [2, 0], cancel: 1, discard: 1, retry: 1, faults: 1, ..FAULTS },
            sights: &[p::SAVED_AGAIN, p::TAKEN_BACK, p::GIVEN_UP],
            ..Self::round()
        }
    }

    /// Two machines of one experiment are saved together.
    pub(super) fn pair_out() -> Self {
        Self {
            name: "pair-out",
            about: "two machines of P are saved together; Q takes the first that is free",
            nodes: 2,
            places: [2, 1],
            generations: 1,
            budget: Budget { swap_out: [1, 0], swap_in: [0, 1], terminate: [1, 0], retry: 1, faults: 1, ..FAULTS },
            sights: &[p::SAVED, p::HANDED_ON, p::INCOMPLETE, p::ENDED],
            ..Self::round()
        }
    }

    /// Two machines, and two crashes.
    pub(super) fn crashes() -> Self {
        Self {
            name: "crashes",
            about: "two machines of P are saved together, and two crashes of bosses and agents come",
            budget: Budget { swap_out: [1, 0], faults: 2, bosses: 2, agents: 2, ..NOTHING },
            sights: &[p::SAVED, p::SUPERSEDED, p::TWO_CRASHES],
            ..Self::pair_out()
        }
    }

    /// The same, where all are kept when one cannot be saved.
    pub(super) fn pair_held() -> Self {
        Self {
            name: "pair-held",
            about: "two machines of P are saved together, and both are kept if one cannot be",
            on_failure: OnFailure::HoldAll,
            budget: Budget { swap_out: [1, 0], retry: 1, faults: 1, damages: 1, claims: 1, agents: 1, ..NOTHING },
            sights: &[p::SAVED, p::ALL_KEPT],
            ..Self::pair_out()
        }
    }

    /// Two machines are loaded with what was saved.
    pub(super) fn pair_in() -> Self {
        Self {
            name: "pair-in",
            about: "two machines are loaded with what P saved, or P is terminated meanwhile",
            active: false,
            budget: Budget { swap_in: [1, 0], terminate: [1, 0], retry: 1, faults: 1, ..FAULTS },
            sights: &[p::RESTORED, p::HELD, p::ENDED],
            ..Self::pair_out()
        }
    }

    /// The database is restored from a backup.
    pub(super) fn backup() -> Self {
        Self {
            name: "backup",
            about: "one machine: P is saved and comes back, and somewhere the database is restored from a backup",
            places: [1, 1],
            budget: Budget { swap_out: [1, 0], swap_in: [1, 1], faults: 1, backups: 1, bosses: 1, ..NOTHING },
            sights: &[p::OLDER_DATABASE, p::RESTORED],
            ..Self::round()
        }
    }

    /// Returns the scenes with bounds that are soon done with.
    pub fn small() -> Vec<Self> {
        let one = [Self::round(), Self::again(), Self::undone(), Self::backup()].map(|scene| scene.at_most(1));
        let two = [Self::pair_out(), Self::pair_held(), Self::pair_in()].map(|scene| Self {
            // What is seen only when something goes wrong is seen in the whole scenes.
            sights: &[],
            ..scene.at_most(0)
        });
        one.into_iter().chain(two).collect()
    }

    /// Returns the scene with at most so many faults.
    pub fn at_most(self, faults: u8) -> Self {
        Self { budget: Budget { faults, ..self.budget }, ..self }
    }

    /// Returns the scene with these faults and no others; what people ask for stays.
    pub(super) fn with_faults(self, of: Budget) -> Self {
        let Budget { swap_out, swap_in, terminate, retry, cancel, discard, collections, .. } = self.budget;
        Self { budget: Budget { swap_out, swap_in, terminate, retry, cancel, discard, collections, ..of }, ..self }
    }

    /// Says what may happen.
    pub(super) fn bounds(&self) -> String {
        let Budget { swap_out, swap_in, terminate, retry, faults, bosses, agents, blips, damages, .. } = self.budget;
        let Budget { late, errors, claims, collections, backups, cancel, discard, .. } = self.budget;
        let listed = |all: &[(u8, &str)]| {
            let some = all.iter().filter(|(count, _)| *count > 0);
            some.map(|(count, what)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
        };
        let asked = listed(&[
            (swap_out[0], "P out"),
            (swap_in[0], "P in"),
            (terminate[0], "P terminated"),
            (swap_out[1], "Q out"),
            (swap_in[1], "Q in"),
            (retry, "retry"),
            (cancel, "P taken back"),
            (discard, "P given up"),
            (collections, "looks for garbage"),
            (backups, "backups"),
        ]);
        let wrong = listed(&[
            (bosses, "bosses that crash or stand still"),
            (agents, "agents that die"),
            (blips, "machines that start by themselves"),
            (damages, "objects that rot"),
            (late, "steps that come late or get lost"),
            (errors, "errors and limits of time"),
            (claims, "boots claimed twice"),
        ]);
        let (nodes, generations) = (self.nodes, self.generations);
        format!("{nodes} machines, {generations} states of a disk; {asked}; at most {faults} faults of: {wrong}")
    }

    pub(super) fn site(&self) -> Site {
        let state = |place| Content::State { of: Tenant::P, place, generation: 1 };
        let mut nodes = [NodeRow {
            place: Place::At(NodeStep::Free),
            epoch: 1,
            of: None,
            boots: 0,
            boot: None,
            given_up: None,
            captures: [None; POINTS],
            write: None,
        }; NODES];
        let mut machines = [Machine { power: Power::Off, disk: Content::Zeros, staged: None }; NODES];
        let mut objects = vec![Object { name: Content::Image, health: Health::Whole, marked: false }];
        let mut points = [None; POINTS];
        for place in 0..self.places[0] {
            let node = usize::from(place);
            if self.active {
                nodes[node].place = Place::At(NodeStep::InUse);
                nodes[node].of = Some((Tenant::P, place));
                machines[node] = Machine { power: Power::Own, disk: state(place), staged: None };
            } else {
                points[0] = Some(SwapPointState::Complete);
                objects.push(Object { name: state(place), health: Health::Whole, marked: false });
                nodes[node].captures[0] = Some(CaptureRow {
                    epoch: 0,
                    point: 0,
                    of: Tenant::P,
                    place,
                    step: CaptureStep::Verified,
                    class: None,
                    attempt: 1,
                    before: 0,
                    boot: 0,
                    root: Some(state(place)),
                    truth: Some(state(place)),
                });
            }
        }
        for row in nodes.iter_mut().skip(self.nodes) {
            // No machine: it is taken by nobody, and no chore looks at it.
            row.place = Place::At(NodeStep::InUse);
        }
        let experiment = |state, saves| ExperimentRow { state, saves, job: None };
        let p = if self.active { ExperimentState::Active } else { ExperimentState::Swapped };
        Site {
            db: Db {
                term: 1,
                nodes,
                experiments: [experiment(p, true), experiment(ExperimentState::Swapped, false)],
                points,
                boots: 0,
                writes: 0,
                moves: 0,
            },
            backup: None,
            restored: false,
            store: Store { term: 1, moves: 0, objects },
            machines,
            ruling: Boss { term: 1, task: None, upload: None },
            paused: None,
            messages: Vec::new(),
            orders: Vec::new(),
            given_up: [false; 2],
            left: self.budget,
            wrong: None,
        }
    }
}
