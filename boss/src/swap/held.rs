//! What people may do about a machine that is held: let it go on, keep it as it is, or give its content up.

use boss_api::agent::{FailureClass, WritePurpose};
use boss_api::ids::{ExperimentId, JobId, NodeId, UserId};
use boss_api::user::{ExperimentState, JobState, MAX_NOTE};
use boss_api::{ErrorCode, Name};
use boss_db::events::NewEvent;
use boss_db::experiments::Experiment;
use boss_db::jobs::Job;
use boss_db::nodes::{Epoch, Node};
use boss_db::{PgConnection, boots, captures, events, experiments, jobs, nodes, views, waivers, writes};
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_model::experiment::ExperimentEvent;
use boss_model::job::JobEvent;
use boss_model::node::{NodeEvent, NodeState, NodeStep};
use boss_model::write::{WriteEvent, WriteState};
use time::OffsetDateTime;

use super::{advance, begin, commit, invalid, lock, step};
use crate::app::App;
use crate::auth::confirm::Confirmed;
use crate::error::AppError;
use crate::reconcile::permits;

/// Lets the held nodes of an experiment go back where they were held, and its job run again. With `full_image` those
/// that are being saved save whole disks, compared with no base.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not held.
pub async fn request_retry(
    app: &App,
    experiment: ExperimentId,
    by: UserId,
    full_image: bool,
) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    let nothing = || {
        let text = format!("{} is {}, not held: there is nothing to retry", of.full_name(), of.state);
        AppError::new(ErrorCode::WrongState, text)
    };
    if of.state != ExperimentState::Held {
        return Err(nothing());
    }
    // After an older database was put back an experiment may be held that had no work: then its last job is named.
    let job = match jobs::unfinished_of(&mut tx, of.id).await? {
        Some(job) => Some(job.id),
        None => views::last_job(&mut tx, of.id).await?.map(|job| job.id),
    };
    let job = job.ok_or_else(nothing)?;
    for node in nodes::of_experiment(&mut tx, of.id).await? {
        if matches!(node.state, NodeState::Held(_)) {
            if full_image {
                save_whole(app, &mut tx, &node).await?;
            }
            resume(app, &mut tx, &node).await?;
        }
    }
    let words = if full_image { ", and save whole disks" } else { "" };
    tell(app, &mut tx, (Some(of.id), None, by), "job.retried", &format!("the held machines are tried again{words}"))
        .await?;
    go_on(app, &mut tx, &of).await?;
    commit(app, tx).await?;
    Ok(job)
}

/// Lets one held machine go back where it was held, be it of an experiment or nobody's.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not held.
pub async fn request_node_retry(app: &App, node: NodeId, by: UserId) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    let experiment = experiments::virtual_node_on(&mut tx, node).await?.map(|of| of.experiment_id);
    let of = match experiment {
        Some(experiment) => Some(lock(&mut tx, experiment).await?),
        None => None,
    };
    let held = held_node(&mut tx, node).await?;
    resume(app, &mut tx, &held).await?;
    let message = format!("{} is tried again", held.name);
    tell(app, &mut tx, (experiment, Some(node), by), "node.retried", &message).await?;
    if let Some(of) = of {
        go_on(app, &mut tx, &of).await?;
    }
    commit(app, tx).await
}

/// A note for people on a held machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepNote {
    until: OffsetDateTime,
    note: String,
}

impl KeepNote {
    /// The furthest that somebody may want a machine kept.
    const LONGEST: time::Duration = time::Duration::days(366);

    /// Checks a note.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] says what it takes.
    pub fn new(until: OffsetDateTime, note: &str, now: OffsetDateTime) -> Result<Self, AppError> {
        let bad = |text: String| AppError::new(ErrorCode::BadRequest, text);
        if until <= now || until - now > Self::LONGEST {
            return Err(bad("a machine is kept until a time that is to come, within a year".into()));
        }
        let note = note.trim();
        let length = note.chars().count();
        if length == 0 || length > MAX_NOTE || note.chars().any(char::is_control) {
            return Err(bad(format!("say in one line of 1 to {MAX_NOTE} characters why the machine is kept")));
        }
        Ok(Self { until, note: note.into() })
    }
}

