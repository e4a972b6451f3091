//! The state of a small site: database, store, network, machines and two bosses. Small and flat, because millions of
//! them are kept: what the database keeps of a state is its word, as in the tables of boss.

use boss_api::agent::{FailureClass, WritePurpose};
use boss_api::user::{ExperimentState, JobKind, JobState, SwapPointState};
use boss_model::capture::CaptureStep;
use boss_model::node::NodeStep;
use boss_model::write::WriteState;

use super::network::{Message, Order};
use super::saving::Upload;
use super::tasks::Task;

/// How many machines a site has at most.
pub(super) const NODES: usize = 2;
/// How many swap points are kept.
pub(super) const POINTS: usize = 2;

/// An experiment, and the project it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Tenant {
    /// Saves its disks.
    P,
    /// Does not.
    Q,
}

impl Tenant {
    pub(super) const ALL: [Self; 2] = [Self::P, Self::Q];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::P => 0,
            Self::Q => 1,
        }
    }

    pub(super) const fn bit(self) -> u8 {
        match self {
            Self::P => 1,
            Self::Q => 2,
        }
    }
}

/// What is on a disk, or in an object: whole states are told apart by who wrote them and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Content {
    /// Nothing of anybody.
    Zeros,
    /// The base image.
    Image,
    /// A state an experiment left.
    State {
        /// Whose.
        of: Tenant,
        /// Of which virtual node.
        place: u8,
        /// How often it was changed.
        generation: u8,
    },
    /// Parts of several; a bit for each experiment of which something may be in it.
    Torn(u8),
}

impl Content {
    /// Returns a bit for each experiment of which something is in it.
    pub(super) const fn traces(self) -> u8 {
        match self {
            Self::Zeros | Self::Image => 0,
            Self::State { of, .. } => of.bit(),
            Self::Torn(traces) => traces,
        }
    }

    /// Returns what two halves make.
    pub(super) fn joined(self, other: Self) -> Self {
        if self == other { self } else { Self::Torn(self.traces() | other.traces()) }
    }
}

/// The state of a machine as its row has it: the word, and where a held one came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// In the cycle.
    At(NodeStep),
    /// Held, from there.
    Held(NodeStep),
}

/// How far a boot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BootState {
    /// Started, not heard of.
    Booting,
    /// Its agent has spoken.
    Registered,
    /// Over, or claimed twice.
    Ended,
}

/// The newest boot of a machine; older ones are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BootRow {
    pub(super) id: u8,
    pub(super) epoch: u8,
    pub(super) state: BootState,
}

impl BootRow {
    pub(super) fn is_alive(self) -> bool {
        self.state != BootState::Ended
    }
}

/// The saving of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CaptureRow {
    pub(super) epoch: u8,
    pub(super) point: u8,
    pub(super) of: Tenant,
    pub(super) place: u8,
    pub(super) step: CaptureStep,
    pub(super) class: Option<FailureClass>,
    pub(super) attempt: u8,
    pub(super) before: u8,
    pub(super) boot: u8,
    /// The root the agent measured, and the object that is to give it.
    pub(super) root: Option<Content>,
    /// What the disk held when the attempt that is believed began to read it. boss does not know this.
    pub(super) truth: Option<Content>,
}

/// A write, with its permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WriteRow {
    pub(super) id: u8,
    pub(super) purpose: WritePurpose,
    pub(super) state: WriteState,
    pub(super) class: Option<FailureClass>,
    pub(super) epoch: u8,
    pub(super) attempt: u8,
    pub(super) before: u8,
    pub(super) boot: u8,
    pub(super) target: Content,
    pub(super) permit: Permit,
}

/// What an agent checks of a sealed permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Permit {
    pub(super) write: u8,
    pub(super) epoch: u8,
    pub(super) term: u8,
}

/// A machine as the database knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeRow {
    pub(super) place: Place,
    pub(super) epoch: u8,
    /// Which virtual node it is.
    pub(super) of: Option<(Tenant, u8)>,
    /// How often it was booted since it came into its state.
    pub(super) boots: u8,
    pub(super) boot: Option<BootRow>,
    /// In which epoch somebody gave up what is on its disk.
    pub(super) given_up: Option<u8>,
    pub(super) captures: [Option<CaptureRow>; POINTS],
    pub(super) write: Option<WriteRow>,
}

