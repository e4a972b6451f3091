//! What the reconciler of a boss does once it decided: one effect after the other, each of which may come late, be
//! refused, or be the last before a crash. Every move of a row is guarded by what was read before.

use boss_api::agent::{FailureClass, WritePurpose};
use boss_api::user::JobState;
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_model::experiment::{self, ExperimentEvent};
use boss_model::job::{self, JobEvent};
use boss_model::node::{NodeEvent, NodeStep};
use boss_model::permit::{Evidence, NothingToLose};
use boss_model::write::{WriteEvent, WriteState};

use super::network::{Message, Told};
use super::planted::Planted;
use super::protocol::Protocol;
use super::releasing::issue;
use super::rules;
use super::saving::Verification;
use super::site::{Agent, BootRow, BootState, Boss, Content, Db, JobRow, NODES, Place, Power, Site, Tenant, Wrong};

/// What was read of a machine before it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) epoch: u8,
}

/// The moves of a machine that are one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Advance {
    /// Permit what is to be written at a swap-in.
    Load,
    /// All was written and read back.
    Proved,
    /// All is saved.
    Saved,
    /// Nothing needs saving.
    Waive,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attempt {
    /// The next one is made in this boot.
    Assign(u8),
    /// Its boot is over.
    Fail,
    /// Another is made.
    Again,
}

/// How far a machine is on its way out of the memory file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaving {
    /// Its boot is to be ended.
    End,
    /// It is to be switched.
    Switch,
    /// Its row is to be moved.
    Row,
}

/// A step that was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// Boot the memory file system, once the boot is noted under a number.
    Boot { node: usize, epoch: u8, noted: Option<u8> },
    /// End a boot, then switch the machine off.
    EndBoot { node: usize, boot: u8, ended: bool },
    /// Let the machine run its own system.
    Own { node: usize, seen: Seen, stage: Leaving },
    /// Let a sanitized machine go.
    Free { node: usize, seen: Seen, stage: Leaving },
    /// Move a machine.
    Advance { node: usize, seen: Seen, job: JobRow, what: Advance },
    /// Hold a machine.
    Hold { node: usize },
    /// Move a capture.
    Capture { node: usize, epoch: u8, attempt: u8, step: CaptureStep, what: Attempt },
    /// Move a write.
    Write { node: usize, write: u8, attempt: u8, state: WriteState, what: Attempt },
    /// All machines stand still: save them.
    BeginSaving { seen: [Option<Seen>; NODES] },
    /// Let go of the machines that may go, or hold them, too.
    Release { of: Tenant, job: JobRow, seen: [Option<Seen>; NODES], hold: bool },
    /// End a job.
    Finish { of: Tenant, job: JobRow },
    /// Verify a capture.
    Verify { node: usize, epoch: u8, attempt: u8, root: Content, stage: Verification },
    /// Remove an object that was garbage when it was looked at.
    Collect { name: Content },
}

/// Moves a machine from what was read of it.
pub(super) fn advance(db: &mut Db, node: usize, seen: Seen, event: NodeEvent) -> Option<()> {
    let to = rules::node(seen.place, event)?;
    let row = &mut db.nodes[node];
    if row.place != seen.place || row.epoch != seen.epoch {
        return None;
    }
    row.place = to;
    row.boots = 0;
    Some(())
}

/// Holds a machine, its experiment and its job. One that is held already stays as it is.
pub(super) fn hold(db: &mut Db, node: usize) -> Option<()> {
    let row = db.nodes[node];
    if matches!(row.place, Place::Held(_)) {
        return Some(());
    }
    advance(db, node, Seen { place: row.place, epoch: row.epoch }, rules::hold())?;
    if let Some((of, _)) = row.of {
        let of = db.experiment_mut(of);
        if let Ok(to) = experiment::apply(of.state, ExperimentEvent::Hold) {
            of.state = to;
        }
        if let Some(job) = of.job.as_mut().filter(|job| job.state == JobState::Running) {
            job.state = job::apply(job.state, JobEvent::Hold).ok()?;
        }
    }
    Some(())
}

/// Ends a boot, and what was attempted in it.
pub(super) fn end_boot(db: &mut Db, node: usize, boot: u8) -> Option<()> {
    let row = &mut db.nodes[node];
    let ended = row.boot.as_mut().filter(|alive| alive.id == boot && alive.is_alive())?;
    ended.state = BootState::Ended;
    let epoch = ended.epoch;
    if let Some(capture) = row.capture_mut(epoch)
        && matches!(capture.step, CaptureStep::Planned | CaptureStep::Frozen)
        && capture.boot == boot
    {
        rules::capture(capture, rules::fail(FailureClass::Transient))?;
    }
    if let Some(write) = row.write.as_mut()
        && matches!(write.state, WriteState::Issued | WriteState::Running)
        && write.boot == boot
    {
        write.state = write.state.apply(WriteEvent::Fail).ok()?;
        write.class = Some(FailureClass::Transient);
    }
    Some(())
}