/// Notes on a held machine who wants it left alone, until when and why. It is shown; nothing acts on it.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not held.
pub async fn request_keep(app: &App, node: NodeId, by: UserId, note: &KeepNote) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    let experiment = experiments::virtual_node_on(&mut tx, node).await?.map(|of| of.experiment_id);
    let held = held_node(&mut tx, node).await?;
    nodes::keep(&mut tx, app.term, &held, by, (note.until, &note.note)).await?;
    let message = format!("{} is to be left as it is: {}", held.name, note.note);
    tell(app, &mut tx, (experiment, Some(node), by), "node.kept", &message).await?;
    commit(app, tx).await
}

/// Gives up what is on the disks of a held node that was to be saved: it is sanitized with the others, and its swap
/// point will miss it.
///
/// # Errors
/// [`ErrorCode::WrongState`] when the node is not held while it is being saved.
pub async fn request_discard(
    app: &App,
    experiment: ExperimentId,
    vname: &Name,
    confirmed: &Confirmed,
) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    let wrong = |text: String| AppError::new(ErrorCode::WrongState, text);
    let job = saving_job(&mut tx, &of).await?.ok_or_else(|| {
        wrong(format!("{} is {} and is not being saved: there is nothing to give up", of.full_name(), of.state))
    })?;
    let all = experiments::virtual_nodes(&mut tx, of.id).await?;
    let virtual_node = all.into_iter().find(|node| node.vname == *vname);
    let virtual_node = virtual_node
        .ok_or_else(|| AppError::new(ErrorCode::NotFound, format!("{} has no node {vname}", of.full_name())))?;
    let node = match virtual_node.node_id {
        Some(node) => held_node(&mut tx, node).await?,
        None => return Err(wrong(format!("{vname} was saved and its machine given back"))),
    };
    advance(app, &mut tx, &node, NodeEvent::Discard, Epoch::Same).await?;
    waivers::add(&mut tx, &node, confirmed.by(), app.now()).await?;
    let said = format!("given up by {}", confirmed.name());
    for capture in captures::of_node(&mut tx, node.id, node.epoch).await? {
        let event = CaptureEvent::Fail { class: FailureClass::Machine, reason: said.clone() };
        // What was VERIFIED stays so, what had failed says why.
        if let Ok(to) = capture.state.clone().apply(event) {
            captures::transition(&mut tx, app.term, &capture, &to, app.now()).await?;
        }
    }
    if let Some(boot) = boots::alive(&mut tx, node.id).await? {
        boots::end(&mut tx, boot.id).await?;
    }
    let message = format!("{} gave up what is on {vname}, which could not be saved", confirmed.name());
    tell(app, &mut tx, (Some(of.id), Some(node.id), confirmed.by()), "node.discarded", &message).await?;
    // Those that are saved were held only because this one was not.
    for other in nodes::of_experiment(&mut tx, of.id).await? {
        if matches!(&other.state, NodeState::Held(held) if held.from == NodeStep::Releasable) {
            resume(app, &mut tx, &other).await?;
        }
    }
    go_on(app, &mut tx, &of).await?;
    commit(app, tx).await?;
    Ok(job.id)
}

/// Refuses to end an experiment while one of its machines is held with what was to be saved and is not: that is given
/// up by a leader who confirms it, or not at all.
pub(super) async fn refuse_unsaved(tx: &mut PgConnection, of: &Experiment) -> Result<(), AppError> {
    if saving_job(&mut *tx, of).await?.is_none() {
        return Ok(());
    }
    for node in nodes::of_experiment(tx, of.id).await? {
        // Also one that was let go on while another keeps the experiment held.
        let (at, how) = match &node.state {
            NodeState::Held(held) => (held.from, "held"),
            NodeState::At(step) => (*step, step.as_str()),
        };
        if at.may_hold_unsaved() {
            let text = format!(
                "{} is {how} and its disks are not saved: retry, or let a leader of the project give them up first",
                node.name
            );
            return Err(AppError::new(ErrorCode::WrongState, text));
        }
    }
    Ok(())
}

