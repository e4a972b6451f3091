//! What the reconciler of a boss decides when it looks: level-triggered, from the rows and the power of the machine.

use boss_api::agent::{FailureClass, WritePurpose};
use boss_api::user::{JobKind, JobState};
use boss_model::capture::CaptureStep;
use boss_model::node::NodeStep;
use boss_model::point::{self, Verdict};
use boss_model::write::WriteState;

use super::planted::Planted;
use super::protocol::Protocol;
use super::saving::Verification;
use super::site::{BootRow, BootState, JobRow, NODES, NodeRow, Place, Site, Tenant};
use super::tasks::{Advance, Attempt, Leaving, Seen, Task};

/// How often what may pass is tried.
const ATTEMPTS: u8 = 2;
/// What a swap-in writes.
pub(super) const LOADING: [WritePurpose; 2] = [WritePurpose::Load, WritePurpose::Restore];

/// What a boss can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Chore {
    /// A machine.
    Node(usize),
    /// An experiment with a job.
    Decide(Tenant),
    /// A capture that was received.
    Verify(usize),
}

impl Chore {
    pub(super) const ALL: [Self; 6] = [
        Self::Verify(0),
        Self::Verify(1),
        Self::Node(0),
        Self::Node(1),
        Self::Decide(Tenant::P),
        Self::Decide(Tenant::Q),
    ];
}

/// Whether a machine is in the memory file system.
enum Mfs {
    Ready(BootRow),
    Waiting(Option<Task>),
}

fn must_save(job: &JobRow) -> bool {
    job.kind == JobKind::SwapOut && job.saves
}

impl Protocol {
    /// Looks at one thing, and decides on its next step.
    pub(super) fn look(&self, site: &Site, chore: Chore) -> Option<Task> {
        match chore {
            Chore::Node(node) => self.look_at_node(site, node),
            Chore::Decide(of) => self.decide(site, of),
            Chore::Verify(node) => {
                let mut rows = site.db.nodes[node].captures.iter().flatten();
                let row = rows.find(|row| row.step == CaptureStep::Received)?;
                let (epoch, attempt, root) = (row.epoch, row.attempt, row.root?);
                Some(Task::Verify { node, epoch, attempt, root, stage: Verification::Read })
            }
        }
    }

    fn look_at_node(&self, site: &Site, node: usize) -> Option<Task> {
        let row = &site.db.nodes[node];
        let Place::At(step) = row.place else { return None };
        let job = site.db.experiment(row.of?.0).job?;
        let seen = Seen { place: row.place, epoch: row.epoch };
        let advance = |what| Some(Task::Advance { node, seen, job, what });
        match step {
            NodeStep::Reserved => match self.ensure(site, node) {
                Mfs::Ready(_) => advance(Advance::Load),
                Mfs::Waiting(task) => task,
            },
            NodeStep::Restoring => self.write(site, node, &LOADING).or_else(|| {
                let done = row.write_for(&LOADING).is_some_and(|write| write.state == WriteState::Done);
                if done { advance(Advance::Proved) } else { None }
            }),
            NodeStep::Checked | NodeStep::Rebooting => Some(Task::Own { node, seen, stage: Leaving::End }),
            NodeStep::Quiescing if must_save(&job) => match self.ensure(site, node) {
                Mfs::Ready(_) if self.has(Planted::SavingWaived) => advance(Advance::Waive),
                Mfs::Ready(_) => None,
                Mfs::Waiting(task) => task,
            },
            NodeStep::Capturing if must_save(&job) => {
                let saved = row.capture().is_some_and(|row| row.step == CaptureStep::Verified);
                if saved || self.has(Planted::OldCaptureIsEvidence) && row.captures.iter().flatten().count() > 1 {
                    return advance(Advance::Saved);
                }
                self.save(site, node)
            }
            NodeStep::Quiescing | NodeStep::Capturing => advance(Advance::Waive),
            NodeStep::Sanitizing => self.write(site, node, &[WritePurpose::Sanitize]).or_else(|| {
                let write = row.write_for(&[WritePurpose::Sanitize])?;
                (write.state == WriteState::Done).then_some(Task::Free { node, seen, stage: Leaving::End })
            }),
            NodeStep::Free | NodeStep::InUse | NodeStep::Releasable => None,
        }
    }

    /// Takes the next step towards a machine in the memory file system.
    fn ensure(&self, site: &Site, node: usize) -> Mfs {
        let row = &site.db.nodes[node];
        let Some(boot) = row.boot.filter(|boot| boot.is_alive()) else {
            let boot = Task::Boot { node, epoch: row.epoch, noted: None };
            return Mfs::Waiting(Some(if row.boots > ATTEMPTS { Task::Hold { node } } else { boot }));
        };
        let dead = site.machines[node].agent().is_none() && !self.has(Planted::DeadBootWaitedFor);
        if boot.epoch != row.epoch || dead {
            return Mfs::Waiting(Some(Task::EndBoot { node, boot: boot.id, ended: false }));
        }
        if boot.state == BootState::Registered { Mfs::Ready(boot) } else { Mfs::Waiting(None) }
    }

