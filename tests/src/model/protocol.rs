//! Everything that can happen on the site, as a model for `stateright`: what people ask, what bosses and agents do, and
//! what goes wrong.

use std::sync::Arc;

use boss_model::capture::CaptureStep;
use boss_model::node::NodeStep;
use boss_model::write::WriteState;
use stateright::{Model, Property};

use super::chores::Chore;
use super::machine;
use super::network::{Message, Order};
use super::planted::Planted;
use super::progress::Settled;
use super::properties;
use super::requests::Request;
use super::rules;
use super::saving::Verification;
use super::scenes::Scene;
use super::site::{BootState, Boss, Budget, Content, Health, NodeRow, Object, Place, Site, Tenant, WriteRow};
use super::tasks::{Task, end_boot, hold};

/// The protocol in a scene, whole or with a defect.
#[derive(Clone, Debug)]
pub(super) struct Protocol {
    pub(super) scene: Scene,
    pub(super) planted: Option<Planted>,
    pub(super) watched: Watched,
    pub(super) settled: Arc<Settled>,
}

/// What is looked at in every state.
#[derive(Clone, Copy, Debug)]
pub(super) enum Watched {
    /// Whether all invariants hold.
    Invariants,
    /// What is seen.
    Sights,
    /// Whether the invariant of this name holds.
    One(&'static str),
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A person asks for something.
    Ask(Request),
    /// boss looks and does the first effect of what it decides.
    Step(Chore),
    /// boss looks, and is slow.
    Late(Chore),
    /// A boss does the next effect of its step.
    Go(Who),
    /// A boss does the next effect of an upload.
    Upload(Who),
    /// The same, and does not hear what came of it.
    Unanswered,
    /// boss gives its step up: an error, or an answer to COMMIT that got lost.
    Forget,
    /// A message reaches boss.
    Deliver(Message),
    /// boss answers the poll of the agent of a machine.
    Answer(usize),
    /// An agent takes an order.
    Take(Order),
    /// An agent reads half of its disk.
    Read(usize),
    /// An agent opens its disk for one of its writes.
    Open(usize, usize),
    /// It has written, and reads back.
    Close(usize, usize),
    /// The same, and the medium did not keep it.
    CloseWrong(usize, usize),
    /// An agent gives up what it is at.
    Fail(usize),
    /// An agent dies.
    Die(usize),
    /// A machine that is saved comes up with its own system.
    Blip(usize),
    /// A limit of time passes for what a machine is at.
    Limit(usize),
    /// A second agent claims the boot of a machine.
    Claim(usize),
    /// A user changes a disk.
    Change(usize),
    /// An object rots.
    Damage(Content),
    /// What has no row is marked as garbage.
    Mark,
    /// What is garbage is removed.
    Collect(Content),
    /// Another boss starts; the one before stands still, or is dead.
    Restart {
        /// It stands still, and goes on later.
        pauses: bool,
    },
    /// The database is copied.
    Backup,
    /// The copy is all there is left of it, and boss starts on it.
    Restore,
    /// Nobody came for a held machine for long; only a planted defect does something then.
    Wait(usize),
}

/// One of two bosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// The one in the newest term.
    Ruling,
    /// The one before it.
    Paused,
}

impl Protocol {
    pub(super) fn new(scene: Scene, planted: Option<Planted>, watched: Watched) -> Self {
        Self { scene, planted, watched, settled: Arc::default() }
    }

