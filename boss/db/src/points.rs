//! Swap points: saved states of experiments.

use boss_api::ids::{ExperimentId, SwapPointId};
use boss_api::user::SwapPointState;
use boss_model::point::{parse, word};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint};
use crate::error::{DbError, Outcome, exactly_one};

/// A swap point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapPoint {
    /// The id.
    pub id: SwapPointId,
    /// Whose it is.
    pub experiment: ExperimentId,
    /// Numbered from 1.
    pub number: u32,
    /// Whether all of it is saved.
    pub state: SwapPointState,
    /// The exact text of its seal, when it is complete or its rest was given up.
    pub sealed: Option<String>,
}

struct Columns {
    id: Uuid,
    experiment_id: Uuid,
    number: i32,
    state: String,
    sealed: Option<String>,
}

impl TryFrom<Columns> for SwapPoint {
    type Error = DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("swap_points", columns.id);
        Ok(Self {
            id: SwapPointId::new(columns.id),
            experiment: ExperimentId::new(columns.experiment_id),
            number: row.number("number", columns.number)?,
            state: parse(&columns.state).map_err(|error| row.wrong("state", error))?,
            sealed: columns.sealed,
        })
    }
}

/// Opens the next swap point of an experiment. The caller holds the experiment's row.
///
/// # Errors
/// What the database says.
pub async fn open(
    conn: &mut PgConnection,
    id: SwapPointId,
    experiment: ExperimentId,
    at: OffsetDateTime,
) -> Outcome<u32> {
    let number = sqlx::query_scalar!(
        "INSERT INTO swap_points (id, experiment_id, number, state, opened_at)
         VALUES ($1, $2, (SELECT coalesce(max(number), 0) + 1 FROM swap_points WHERE experiment_id = $2), 'open', $3)
         RETURNING number",
        id.uuid(),
        experiment.uuid(),
        at
    )
    .fetch_one(conn)
    .await?;
    Row::new("swap_points", id).number("number", number)
}

/// Returns a swap point.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut PgConnection, id: SwapPointId) -> Outcome<Option<SwapPoint>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, experiment_id, number, state, sealed FROM swap_points WHERE id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the newest swap point of an experiment.
///
/// # Errors
/// What the database says.
pub async fn newest(conn: &mut PgConnection, experiment: ExperimentId) -> Outcome<Option<SwapPoint>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, experiment_id, number, state, sealed FROM swap_points WHERE experiment_id = $1
         ORDER BY number DESC LIMIT 1",
        experiment.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the sealed swap points of an experiment, oldest first: those that are complete, and those whose rest was
/// given up. What it is swapped in from is in them.
///
/// # Errors
/// What the database says.
pub async fn sealed(conn: &mut PgConnection, experiment: ExperimentId) -> Outcome<Vec<SwapPoint>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, experiment_id, number, state, sealed FROM swap_points
         WHERE experiment_id = $1 AND sealed IS NOT NULL ORDER BY number",
        experiment.uuid()
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Moves a swap point from the state it was read in to another, in this term.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn transition(
    conn: &mut PgConnection,
    term: u64,
    point: &SwapPoint,
    to: SwapPointState,
    sealed: Option<&str>,
    at: OffsetDateTime,
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE swap_points SET state = $3, sealed = $4, closed_at = $5
         WHERE id = $1 AND state = $2 AND (SELECT term FROM boss_term) = $6",
        point.id.uuid(),
        word(point.state),
        word(to),
        sealed,
        at,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("swap point {}", point.number))
}
