//! Doubt: a machine is held, and with it its experiment and its job, until a person decides.

use boss_api::ids::{ExperimentId, NodeId};
use boss_api::user::JobState;
use boss_db::events::NewEvent;
use boss_db::nodes::{Epoch, Node};
use boss_db::{PgConnection, events, experiments, jobs, nodes};
use boss_model::experiment::{ExperimentEvent, apply};
use boss_model::job::JobEvent;
use boss_model::node::{Held, NodeEvent, NodeState};
use time::OffsetDateTime;

use crate::app::App;
use crate::error::AppError;

/// Why a machine is held.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    /// What happened.
    pub(crate) reason: String,
    /// What to do next.
    pub(crate) next: String,
}

impl Doubt {
    pub(crate) fn new(reason: impl Into<String>, next: impl Into<String>) -> Self {
        Self { reason: reason.into(), next: next.into() }
    }
}

/// In which term, and when, a row is moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruling {
    pub(crate) term: u64,
    pub(crate) at: OffsetDateTime,
}

/// Holds a machine that is as it was seen. One that has moved since is looked at again, and the doubt with it.
pub(crate) async fn hold(app: &App, seen: &Node, doubt: Doubt) -> Result<(), AppError> {
    let mut tx = app.begin().await?;
    let (_, now) = lock(&mut tx, seen.id).await?;
    if now.is_none_or(|now| now.state != seen.state || now.epoch != seen.epoch) {
        tracing::info!(node = %seen.name, "moved on while it was looked at; not held: {}", doubt.reason);
        return Ok(());
    }
    hold_within(app, &mut tx, seen.id, doubt).await?;
    failpoints::hit("node.held.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("node.held.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    Ok(())
}

/// Locks a machine and whose it is, in the order in which everybody does.
async fn lock(tx: &mut PgConnection, node: NodeId) -> Result<(Option<ExperimentId>, Option<Node>), AppError> {
    let virtual_node = experiments::virtual_node_on(&mut *tx, node).await?;
    let experiment = virtual_node.map(|virtual_node| virtual_node.experiment_id);
    if let Some(experiment) = experiment {
        jobs::lock_experiment(&mut *tx, experiment).await?;
    }
    Ok((experiment, nodes::lock(&mut *tx, node).await?))
}

/// As [`hold`], in a transaction that also records why: no step comes between.
pub(crate) async fn hold_within(app: &App, tx: &mut PgConnection, node: NodeId, doubt: Doubt) -> Result<(), AppError> {
    hold_for(Whom::Operator, Ruling { term: app.term, at: app.now() }, tx, node, doubt).await
}

/// Who lets a held machine go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Whoever may deal with the experiment.
    Operator,
    /// The operators of the site alone: see [`Held::SITE`].
    Site,
}

/// As [`hold_within`], also for a boss that only just takes over. A machine that is held already keeps its first reason,
/// but becomes one for the site.
pub(crate) async fn hold_for(
    whom: Whom,
    Ruling { term, at }: Ruling,
    tx: &mut PgConnection,
    node: NodeId,
    doubt: Doubt,
) -> Result<(), AppError> {
    // Whatever it goes through at this moment: what is sure is not lost to the next step.
    let (experiment, Some(node)) = lock(&mut *tx, node).await? else { return Ok(()) };
    if let NodeState::Held(held) = &node.state {
        if whom == Whom::Site && !held.is_for_the_site() {
            let held = held.clone().for_the_site(&doubt.reason, &doubt.next);
            nodes::transition(&mut *tx, term, &node, NodeState::Held(held), Epoch::Same, at).await?;
        }
        return Ok(());
    }
    let owner = match whom {
        Whom::Operator => Held::OPERATOR,
        Whom::Site => Held::SITE,
    };
    let message = format!("{} is held: {}. Next: {}", node.name, doubt.reason, doubt.next);
    let event = NodeEvent::Hold { reason: doubt.reason, owner: owner.into(), next: doubt.next };
    let held = node.state.clone().apply(event).map_err(AppError::internal)?;
    nodes::transition(&mut *tx, term, &node, held, Epoch::Same, at).await?;
    if let Some(id) = experiment {
        if let Some(of) = experiments::get(&mut *tx, id).await?
            && let Ok(to) = apply(of.state, ExperimentEvent::Hold)
        {
            experiments::transition(&mut *tx, term, id, (of.state, to), at).await?;
        }
        if let Some(job) = jobs::unfinished_of(&mut *tx, id).await?
            && job.state == JobState::Running
        {
            let to = boss_model::job::apply(job.state, JobEvent::Hold).map_err(AppError::internal)?;
            jobs::transition(&mut *tx, term, &job, to, Some(&message), at).await?;
        }
    }
    let event = NewEvent { experiment, node: Some(node.id), user: None, kind: "node.held", message: &message, at };
    events::add(&mut *tx, event).await?;
    tracing::warn!(node = %node.name, "{message}");
    Ok(())
}
