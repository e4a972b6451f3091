//! What people may take back: a swap-out while its machines are untouched, and a swap-in that is held.

use boss_api::ErrorCode;
use boss_api::agent::{FailureClass, WritePurpose};
use boss_api::ids::{ExperimentId, JobId, UserId};
use boss_api::user::{JobKind, JobState};
use boss_db::experiments::Experiment;
use boss_db::jobs::Job;
use boss_db::nodes::{Epoch, Node};
use boss_db::{PgConnection, boots, captures, experiments, jobs, nodes, users, waivers};
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_model::experiment::ExperimentEvent;
use boss_model::job::JobEvent;
use boss_model::node::{NodeEvent, NodeState, NodeStep};

use super::{abandon, advance, begin, commit, invalid, start, step};
use crate::app::App;
use crate::auth::confirm::Confirmed;
use crate::error::AppError;
use crate::reconcile::permits::void_open;

/// Takes a swap-out back while all its machines are as the experiment left them: each goes back to its own system.
///
/// What is VERIFIED stays so, what is being verified will be, and the rest of its swap point is given up. The machines
/// change hands by it, so that no agent of the swap-out and no permit has an effect any more.
///
/// # Errors
/// [`ErrorCode::WrongState`] when it is not being swapped out, and naming the nodes that cannot go back.
pub async fn request_cancel(app: &App, experiment: ExperimentId, by: UserId) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    let wrong = |text: String| AppError::new(ErrorCode::WrongState, text);
    let old = jobs::unfinished_of(&mut tx, of.id).await?.filter(|job| job.kind == JobKind::SwapOut);
    let old = old.ok_or_else(|| wrong(format!("{} is {}: no swap-out can be taken back", of.full_name(), of.state)))?;
    let to = step(&of, ExperimentEvent::Cancel)?;
    let machines = nodes::of_experiment(&mut tx, of.id).await?;
    let gone = gone(&mut tx, &of, &machines).await?;
    if !gone.is_empty() {
        return Err(wrong(format!("the swap-out of {} cannot be taken back: {}", of.full_name(), gone.join(", "))));
    }
    let job = replace(app, &mut tx, &of, &old, (JobKind::Cancel, by, "taken back")).await?;
    experiments::transition(&mut tx, app.term, of.id, (of.state, to), app.now()).await?;
    for node in machines {
        let node = let_go(app, &mut tx, node).await?;
        void_open(app, &mut tx, &node, &[WritePurpose::Sanitize]).await?;
        abandon_captures(app, &mut tx, &node).await?;
        advance(app, &mut tx, &node, NodeEvent::GoBack, Epoch::Next).await?;
    }
    commit(app, tx).await?;
    Ok(job)
}

/// Says of each node that cannot go back why.
async fn gone(tx: &mut PgConnection, of: &Experiment, machines: &[Node]) -> Result<Vec<String>, AppError> {
    let mut gone = Vec::new();
    for virtual_node in experiments::virtual_nodes(tx, of.id).await? {
        let machine = machines.iter().find(|node| Some(node.id) == virtual_node.node_id);
        let Some(machine) = machine else {
            gone.push(format!("{} has no machine any more", virtual_node.vname));
            continue;
        };
        let at = match &machine.state {
            NodeState::At(step) => *step,
            NodeState::Held(held) => held.from,
        };
        if !at.is_untouched() {
            gone.push(format!("{} on {} is being overwritten", virtual_node.vname, machine.name));
        }
    }
    Ok(gone)
}

async fn abandon_captures(app: &App, tx: &mut PgConnection, node: &Node) -> Result<(), AppError> {
    for capture in captures::of_node(&mut *tx, node.id, node.epoch).await? {
        if matches!(capture.state.step(), CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming) {
            let reason = "the swap-out was taken back".to_owned();
            let event = CaptureEvent::Fail { class: FailureClass::Transient, reason };
            let to = capture.state.clone().apply(event).map_err(AppError::internal)?;
            captures::transition(&mut *tx, app.term, &capture, &to, app.now()).await?;
        }
    }
    Ok(())
}

