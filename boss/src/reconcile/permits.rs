//! Issuing and taking back leave to write: a permit is sealed and its row written in one transaction.

use boss_api::agent::{Permit, WritePurpose};
use boss_api::ids::{CaptureId, ImageVersionId, JobId, WriteId};
use boss_db::PgConnection;
use boss_db::nodes::{Disk, Node};
use boss_db::writes::{self, DiskWrite, NewWrite, WriteEnd};
use boss_model::permit::{Evidence, IssuedPermit, PermitTarget, permit_for};
use boss_model::write::{WriteEvent, WriteState};
use sigs::seal::{SealKind, Sealed, TrustedKeys};
use uuid::Uuid;

use crate::app::App;
use crate::error::AppError;
use crate::sealing::BossKeys;

/// A write that is wanted.
#[derive(Debug)]
pub(crate) struct WriteWish<'a> {
    pub(crate) job: JobId,
    pub(crate) purpose: WritePurpose,
    pub(crate) evidence: &'a Evidence,
    pub(crate) image: Option<ImageVersionId>,
    pub(crate) capture: Option<CaptureId>,
}

/// Issues the permit for a write to a disk of a node in its present epoch.
pub(crate) async fn issue(
    app: &App,
    tx: &mut PgConnection,
    node: &Node,
    disk: &Disk,
    wish: &WriteWish<'_>,
) -> Result<(), AppError> {
    let id = WriteId::new(Uuid::now_v7());
    let target = PermitTarget {
        write: id,
        node: node.name.clone(),
        serial: disk.serial.clone(),
        bytes: disk.bytes,
        epoch: node.epoch,
        term: app.term,
        job: wish.job,
    };
    let issued = permit_for(wish.purpose, wish.evidence, target).map_err(AppError::internal)?;
    let new = NewWrite {
        id,
        node: node.id,
        disk: disk.id,
        epoch: node.epoch,
        job: wish.job,
        purpose: wish.purpose,
        image: wish.image,
        capture: wish.capture,
        evidence: &issued.permit().evidence,
        permit: &text_of(&app.keys.seal_permit(&issued))?,
        at: app.now(),
    };
    Ok(writes::issue(tx, new).await?)
}

/// Takes back the permits of a node that are not used up.
pub(crate) async fn void_open(
    app: &App,
    tx: &mut PgConnection,
    node: &Node,
    purposes: &[WritePurpose],
) -> Result<(), AppError> {
    for write in writes::of_node(&mut *tx, node.id, node.epoch, purposes).await? {
        if matches!(write.state, WriteState::Issued | WriteState::Running | WriteState::Failed) {
            let to = write.state.apply(WriteEvent::Void).map_err(AppError::internal)?;
            // The row keeps why it failed only while it says "failed".
            writes::transition(&mut *tx, app.term, &write, to, WriteEnd::default(), app.now()).await?;
        }
    }
    Ok(())
}

/// Carries the permit of an open write into this term. One that an older boss with another key sealed stays as it is:
/// an agent refuses it, and the machine is held.
pub(crate) async fn renew(
    keys: &BossKeys,
    term: u64,
    tx: &mut PgConnection,
    write: &DiskWrite,
) -> Result<(), AppError> {
    let sealed = Sealed::parse(write.permit.as_bytes()).map_err(AppError::internal)?;
    let trusted = TrustedKeys::new([keys.public()]);
    let statement = match sealed.verify(SealKind::Permit, &trusted) {
        Ok(statement) => statement,
        Err(error) => {
            tracing::warn!(write = %write.id, "its permit is not renewed: {error}");
            return Ok(());
        }
    };
    let permit: Permit = serde_json::from_str(statement).map_err(AppError::internal)?;
    if permit.term == term {
        return Ok(());
    }
    let renewed = IssuedPermit::renewed(permit, write.epoch, term).map_err(AppError::internal)?;
    Ok(writes::renew(tx, term, write, &text_of(&keys.seal_permit(&renewed))?).await?)
}

/// Returns the exact text of a sealed statement, as it is stored.
pub(crate) fn text_of(sealed: &Sealed) -> Result<String, AppError> {
    String::from_utf8(sealed.to_bytes()).map_err(AppError::internal)
}
