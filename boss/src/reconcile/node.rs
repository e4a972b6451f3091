//! The next step of one machine.

use boss_api::agent::WritePurpose;
use boss_api::ids::NodeId;
use boss_api::user::JobKind;
use boss_db::jobs::Job;
use boss_db::nodes::{Disk, Epoch, Node};
use boss_db::writes::DiskWrite;
use boss_db::{PgConnection, captures, experiments, images, nodes, segments, waivers, writes};
use boss_model::capture::CaptureState;
use boss_model::node::{NodeEvent, NodeStep};
use boss_model::permit::{AllVerified, CaptureFact, Evidence, NotSaved, NothingToLose, Waiver};
use boss_model::settings::Settings;

use super::mfs::{self, Mfs};
use super::permits::{WriteWish, issue};
use super::work::{self, LOADING, Work};
use crate::app::App;
use crate::error::AppError;
use crate::power::Command;
use crate::swap::{advance, note, placement};

/// Looks at a machine and takes its next step.
pub(super) async fn step(app: &App, id: NodeId, job: &Job) -> Result<(), AppError> {
    let mut conn = app.pool.acquire().await?;
    let Some(node) = nodes::get(&mut conn, id).await? else { return Ok(()) };
    let settings = app.settings(&mut conn).await?;
    drop(conn);
    let Some(at) = node.state.step() else { return Ok(()) };
    match at {
        NodeStep::Reserved => {
            if let Mfs::Ready(_) = mfs::ensure(app, &node, &settings).await? {
                plan_load(app, &node, job).await?;
            }
        }
        NodeStep::Restoring => {
            if work::write(app, &node, LOADING, &settings).await? == Work::Done {
                loaded(app, &node).await?;
            }
        }
        NodeStep::Checked => run_own_system(app, &node, &settings).await?,
        NodeStep::Quiescing if must_save(job) => {
            // Saving begins for all machines of the experiment at once, when all of them stand still.
            mfs::ensure(app, &node, &settings).await?;
        }
        NodeStep::Capturing if must_save(job) => {
            if work::save(app, &node, &settings).await? == Work::Done {
                saved(app, &node).await?;
            }
        }
        NodeStep::Quiescing | NodeStep::Capturing => waive(app, &node, job).await?,
        NodeStep::Sanitizing => {
            if work::write(app, &node, &[WritePurpose::Sanitize], &settings).await? == Work::Done {
                free(app, &node, &settings).await?;
            }
        }
        NodeStep::Rebooting => run_own_system(app, &node, &settings).await?,
        NodeStep::Free | NodeStep::InUse | NodeStep::Releasable => {}
    }
    Ok(())
}

fn must_save(job: &Job) -> bool {
    job.kind == JobKind::SwapOut && job.saves
}

/// Permits what is to be written at a swap-in.
async fn plan_load(app: &App, node: &Node, job: &Job) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    let virtual_node = experiments::virtual_node_on(&mut tx, node.id)
        .await?
        .ok_or_else(|| AppError::internal(anyhow::anyhow!("{} is reserved for nobody", node.name)))?;
    let need = placement::need_of(&mut tx, virtual_node).await?;
    let fresh = NothingToLose::at(NodeStep::Reserved)
        .ok_or_else(|| AppError::internal(anyhow::anyhow!("a reserved machine is fresh")))?;
    let evidence = Evidence::Fresh(fresh);
    let disks = nodes::disks(&mut tx, node.id).await?;
    for plan in &need.disks {
        let disk = disks
            .iter()
            .find(|disk| disk.position == plan.position)
            .ok_or_else(|| AppError::internal(anyhow::anyhow!("{} has too few disks", node.name)))?;
        let purpose = if plan.capture.is_some() { WritePurpose::Restore } else { WritePurpose::Load };
        let wish = WriteWish { job: job.id, purpose, evidence: &evidence, image: plan.image, capture: plan.capture };
        issue(app, &mut tx, node, disk, &wish).await?;
    }
    advance(app, &mut tx, node, NodeEvent::Load, Epoch::Same).await?;
    failpoints::hit("node.load.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("node.load.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    Ok(())
}

/// Every disk was read back with the right root: notes what is on it now.
async fn loaded(app: &App, node: &Node) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    record_segments(app, &mut tx, node, LOADING).await?;
    let of = experiments::virtual_node_on(&mut tx, node.id).await?.map(|virtual_node| virtual_node.experiment_id);
    advance(app, &mut tx, node, NodeEvent::Proved, Epoch::Same).await?;
    note(app, &mut tx, of, Some(node.id), "node.checked", &format!("{} was written and read back", node.name)).await?;
    failpoints::hit("node.checked.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("node.checked.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    if let Some(of) = of {
        crate::provenance::refresh(app, of).await?;
    }
    Ok(())
}

async fn record_segments(
    app: &App,
    tx: &mut PgConnection,
    node: &Node,
    purposes: &[WritePurpose],
) -> Result<(), AppError> {
    let disks = nodes::disks(&mut *tx, node.id).await?;
    for write in writes::of_node(&mut *tx, node.id, node.epoch, purposes).await? {
        let Some(disk) = disks.iter().find(|disk| disk.id == write.disk) else { continue };
        record_segment(app, &mut *tx, disk, &write).await?;
    }
    Ok(())
}

async fn record_segment(app: &App, tx: &mut PgConnection, disk: &Disk, write: &DiskWrite) -> Result<(), AppError> {
    let image = match write.image {
        Some(image) => images::version(&mut *tx, image).await?,
        None => None,
    };
    // After a restore, too, the disk is compared with the base: the delta on top of it is a difference again.
    let loaded = image.map(|image| (image.id, image.disk_bytes.min(disk.bytes), image.root));
    Ok(segments::replace(tx, disk.id, loaded, app.now()).await?)
}