/// Gives a held swap-in up: its machines are sanitized and freed, and the experiment is swapped out as before.
///
/// A machine that runs already may hold new work; giving that up needs a leader's confirmation.
///
/// # Errors
/// [`ErrorCode::WrongState`] when no swap-in of it is held; [`ErrorCode::NotAllowed`] when the confirmation is missing.
pub async fn request_give_up(
    app: &App,
    experiment: ExperimentId,
    by: UserId,
    confirmed: Option<&Confirmed>,
) -> Result<JobId, AppError> {
    let mut tx = app.begin().await?;
    let of = begin(&mut tx, experiment).await?;
    let old = jobs::unfinished_of(&mut tx, of.id).await?;
    let old = old.filter(|job| job.kind == JobKind::SwapIn && job.state == JobState::Held).ok_or_else(|| {
        let text = format!("{} is {}: no swap-in of it is held", of.full_name(), of.state);
        AppError::new(ErrorCode::WrongState, text)
    })?;
    let to = step(&of, ExperimentEvent::GiveUp)?;
    let job = replace(app, &mut tx, &of, &old, (JobKind::GiveUp, by, "given up")).await?;
    experiments::transition(&mut tx, app.term, of.id, (of.state, to), app.now()).await?;
    for node in nodes::of_experiment(&mut tx, of.id).await? {
        let node = let_go(app, &mut tx, node).await?;
        // One that was to be started may run, whatever its power driver said: a time-out is no proof.
        let let_go = match node.state.step() {
            Some(NodeStep::InUse) => {
                let word = word_for(&node, confirmed)?;
                Some((advance(app, &mut tx, &node, NodeEvent::Quiesce, Epoch::Next).await?, word))
            }
            Some(NodeStep::Checked) => {
                let word = word_for(&node, confirmed)?;
                Some((abandon(app, &mut tx, &node).await?, word))
            }
            Some(NodeStep::Reserved | NodeStep::Restoring) => {
                abandon(app, &mut tx, &node).await?;
                None
            }
            _ => None,
        };
        if let Some((node, word)) = let_go {
            waivers::add(&mut tx, &node, word.by(), app.now()).await?;
        }
    }
    commit(app, tx).await?;
    Ok(job)
}

/// Returns the confirmation that what a machine wrote may be lost.
fn word_for<'a>(node: &Node, confirmed: Option<&'a Confirmed>) -> Result<&'a Confirmed, AppError> {
    confirmed.ok_or_else(|| {
        let runs = if node.state.step() == Some(NodeStep::Checked) { "may run already" } else { "runs already" };
        let text = format!(
            "{} {runs}, and what was written on it since would be lost: retry, or let a leader of the project give it up \
             with the password",
            node.name
        );
        AppError::new(ErrorCode::NotAllowed, text)
    })
}

/// Ends the boot of a machine, and lets it go on from where it was held, if it was.
async fn let_go(app: &App, tx: &mut PgConnection, node: Node) -> Result<Node, AppError> {
    if let Some(boot) = boots::alive(&mut *tx, node.id).await? {
        boots::end(&mut *tx, boot.id).await?;
    }
    match node.state {
        NodeState::Held(_) => advance(app, tx, &node, NodeEvent::Retry, Epoch::Same).await,
        NodeState::At(_) => Ok(node),
    }
}

/// Ends a job without success and begins another in its place.
async fn replace(
    app: &App,
    tx: &mut PgConnection,
    of: &Experiment,
    old: &Job,
    (kind, by, how): (JobKind, UserId, &str),
) -> Result<JobId, AppError> {
    let failed = boss_model::job::apply(old.state, JobEvent::Fail).map_err(|error| invalid(of, error))?;
    let who = users::get(&mut *tx, by).await?.map_or_else(|| by.to_string(), |user| user.name.to_string());
    jobs::transition(&mut *tx, app.term, old, failed, Some(&format!("{how} by {who}")), app.now()).await?;
    start(app, tx, of, (kind, by), None).await
}