    /// Takes the next step of saving a disk.
    fn save(&self, site: &Site, node: usize) -> Option<Task> {
        let row = site.db.nodes[node].capture()?;
        let task = |what| Some(Task::Capture { node, epoch: row.epoch, attempt: row.attempt, step: row.step, what });
        if let Some(class) = row.class
            && gives_up(class, row.attempt - row.before)
        {
            return Some(Task::Hold { node });
        }
        if matches!(row.step, CaptureStep::Received | CaptureStep::Verified | CaptureStep::Retired) {
            return None;
        }
        let boot = match self.ensure(site, node) {
            Mfs::Ready(boot) => boot,
            Mfs::Waiting(task) => return task,
        };
        match (row.step, row.boot == boot.id) {
            (CaptureStep::Failed, true) => Some(Task::EndBoot { node, boot: boot.id, ended: false }),
            (CaptureStep::Failed, false) => task(Attempt::Again),
            (CaptureStep::Planned, false) => task(Attempt::Assign(boot.id)),
            (CaptureStep::Frozen | CaptureStep::Streaming, false) => task(Attempt::Fail),
            _ => None,
        }
    }

    /// Takes the next step of writing a disk.
    fn write(&self, site: &Site, node: usize, purposes: &[WritePurpose]) -> Option<Task> {
        let Some(row) = site.db.nodes[node].write_for(purposes) else { return Some(Task::Hold { node }) };
        let task = |what| Some(Task::Write { node, write: row.id, attempt: row.attempt, state: row.state, what });
        if row.state == WriteState::Done {
            return None;
        }
        if let Some(class) = row.class
            && gives_up(class, row.attempt - row.before)
        {
            return Some(Task::Hold { node });
        }
        let boot = match self.ensure(site, node) {
            Mfs::Ready(boot) => boot,
            Mfs::Waiting(task) => return task,
        };
        match (row.state, row.boot == boot.id) {
            (WriteState::Failed, true) => Some(Task::EndBoot { node, boot: boot.id, ended: false }),
            (WriteState::Failed, false) => task(Attempt::Again),
            (WriteState::Issued, false) => task(Attempt::Assign(boot.id)),
            (WriteState::Running, false) => task(Attempt::Fail),
            _ => None,
        }
    }

    /// Looks at an experiment with a job.
    fn decide(&self, site: &Site, of: Tenant) -> Option<Task> {
        let db = &site.db;
        let job = db.experiment(of).job?;
        let nodes = || db.nodes_of(of).map(|node| (node, &db.nodes[node]));
        let ends = (job.state == JobState::Running).then_some(Task::Finish { of, job });
        match job.kind {
            JobKind::SwapIn => {
                let all = nodes().all(|(_, row)| row.place == Place::At(NodeStep::InUse));
                ends.filter(|_| all && nodes().next().is_some())
            }
            JobKind::Load => None,
            JobKind::Cancel => {
                let all = nodes().all(|(_, row)| row.place == Place::At(NodeStep::InUse));
                let mut rows = nodes().flat_map(|(_, row)| row.captures.iter().flatten());
                ends.filter(|_| all && !rows.any(|row| row.step == CaptureStep::Received))
            }
            JobKind::SwapOut | JobKind::Terminate | JobKind::GiveUp => {
                let saving = if job.saves { self.begin_saving(site, of) } else { None };
                saving.or_else(|| self.let_go(site, of, job)).or_else(|| ends.filter(|_| nodes().next().is_none()))
            }
        }
    }

    /// No disk is saved before every machine of the experiment stands still.
    fn begin_saving(&self, site: &Site, of: Tenant) -> Option<Task> {
        let seen = seen(site, of, |row| row.place == Place::At(NodeStep::Quiescing));
        let on_the_way = site.db.nodes_of(of).any(|node| {
            let place = site.db.nodes[node].place;
            matches!(place, Place::At(NodeStep::InUse) | Place::Held(NodeStep::InUse | NodeStep::Quiescing))
        });
        let registered = |node: usize| {
            let row = &site.db.nodes[node];
            row.boot.is_some_and(|boot| boot.state == BootState::Registered && boot.epoch == row.epoch)
        };
        let ready = (0..NODES).filter(|node| seen[*node].is_some()).all(registered);
        let some = seen.iter().any(Option::is_some);
        (some && !on_the_way && ready && !self.has(Planted::SavingWaived)).then_some(Task::BeginSaving { seen })
    }

    /// Lets go of what may go.
    fn let_go(&self, site: &Site, of: Tenant, job: JobRow) -> Option<Task> {
        let seen = seen(site, of, |row| row.place == Place::At(NodeStep::Releasable));
        seen.iter().flatten().next()?;
        let steps: Vec<_> = site
            .db
            .nodes_of(of)
            .map(|node| match site.db.nodes[node].place {
                Place::At(step) => Some(step),
                Place::Held(_) => None,
            })
            .collect();
        let verdict = match job.saves && !self.has(Planted::ReleasedEarly) {
            true => point::decide(&steps, self.scene.on_failure),
            false => Verdict::ReleaseSaved,
        };
        let hold = match verdict {
            Verdict::Wait => return None,
            Verdict::HoldAll => true,
            Verdict::ReleaseSaved => false,
        };
        Some(Task::Release { of, job, seen, hold })
    }
}

/// Returns whether a failure is not tried again by boss itself.
fn gives_up(class: FailureClass, attempts: u8) -> bool {
    class != FailureClass::Transient || attempts >= ATTEMPTS
}

fn seen(site: &Site, of: Tenant, wanted: impl Fn(&NodeRow) -> bool) -> [Option<Seen>; NODES] {
    let mut seen = [None; NODES];
    for node in site.db.nodes_of(of) {
        let row = &site.db.nodes[node];
        if wanted(row) {
            seen[node] = Some(Seen { place: row.place, epoch: row.epoch });
        }
    }
    seen
}
