//! What was given up unsaved, and by whom.

use boss_api::ids::{NodeId, UserId};
use boss_model::permit::GivenUp;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint};
use crate::error::Outcome;
use crate::nodes::Node;

/// Writes down that somebody gave up what is on a machine, in the epoch it is in. The first word stands.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, node: &Node, by: UserId, at: OffsetDateTime) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO waivers (id, node_id, epoch, user_id, given_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT ON CONSTRAINT waivers_node_key DO NOTHING",
        Uuid::now_v7(),
        node.id.uuid(),
        bigint("epoch", node.epoch)?,
        by.uuid(),
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns who gave up what is on a machine in this epoch, if somebody did.
///
/// # Errors
/// What the database says.
pub async fn of_node(conn: &mut PgConnection, node: NodeId, epoch: u64) -> Outcome<Option<GivenUp>> {
    let row = sqlx::query!(
        "SELECT id, epoch, user_id FROM waivers WHERE node_id = $1 AND epoch = $2",
        node.uuid(),
        bigint("epoch", epoch)?
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let epoch = Row::new("waivers", row.id).number("epoch", row.epoch)?;
        Ok(GivenUp { by: UserId::new(row.user_id), epoch })
    })
    .transpose()
}