impl Protocol {
    /// Carries out a transaction of a boss: all of it, or nothing.
    pub(super) fn transact(&self, site: &mut Site, term: u8, what: impl FnOnce(&mut Db) -> Option<()>) -> Option<()> {
        let old = term != site.db.term;
        if old && !self.has(Planted::OldTermInDatabase) {
            return None;
        }
        let mut db = site.db;
        what(&mut db)?;
        if self.scene.budget.backups > 0 {
            // What tells an older database from this one, noted in the store before anything else is done.
            let hands = |db: &Db| db.nodes.map(|node| node.epoch);
            let places = |db: &Db| db.nodes.map(|node| node.place);
            let counts = if self.has(Planted::MovesNotCounted) {
                hands(&db) != hands(&site.db)
            } else {
                places(&db) != places(&site.db)
            };
            db.moves += u8::from(counts);
            site.store.moves = site.store.moves.max(db.moves);
        }
        if old && db != site.db {
            site.wrong.get_or_insert(Wrong::Stale);
        }
        site.db = db;
        Some(())
    }

    /// Returns whether a boss may switch a machine now: it looks at the database first.
    fn may_switch(&self, site: &Site, term: u8) -> bool {
        term == site.db.term || self.has(Planted::OldTermSwitchesPower)
    }

    /// Has a boss do the next effect of its step.
    pub(super) fn go(&self, site: &mut Site, boss: &mut Boss) {
        let Some(task) = boss.task.take() else { return };
        boss.task = self.effect(site, boss.term, task);
    }

    /// Does one effect, and returns what is left of the step.
    fn effect(&self, site: &mut Site, term: u8, task: Task) -> Option<Task> {
        match task {
            Task::Boot { node, epoch, noted: None } => {
                if !self.may_switch(site, term) {
                    return None;
                }
                site.machines[node].power = Power::Off;
                self.transact(site, term, |db| {
                    let row = &mut db.nodes[node];
                    if row.boot.is_some_and(BootRow::is_alive) {
                        return None;
                    }
                    db.boots += 1;
                    row.boots += 1;
                    row.boot = Some(BootRow { id: db.boots, epoch, state: BootState::Booting });
                    Some(())
                })?;
                Some(Task::Boot { node, epoch, noted: Some(site.db.boots) })
            }
            Task::Boot { node, epoch, noted: Some(boot) } => {
                if self.may_switch(site, term) {
                    let agent = Agent { boot, epoch, heard: 0, scan: None, writes: [None; 2] };
                    site.machines[node].power = Power::Mfs(Some(agent));
                    if let Ok(node) = u8::try_from(node) {
                        site.send(Message { node, boot, what: Told::Register });
                    }
                }
                None
            }
            Task::EndBoot { node, boot, ended: false } => {
                self.transact(site, term, |db| end_boot(db, node, boot))?;
                Some(Task::EndBoot { node, boot, ended: true })
            }
            Task::EndBoot { node, ended: true, .. } => {
                if self.may_switch(site, term) {
                    site.machines[node].power = Power::Off;
                }
                None
            }
            Task::Own { node, seen, stage } => self
                .leave(site, term, node, stage, Power::Own, |db| advance(db, node, seen, NodeEvent::Booted))
                .map(|stage| Task::Own { node, seen, stage }),
            Task::Free { node, seen, stage } => self
                .leave(site, term, node, stage, Power::Off, |db| {
                    advance(db, node, seen, NodeEvent::Freed)?;
                    db.nodes[node].of = None;
                    Some(())
                })
                .map(|stage| Task::Free { node, seen, stage }),
            Task::Advance { node, seen, job, what } => {
                self.transact(site, term, |db| self.advance_to(db, term, node, seen, job, what));
                None
            }
            Task::Hold { node } => {
                self.transact(site, term, |db| hold(db, node));
                None
            }
            Task::Capture { node, epoch, attempt, step, what } => {
                let disk = site.machines[node].disk;
                self.transact(site, term, |db| {
                    let row = db.nodes[node].capture_mut(epoch)?;
                    if row.step != step || row.attempt != attempt {
                        return None;
                    }
                    match what {
                        Attempt::Assign(boot) => {
                            (row.attempt, row.boot, row.root, row.truth) = (attempt + 1, boot, None, Some(disk));
                        }
                        Attempt::Fail => rules::capture(row, rules::fail(FailureClass::Transient))?,
                        Attempt::Again => rules::capture(row, CaptureEvent::NewAttempt)?,
                    }
                    Some(())
                });
                None
            }
            Task::Write { node, write, attempt, state, what } => {
                self.transact(site, term, |db| {
                    let row = db.nodes[node].write.as_mut()?;
                    if row.id != write || row.attempt != attempt || row.state != state {
                        return None;
                    }
                    match what {
                        Attempt::Assign(boot) => (row.attempt, row.boot) = (attempt + 1, boot),
                        Attempt::Fail => {
                            row.state = state.apply(WriteEvent::Fail).ok()?;
                            row.class = Some(FailureClass::Transient);
                        }
                        Attempt::Again => {
                            row.state = state.apply(WriteEvent::NewAttempt).ok()?;
                            row.class = None;
                        }
                    }
                    Some(())
                });
                None
            }
            Task::BeginSaving { seen } => {
                self.transact(site, term, |db| {
                    for (node, seen) in seen.iter().enumerate() {
                        if let Some(seen) = seen {
                            advance(db, node, *seen, NodeEvent::Capture)?;
                        }
                    }
                    Some(())
                });
                None
            }
            Task::Release { of, job, seen, hold } => {
                self.release(site, term, of, job, seen, hold);
                None
            }
            Task::Finish { of, job } => {
                self.transact(site, term, |db| self.finish(db, of, job));
                None
            }
            Task::Verify { node, epoch, attempt, root, stage } => self
                .verify(site, term, (node, epoch, attempt), root, stage)
                .map(|stage| Task::Verify { node, epoch, attempt, root, stage }),
            Task::Collect { name } => {
                // Nobody adds a reference meanwhile: whoever removes holds the row of the term alone, and asks again.
                let asked = self.has(Planted::CollectedUnasked) || self.garbage(site).contains(&name);
                if term == site.db.term && asked {
                    site.store.delete(name);
                }
                None
            }
        }
    }

