//! What happened, for people, in order. Nothing is decided by it.

use boss_api::ids::{ExperimentId, NodeId, UserId};
use boss_api::user::EventView;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::columns::Row;
use crate::error::Outcome;

/// An event to add.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// The experiment it is about.
    pub experiment: Option<ExperimentId>,
    /// The machine it is about.
    pub node: Option<NodeId>,
    /// Who asked for it; nothing: boss itself.
    pub user: Option<UserId>,
    /// A word for programs, such as `swap-out.asked`.
    pub kind: &'a str,
    /// A sentence for people. No secrets.
    pub message: &'a str,
    /// Now.
    pub at: OffsetDateTime,
}

/// Adds an event.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, event: NewEvent<'_>) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO events (experiment_id, node_id, user_id, kind, message, at) VALUES ($1, $2, $3, $4, $5, $6)",
        event.experiment.map(ExperimentId::uuid),
        event.node.map(NodeId::uuid),
        event.user.map(UserId::uuid),
        event.kind,
        event.message,
        event.at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the newest events of an experiment, newest first.
///
/// # Errors
/// What the database says.
pub async fn of_experiment(conn: &mut PgConnection, id: ExperimentId, limit: u16) -> Outcome<Vec<EventView>> {
    let rows = sqlx::query!(
        r#"SELECT e.id, e.kind, e.message, e.at, n.name AS "node?"
           FROM events e LEFT JOIN nodes n ON n.id = e.node_id
           WHERE e.experiment_id = $1 ORDER BY e.id DESC LIMIT $2"#,
        id.uuid(),
        i64::from(limit),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at = Row::new("events", row.id);
            let node = row.node.map(|node| at.parse("node", &node)).transpose()?;
            Ok(EventView { id: row.id, kind: row.kind, message: row.message, node, at: row.at })
        })
        .collect()
}
