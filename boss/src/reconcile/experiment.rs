//! What is decided about an experiment as a whole: when saving begins, what becomes of the saved, when a job is done.

use boss_api::Name;
use boss_api::agent::{CaptureStatement, SwapPointStatement};
use boss_api::ids::ExperimentId;
use boss_api::user::{ExperimentState, ImageSelector, JobKind, JobState, SwapPointState};
use boss_db::captures::Capture;
use boss_db::experiments::Experiment;
use boss_db::images::ImageVersion;
use boss_db::jobs::Job;
use boss_db::nodes::{Epoch, Node};
use boss_db::points::SwapPoint;
use boss_db::{PgConnection, captures, experiments, images, jobs, nodes, points, projects, waivers};
use boss_model::capture::CaptureStep;
use boss_model::experiment::{ExperimentEvent, apply};
use boss_model::job::JobEvent;
use boss_model::node::{NodeEvent, NodeState, NodeStep};
use boss_model::point::{self, PointEvent, Verdict};
use boss_model::settings::Settings;

use super::hold::{Doubt, hold};
use super::mfs;
use super::node::plan_sanitize;
use super::permits::text_of;
use crate::app::App;
use crate::error::AppError;
use crate::keeping::in_staging;
use crate::swap::{advance, note};

/// Looks at an experiment with a job and decides what can be decided.
pub(super) async fn decide(app: &App, job: &Job) -> Result<(), AppError> {
    let mut conn = app.pool.acquire().await?;
    let of = nodes::of_experiment(&mut conn, job.experiment).await?;
    let settings = app.settings(&mut conn).await?;
    drop(conn);
    match job.kind {
        JobKind::SwapIn => {
            let running = of.iter().all(|node| node.state == NodeState::At(NodeStep::InUse));
            if running && !of.is_empty() && job.state == JobState::Running {
                finish(app, job, Some(ExperimentEvent::Activated)).await?;
            }
        }
        JobKind::Load => {
            let loaded =
                of.iter().any(|node| Some(node.id) == job.node && node.state == NodeState::At(NodeStep::InUse));
            if loaded && job.state == JobState::Running {
                finish(app, job, None).await?;
            }
        }
        JobKind::Cancel => {
            let back = of.iter().all(|node| node.state == NodeState::At(NodeStep::InUse));
            if back && !of.is_empty() && job.state == JobState::Running && nothing_arrives(app, job).await? {
                finish(app, job, Some(ExperimentEvent::Activated)).await?;
            }
        }
        JobKind::SwapOut | JobKind::Terminate | JobKind::GiveUp => {
            if job.saves {
                begin_saving(app, &of).await?;
            }
            release(app, job, &of, &settings).await?;
            if of.is_empty() && job.state == JobState::Running {
                let event = match job.kind {
                    JobKind::Terminate => ExperimentEvent::Ended,
                    JobKind::SwapOut | JobKind::GiveUp | JobKind::SwapIn | JobKind::Load | JobKind::Cancel => {
                        ExperimentEvent::SwappedOut
                    }
                };
                finish(app, job, Some(event)).await?;
            }
        }
    }
    Ok(())
}