/// What a person asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct JobRow {
    pub(super) kind: JobKind,
    pub(super) state: JobState,
    pub(super) saves: bool,
}

/// An experiment as the database knows it, with its unfinished job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ExperimentRow {
    pub(super) state: ExperimentState,
    pub(super) saves: bool,
    pub(super) job: Option<JobRow>,
}

/// The database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Db {
    pub(super) term: u8,
    pub(super) nodes: [NodeRow; NODES],
    pub(super) experiments: [ExperimentRow; 2],
    /// The swap points of the experiment that saves.
    pub(super) points: [Option<SwapPointState>; POINTS],
    /// The last number given to a boot, and to a write.
    pub(super) boots: u8,
    pub(super) writes: u8,
    /// How often machines were moved; counted only where a backup can be restored.
    pub(super) moves: u8,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Health {
    /// Its bytes are what its name says.
    Whole,
    /// They are not any more.
    Damaged,
    /// It was found damaged and is gone.
    Removed,
}

/// An object of the store, named by what its bytes were when it was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) name: Content,
    pub(super) health: Health,
    /// Noted by a collection of garbage as without a row, and not referred to since.
    pub(super) marked: bool,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    /// The highest term that was seen.
    pub(super) term: u8,
    /// How often machines had been moved then.
    pub(super) moves: u8,
    pub(super) objects: Vec<Object>,
}

/// What runs on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Power {
    /// Nothing.
    Off,
    /// The system of its own disk.
    Own,
    /// The memory file system, with an agent while that lives.
    Mfs(Option<Agent>),
}

/// A capture under way in an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scan {
    pub(super) epoch: u8,
    pub(super) attempt: u8,
    /// What the first half of the disk held.
    pub(super) first: Option<Content>,
    pub(super) done: bool,
}

/// A write under way in an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Writing {
    pub(super) permit: Permit,
    pub(super) attempt: u8,
    pub(super) target: Content,
    pub(super) stage: Stage,
}

/// How far a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// The permit was checked; images are fetched.
    Fetching,
    /// The disk is open and half written.
    Open,
    /// Over.
    Ended,
}

/// A program in the memory file system of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Agent {
    pub(super) boot: u8,
    pub(super) epoch: u8,
    /// The highest term it heard of.
    pub(super) heard: u8,
    pub(super) scan: Option<Scan>,
    pub(super) writes: [Option<Writing>; 2],
}

/// A machine as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Machine {
    pub(super) power: Power,
    pub(super) disk: Content,
    /// What an earlier boot read of the first half of the disk; only a planted defect looks at it.
    pub(super) staged: Option<Content>,
}

/// A boss that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Boss {
    pub(super) term: u8,
    /// A step of the reconciler between two of its effects.
    pub(super) task: Option<Task>,
    /// An upload between two of its effects.
    pub(super) upload: Option<Upload>,
}

/// What may still happen: each is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Requests of people.
    pub(super) swap_out: [u8; 2],
    pub(super) swap_in: [u8; 2],
    pub(super) terminate: [u8; 2],
    pub(super) retry: u8,
    /// Of P only.
    pub(super) cancel: u8,
    pub(super) discard: u8,
    /// Faults, all kinds together, and each kind.
    pub(super) faults: u8,
    /// Crashes and take-overs of a boss.
    pub(super) bosses: u8,
    /// Deaths of an agent.
    pub(super) agents: u8,
    /// Power cycles by which a machine comes up with its own system.
    pub(super) blips: u8,
    /// Objects that rot.
    pub(super) damages: u8,
    /// Steps that are carried out late, on stale reads; answers to COMMIT that get lost.
    pub(super) late: u8,
    /// Errors that an agent reports, limits that pass, writes that go wrong without a word.
    pub(super) errors: u8,
    /// Boots that are claimed twice.
    pub(super) claims: u8,
    /// Looks of a collection of garbage.
    pub(super) collections: u8,
    /// Backups of the database that are restored later.
    pub(super) backups: u8,
}

