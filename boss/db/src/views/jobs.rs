use boss_api::ids::{ExperimentId, JobId, ProjectId};
use boss_api::user::JobView;
use boss_model::job::{parse_kind, parse_state};
use boss_model::settings::parse_on_failure;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::Row;
use crate::error::Outcome;

/// A job, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOfExperiment {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The experiment's project.
    pub project: ProjectId,
    /// The job.
    pub view: JobView,
}

struct Columns {
    id: Uuid,
    kind: String,
    state: String,
    saves: bool,
    on_failure: String,
    detail: Option<String>,
    created_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

impl TryFrom<Columns> for JobView {
    type Error = crate::DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("jobs", columns.id);
        let saves = columns.saves;
        let on_failure = parse_on_failure(&columns.on_failure).map_err(|error| row.wrong("on_failure", error))?;
        Ok(Self {
            id: JobId::new(columns.id),
            kind: parse_kind(&columns.kind).map_err(|error| row.wrong("kind", error))?,
            state: parse_state(&columns.state).map_err(|error| row.wrong("state", error))?,
            saves,
            on_failure: saves.then_some(on_failure),
            detail: columns.detail,
            created_at: columns.created_at,
            ended_at: columns.ended_at,
        })
    }
}

/// Returns a job.
///
/// # Errors
/// What the database says.
pub async fn job(conn: &mut PgConnection, id: JobId) -> Outcome<Option<JobOfExperiment>> {
    let row = sqlx::query!(
        "SELECT j.id, j.kind, j.state, j.saves, j.on_failure, j.detail, j.created_at, j.ended_at, j.experiment_id, e.project_id
         FROM jobs j JOIN experiments e ON e.id = j.experiment_id WHERE j.id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let view = Columns {
            id: row.id,
            kind: row.kind,
            state: row.state,
            saves: row.saves,
            on_failure: row.on_failure,
            detail: row.detail,
            created_at: row.created_at,
            ended_at: row.ended_at,
        };
        Ok(JobOfExperiment {
            experiment: ExperimentId::new(row.experiment_id),
            project: ProjectId::new(row.project_id),
            view: view.try_into()?,
        })
    })
    .transpose()
}

/// Returns the newest job of an experiment, over or not.
///
/// # Errors
/// What the database says.
pub async fn last_job(conn: &mut PgConnection, experiment: ExperimentId) -> Outcome<Option<JobView>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, kind, state, saves, on_failure, detail, created_at, ended_at FROM jobs WHERE experiment_id = $1
         ORDER BY created_at DESC, id DESC LIMIT 1",
        experiment.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the running or held job of each of these experiments that has one.
pub(super) async fn unfinished(conn: &mut PgConnection, ids: &[Uuid]) -> Outcome<Vec<(Uuid, JobView)>> {
    let rows = sqlx::query!(
        "SELECT id, kind, state, saves, on_failure, detail, created_at, ended_at, experiment_id FROM jobs
         WHERE experiment_id = ANY($1) AND state IN ('running', 'held')",
        ids
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let view = Columns {
                id: row.id,
                kind: row.kind,
                state: row.state,
                saves: row.saves,
                on_failure: row.on_failure,
                detail: row.detail,
                created_at: row.created_at,
                ended_at: row.ended_at,
            };
            Ok((row.experiment_id, view.try_into()?))
        })
        .collect()
}