/// Time stops together: no disk is saved before every machine of the experiment stands still in the memory file
/// system. One that is held on the way there keeps all of them waiting.
async fn begin_saving(app: &App, of: &[Node]) -> Result<(), AppError> {
    let still: Vec<Node> = of.iter().filter(|node| node.state == NodeState::At(NodeStep::Quiescing)).cloned().collect();
    let on_the_way = of.iter().any(|node| match &node.state {
        NodeState::At(step) => *step == NodeStep::InUse,
        NodeState::Held(held) => matches!(held.from, NodeStep::InUse | NodeStep::Quiescing),
    });
    if still.is_empty() || on_the_way || !mfs::all_registered(app, &still).await? {
        return Ok(());
    }
    let mut tx = app.begin().await?;
    for node in &still {
        advance(app, &mut tx, node, NodeEvent::Capture, Epoch::Same).await?;
    }
    failpoints::hit("saving.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("saving.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    Ok(())
}

/// Returns whether no capture of the newest swap point is still being verified.
async fn nothing_arrives(app: &App, job: &Job) -> Result<bool, AppError> {
    let mut conn = app.pool.acquire().await?;
    let Some(point) = points::newest(&mut conn, job.experiment).await? else { return Ok(true) };
    let all = captures::of_point(&mut conn, point.id).await?;
    Ok(all.iter().all(|capture| capture.state.step() != CaptureStep::Received))
}

/// Lets go of what may go.
async fn release(app: &App, job: &Job, of: &[Node], settings: &Settings) -> Result<(), AppError> {
    let releasable = |node: &&Node| node.state == NodeState::At(NodeStep::Releasable);
    if !of.iter().any(|node| releasable(&node)) {
        return Ok(());
    }
    let verdict = if job.saves {
        let steps: Vec<Option<NodeStep>> = of.iter().map(|node| node.state.step()).collect();
        point::decide(&steps, job.on_failure)
    } else {
        Verdict::ReleaseSaved
    };
    match verdict {
        Verdict::Wait => Ok(()),
        Verdict::HoldAll => {
            for node in of.iter().filter(releasable) {
                let reason = "it is saved, and another machine of the experiment is not (swap/on_failure is hold-all)";
                hold(app, node, Doubt::new(reason, "see to the other machine, then retry the experiment")).await?;
            }
            Ok(())
        }
        Verdict::ReleaseSaved => {
            let mut tx = app.begin().await?;
            jobs::lock_experiment(&mut tx, job.experiment).await?;
            if job.saves {
                settle_point(app, &mut tx, job).await?;
            }
            for node in of.iter().filter(releasable) {
                plan_sanitize(app, &mut tx, node, job, settings).await?;
            }
            failpoints::hit("release.before-commit").map_err(AppError::internal)?;
            tx.commit().await?;
            failpoints::hit("release.committed").map_err(AppError::internal)?;
            app.changed.notify_waiters();
            crate::provenance::refresh(app, job.experiment).await
        }
    }
}

/// Seals the swap point when every capture of it is VERIFIED, else says that some are missing.
async fn settle_point(app: &App, tx: &mut PgConnection, job: &Job) -> Result<(), AppError> {
    let Some(point) = points::newest(&mut *tx, job.experiment).await? else {
        return Err(AppError::internal(anyhow::anyhow!("job {} saves and has no swap point", job.id)));
    };
    if point.state == SwapPointState::Complete {
        return Ok(());
    }
    let Some(of) = experiments::get(&mut *tx, job.experiment).await? else { return Ok(()) };
    let all = captures::of_point(&mut *tx, point.id).await?;
    let missing: Vec<String> = all
        .iter()
        .filter(|capture| !is_verified(capture))
        .map(|capture| format!("{} {}", capture.vname, capture.disk_name))
        .collect();
    if missing.is_empty() {
        let to = point::apply(point.state, PointEvent::Complete).map_err(AppError::internal)?;
        let sealed = text_of(&app.keys.seal_point(&statement(&mut *tx, &of, &point, &all).await?))?;
        points::transition(&mut *tx, app.term, &point, to, Some(&sealed), app.now()).await?;
        let message = format!("swap point {} is complete and sealed", point.number);
        return note(app, tx, Some(of.id), None, "point.complete", &message).await;
    }
    if point.sealed.is_none() && rest_was_given_up(&mut *tx, &all).await? {
        let to = point::apply(point.state, PointEvent::GiveUpRest).map_err(AppError::internal)?;
        let saved: Vec<_> = all.into_iter().filter(is_verified).collect();
        let sealed = text_of(&app.keys.seal_point(&statement(&mut *tx, &of, &point, &saved).await?))?;
        points::transition(&mut *tx, app.term, &point, to, Some(&sealed), app.now()).await?;
        let message = format!("swap point {} is sealed without {}, given up", point.number, missing.join(", "));
        return note(app, tx, Some(of.id), None, "point.sealed", &message).await;
    }
    if let Ok(to) = point::apply(point.state, PointEvent::Miss) {
        points::transition(&mut *tx, app.term, &point, to, None, app.now()).await?;
        let message = format!("swap point {} is incomplete: {} not saved", point.number, missing.join(", "));
        note(app, tx, Some(of.id), None, "point.incomplete", &message).await?;
    }
    Ok(())
}

fn is_verified(capture: &Capture) -> bool {
    capture.state.step() == CaptureStep::Verified
}

/// Returns whether something is saved and all that is not was given up by somebody with the right to it.
async fn rest_was_given_up(tx: &mut PgConnection, all: &[Capture]) -> Result<bool, AppError> {
    for capture in all.iter().filter(|capture| !is_verified(capture)) {
        if waivers::of_node(&mut *tx, capture.node, capture.epoch).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(all.iter().any(is_verified))
}

async fn statement(
    tx: &mut PgConnection,
    of: &Experiment,
    point: &SwapPoint,
    all: &[Capture],
) -> Result<SwapPointStatement, AppError> {
    let mut statements = Vec::with_capacity(all.len());
    for capture in all {
        let (Some((zdi, zdi_bytes)), Some(target_root)) = (capture.zdi, capture.target_root) else {
            return Err(AppError::internal(anyhow::anyhow!("capture {} is verified and has no image", capture.id)));
        };
        let base = match capture.base {
            Some(base) => images::version(&mut *tx, base).await?,
            None => None,
        };
        statements.push(CaptureStatement {
            capture: capture.id,
            vname: capture.vname.clone(),
            disk: capture.disk_name.clone(),
            zdi,
            zdi_bytes,
            base_root: base.map(|base| base.root),
            target_root,
        });
    }
    Ok(SwapPointStatement {
        pid: of.pid.clone(),
        eid: of.eid.clone(),
        experiment: of.id,
        number: point.number,
        captures: statements,
    })
}

/// Ends a job with success.
async fn finish(app: &App, job: &Job, event: Option<ExperimentEvent>) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    jobs::lock_experiment(&mut tx, job.experiment).await?;
    let Some(of) = experiments::get(&mut tx, job.experiment).await? else { return Ok(()) };
    if let Some(event) = event {
        let to = apply(of.state, event).map_err(AppError::internal)?;
        experiments::transition(&mut tx, app.term, of.id, (of.state, to), app.now()).await?;
        // A swap-out that was taken back or ended otherwise leaves its swap point open: what is in it decides.
        let ends = to == ExperimentState::Ended || job.kind == JobKind::Cancel;
        if ends && points::newest(&mut tx, of.id).await?.is_some_and(|point| point.state == SwapPointState::Open) {
            settle_point(app, &mut tx, job).await?;
        }
    }
    let done = boss_model::job::apply(job.state, JobEvent::Finish).map_err(AppError::internal)?;
    jobs::transition(&mut tx, app.term, job, done, None, app.now()).await?;
    let message = format!("{} of {} is done", boss_model::job::kind_word(job.kind), of.full_name());
    note(app, &mut tx, Some(of.id), job.node, "job.done", &message).await?;
    failpoints::hit("job.done.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("job.done.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    forget_unfinished(app, of.id).await?;
    crate::provenance::refresh(app, of.id).await
}

/// Forgets what arrived of captures that will not be tried again.
async fn forget_unfinished(app: &App, experiment: ExperimentId) -> Result<(), AppError> {
    let mut conn = app.pool.acquire().await?;
    let Some(point) = points::newest(&mut conn, experiment).await? else { return Ok(()) };
    let all = captures::of_point(&mut conn, point.id).await?;
    drop(conn);
    for capture in all.iter().filter(|capture| capture.failure().is_some()) {
        let id = capture.id;
        in_staging(&app.staging, move |staging| staging.discard(id)).await?;
    }
    Ok(())
}

/// Returns the image that free machines hold, if the site has one. One that is named and does not exist, or is
/// retired, means zeroing: that is never less.
pub(super) async fn default_image(
    tx: &mut PgConnection,
    settings: &Settings,
) -> Result<Option<ImageVersion>, AppError> {
    let Some(name) = settings.default_image.clone() else { return Ok(None) };
    let system = Name::new(projects::SYSTEM).map_err(AppError::internal)?;
    let Some(system) = projects::find(&mut *tx, &system).await? else { return Ok(None) };
    Ok(images::resolve(tx, system.id, &ImageSelector { name, version: None }).await?)
}
