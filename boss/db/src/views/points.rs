use std::collections::HashMap;

use boss_api::ids::{CaptureId, ExperimentId};
use boss_api::user::{CaptureView, SwapPointState, SwapPointView};
use sigs::{Digest, Root};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::Row;
use crate::error::Outcome;

struct Columns {
    id: Uuid,
    experiment_id: Uuid,
    number: i32,
    state: String,
    opened_at: OffsetDateTime,
    closed_at: Option<OffsetDateTime>,
}

/// Returns the swap points of an experiment, newest first.
///
/// # Errors
/// What the database says.
pub async fn points(conn: &mut PgConnection, experiment: ExperimentId) -> Outcome<Vec<SwapPointView>> {
    let rows = sqlx::query_as!(
        Columns,
        "SELECT id, experiment_id, number, state, opened_at, closed_at FROM swap_points
         WHERE experiment_id = $1 ORDER BY number DESC",
        experiment.uuid()
    )
    .fetch_all(&mut *conn)
    .await?;
    Ok(assemble(conn, rows).await?.into_iter().map(|(_, view)| view).collect())
}

/// Returns the newest swap point of each of these experiments that has one.
pub(super) async fn newest(conn: &mut PgConnection, ids: &[Uuid]) -> Outcome<Vec<(Uuid, SwapPointView)>> {
    let rows = sqlx::query_as!(
        Columns,
        "SELECT DISTINCT ON (experiment_id) id, experiment_id, number, state, opened_at, closed_at FROM swap_points
         WHERE experiment_id = ANY($1) ORDER BY experiment_id, number DESC",
        ids
    )
    .fetch_all(&mut *conn)
    .await?;
    assemble(conn, rows).await
}

async fn assemble(conn: &mut PgConnection, rows: Vec<Columns>) -> Outcome<Vec<(Uuid, SwapPointView)>> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut captures = captures(conn, &ids).await?;
    rows.into_iter()
        .map(|row| {
            let at = Row::new("swap_points", row.id);
            let state = match row.state.as_str() {
                "open" => SwapPointState::Open,
                "complete" => SwapPointState::Complete,
                "incomplete" => SwapPointState::Incomplete,
                other => return Err(at.wrong("state", other)),
            };
            let view = SwapPointView {
                number: at.number("number", row.number)?,
                state,
                opened_at: row.opened_at,
                closed_at: row.closed_at,
                captures: captures.remove(&row.id).unwrap_or_default(),
            };
            Ok((row.experiment_id, view))
        })
        .collect()
}

async fn captures(conn: &mut PgConnection, points: &[Uuid]) -> Outcome<HashMap<Uuid, Vec<CaptureView>>> {
    let rows = sqlx::query!(
        "SELECT c.id, c.swap_point_id, vn.vname, n.name AS node, d.name AS disk, c.state, c.scanned_bytes,
                c.changed_bytes, c.zdi_bytes, c.target_root, c.zdi_digest, c.started_at, c.ended_at, c.failure_reason
         FROM captures c JOIN virtual_nodes vn ON vn.id = c.virtual_node_id JOIN nodes n ON n.id = c.node_id
              JOIN disks d ON d.id = c.disk_id
         WHERE c.swap_point_id = ANY($1) ORDER BY vn.vname, d.position",
        points
    )
    .fetch_all(conn)
    .await?;
    let mut by_point: HashMap<Uuid, Vec<CaptureView>> = HashMap::new();
    for row in rows {
        let at = Row::new("captures", row.id);
        let root = row.target_root.map(|bytes| at.bytes32("target_root", &bytes)).transpose()?;
        let zdi = row.zdi_digest.map(|bytes| at.bytes32("zdi_digest", &bytes)).transpose()?;
        by_point.entry(row.swap_point_id).or_default().push(CaptureView {
            id: CaptureId::new(row.id),
            vname: at.parse("vname", &row.vname)?,
            node: at.parse("node", &row.node)?,
            disk: at.parse("disk", &row.disk)?,
            state: row.state,
            scanned_bytes: at.number("scanned_bytes", row.scanned_bytes)?,
            changed_bytes: at.number("changed_bytes", row.changed_bytes)?,
            delta_bytes: row.zdi_bytes.map(|bytes| at.number("zdi_bytes", bytes)).transpose()?,
            target_root: root.map(Root::from_bytes),
            zdi: zdi.map(Digest::from_bytes),
            took_ms: took_ms(row.started_at, row.ended_at),
            failure: row.failure_reason,
        });
    }
    Ok(by_point)
}

/// A clock set back in between makes no negative duration.
fn took_ms(started: Option<OffsetDateTime>, ended: Option<OffsetDateTime>) -> Option<u64> {
    u64::try_from((ended? - started?).whole_milliseconds()).ok()
}
