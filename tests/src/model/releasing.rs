//! How machines are let go of, permits are issued, and swap points and jobs come to an end.

use boss_api::agent::WritePurpose;
use boss_api::user::{ExperimentState, JobKind, SwapPointState};
use boss_model::capture::CaptureStep;
use boss_model::experiment::{self, ExperimentEvent};
use boss_model::job::{self, JobEvent};
use boss_model::node::{NodeEvent, NodeStep};
use boss_model::permit::Evidence;
use boss_model::point::{self, PointEvent};
use boss_model::write::WriteState;

use super::planted::Planted;
use super::protocol::Protocol;
use super::rules;
use super::site::{CaptureRow, Content, Db, JobRow, NODES, Place, Site, Tenant, WriteRow, Wrong};
use super::tasks::{Seen, advance, hold};

impl Protocol {
    /// Lets go of the machines that may go, or holds them.
    pub(super) fn release(
        &self,
        site: &mut Site,
        term: u8,
        of: Tenant,
        job: JobRow,
        seen: [Option<Seen>; NODES],
        hold_them: bool,
    ) {
        let given = || seen.iter().enumerate().filter_map(|(node, seen)| Some((node, (*seen)?)));
        let waits = |db: &Db| {
            db.nodes_of(of).any(|node| {
                matches!(db.nodes[node].place, Place::At(NodeStep::Quiescing | NodeStep::Capturing | NodeStep::InUse))
            })
        };
        let early = job.saves && waits(&site.db);
        let done = self.transact(site, term, |db| {
            if hold_them {
                return given().try_for_each(|(node, _)| hold(db, node));
            }
            if job.saves {
                self.settle_point(db)?;
            }
            for (node, seen) in given() {
                let waived = self.has(Planted::SavingWaived) || self.has(Planted::HeldTimesOut);
                let evidence = if waived && job.saves {
                    rules::waiver(&JobRow { saves: false, ..job })?
                } else {
                    self.evidence(db, (node, seen.epoch), job)?
                };
                if self.has(Planted::FreedAsItIs) {
                    let row = &mut db.nodes[node];
                    (row.place, row.of) = (Place::At(NodeStep::Free), None);
                    continue;
                }
                issue(db, term, (node, seen.epoch), WritePurpose::Sanitize, &evidence, Content::Zeros)?;
                advance(db, node, seen, NodeEvent::Sanitize)?;
            }
            Some(())
        });
        if done.is_some() && early && !hold_them {
            site.wrong.get_or_insert(Wrong::Released);
        }
    }

    /// Returns why nothing is lost when a machine is overwritten: the proof, before any word about it.
    fn evidence(&self, db: &Db, (node, epoch): (usize, u8), job: JobRow) -> Option<Evidence> {
        if job.saves
            && let Some(proof) = self.prove(db, (node, epoch))
        {
            return Some(proof);
        }
        let said = db.nodes[node].given_up;
        said.and_then(|said| rules::discarded(said, epoch)).or_else(|| rules::waiver(&job))
    }

    fn settle_point(&self, db: &mut Db) -> Option<()> {
        let number = db.points.iter().flatten().count().checked_sub(1)?;
        let state = db.points[number]?;
        if state == SwapPointState::Complete {
            return Some(());
        }
        let at = u8::try_from(number).ok()?;
        let all = || {
            let rows = db.nodes.iter().flat_map(|node| node.captures.iter().flatten().map(move |row| (node, row)));
            rows.filter(|(_, row)| row.point == at)
        };
        let is_verified = |row: &CaptureRow| row.step == CaptureStep::Verified;
        let given_up = all().all(|(node, row)| is_verified(row) || node.given_up == Some(row.epoch));
        let event = if all().all(|(_, row)| is_verified(row)) || self.has(Planted::PointAlwaysComplete) {
            PointEvent::Complete
        } else if given_up && all().any(|(_, row)| is_verified(row)) {
            PointEvent::GiveUpRest
        } else {
            PointEvent::Miss
        };
        match (point::apply(state, event), event) {
            (Ok(to), _) => db.points[number] = Some(to),
            (Err(_), PointEvent::Miss) => {}
            (Err(_), PointEvent::Complete | PointEvent::GiveUpRest) => return None,
        }
        Some(())
    }

    /// Ends a job with success.
    pub(super) fn finish(&self, db: &mut Db, of: Tenant, job: JobRow) -> Option<()> {
        let event = match job.kind {
            JobKind::SwapIn | JobKind::Cancel => Some(ExperimentEvent::Activated),
            JobKind::SwapOut | JobKind::GiveUp => Some(ExperimentEvent::SwappedOut),
            JobKind::Terminate => Some(ExperimentEvent::Ended),
            JobKind::Load => None,
        };
        let row = db.experiment_mut(of);
        if row.job != Some(job) {
            return None;
        }
        job::apply(job.state, JobEvent::Finish).ok()?;
        row.job = None;
        if let Some(event) = event {
            row.state = experiment::apply(row.state, event).ok()?;
        }
        let ends = row.state == ExperimentState::Ended || job.kind == JobKind::Cancel;
        if ends && of == Tenant::P && db.points.contains(&Some(SwapPointState::Open)) {
            self.settle_point(db)?;
        }
        Some(())
    }
}

/// Permits a write. Of a disk at most one is open.
pub(super) fn issue(
    db: &mut Db,
    term: u8,
    (node, epoch): (usize, u8),
    purpose: WritePurpose,
    evidence: &Evidence,
    target: Content,
) -> Option<()> {
    let row = &mut db.nodes[node];
    if row.write.is_some_and(|write| matches!(write.state, WriteState::Issued | WriteState::Running)) {
        return None;
    }
    db.writes += 1;
    let mut of = *row;
    of.epoch = epoch;
    let permit = rules::permit(purpose, evidence, &of, db.writes, term)?;
    row.write = Some(WriteRow {
        id: db.writes,
        purpose,
        state: WriteState::Issued,
        class: None,
        epoch,
        attempt: 0,
        before: 0,
        boot: 0,
        target,
        permit,
    });
    Some(())
}
