//! What people may ask for. Each is one transaction that records the wish; the reconciler makes it so.

mod held;
pub(crate) mod placement;
mod undo;

use boss_api::ErrorCode;
use boss_api::agent::WritePurpose;
use boss_api::ids::{CaptureId, ExperimentId, ImageVersionId, JobId, NodeId, SwapPointId, UserId};
use boss_api::user::{ExperimentState, JobKind, JobState};
use boss_db::captures::NewCapture;
use boss_db::events::NewEvent;
use boss_db::experiments::Experiment;
use boss_db::jobs::Job;
use boss_db::nodes::{Epoch, Node};
use boss_db::{PgConnection, Transaction, captures, events, experiments, images, jobs, nodes, points, segments};
use boss_model::InvalidTransition;
use boss_model::experiment::{ExperimentEvent, apply};
use boss_model::job::JobEvent;
use boss_model::node::{NodeEvent, NodeState, NodeStep};
use boss_model::permit::{Evidence, Waiver};
use uuid::Uuid;

use crate::app::App;
use crate::error::AppError;
use crate::reconcile::permits::{WriteWish, issue, void_open};
use placement::Candidate;

pub use held::{KeepNote, request_discard, request_keep, request_node_retry, request_retry};
pub use undo::{request_cancel, request_give_up};

/// Asks for machines, loaded with what the experiment was saved with or its base images.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not swapped out or no machines fit.
pub async fn request_swap_in(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    let to = step(&of, ExperimentEvent::SwapIn)?;
    let virtual_nodes = experiments::virtual_nodes(&mut tx, of.id).await?;
    let needs = placement::needs(&mut tx, of.id, virtual_nodes).await?;
    let mut candidates = Vec::new();
    for node in nodes::lock_free(&mut tx).await? {
        let disks = nodes::disks(&mut tx, node.id).await?;
        candidates.push(Candidate { node, disks });
    }
    let given = placement::place(&needs, &candidates).map_err(|placed| {
        AppError::new(
            ErrorCode::WrongState,
            format!(
                "{} needs {} machines, and of the {} that are free {placed} fit: wait for others to be given back, or \
                 use smaller images",
                of.full_name(),
                needs.len(),
                candidates.len()
            ),
        )
    })?;
    let job = start(app, &mut tx, &of, (JobKind::SwapIn, by), None).await?;
    experiments::transition(&mut tx, app.term, of.id, (of.state, to), app.now()).await?;
    for (need, index) in needs.iter().zip(given) {
        let node = &candidates[index].node;
        advance(app, &mut tx, node, NodeEvent::Reserve, Epoch::Next).await?;
        nodes::attach(&mut tx, need.virtual_node.id, node.id).await?;
        let message = format!("{} is given to {} as {}", node.name, of.full_name(), need.virtual_node.vname);
        note(app, &mut tx, Some(of.id), Some(node.id), "node.reserved", &message).await?;
    }
    commit(app, tx).await?;
    Ok(job)
}

/// Asks to save the machines' disks, when the box is on, and to give the machines back.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not active.
pub async fn request_swap_out(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    swap_out(app, experiment, by, None).await
}

/// As [`request_swap_out`], for somebody who saw the box on or off and agreed to what follows from that.
///
/// # Errors
/// As there, and [`ErrorCode::WrongState`] when the box was changed meanwhile.
pub async fn request_swap_out_as_seen(
    app: &App,
    experiment: ExperimentId,
    by: UserId,
    saves: bool,
) -> Result<JobId, AppError> {
    swap_out(app, experiment, by, Some(saves)).await
}

async fn swap_out(app: &App, experiment: ExperimentId, by: UserId, seen: Option<bool>) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    if seen.is_some_and(|seen| seen != of.save_swap_state) {
        let text = format!("Save swap state of {} was changed in the meantime: look again", of.full_name());
        return Err(AppError::new(ErrorCode::WrongState, text));
    }
    let to = step(&of, ExperimentEvent::SwapOut)?;
    let job = start(app, &mut tx, &of, (JobKind::SwapOut, by), None).await?;
    experiments::transition(&mut tx, app.term, of.id, (of.state, to), app.now()).await?;
    let mut stopped = Vec::new();
    for node in nodes::of_experiment(&mut tx, of.id).await? {
        stopped.push(advance(app, &mut tx, &node, NodeEvent::Quiesce, Epoch::Next).await?);
    }
    if of.save_swap_state {
        plan_captures(app, &mut tx, &of, &stopped).await?;
    }
    commit(app, tx).await?;
    Ok(job)
}