/// Lets a held node go on where it was, with what had failed on it counted from the start.
pub(super) async fn resume(app: &App, tx: &mut PgConnection, node: &Node) -> Result<Node, AppError> {
    let node = advance(app, &mut *tx, node, NodeEvent::Retry, Epoch::Same).await?;
    // An attempt is one boot: what is tried again is tried in a new one.
    if let Some(boot) = boots::alive(&mut *tx, node.id).await? {
        boots::end(&mut *tx, boot.id).await?;
    }
    for mut capture in captures::of_node(&mut *tx, node.id, node.epoch).await? {
        if matches!(capture.state.step(), CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming)
            && capture.boot.is_some()
        {
            // It was under way in the boot that just ended: a failure that is nobody's counts for nothing.
            let reason = "its boot was ended by a retry".to_owned();
            let event = CaptureEvent::Fail { class: FailureClass::Transient, reason };
            let to = capture.state.clone().apply(event).map_err(AppError::internal)?;
            captures::transition(&mut *tx, app.term, &capture, &to, app.now()).await?;
            capture.state = to;
        }
        if capture.failure().is_some() {
            captures::retry(&mut *tx, app.term, &capture).await?;
        }
    }
    let all = [WritePurpose::Load, WritePurpose::Restore, WritePurpose::Sanitize];
    for write in writes::of_node(&mut *tx, node.id, node.epoch, &all).await? {
        // A boss that found an older database carried no permit into its term: now somebody has looked.
        if write.state != WriteState::Done {
            permits::renew(&app.keys, app.term, &mut *tx, &write).await?;
        }
        if write.state == WriteState::Failed {
            write.state.apply(WriteEvent::NewAttempt).map_err(AppError::internal)?;
            let refused = write.failure.as_ref().is_some_and(|(class, _)| *class != FailureClass::Transient);
            if write.purpose == WritePurpose::Sanitize && refused {
                // An image that was refused once is refused again; zeros are never less.
                writes::zero_instead(&mut *tx, app.term, &write).await?;
            }
            writes::retry(&mut *tx, app.term, &write).await?;
        }
    }
    Ok(node)
}

/// Lets the next attempt to save a node compare with nothing.
async fn save_whole(app: &App, tx: &mut PgConnection, node: &Node) -> Result<(), AppError> {
    for capture in captures::of_node(&mut *tx, node.id, node.epoch).await? {
        if capture.state.clone().apply(CaptureEvent::Whole).is_ok() {
            captures::whole(&mut *tx, app.term, &capture).await?;
        }
    }
    Ok(())
}

/// Lets an experiment and its job go on, once none of its machines is held any more.
async fn go_on(app: &App, tx: &mut PgConnection, of: &Experiment) -> Result<(), AppError> {
    let all = nodes::of_experiment(&mut *tx, of.id).await?;
    if of.state != ExperimentState::Held || all.iter().any(|node| matches!(node.state, NodeState::Held(_))) {
        return Ok(());
    }
    let job = jobs::unfinished_of(&mut *tx, of.id).await?.filter(|job| job.state == JobState::Held);
    let to = step(of, ExperimentEvent::Resume(job.as_ref().map(|job| job.kind)))?;
    experiments::transition(&mut *tx, app.term, of.id, (of.state, to), app.now()).await?;
    if let Some(job) = job {
        let running = boss_model::job::apply(job.state, JobEvent::Resume).map_err(|error| invalid(of, error))?;
        jobs::transition(&mut *tx, app.term, &job, running, None, app.now()).await?;
    }
    Ok(())
}

async fn held_node(tx: &mut PgConnection, node: NodeId) -> Result<Node, AppError> {
    let node = nodes::get(tx, node).await?.ok_or_else(|| AppError::not_found("this node"))?;
    if matches!(node.state, NodeState::Held(_)) {
        return Ok(node);
    }
    let text = format!("{} is {}, not held", node.name, node.state.as_str());
    Err(AppError::new(ErrorCode::WrongState, text))
}

/// Returns the swap-out of an experiment that saves and is not over.
async fn saving_job(tx: &mut PgConnection, of: &Experiment) -> Result<Option<Job>, AppError> {
    Ok(jobs::unfinished_of(tx, of.id).await?.filter(|job| job.saves))
}

/// Notes what a person did.
pub(super) async fn tell(
    app: &App,
    tx: &mut PgConnection,
    (experiment, node, by): (Option<ExperimentId>, Option<NodeId>, UserId),
    kind: &str,
    message: &str,
) -> Result<(), AppError> {
    Ok(events::add(tx, NewEvent { experiment, node, user: Some(by), kind, message, at: app.now() }).await?)
}
