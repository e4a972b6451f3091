//! What people ask for: each is one transaction that reads and writes under the lock of the experiment.

use boss_api::agent::{FailureClass, WritePurpose};
use boss_api::user::{ExperimentState, JobKind, JobState, SwapPointState};
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_model::experiment::{self, ExperimentEvent};
use boss_model::job::{self, JobEvent};
use boss_model::node::{NodeEvent, NodeStep};
use boss_model::write::{WriteEvent, WriteState};

use super::planted::Planted;
use super::protocol::Protocol;
use super::rules;
use super::site::{BootState, CaptureRow, Db, JobRow, NODES, Place, Site, Tenant};
use super::tasks::{Seen, advance};

/// A wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Request {
    /// Give the machines back.
    SwapOut(Tenant),
    /// Take machines.
    SwapIn(Tenant),
    /// Give the machines back for good, and save nothing.
    Terminate(Tenant),
    /// Let what is held go on.
    Retry(Tenant),
    /// Take the swap-out of P back.
    Cancel,
    /// Give up what is on a machine of P that is held while it is saved.
    Discard(usize),
}

impl Protocol {
    /// Carries out a wish, if the rules allow it.
    pub(super) fn ask(&self, site: &mut Site, term: u8, request: Request) -> Option<()> {
        let places = self.scene.places;
        self.transact(site, term, |db| match request {
            Request::SwapOut(of) => self.swap_out(db, of),
            Request::SwapIn(of) => self.swap_in(db, of, places[of.index()]),
            Request::Terminate(of) => self.terminate(db, of),
            Request::Retry(of) => retry(db, of),
            Request::Cancel => self.cancel(db),
            Request::Discard(node) => discard(db, node),
        })?;
        match request {
            Request::SwapOut(of) if !site.db.experiment(of).saves => site.given_up[of.index()] = true,
            Request::Terminate(of) => site.given_up[of.index()] = true,
            Request::SwapIn(of) => site.given_up[of.index()] = false,
            Request::SwapOut(_) | Request::Retry(_) | Request::Cancel | Request::Discard(_) => {}
        }
        Some(())
    }

    /// Moves a machine to other hands, after which effects of before are refused.
    fn hand_over(&self, db: &mut Db, node: usize, event: NodeEvent) -> Option<()> {
        let row = db.nodes[node];
        advance(db, node, Seen { place: row.place, epoch: row.epoch }, event)?;
        if !self.has(Planted::EpochKept) {
            db.nodes[node].epoch += 1;
        }
        Some(())
    }

    fn swap_out(&self, db: &mut Db, of: Tenant) -> Option<()> {
        let row = db.experiment_mut(of);
        row.state = experiment::apply(row.state, ExperimentEvent::SwapOut).ok()?;
        let saves = row.saves;
        start(db, of, JobKind::SwapOut, saves)?;
        let nodes: Vec<_> = db.nodes_of(of).collect();
        for node in &nodes {
            self.hand_over(db, *node, NodeEvent::Quiesce)?;
        }
        if saves {
            let number = db.points.iter().position(Option::is_none)?;
            db.points[number] = Some(SwapPointState::Open);
            for node in nodes {
                let row = &mut db.nodes[node];
                let (of, place) = row.of?;
                row.captures[number] = Some(CaptureRow {
                    epoch: row.epoch,
                    point: u8::try_from(number).ok()?,
                    of,
                    place,
                    step: CaptureStep::Planned,
                    class: None,
                    attempt: 0,
                    before: 0,
                    boot: 0,
                    root: None,
                    truth: None,
                });
            }
        }
        Some(())
    }

    fn swap_in(&self, db: &mut Db, of: Tenant, places: u8) -> Option<()> {
        let row = db.experiment_mut(of);
        row.state = experiment::apply(row.state, ExperimentEvent::SwapIn).ok()?;
        start(db, of, JobKind::SwapIn, false)?;
        for place in 0..places {
            let free = |node: &usize| db.nodes[*node].place == Place::At(NodeStep::Free);
            // Another machine than last time, if there is one.
            let had = |node: &usize| db.nodes[*node].captures.iter().flatten().any(|row| row.place == place);
            let fits: Vec<_> = (0..NODES).filter(free).collect();
            let node = *fits.iter().find(|node| !had(node)).or(fits.first())?;
            self.hand_over(db, node, NodeEvent::Reserve)?;
            db.nodes[node].of = Some((of, place));
        }
        Some(())
    }