    /// Takes a machine out of the memory file system.
    fn leave(
        &self,
        site: &mut Site,
        term: u8,
        node: usize,
        stage: Leaving,
        power: Power,
        row: impl FnOnce(&mut Db) -> Option<()>,
    ) -> Option<Leaving> {
        let row_first = power == Power::Off && self.has(Planted::FreeBeforeOff);
        match stage {
            Leaving::End => {
                self.transact(site, term, |db| {
                    if let Some(boot) = db.nodes[node].boot.as_mut() {
                        boot.state = BootState::Ended;
                    }
                    Some(())
                })?;
                Some(if row_first { Leaving::Row } else { Leaving::Switch })
            }
            Leaving::Switch => {
                if !self.may_switch(site, term) {
                    return None;
                }
                site.machines[node].power = power;
                (!row_first).then_some(Leaving::Row)
            }
            Leaving::Row => {
                self.transact(site, term, row)?;
                row_first.then_some(Leaving::Switch)
            }
        }
    }

    fn advance_to(&self, db: &mut Db, term: u8, node: usize, seen: Seen, job: JobRow, what: Advance) -> Option<()> {
        match what {
            Advance::Load => {
                let (of, place) = db.nodes[node].of?;
                let saved = match of {
                    Tenant::P => db.newest_complete().and_then(|point| db.captured(point, place)?.root),
                    Tenant::Q => None,
                };
                let purpose = if saved.is_some() { WritePurpose::Restore } else { WritePurpose::Load };
                let evidence = Evidence::Fresh(NothingToLose::at(NodeStep::Reserved)?);
                issue(db, term, (node, seen.epoch), purpose, &evidence, saved.unwrap_or(Content::Image))?;
                advance(db, node, seen, NodeEvent::Load)
            }
            Advance::Proved => advance(db, node, seen, NodeEvent::Proved),
            Advance::Saved => {
                self.prove(db, (node, seen.epoch))?;
                advance(db, node, seen, NodeEvent::Saved)
            }
            Advance::Waive => {
                if !self.has(Planted::SavingWaived) {
                    rules::waiver(&job)?;
                }
                advance(db, node, seen, NodeEvent::Waive)
            }
        }
    }

    pub(super) fn prove(&self, db: &Db, (node, epoch): (usize, u8)) -> Option<Evidence> {
        let mut row = db.nodes[node];
        row.epoch = epoch;
        if self.has(Planted::OldCaptureIsEvidence) {
            row.captures.iter_mut().flatten().for_each(|capture| capture.epoch = epoch);
        }
        rules::prove_saved(&row)
    }
}