/// Opens a swap point and plans the capture of every disk: all of them, or the transaction does not happen.
async fn plan_captures(app: &App, tx: &mut PgConnection, of: &Experiment, stopped: &[Node]) -> Result<(), AppError> {
    let point = SwapPointId::new(Uuid::now_v7());
    points::open(&mut *tx, point, of.id, app.now()).await?;
    for node in stopped {
        let virtual_node = experiments::virtual_node_on(&mut *tx, node.id)
            .await?
            .ok_or_else(|| AppError::internal(anyhow::anyhow!("{} is in use and no virtual node", node.name)))?;
        for disk in nodes::disks(&mut *tx, node.id).await? {
            let loaded = segments::of_disk(&mut *tx, disk.id).await?;
            // Comparison is by place: one image from the start of the disk is what there is so far.
            let base = match loaded.as_slice() {
                [only] if only.start.is_zero() => Some(only.image_version_id),
                _ => None,
            };
            let new = NewCapture {
                id: CaptureId::new(Uuid::now_v7()),
                point,
                virtual_node: virtual_node.id,
                node: node.id,
                disk: disk.id,
                epoch: node.epoch,
                base,
            };
            captures::add(&mut *tx, new).await?;
        }
    }
    Ok(())
}

/// Asks to give the machines back for good, saving nothing, and to end the experiment. A held job gives way.
///
/// # Errors
/// [`ErrorCode::WrongState`] while other work is under way, and while a machine is held that was to be saved.
pub async fn request_terminate(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    let to = step(&of, ExperimentEvent::Terminate)?;
    held::refuse_unsaved(&mut tx, &of).await?;
    if let Some(held) = jobs::unfinished_of(&mut tx, of.id).await?
        && held.state == JobState::Held
    {
        let failed = boss_model::job::apply(held.state, JobEvent::Fail).map_err(|error| invalid(&of, error))?;
        jobs::transition(&mut tx, app.term, &held, failed, Some("terminated instead"), app.now()).await?;
    }
    let job = start(app, &mut tx, &of, (JobKind::Terminate, by), None).await?;
    experiments::transition(&mut tx, app.term, of.id, (of.state, to), app.now()).await?;
    for node in nodes::of_experiment(&mut tx, of.id).await? {
        let node = match node.state {
            NodeState::Held(_) => held::resume(app, &mut tx, &node).await?,
            NodeState::At(_) => node,
        };
        match node.state.step() {
            // On its way back to its own system, it is as one that runs it.
            Some(NodeStep::InUse | NodeStep::Rebooting) => {
                advance(app, &mut tx, &node, NodeEvent::Quiesce, Epoch::Next).await?;
            }
            Some(NodeStep::Reserved | NodeStep::Restoring | NodeStep::Checked) => {
                abandon(app, &mut tx, &node).await?;
            }
            _ => {}
        }
    }
    commit(app, tx).await?;
    Ok(job)
}

/// Lets go of a machine that was to be loaded.
async fn abandon(app: &App, tx: &mut PgConnection, node: &Node) -> Result<Node, AppError> {
    void_open(app, &mut *tx, node, &[WritePurpose::Load, WritePurpose::Restore]).await?;
    // An agent that still fetches would write after the disk was sanitized: it is of other hands from now on.
    advance(app, tx, node, NodeEvent::Abandon, Epoch::Next).await
}

/// Asks to load an image on a machine of an active experiment, now; what is on its boot disk is lost.
///
/// # Errors
/// [`ErrorCode::WrongState`] when the machine is not in use or the image does not fit.
pub async fn request_load(
    app: &App,
    (experiment, node): (ExperimentId, NodeId),
    image: ImageVersionId,
    by: UserId,
) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let wrong = |text: String| AppError::new(ErrorCode::WrongState, text);
    let of = begin(&mut tx, experiment).await?;
    let found = nodes::get(&mut tx, node).await?.ok_or_else(|| AppError::not_found("this node"))?;
    // Looked at under the lock: the machine may have changed hands since the caller was found to have a right to it.
    experiments::virtual_node_on(&mut tx, node)
        .await?
        .filter(|virtual_node| virtual_node.experiment_id == experiment)
        .ok_or_else(|| wrong(format!("{} is no machine of {} any more", found.name, of.full_name())))?;
    if of.state != ExperimentState::Active {
        return Err(wrong(format!("{} is {}: images are loaded while it is active", of.full_name(), of.state)));
    }
    let image = images::version(&mut tx, image).await?.ok_or_else(|| AppError::not_found("this image"))?;
    if image.retired_at.is_some() {
        return Err(wrong(format!("the image {} is retired: load another version", image.selector())));
    }
    let disks = nodes::disks(&mut tx, node).await?;
    let boot_disk = disks.first().filter(|disk| disk.bytes == image.disk_bytes).ok_or_else(|| {
        let (node, image, bytes) = (&found.name, image.selector(), image.disk_bytes);
        wrong(format!("{image} is of a disk of {bytes} bytes, and the boot disk of {node} has another size"))
    })?;
    let job = start(app, &mut tx, &of, (JobKind::Load, by), Some(node)).await?;
    let loading = advance(app, &mut tx, &found, NodeEvent::Load, Epoch::Next).await?;
    let wish = WriteWish {
        job,
        purpose: WritePurpose::Load,
        evidence: &Evidence::Waived(Waiver::load_asked(by)),
        image: Some(image.id),
        capture: None,
    };
    issue(app, &mut tx, &loading, boot_disk, &wish).await?;
    commit(app, tx).await?;
    Ok(job)
}