    fn terminate(&self, db: &mut Db, of: Tenant) -> Option<()> {
        refuse_unsaved(db, of)?;
        let row = db.experiment_mut(of);
        row.state = experiment::apply(row.state, ExperimentEvent::Terminate).ok()?;
        if let Some(held) = row.job.filter(|job| job.state == JobState::Held) {
            job::apply(held.state, JobEvent::Fail).ok()?;
            row.job = None;
        }
        start(db, of, JobKind::Terminate, false)?;
        let nodes: Vec<_> = db.nodes_of(of).collect();
        for node in nodes {
            if matches!(db.nodes[node].place, Place::Held(_)) {
                resume(db, node)?;
            }
            match db.nodes[node].place {
                Place::At(NodeStep::InUse | NodeStep::Rebooting) => self.hand_over(db, node, NodeEvent::Quiesce)?,
                Place::At(NodeStep::Reserved | NodeStep::Restoring | NodeStep::Checked) => {
                    void_open(db, node)?;
                    self.abandon(db, node)?;
                }
                Place::At(_) | Place::Held(_) => {}
            }
        }
        Some(())
    }

    /// Takes a swap-out back while all its machines are as their experiment left them.
    fn cancel(&self, db: &mut Db) -> Option<()> {
        let of = Tenant::P;
        let row = db.experiment_mut(of);
        let old = row.job.filter(|job| job.kind == JobKind::SwapOut)?;
        row.state = experiment::apply(row.state, ExperimentEvent::Cancel).ok()?;
        job::apply(old.state, JobEvent::Fail).ok()?;
        row.job = None;
        start(db, of, JobKind::Cancel, false)?;
        let nodes: Vec<_> = db.nodes_of(of).collect();
        (nodes.len() == usize::from(self.scene.places[of.index()])).then_some(())?;
        for node in nodes {
            let (Place::At(at) | Place::Held(at)) = db.nodes[node].place;
            if self.has(Planted::BackWhileSanitized) && at == NodeStep::Sanitizing {
                db.nodes[node].place = Place::At(NodeStep::Releasable);
            } else {
                at.is_untouched().then_some(())?;
            }
            if let Some(boot) = db.nodes[node].boot.as_mut() {
                boot.state = BootState::Ended;
            }
            if matches!(db.nodes[node].place, Place::Held(_)) {
                let row = db.nodes[node];
                advance(db, node, Seen { place: row.place, epoch: row.epoch }, NodeEvent::Retry)?;
            }
            let epoch = db.nodes[node].epoch;
            if let Some(capture) = db.nodes[node].capture_mut(epoch)
                && matches!(capture.step, CaptureStep::Planned | CaptureStep::Frozen)
            {
                rules::capture(capture, rules::fail(FailureClass::Transient))?;
            }
            self.hand_over(db, node, NodeEvent::GoBack)?;
        }
        Some(())
    }

    /// What was being loaded is not wanted any more. Whoever still loads it is of other hands from now on.
    fn abandon(&self, db: &mut Db, node: usize) -> Option<()> {
        if self.has(Planted::AbandonedBootGoesOn) {
            let row = db.nodes[node];
            return advance(db, node, Seen { place: row.place, epoch: row.epoch }, NodeEvent::Abandon);
        }
        self.hand_over(db, node, NodeEvent::Abandon)
    }
}

fn start(db: &mut Db, of: Tenant, kind: JobKind, saves: bool) -> Option<()> {
    let row = db.experiment_mut(of);
    if row.job.is_some() {
        return None;
    }
    row.job = Some(JobRow { kind, state: JobState::Running, saves });
    Some(())
}

