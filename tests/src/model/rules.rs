//! The rules of `boss-model`, applied to rows. Whatever boss decides here, the code of boss decides: this file only
//! turns words into states and back, as the queries of boss do.

use boss_api::Name;
use boss_api::agent::{FailureClass, WritePurpose};
use boss_api::ids::{CaptureId, DiskId, JobId, UserId, WriteId};
use boss_api::user::JobKind;
use boss_model::capture::{CaptureEvent, CaptureState, CaptureStep};
use boss_model::node::{Held, NodeEvent, NodeState};
use boss_model::permit::{AllVerified, CaptureFact, Evidence, GivenUp, IssuedPermit, PermitTarget, Waiver, permit_for};
use boss_model::term::{Standing, Takeover};
use sigs::ByteLen;
use uuid::Uuid;

use super::site::{CaptureRow, JobRow, NodeRow, Permit, Place};

const fn id(number: u8) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

/// Moves a machine.
pub(super) fn node(place: Place, event: NodeEvent) -> Option<Place> {
    let none = String::new;
    let state = match place {
        Place::At(step) => NodeState::At(step),
        Place::Held(from) => NodeState::Held(Held { reason: none(), owner: none(), next: none(), from }),
    };
    Some(match state.apply(event).ok()? {
        NodeState::At(step) => Place::At(step),
        NodeState::Held(held) => Place::Held(held.from),
    })
}

/// Returns the event that holds a machine.
pub(super) fn hold() -> NodeEvent {
    NodeEvent::Hold { reason: String::new(), owner: String::new(), next: String::new() }
}

/// Moves a capture.
pub(super) fn capture(row: &mut CaptureRow, event: CaptureEvent) -> Option<()> {
    let state = match (row.step, row.class) {
        (CaptureStep::Planned, _) => CaptureState::Planned,
        (CaptureStep::Frozen, _) => CaptureState::Frozen,
        (CaptureStep::Streaming, _) => CaptureState::Streaming,
        (CaptureStep::Received, _) => CaptureState::Received,
        (CaptureStep::Verified, _) => CaptureState::Verified,
        (CaptureStep::Retired, _) => CaptureState::Retired,
        (CaptureStep::Failed, class) => CaptureState::Failed { class: class?, reason: String::new() },
    };
    let state = state.apply(event).ok()?;
    row.step = state.step();
    row.class = match state {
        CaptureState::Failed { class, .. } => Some(class),
        CaptureState::Planned
        | CaptureState::Frozen
        | CaptureState::Streaming
        | CaptureState::Received
        | CaptureState::Verified
        | CaptureState::Retired => None,
    };
    Some(())
}

/// Returns the event that fails a capture.
pub(super) const fn fail(class: FailureClass) -> CaptureEvent {
    CaptureEvent::Fail { class, reason: String::new() }
}

/// Proves that the disk of a machine is saved in its present epoch.
pub(super) fn prove_saved(row: &NodeRow) -> Option<Evidence> {
    let disk = DiskId::new(id(0));
    let facts: Vec<_> = row
        .captures
        .iter()
        .flatten()
        .map(|capture| CaptureFact {
            capture: CaptureId::new(id(capture.point)),
            disk,
            epoch: capture.epoch.into(),
            step: capture.step,
        })
        .collect();
    AllVerified::prove(row.epoch.into(), &[disk], &facts).ok().map(Evidence::Saved)
}

/// Returns the waiver a job carries, if it does.
pub(super) fn waiver(job: &JobRow) -> Option<Evidence> {
    let asked_by = UserId::new(id(0));
    let waiver = match job.kind {
        JobKind::Terminate => Waiver::terminated(asked_by),
        JobKind::GiveUp => Waiver::given_up(asked_by),
        JobKind::SwapIn | JobKind::SwapOut | JobKind::Load | JobKind::Cancel => {
            Waiver::not_saved(asked_by, job.saves || job.kind != JobKind::SwapOut).ok()?
        }
    };
    Some(Evidence::Waived(waiver))
}

/// Returns the waiver that somebody gave for what is on a machine, if it is about its present epoch.
pub(super) fn discarded(said: u8, epoch: u8) -> Option<Evidence> {
    let word = GivenUp { by: UserId::new(id(0)), epoch: said.into() };
    Waiver::discarded(word, epoch.into()).ok().map(Evidence::Waived)
}

/// Carries the permit of an open write into a term.
pub(super) fn renewed(purpose: WritePurpose, permit: Permit, epoch: u8, term: u8) -> Option<Permit> {
    let whole = boss_api::agent::Permit {
        write: WriteId::new(id(permit.write)),
        node: Name::new("pc1").ok()?,
        serial: "s1".into(),
        bytes: ByteLen::new(4096),
        epoch: permit.epoch.into(),
        term: permit.term.into(),
        job: JobId::new(id(0)),
        purpose,
        evidence: String::new(),
    };
    let renewed = IssuedPermit::renewed(whole, epoch.into(), term.into()).ok()?;
    Some(Permit { term: u8::try_from(renewed.permit().term).ok()?, ..permit })
}

/// Returns the term a boss takes, and whether its database is older than the store; each as (term, moves).
pub(super) fn takeover(database: (u8, u8), store: (u8, u8)) -> Option<(u8, bool)> {
    let standing = |(term, moves): (u8, u8)| Standing { term: term.into(), moves: moves.into() };
    let takeover = Takeover::of(standing(database), standing(store));
    Some((u8::try_from(takeover.term).ok()?, takeover.database_is_older))
}

/// Issues the permit for a write in the present epoch of a machine.
pub(super) fn permit(purpose: WritePurpose, evidence: &Evidence, row: &NodeRow, write: u8, term: u8) -> Option<Permit> {
    let target = PermitTarget {
        write: WriteId::new(id(write)),
        node: Name::new("pc1").ok()?,
        serial: "s1".into(),
        bytes: ByteLen::new(4096),
        epoch: row.epoch.into(),
        term: term.into(),
        job: JobId::new(id(0)),
    };
    let issued = permit_for(purpose, evidence, target).ok()?;
    let permit = issued.permit();
    Some(Permit { write, epoch: u8::try_from(permit.epoch).ok()?, term: u8::try_from(permit.term).ok()? })
}
