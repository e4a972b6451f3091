use std::collections::HashMap;

use boss_api::Name;
use boss_api::ids::NodeId;
use boss_api::user::{DiskView, HeldDisks, ImageSelector, KeptView, NodeStateView, NodeView, SegmentView};
use boss_model::node::NodeStep;
use sigs::{ByteLen, ByteOffset, Root};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::Row;
use crate::error::Outcome;

/// What a held machine says.
#[derive(Default)]
pub(super) struct Held {
    pub(super) reason: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) next: Option<String>,
    pub(super) from: Option<String>,
    pub(super) kept_by: Option<String>,
    pub(super) kept_until: Option<OffsetDateTime>,
    pub(super) kept_note: Option<String>,
}

impl Held {
    fn read(self, row: &Row) -> Outcome<NodeStateView> {
        let (Some(reason), Some(owner), Some(next), Some(from)) = (self.reason, self.owner, self.next, self.from)
        else {
            return Err(row.wrong("held_reason", "held, and nothing says why"));
        };
        let from: NodeStep = row.parse("held_from", &from)?;
        let kept = match (self.kept_by, self.kept_until, self.kept_note) {
            (Some(by), Some(until), Some(note)) => Some(KeptView { by: row.parse("kept_by", &by)?, until, note }),
            _ => None,
        };
        Ok(NodeStateView::Held { reason, owner, next, disks: held_disks(from), kept })
    }
}

const fn held_disks(from: NodeStep) -> HeldDisks {
    if from.may_hold_unsaved() {
        HeldDisks::Unsaved
    } else if from.is_untouched() {
        HeldDisks::Settled
    } else {
        HeldDisks::Ours
    }
}

/// Reads a machine's state as the columns hold it.
pub(super) fn read_state(row: &Row, state: &str, held: Held) -> Outcome<NodeStateView> {
    Ok(match state {
        "free" => NodeStateView::Free,
        "reserved" => NodeStateView::Reserved,
        "restoring" => NodeStateView::Restoring,
        "checked" => NodeStateView::Checked,
        "in_use" => NodeStateView::InUse,
        "quiescing" => NodeStateView::Quiescing,
        "capturing" => NodeStateView::Capturing,
        "releasable" => NodeStateView::Releasable,
        "sanitizing" => NodeStateView::Sanitizing,
        "rebooting" => NodeStateView::Rebooting,
        "held" => held.read(row)?,
        other => return Err(row.wrong("state", other)),
    })
}

/// Returns a machine as shown.
///
/// # Errors
/// What the database says.
pub async fn machine(conn: &mut PgConnection, name: &Name) -> Outcome<Option<NodeView>> {
    Ok(read(conn, Some(name)).await?.pop())
}

/// Returns all machines as shown, by name.
///
/// # Errors
/// What the database says.
pub async fn machines(conn: &mut PgConnection) -> Outcome<Vec<NodeView>> {
    read(conn, None).await
}

async fn read(conn: &mut PgConnection, name: Option<&Name>) -> Outcome<Vec<NodeView>> {
    let rows = sqlx::query!(
        r#"SELECT n.id, n.name, n.state, n.epoch, n.held_reason, n.held_owner, n.held_next, n.held_from,
                  u.name AS "kept_by?", n.kept_until, n.kept_note, vn.vname AS "vname?", p.pid AS "pid?", e.eid AS "eid?"
           FROM nodes n LEFT JOIN users u ON u.id = n.kept_by LEFT JOIN virtual_nodes vn ON vn.node_id = n.id
                LEFT JOIN experiments e ON e.id = vn.experiment_id LEFT JOIN projects p ON p.id = e.project_id
           WHERE $1::text IS NULL OR n.name = $1 ORDER BY n.name"#,
        name.map(Name::as_str)
    )
    .fetch_all(&mut *conn)
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut disks = disks(conn, &ids).await?;
    rows.into_iter()
        .map(|row| {
            let at = Row::new("nodes", row.id);
            let held = Held {
                reason: row.held_reason,
                owner: row.held_owner,
                next: row.held_next,
                from: row.held_from,
                kept_by: row.kept_by,
                kept_until: row.kept_until,
                kept_note: row.kept_note,
            };
            Ok(NodeView {
                id: NodeId::new(row.id),
                name: at.parse("name", &row.name)?,
                state: read_state(&at, &row.state, held)?,
                epoch: at.number("epoch", row.epoch)?,
                experiment: row.pid.zip(row.eid).map(|(pid, eid)| format!("{pid}/{eid}")),
                vname: row.vname.map(|vname| at.parse("vname", &vname)).transpose()?,
                disks: disks.remove(&row.id).unwrap_or_default(),
            })
        })
        .collect()
}

async fn disks(conn: &mut PgConnection, nodes: &[Uuid]) -> Outcome<HashMap<Uuid, Vec<DiskView>>> {
    let mut segments = segments(conn, nodes).await?;
    let rows = sqlx::query!(
        "SELECT id, node_id, name, serial, bytes FROM disks WHERE node_id = ANY($1) ORDER BY position",
        nodes
    )
    .fetch_all(conn)
    .await?;
    let mut by_node: HashMap<Uuid, Vec<DiskView>> = HashMap::new();
    for row in rows {
        let at = Row::new("disks", row.id);
        by_node.entry(row.node_id).or_default().push(DiskView {
            name: at.parse("name", &row.name)?,
            serial: row.serial,
            bytes: ByteLen::new(at.number("bytes", row.bytes)?),
            segments: segments.remove(&row.id).unwrap_or_default(),
        });
    }
    Ok(by_node)
}

async fn segments(conn: &mut PgConnection, nodes: &[Uuid]) -> Outcome<HashMap<Uuid, Vec<SegmentView>>> {
    let rows = sqlx::query!(
        "SELECT s.id, s.disk_id, s.start_byte, s.bytes, i.name AS image, v.version, s.root, s.loaded_at
         FROM segments s JOIN disks d ON d.id = s.disk_id
              JOIN image_versions v ON v.id = s.image_version_id JOIN images i ON i.id = v.image_id
         WHERE d.node_id = ANY($1) ORDER BY s.start_byte",
        nodes
    )
    .fetch_all(conn)
    .await?;
    let mut by_disk: HashMap<Uuid, Vec<SegmentView>> = HashMap::new();
    for row in rows {
        let at = Row::new("segments", row.id);
        let image =
            ImageSelector { name: at.parse("image", &row.image)?, version: Some(at.number("version", row.version)?) };
        by_disk.entry(row.disk_id).or_default().push(SegmentView {
            start: ByteOffset::new(at.number("start_byte", row.start_byte)?),
            bytes: ByteLen::new(at.number("bytes", row.bytes)?),
            image,
            root: Root::from_bytes(at.bytes32("root", &row.root)?),
            loaded_at: row.loaded_at,
        });
    }
    Ok(by_disk)
}
