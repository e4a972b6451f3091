//! What an agent is to do now, from the database alone: the answer is repeated until the work is reported.

use boss_api::agent::WritePurpose;
use boss_api::agent::{
    CaptureBase, CaptureOrder, DeltaOrder, FreeTreatment, ImageOrder, ObjectRef, SwapCommand, Task, WriteOrder,
};
use boss_api::ids::JobId;
use boss_db::captures::{self, Capture};
use boss_db::images::ImageVersion;
use boss_db::nodes::Disk;
use boss_db::writes::{self, DiskWrite};
use boss_db::{PgConnection, experiments, images, jobs, nodes, points};
use boss_model::capture::CaptureStep;
use boss_model::node::{NodeState, NodeStep};
use boss_model::write::WriteState;
use sigs::Root;
use sigs::seal::Sealed;

use super::AgentIdentity;
use crate::app::App;
use crate::error::AppError;

/// Returns what an agent is to do.
pub(super) async fn derive(conn: &mut PgConnection, app: &App, agent: &AgentIdentity) -> Result<Task, AppError> {
    let Some(node) = nodes::get(&mut *conn, agent.node).await? else { return Ok(Task::Idle) };
    let NodeState::At(step) = node.state else { return Ok(Task::Idle) };
    match step {
        NodeStep::Capturing => capture_task(conn, app, agent).await,
        NodeStep::Restoring => write_task(conn, agent, &[WritePurpose::Load, WritePurpose::Restore]).await,
        NodeStep::Sanitizing => write_task(conn, agent, &[WritePurpose::Sanitize]).await,
        NodeStep::Free
        | NodeStep::Reserved
        | NodeStep::Checked
        | NodeStep::InUse
        | NodeStep::Quiescing
        | NodeStep::Releasable
        | NodeStep::Rebooting => Ok(Task::Idle),
    }
}

async fn capture_task(conn: &mut PgConnection, app: &App, agent: &AgentIdentity) -> Result<Task, AppError> {
    let disks = nodes::disks(&mut *conn, agent.node).await?;
    let mut orders = Vec::new();
    for capture in captures::of_node(&mut *conn, agent.node, agent.epoch).await? {
        let step = capture.state.step();
        let open = matches!(step, CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming);
        let disk = disks.iter().find(|disk| disk.id == capture.disk);
        if let Some(disk) = disk
            && open
            && capture.boot == Some(agent.boot)
        {
            orders.push(capture_order(&mut *conn, &capture, disk).await?);
        }
    }
    let job = job_of(&mut *conn, agent).await?;
    let (Some(job), false) = (job, orders.is_empty()) else { return Ok(Task::Idle) };
    let settings = app.settings(conn).await?;
    let command = SwapCommand { program: settings.command, zstd_level: settings.zstd_level };
    Ok(Task::Capture { job, command, orders })
}

async fn job_of(conn: &mut PgConnection, agent: &AgentIdentity) -> Result<Option<JobId>, AppError> {
    let Some(of) = experiments::virtual_node_on(&mut *conn, agent.node).await? else { return Ok(None) };
    Ok(jobs::unfinished_of(conn, of.experiment_id).await?.map(|job| job.id))
}

async fn capture_order(conn: &mut PgConnection, capture: &Capture, disk: &Disk) -> Result<CaptureOrder, AppError> {
    let base = match capture.base {
        Some(base) => images::version(conn, base).await?,
        None => None,
    };
    let bases =
        base.map(|base| CaptureBase { sig: ObjectRef { digest: base.sig, bytes: base.sig_bytes }, root: base.root });
    Ok(CaptureOrder {
        capture: capture.id,
        attempt: capture.attempt,
        disk: disk.name.clone(),
        serial: disk.serial.clone(),
        bytes: disk.bytes,
        bases: bases.into_iter().collect(),
    })
}