    pub(super) fn has(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    /// Returns the state after an action, or `None` when it cannot happen or changes nothing.
    pub(super) fn next(&self, site: &Site, action: Action) -> Option<Site> {
        let mut next = site.clone();
        self.apply(&mut next, action)?;
        (next != *site).then_some(next)
    }

    fn apply(&self, site: &mut Site, action: Action) -> Option<()> {
        let mut ruling = site.ruling;
        let term = ruling.term;
        match action {
            Action::Ask(request) => {
                let left = match request {
                    Request::SwapOut(of) => &mut site.left.swap_out[of.index()],
                    Request::SwapIn(of) => &mut site.left.swap_in[of.index()],
                    Request::Terminate(of) => &mut site.left.terminate[of.index()],
                    Request::Retry(_) => &mut site.left.retry,
                    Request::Cancel => &mut site.left.cancel,
                    Request::Discard(_) => &mut site.left.discard,
                };
                *left = left.checked_sub(1)?;
                self.ask(site, term, request)?;
            }
            Action::Step(chore) | Action::Late(chore) => {
                if ruling.task.is_some() {
                    return None;
                }
                ruling.task = Some(self.look(site, chore)?);
                if matches!(action, Action::Late(_)) {
                    fault(site, |left| &mut left.late)?;
                } else {
                    self.go(site, &mut ruling);
                }
                site.ruling = ruling;
            }
            Action::Go(Who::Ruling) => {
                ruling.task?;
                self.go(site, &mut ruling);
                site.ruling = ruling;
            }
            Action::Upload(Who::Ruling) | Action::Unanswered => {
                ruling.upload?;
                if action == Action::Unanswered {
                    fault(site, |left| &mut left.late)?;
                }
                self.go_upload(site, &mut ruling, action != Action::Unanswered);
                site.ruling = ruling;
            }
            Action::Go(Who::Paused) => {
                let mut paused = site.paused.filter(|boss| boss.task.is_some())?;
                self.go(site, &mut paused);
                site.paused = Some(paused).filter(is_busy);
            }
            Action::Upload(Who::Paused) => {
                let mut paused = site.paused.filter(|boss| boss.upload.is_some())?;
                self.go_upload(site, &mut paused, true);
                site.paused = Some(paused).filter(is_busy);
            }
            Action::Forget => {
                ruling.task.take()?;
                fault(site, |left| &mut left.late)?;
                site.ruling = ruling;
            }
            Action::Deliver(message) => {
                self.deliver(site, &mut ruling, message)?;
                site.ruling = ruling;
            }
            Action::Answer(node) => site.order(self.answer(site, node)?),
            Action::Take(order) => self.take(site, order)?,
            Action::Read(node) => self.read(site, node)?,
            Action::Open(node, slot) => self.open(site, node, slot)?,
            Action::Close(node, slot) => self.close(site, node, slot, true)?,
            Action::CloseWrong(node, slot) => {
                fault(site, |left| &mut left.errors)?;
                self.close(site, node, slot, false)?;
            }
            Action::Fail(node) => {
                fault(site, |left| &mut left.errors)?;
                self.fail(site, node)?;
            }
            Action::Die(node) => {
                fault(site, |left| &mut left.agents)?;
                machine::die(&mut site.machines[node])?;
            }
            Action::Blip(node) => {
                fault(site, |left| &mut left.blips)?;
                machine::blip(site, node, self.scene.generations)?;
            }
            Action::Limit(node) => {
                fault(site, |left| &mut left.errors)?;
                self.limit(site, term, node)?;
            }
            Action::Claim(node) => {
                fault(site, |left| &mut left.claims)?;
                self.claim(site, term, node)?;
            }
            Action::Change(node) => machine::change(site, node, self.scene.generations)?,
            Action::Damage(name) => {
                fault(site, |left| &mut left.damages)?;
                damage(site, name)?;
            }
            Action::Mark => {
                site.left.collections = site.left.collections.checked_sub(1)?;
                let garbage = self.garbage(site);
                let new = |object: &&mut Object| !object.marked && garbage.contains(&object.name);
                let marked = site.store.objects.iter_mut().filter(new).map(|object| object.marked = true).count();
                (marked > 0).then_some(())?;
            }
            Action::Collect(name) => self.collect(site, &mut ruling, name)?,
            Action::Restart { pauses } => {
                fault(site, |left| &mut left.bosses)?;
                // One that is in the middle of nothing has nothing to do late, and loses nothing by a crash.
                let before = Some(ruling).filter(is_busy)?;
                site.paused = if pauses { Some(before) } else { site.paused };
                self.start(site);
            }
            Action::Backup => {
                site.left.backups = site.left.backups.checked_sub(1)?;
                site.backup = Some(Box::new(site.db));
            }
            Action::Restore => {
                fault(site, |left| &mut left.bosses)?;
                site.db = *site.backup.take()?;
                site.restored = true;
                self.start(site);
            }
            Action::Wait(node) => {
                if !self.has(Planted::HeldTimesOut) {
                    return None;
                }
                let row = &mut site.db.nodes[node];
                let Place::Held(from) = row.place else { return None };
                matches!(from, NodeStep::Quiescing | NodeStep::Capturing).then_some(())?;
                row.place = Place::At(NodeStep::Releasable);
            }
        }
        Some(())
    }

    /// A boss starts: it takes the next term, higher than any that the store saw. If its database is older than that,
    /// it forgot whose the machines are: all are held, and whatever was permitted is void.
    fn start(&self, site: &mut Site) {
        let seen = rules::takeover((site.db.term, site.db.moves), (site.store.term, site.store.moves));
        let Some((term, older)) = seen else { return };
        (site.db.term, site.store.term) = (term, term);
        site.ruling = Boss { term, task: None, upload: None };
        if older && !self.has(Planted::RestoredDatabaseGoesOn) {
            for node in 0..self.scene.nodes {
                let db = &mut site.db;
                if let Some(boot) = db.nodes[node].boot {
                    end_boot(db, node, boot.id);
                }
                hold(db, node);
            }
        }
        if !older {
            for row in site.db.nodes.iter_mut() {
                renew(row, term);
            }
        }
        site.store.moves = site.db.moves;
    }

    /// A limit of time passes: the attempt fails, or the boot is over.
    fn limit(&self, site: &mut Site, term: u8, node: usize) -> Option<()> {
        self.transact(site, term, |db| {
            let row = &mut db.nodes[node];
            let boot = row.boot.filter(|boot| boot.is_alive())?;
            if boot.state == BootState::Booting {
                return end_boot(db, node, boot.id);
            }
            let capture = row.capture_mut(row.epoch).filter(|capture| {
                capture.boot == boot.id && matches!(capture.step, CaptureStep::Planned | CaptureStep::Frozen)
            });
            if let Some(capture) = capture {
                return super::rules::capture(capture, super::rules::fail(boss_api::agent::FailureClass::Transient));
            }
            let write = row.write.as_mut().filter(|write| {
                write.boot == boot.id && matches!(write.state, WriteState::Issued | WriteState::Running)
            })?;
            write.state = write.state.apply(boss_model::write::WriteEvent::Fail).ok()?;
            write.class = Some(boss_api::agent::FailureClass::Transient);
            Some(())
        })
    }

    /// Returns the objects that no row refers to.
    pub(super) fn garbage(&self, site: &Site) -> Vec<Content> {
        let rows = || site.db.nodes.iter().flat_map(|node| node.captures.iter().flatten());
        let wanted = |name| {
            name == Content::Image && !self.has(Planted::BasesCollected) || rows().any(|row| row.root == Some(name))
        };
        let present = site.store.objects.iter().filter(|object| object.health != Health::Removed);
        present.map(|object| object.name).filter(|name| !wanted(*name)).collect()
    }

    /// boss decides to remove an object that it noted before; the grace may be over at any time.
    fn collect(&self, site: &mut Site, ruling: &mut Boss, name: Content) -> Option<()> {
        site.left.collections = site.left.collections.checked_sub(1)?;
        if ruling.task.is_some() || !site.store.find(name)?.marked || !self.garbage(site).contains(&name) {
            return None;
        }
        ruling.task = Some(Task::Collect { name });
        site.ruling = *ruling;
        Some(())
    }
}

/// Carries the permit of an open write into the term of a boss that took over.
fn renew(row: &mut NodeRow, term: u8) {
    let open =
        |write: &&mut WriteRow| matches!(write.state, WriteState::Issued | WriteState::Running | WriteState::Failed);
    if let Some(write) = row.write.as_mut().filter(open)
        && let Some(permit) = rules::renewed(write.purpose, write.permit, write.epoch, term)
    {
        write.permit = permit;
    }
}

/// Uses up a fault.
fn fault(site: &mut Site, of: impl FnOnce(&mut Budget) -> &mut u8) -> Option<()> {
    site.left.faults = site.left.faults.checked_sub(1)?;
    let left = of(&mut site.left);
    *left = left.checked_sub(1)?;
    Some(())
}

fn is_busy(boss: &Boss) -> bool {
    boss.task.is_some() || boss.upload.is_some()
}

/// A saved state rots before it was read back. What rots later is the matter of scrubbing.
fn damage(site: &mut Site, name: Content) -> Option<()> {
    let read = |boss: &Boss| matches!(boss.task, Some(Task::Verify { stage: Verification::Proved, .. }));
    let mut rows = site.db.nodes.iter().flat_map(|node| node.captures.iter().flatten());
    let verified = rows.any(|row| row.root == Some(name) && row.step == CaptureStep::Verified);
    let whole = site.store.is_whole(name);
    if !whole || verified || name == Content::Image || read(&site.ruling) || site.paused.as_ref().is_some_and(read) {
        return None;
    }
    site.store.set_health(name, Health::Damaged);
    Some(())
}

impl Model for Protocol {
    type State = Site;
    type Action = Action;