fn retry(db: &mut Db, of: Tenant) -> Option<()> {
    db.experiment(of).job.filter(|job| job.state == JobState::Held)?;
    let nodes: Vec<_> = db.nodes_of(of).collect();
    for node in nodes {
        if matches!(db.nodes[node].place, Place::Held(_)) {
            resume(db, node)?;
        }
    }
    go_on(db, of)
}

/// Lets an experiment and its job go on, once none of its machines is held any more.
fn go_on(db: &mut Db, of: Tenant) -> Option<()> {
    let held = db.nodes_of(of).any(|node| matches!(db.nodes[node].place, Place::Held(_)));
    let row = db.experiment_mut(of);
    if held || row.state != ExperimentState::Held {
        return Some(());
    }
    let job = row.job.as_mut().filter(|job| job.state == JobState::Held);
    row.state = experiment::apply(row.state, ExperimentEvent::Resume(job.as_ref().map(|job| job.kind))).ok()?;
    if let Some(job) = job {
        job.state = job::apply(job.state, JobEvent::Resume).ok()?;
    }
    Some(())
}

/// Gives up what is on a machine that is held while it is saved.
fn discard(db: &mut Db, node: usize) -> Option<()> {
    let row = db.nodes[node];
    let (of, _) = row.of?;
    db.experiment(of).job.filter(|job| job.saves)?;
    advance(db, node, Seen { place: row.place, epoch: row.epoch }, NodeEvent::Discard)?;
    let row = &mut db.nodes[node];
    row.given_up = Some(row.epoch);
    if let Some(capture) = row.capture_mut(row.epoch) {
        // What was VERIFIED stays so, what had failed says why.
        let _ = rules::capture(capture, rules::fail(FailureClass::Machine));
    }
    if let Some(boot) = row.boot.as_mut() {
        boot.state = BootState::Ended;
    }
    let others: Vec<_> = db.nodes_of(of).collect();
    for other in others {
        if db.nodes[other].place == Place::Held(NodeStep::Releasable) {
            resume(db, other)?;
        }
    }
    go_on(db, of)
}

/// An experiment is not ended while one of its machines is held with what was to be saved and is not.
fn refuse_unsaved(db: &Db, of: Tenant) -> Option<()> {
    let saving = db.experiment(of).job.is_some_and(|job| job.saves);
    let unsaved = db.nodes_of(of).any(|node| match db.nodes[node].place {
        Place::Held(at) | Place::At(at) => at.may_hold_unsaved(),
    });
    (!(saving && unsaved)).then_some(())
}

/// Lets a held machine go on where it was, with what had failed on it counted from the start.
fn resume(db: &mut Db, node: usize) -> Option<()> {
    let row = db.nodes[node];
    advance(db, node, Seen { place: row.place, epoch: row.epoch }, NodeEvent::Retry)?;
    let row = &mut db.nodes[node];
    if let Some(boot) = row.boot.as_mut() {
        boot.state = BootState::Ended;
    }
    if let Some(capture) = row.capture_mut(row.epoch) {
        if matches!(capture.step, CaptureStep::Planned | CaptureStep::Frozen) && capture.boot != 0 {
            rules::capture(capture, rules::fail(FailureClass::Transient))?;
        }
        if capture.class.is_some() {
            rules::capture(capture, CaptureEvent::Retry)?;
            capture.before = capture.attempt;
        }
    }
    if let Some(write) =
        row.write.as_mut().filter(|write| write.epoch == row.epoch && write.state == WriteState::Failed)
    {
        write.state = write.state.apply(WriteEvent::NewAttempt).ok()?;
        write.class = None;
        write.before = write.attempt;
    }
    Some(())
}

/// Takes back the permit of a machine that is not used up.
fn void_open(db: &mut Db, node: usize) -> Option<()> {
    let epoch = db.nodes[node].epoch;
    let open = db.nodes[node].write.as_mut().filter(|write| {
        write.epoch == epoch
            && write.purpose != WritePurpose::Sanitize
            && matches!(write.state, WriteState::Issued | WriteState::Running | WriteState::Failed)
    });
    if let Some(write) = open {
        write.state = write.state.apply(WriteEvent::Void).ok()?;
        write.class = None;
    }
    Some(())
}