async fn write_task(
    conn: &mut PgConnection,
    agent: &AgentIdentity,
    purposes: &[WritePurpose],
) -> Result<Task, AppError> {
    let disks = nodes::disks(&mut *conn, agent.node).await?;
    let (mut orders, mut job) = (Vec::new(), None);
    for write in writes::of_node(&mut *conn, agent.node, agent.epoch, purposes).await? {
        let open = matches!(write.state, WriteState::Issued | WriteState::Running);
        let disk = disks.iter().find(|disk| disk.id == write.disk);
        if let Some(disk) = disk
            && open
            && write.boot == Some(agent.boot)
        {
            orders.push(write_order(&mut *conn, &write, disk).await?);
            job = Some(write.job);
        }
    }
    Ok(job.map_or(Task::Idle, |job| Task::Write { job, orders }))
}

async fn write_order(conn: &mut PgConnection, write: &DiskWrite, disk: &Disk) -> Result<WriteOrder, AppError> {
    let content = Content::of(&mut *conn, write).await?;
    let image = match &content.image {
        Some(image) => Some(ImageOrder {
            zdi: ObjectRef { digest: image.zdi, bytes: image.zdi_bytes },
            sealed: Sealed::parse(image.sealed.as_bytes()).map_err(AppError::internal)?,
        }),
        None => None,
    };
    let delta = match &content.capture {
        Some(capture) => Some(delta_order(conn, capture).await?),
        None => None,
    };
    Ok(WriteOrder {
        write: write.id,
        attempt: write.attempt,
        permit: Sealed::parse(write.permit.as_bytes()).map_err(AppError::internal)?,
        disk: disk.name.clone(),
        target_root: content.root(),
        image,
        delta,
        // Nothing that was on the disk before may be found on it afterwards.
        free: FreeTreatment::Zero,
    })
}

async fn delta_order(conn: &mut PgConnection, capture: &Capture) -> Result<DeltaOrder, AppError> {
    let broken = |what: &str| AppError::internal(anyhow::anyhow!("capture {}: {what}", capture.id));
    let (digest, bytes) = capture.zdi.ok_or_else(|| broken("it is to be restored and has no image"))?;
    let point = points::get(conn, capture.point).await?.ok_or_else(|| broken("its swap point is gone"))?;
    let sealed = point.sealed.ok_or_else(|| broken("its swap point is not sealed"))?;
    Ok(DeltaOrder {
        zdi: ObjectRef { digest, bytes },
        capture: capture.id,
        sealed: Sealed::parse(sealed.as_bytes()).map_err(AppError::internal)?,
    })
}

/// What a write puts on a disk.
#[derive(Debug)]
pub(super) struct Content {
    image: Option<ImageVersion>,
    capture: Option<Capture>,
}

impl Content {
    /// Reads what a write is to put on its disk.
    pub(super) async fn of(conn: &mut PgConnection, write: &DiskWrite) -> Result<Self, AppError> {
        let broken = |what: &str| AppError::internal(anyhow::anyhow!("write {}: its {what} is gone", write.id));
        let image = match write.image {
            Some(id) => Some(images::version(&mut *conn, id).await?.ok_or_else(|| broken("image"))?),
            None => None,
        };
        let capture = match write.capture {
            Some(id) => Some(captures::get(conn, id).await?.ok_or_else(|| broken("capture"))?),
            None => None,
        };
        Ok(Self { image, capture })
    }

    /// Returns the root the disk must have in the end; nothing: it is zeroed.
    pub(super) fn root(&self) -> Option<Root> {
        match &self.capture {
            Some(capture) => capture.target_root,
            None => self.image.as_ref().map(|image| image.root),
        }
    }
}

/// Returns the objects a task names.
pub(super) fn objects(task: &Task) -> Vec<&ObjectRef> {
    match task {
        Task::Idle | Task::PowerOff => Vec::new(),
        Task::Capture { orders, .. } => {
            orders.iter().flat_map(|order| order.bases.iter().map(|base| &base.sig)).collect()
        }
        Task::Write { orders, .. } => orders
            .iter()
            .flat_map(|order| {
                let image = order.image.iter().map(|image| &image.zdi);
                image.chain(order.delta.iter().map(|delta| &delta.zdi))
            })
            .collect(),
    }
}