    fn init_states(&self) -> Vec<Site> {
        vec![self.scene.site()]
    }

    fn actions(&self, site: &Site, actions: &mut Vec<Action>) {
        let nodes = 0..self.scene.nodes;
        for of in Tenant::ALL {
            let requests = [Request::SwapOut(of), Request::SwapIn(of), Request::Terminate(of), Request::Retry(of)];
            actions.extend(requests.map(Action::Ask));
        }
        actions.push(Action::Ask(Request::Cancel));
        actions.extend(nodes.clone().map(|node| Action::Ask(Request::Discard(node))));
        actions.extend(Chore::ALL.map(Action::Step));
        actions.extend([Action::Go(Who::Ruling), Action::Upload(Who::Ruling)]);
        actions.extend([Action::Go(Who::Paused), Action::Upload(Who::Paused)]);
        actions.extend(site.messages.iter().copied().map(Action::Deliver));
        actions.extend(site.orders.iter().copied().map(Action::Take));
        for node in nodes.clone() {
            actions.extend([Action::Answer(node), Action::Read(node), Action::Change(node), Action::Wait(node)]);
            for slot in 0..2 {
                actions.extend([Action::Open(node, slot), Action::Close(node, slot)]);
            }
        }
        if site.left.collections > 0 {
            actions.push(Action::Mark);
            actions.extend(site.store.objects.iter().map(|object| Action::Collect(object.name)));
        }
        actions.push(Action::Backup);
        if site.left.faults == 0 {
            return;
        }
        actions.extend(Chore::ALL.map(Action::Late));
        actions.extend([Action::Unanswered, Action::Forget, Action::Restore]);
        actions.extend([true, false].map(|pauses| Action::Restart { pauses }));
        for node in nodes {
            actions.extend([Action::Fail(node), Action::Die(node), Action::Blip(node)]);
            actions.extend([Action::Limit(node), Action::Claim(node)]);
            actions.extend([0, 1].map(|slot| Action::CloseWrong(node, slot)));
        }
        actions.extend(site.store.objects.iter().map(|object| Action::Damage(object.name)));
    }

    fn next_state(&self, site: &Site, action: Action) -> Option<Site> {
        self.next(site, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::watched(self.watched)
    }
}