/// What must never happen, and did. Found where it happens, because later states do not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wrong {
    /// The only copy of a state was overwritten.
    Lost,
    /// Somebody acted in an older term or epoch.
    Stale,
    /// A message that came twice did more than one that came once.
    Repeated,
    /// A machine was given back while others of its experiment were not decided, or against the policy.
    Released,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Site {
    pub(super) db: Db,
    pub(super) backup: Option<Box<Db>>,
    /// The database is older than what happened.
    pub(super) restored: bool,
    pub(super) store: Store,
    pub(super) machines: [Machine; NODES],
    pub(super) ruling: Boss,
    /// A boss that was superseded while it was in the middle of something.
    pub(super) paused: Option<Boss>,
    /// What agents sent: any of it arrives any number of times, in any order, or never.
    pub(super) messages: Vec<Message>,
    /// What bosses ordered: likewise.
    pub(super) orders: Vec<Order>,
    /// Who said that nothing needs saving.
    pub(super) given_up: [bool; 2],
    pub(super) left: Budget,
    pub(super) wrong: Option<Wrong>,
}

impl Db {
    pub(super) fn experiment(&self, of: Tenant) -> &ExperimentRow {
        &self.experiments[of.index()]
    }

    pub(super) fn experiment_mut(&mut self, of: Tenant) -> &mut ExperimentRow {
        &mut self.experiments[of.index()]
    }

    /// Returns the machines of an experiment.
    pub(super) fn nodes_of(&self, of: Tenant) -> impl Iterator<Item = usize> + '_ {
        (0..NODES).filter(move |node| self.nodes[*node].of.is_some_and(|(tenant, _)| tenant == of))
    }

    /// Returns the number of the newest complete swap point.
    pub(super) fn newest_complete(&self) -> Option<u8> {
        (0_u8..).zip(&self.points).filter(|(_, point)| **point == Some(SwapPointState::Complete)).map(|(n, _)| n).max()
    }

    /// Returns the capture of a virtual node in a swap point.
    pub(super) fn captured(&self, point: u8, place: u8) -> Option<&CaptureRow> {
        let mut rows = self.nodes.iter().flat_map(|node| node.captures.iter().flatten());
        rows.find(|row| row.point == point && row.place == place)
    }
}

impl NodeRow {
    /// Returns the capture taken in an epoch.
    pub(super) fn capture_mut(&mut self, epoch: u8) -> Option<&mut CaptureRow> {
        self.captures.iter_mut().flatten().find(|row| row.epoch == epoch)
    }

    /// Returns the capture of the present epoch.
    pub(super) fn capture(&self) -> Option<&CaptureRow> {
        self.captures.iter().flatten().find(|row| row.epoch == self.epoch)
    }

    /// Returns the write of the present epoch for these purposes, unless its permit is void.
    pub(super) fn write_for(&self, purposes: &[WritePurpose]) -> Option<&WriteRow> {
        self.write
            .as_ref()
            .filter(|row| row.epoch == self.epoch && row.state != WriteState::Void && purposes.contains(&row.purpose))
    }
}

impl Store {
    pub(super) fn find(&self, name: Content) -> Option<&Object> {
        self.objects.iter().find(|object| object.name == name)
    }

    pub(super) fn is_whole(&self, name: Content) -> bool {
        self.find(name).is_some_and(|object| object.health == Health::Whole)
    }

    pub(super) fn set_health(&mut self, name: Content, health: Health) {
        self.objects.iter_mut().filter(|object| object.name == name).for_each(|object| object.health = health);
    }

    pub(super) fn is_there(&self, name: Content) -> bool {
        self.find(name).is_some_and(|object| object.health != Health::Removed)
    }

    /// Stores an object unless it is there.
    pub(super) fn put(&mut self, name: Content) {
        match self.objects.iter_mut().find(|object| object.name == name) {
            Some(object) if object.health == Health::Removed => object.health = Health::Whole,
            Some(_) => {}
            None => self.objects.push(Object { name, health: Health::Whole, marked: false }),
        }
        self.objects.sort_by_key(|object| object.name);
    }

    /// A row refers to an object: whoever noted that none does is forgotten.
    pub(super) fn refer(&mut self, name: Content) {
        self.objects.iter_mut().filter(|object| object.name == name).for_each(|object| object.marked = false);
    }

    pub(super) fn delete(&mut self, name: Content) {
        self.objects.retain(|object| object.name != name);
    }
}

impl Machine {
    pub(super) fn agent(&self) -> Option<&Agent> {
        match &self.power {
            Power::Mfs(agent) => agent.as_ref(),
            Power::Off | Power::Own => None,
        }
    }

    pub(super) fn agent_mut(&mut self) -> Option<&mut Agent> {
        match &mut self.power {
            Power::Mfs(agent) => agent.as_mut(),
            Power::Off | Power::Own => None,
        }
    }
}