/// Changes the *Save swap state* box; takes effect at the next swap-out, and in `swapinfo/` at once.
///
/// # Errors
/// When there is no such experiment, or it is over.
pub async fn set_save_swap_state(app: &App, experiment: ExperimentId, save: bool) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    if matches!(of.state, ExperimentState::Terminating | ExperimentState::Ended) {
        return Err(AppError::new(ErrorCode::WrongState, format!("{} is {}", of.full_name(), of.state)));
    }
    experiments::set_save_swap_state(&mut tx, of.id, save).await?;
    let message = if save { "Save swap state is on" } else { "Save swap state is off" };
    note(app, &mut tx, Some(of.id), None, "experiment.box", message).await?;
    commit(app, tx).await?;
    crate::provenance::refresh(app, of.id).await
}

/// Locks an experiment for what a person of it asks. Nobody asks anything while the site's operators have to look at one
/// of its machines: what the database says of that may be over.
async fn begin(tx: &mut PgConnection, experiment: ExperimentId) -> Result<Experiment, AppError> {
    let of = lock(&mut *tx, experiment).await?;
    for node in nodes::of_experiment(tx, experiment).await? {
        if matches!(&node.state, NodeState::Held(held) if held.is_for_the_site()) {
            let text = format!(
                "{} waits for an operator of the site: the database was put back, and may be wrong about it; once it is \
                 looked at, `ebb node retry {}` lets it go on; nothing was changed",
                node.name, node.name
            );
            return Err(AppError::new(ErrorCode::WrongState, text));
        }
    }
    Ok(of)
}

/// Locks an experiment and reads it.
async fn lock(tx: &mut PgConnection, experiment: ExperimentId) -> Result<Experiment, AppError> {
    jobs::lock_experiment(&mut *tx, experiment).await?;
    experiments::get(tx, experiment).await?.ok_or_else(|| AppError::not_found("this experiment"))
}

fn step(of: &Experiment, event: ExperimentEvent) -> Result<ExperimentState, AppError> {
    apply(of.state, event).map_err(|error| invalid(of, error))
}

fn invalid(of: &Experiment, error: InvalidTransition) -> AppError {
    AppError::new(ErrorCode::WrongState, format!("{} is {}: {error}", of.full_name(), of.state))
}

async fn start(
    app: &App,
    tx: &mut PgConnection,
    of: &Experiment,
    (kind, by): (JobKind, UserId),
    node: Option<NodeId>,
) -> Result<JobId, AppError> {
    if let Some(other) = jobs::unfinished_of(&mut *tx, of.id).await? {
        let word = boss_model::job::kind_word(other.kind);
        return Err(AppError::new(
            ErrorCode::WrongState,
            format!("{} is busy with a {word}: wait for job {}", of.full_name(), other.id),
        ));
    }
    let job = Job {
        id: JobId::new(Uuid::now_v7()),
        kind,
        experiment: of.id,
        node,
        requester: by,
        state: JobState::Running,
        saves: kind == JobKind::SwapOut && of.save_swap_state,
        on_failure: app.settings(&mut *tx).await?.on_failure,
    };
    jobs::add(&mut *tx, &job, app.now()).await?;
    let word = boss_model::job::kind_word(kind);
    let message = format!("{word} of {} was asked for", of.full_name());
    let event =
        NewEvent { experiment: Some(of.id), node, user: Some(by), kind: "job.asked", message: &message, at: app.now() };
    events::add(tx, event).await?;
    Ok(job.id)
}

/// Makes a typed move of a machine, in the database, too.
pub(crate) async fn advance(
    app: &App,
    tx: &mut PgConnection,
    node: &Node,
    event: NodeEvent,
    epoch: Epoch,
) -> Result<Node, AppError> {
    let to = node
        .state
        .clone()
        .apply(event)
        .map_err(|error| AppError::new(ErrorCode::WrongState, format!("machine {}: {error}", node.name)))?;
    Ok(nodes::transition(tx, app.term, node, to, epoch, app.now()).await?)
}

/// Notes an event.
pub(crate) async fn note(
    app: &App,
    tx: &mut PgConnection,
    experiment: Option<ExperimentId>,
    node: Option<NodeId>,
    kind: &str,
    message: &str,
) -> Result<(), AppError> {
    Ok(events::add(tx, NewEvent { experiment, node, user: None, kind, message, at: app.now() }).await?)
}

async fn commit(app: &App, tx: Transaction<'static, boss_db::Postgres>) -> Result<(), AppError> {
    failpoints::hit("request.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    app.changed.notify_waiters();
    failpoints::hit("request.before-reply").map_err(AppError::internal)?;
    Ok(())
}
