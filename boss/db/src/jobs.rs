//! What people asked for.

use boss_api::ids::{ExperimentId, JobId, NodeId, UserId};
use boss_api::user::{JobKind, JobState, OnFailure};
use boss_model::job::{kind_word, parse_kind, parse_state, state_word};
use boss_model::settings::{on_failure_word, parse_on_failure};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint};
use crate::error::{DbError, Outcome, exactly_one};

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The id.
    pub id: JobId,
    /// What was asked for.
    pub kind: JobKind,
    /// Of which experiment.
    pub experiment: ExperimentId,
    /// Of which machine, for a load.
    pub node: Option<NodeId>,
    /// By whom.
    pub requester: UserId,
    /// What became of it.
    pub state: JobState,
    /// Whether a swap-out saves: decided when it was asked for.
    pub saves: bool,
    /// What a swap-out does with the saved when another is not: decided when it was asked for.
    pub on_failure: OnFailure,
}

struct Columns {
    id: Uuid,
    kind: String,
    experiment_id: Uuid,
    node_id: Option<Uuid>,
    requester_id: Uuid,
    state: String,
    saves: bool,
    on_failure: String,
}

impl TryFrom<Columns> for Job {
    type Error = DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("jobs", columns.id);
        Ok(Self {
            id: JobId::new(columns.id),
            kind: parse_kind(&columns.kind).map_err(|error| row.wrong("kind", error))?,
            experiment: ExperimentId::new(columns.experiment_id),
            node: columns.node_id.map(NodeId::new),
            requester: UserId::new(columns.requester_id),
            state: parse_state(&columns.state).map_err(|error| row.wrong("state", error))?,
            saves: columns.saves,
            on_failure: parse_on_failure(&columns.on_failure).map_err(|error| row.wrong("on_failure", error))?,
        })
    }
}

/// Locks an experiment until the transaction ends, so that what is decided about the whole of it is decided one after
/// the other.
///
/// # Errors
/// What the database says.
pub async fn lock_experiment(conn: &mut PgConnection, experiment: ExperimentId) -> Outcome<()> {
    sqlx::query_scalar!("SELECT id FROM experiments WHERE id = $1 FOR UPDATE", experiment.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(())
}

/// Adds a running job. A second one of the same experiment is refused by the constraint `jobs_one_at_a_time`.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, job: &Job, at: OffsetDateTime) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO jobs (id, kind, experiment_id, node_id, requester_id, state, saves, on_failure, created_at)
         VALUES ($1, $2, $3, $4, $5, 'running', $6, $7, $8)",
        job.id.uuid(),
        kind_word(job.kind),
        job.experiment.uuid(),
        job.node.map(NodeId::uuid),
        job.requester.uuid(),
        job.saves,
        on_failure_word(job.on_failure),
        at
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the job of an experiment that runs or is held.
///
/// # Errors
/// What the database says.
pub async fn unfinished_of(conn: &mut PgConnection, experiment: ExperimentId) -> Outcome<Option<Job>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, kind, experiment_id, node_id, requester_id, state, saves, on_failure FROM jobs
         WHERE experiment_id = $1 AND state IN ('running', 'held')",
        experiment.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the jobs that run or are held, oldest first.
///
/// # Errors
/// What the database says.
pub async fn unfinished(conn: &mut PgConnection) -> Outcome<Vec<Job>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, kind, experiment_id, node_id, requester_id, state, saves, on_failure FROM jobs
         WHERE state IN ('running', 'held') ORDER BY id"
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Moves a job from the state it was read in to another, in this term.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn transition(
    conn: &mut PgConnection,
    term: u64,
    job: &Job,
    to: JobState,
    detail: Option<&str>,
    at: OffsetDateTime,
) -> Outcome<()> {
    let ended = matches!(to, JobState::Done | JobState::Failed).then_some(at);
    let done = sqlx::query!(
        "UPDATE jobs SET state = $3, detail = $4, ended_at = $5
         WHERE id = $1 AND state = $2 AND (SELECT term FROM boss_term) = $6",
        job.id.uuid(),
        state_word(job.state),
        state_word(to),
        detail,
        ended,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("job {}", job.id))
}