async fn run_own_system(app: &App, node: &Node, settings: &Settings) -> Result<(), AppError> {
    if !mfs::dismiss(app, node, settings).await? {
        return Ok(());
    }
    if let Err(error) = app.switch(&mfs::machine(node), Command::BootDisk).await {
        mfs::power_failed(app, node, error).await?;
        return Ok(());
    }
    let mut tx = app.begin().await?;
    advance(app, &mut tx, node, NodeEvent::Booted, Epoch::Same).await?;
    failpoints::hit("node.booted.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("node.booted.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    Ok(())
}

async fn saved(app: &App, node: &Node) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    // Proved again inside the transaction that lets the machine go.
    prove_saved(&mut tx, node).await?.map_err(AppError::internal)?;
    advance(app, &mut tx, node, NodeEvent::Saved, Epoch::Same).await?;
    failpoints::hit("node.saved.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("node.saved.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    Ok(())
}

async fn prove_saved(tx: &mut PgConnection, node: &Node) -> Result<Result<AllVerified, NotSaved>, AppError> {
    let disks: Vec<_> = nodes::disks(&mut *tx, node.id).await?.iter().map(|disk| disk.id).collect();
    let facts: Vec<_> = captures::of_node(&mut *tx, node.id, node.epoch)
        .await?
        .iter()
        .map(|capture| CaptureFact {
            capture: capture.id,
            disk: capture.disk,
            epoch: capture.epoch,
            step: CaptureState::step(&capture.state),
        })
        .collect();
    Ok(AllVerified::prove(node.epoch, &disks, &facts))
}

async fn waive(app: &App, node: &Node, job: &Job) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    // The rule is asked before the move: what must be saved cannot come this way, and what ran not without a word.
    if job.kind == JobKind::GiveUp {
        let word = given_up(&mut tx, node).await?;
        word.ok_or_else(|| AppError::internal(anyhow::anyhow!("{} ran, and nobody gave it up", node.name)))?;
    } else {
        waiver(job)?;
    }
    advance(app, &mut tx, node, NodeEvent::Waive, Epoch::Same).await?;
    tx.commit().await?;
    app.changed.notify_waiters();
    Ok(())
}

fn waiver(job: &Job) -> Result<Waiver, AppError> {
    match job.kind {
        JobKind::Terminate => Ok(Waiver::terminated(job.requester)),
        JobKind::GiveUp => Ok(Waiver::given_up(job.requester)),
        JobKind::SwapIn | JobKind::SwapOut | JobKind::Load | JobKind::Cancel => {
            Waiver::not_saved(job.requester, job.saves || job.kind != JobKind::SwapOut).map_err(AppError::internal)
        }
    }
}

/// Returns the word of whoever gave up what is on a machine, if somebody did in this epoch of it.
async fn given_up(tx: &mut PgConnection, node: &Node) -> Result<Option<Waiver>, AppError> {
    let word = waivers::of_node(tx, node.id, node.epoch).await?;
    word.map(|word| Waiver::discarded(word, node.epoch)).transpose().map_err(AppError::internal)
}

/// Returns why nothing is lost when a machine that is let go is overwritten: the proof, before any word about it.
async fn evidence(tx: &mut PgConnection, node: &Node, job: &Job) -> Result<Evidence, AppError> {
    let unsaved = if must_save(job) {
        match prove_saved(&mut *tx, node).await? {
            Ok(proof) => return Ok(Evidence::Saved(proof)),
            Err(unsaved) => Some(unsaved),
        }
    } else {
        None
    };
    match (given_up(tx, node).await?, unsaved) {
        (Some(word), _) => Ok(Evidence::Waived(word)),
        (None, Some(unsaved)) => Err(AppError::internal(unsaved)),
        (None, None) => Ok(Evidence::Waived(waiver(job)?)),
    }
}

/// Permits to overwrite a machine that is let go, with the evidence that nothing is lost by it.
pub(super) async fn plan_sanitize(
    app: &App,
    tx: &mut PgConnection,
    node: &Node,
    job: &Job,
    settings: &Settings,
) -> Result<(), AppError> {
    let evidence = evidence(&mut *tx, node, job).await?;
    let default_image = super::experiment::default_image(&mut *tx, settings).await?;
    for disk in nodes::disks(&mut *tx, node.id).await? {
        let image = default_image
            .as_ref()
            .filter(|image| disk.position == 0 && image.disk_bytes == disk.bytes)
            .map(|image| image.id);
        let wish =
            WriteWish { job: job.id, purpose: WritePurpose::Sanitize, evidence: &evidence, image, capture: None };
        issue(app, &mut *tx, node, &disk, &wish).await?;
    }
    advance(app, tx, node, NodeEvent::Sanitize, Epoch::Same).await?;
    Ok(())
}

/// Nothing of the experiment is on the machine any more: it is anybody's.
async fn free(app: &App, node: &Node, settings: &Settings) -> Result<(), AppError> {
    if !mfs::dismiss(app, node, settings).await? {
        return Ok(());
    }
    let mut tx = app.begin().await?;
    record_segments(app, &mut tx, node, &[WritePurpose::Sanitize]).await?;
    let of = experiments::virtual_node_on(&mut tx, node.id).await?.map(|virtual_node| virtual_node.experiment_id);
    nodes::detach(&mut tx, node.id).await?;
    advance(app, &mut tx, node, NodeEvent::Freed, Epoch::Same).await?;
    note(app, &mut tx, of, Some(node.id), "node.freed", &format!("{} was sanitized and is free", node.name)).await?;
    failpoints::hit("node.freed.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("node.freed.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    Ok(())
}
