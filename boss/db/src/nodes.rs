//! Machines, their disks, and which virtual node each is.

use boss_api::Name;
use boss_api::ids::{DiskId, ExperimentId, NodeId, UserId, VirtualNodeId};
use boss_api::user::PowerConfig;
use boss_model::node::{Held, NodeState};
use sigs::{ByteLen, SectorSize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint, integer};
use crate::error::{DbError, Outcome, exactly_one};

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The id.
    pub id: NodeId,
    /// The name.
    pub name: Name,
    /// The state.
    pub state: NodeState,
    /// How often it changed hands.
    pub epoch: u64,
    /// How it is switched.
    pub power: PowerConfig,
    /// Since when it is in its state.
    pub state_since: OffsetDateTime,
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The id.
    pub id: DiskId,
    /// Whose it is.
    pub node_id: NodeId,
    /// The name.
    pub name: Name,
    /// The serial number.
    pub serial: String,
    /// The size.
    pub bytes: ByteLen,
    /// The size of a logical sector.
    pub sector_size: SectorSize,
    /// The first is the one it boots from.
    pub position: u32,
}

struct Columns {
    id: Uuid,
    name: String,
    state: String,
    epoch: i64,
    power: serde_json::Value,
    held_reason: Option<String>,
    held_owner: Option<String>,
    held_next: Option<String>,
    held_from: Option<String>,
    state_since: OffsetDateTime,
}

impl TryFrom<Columns> for Node {
    type Error = DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("nodes", columns.id);
        let state = match (columns.held_reason, columns.held_owner, columns.held_next, columns.held_from) {
            (Some(reason), Some(owner), Some(next), Some(from)) => {
                NodeState::Held(Held { reason, owner, next, from: row.parse("held_from", &from)? })
            }
            _ => NodeState::At(row.parse("state", &columns.state)?),
        };
        Ok(Self {
            id: NodeId::new(columns.id),
            name: row.parse("name", &columns.name)?,
            state,
            epoch: row.number("epoch", columns.epoch)?,
            power: serde_json::from_value(columns.power).map_err(|error| row.wrong("power", error))?,
            state_since: columns.state_since,
        })
    }
}

/// Adds a machine, free. A taken name is refused by the constraint `nodes_name_key`.
///
/// # Errors
/// What the database says.
pub async fn add(
    conn: &mut PgConnection,
    id: NodeId,
    name: &Name,
    power: &PowerConfig,
    at: OffsetDateTime,
) -> Outcome<()> {
    let row = Row::new("nodes", id);
    sqlx::query!(
        "INSERT INTO nodes (id, name, state, power, state_since, created_at) VALUES ($1, $2, 'free', $3, $4, $4)",
        id.uuid(),
        name.as_str(),
        serde_json::to_value(power).map_err(|error| row.wrong("power", error))?,
        at
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds a disk. A taken serial number is refused by the constraint `disks_serial_key`, a name by `disks_name_key`.
///
/// # Errors
/// What the database says.
pub async fn add_disk(conn: &mut PgConnection, disk: &Disk) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO disks (id, node_id, name, serial, bytes, sector_size, position) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        disk.id.uuid(),
        disk.node_id.uuid(),
        disk.name.as_str(),
        disk.serial,
        bigint("bytes", disk.bytes.get())?,
        integer("sector_size", disk.sector_size.bytes())?,
        integer("position", disk.position)?,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns a machine.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut PgConnection, id: NodeId) -> Outcome<Option<Node>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, name, state, epoch, power, held_reason, held_owner, held_next, held_from, state_since
         FROM nodes WHERE id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns a machine and locks it: its step stays what it is until the transaction ends.
///
/// # Errors
/// What the database says.
pub async fn lock(conn: &mut PgConnection, id: NodeId) -> Outcome<Option<Node>> {
    sqlx::query!("SELECT id FROM nodes WHERE id = $1 FOR UPDATE", id.uuid()).fetch_optional(&mut *conn).await?;
    get(conn, id).await
}

/// Returns the machine of this name.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut PgConnection, name: &Name) -> Outcome<Option<Node>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, name, state, epoch, power, held_reason, held_owner, held_next, held_from, state_since
         FROM nodes WHERE name = $1",
        name.as_str()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the machines of an experiment, in the order of its virtual nodes' names.
///
/// # Errors
/// What the database says.
pub async fn of_experiment(conn: &mut PgConnection, experiment: ExperimentId) -> Outcome<Vec<Node>> {
    sqlx::query_as!(
        Columns,
        "SELECT n.id, n.name, n.state, n.epoch, n.power, n.held_reason, n.held_owner, n.held_next, n.held_from,
                n.state_since
         FROM nodes n JOIN virtual_nodes v ON v.node_id = n.id WHERE v.experiment_id = $1 ORDER BY v.vname",
        experiment.uuid()
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Returns all machines, by name.
///
/// # Errors
/// What the database says.
pub async fn all(conn: &mut PgConnection) -> Outcome<Vec<Node>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, name, state, epoch, power, held_reason, held_owner, held_next, held_from, state_since
         FROM nodes ORDER BY name"
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Returns the free machines by name and locks them; those that somebody else is just taking are left out.
///
/// # Errors
/// What the database says.
pub async fn lock_free(conn: &mut PgConnection) -> Outcome<Vec<Node>> {
    sqlx::query_as!(
        Columns,
        "SELECT id, name, state, epoch, power, held_reason, held_owner, held_next, held_from, state_since
         FROM nodes WHERE state = 'free' ORDER BY name FOR UPDATE SKIP LOCKED"
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Returns the disks of a machine; the first is the one it boots from.
///
/// # Errors
/// What the database says.
pub async fn disks(conn: &mut PgConnection, node: NodeId) -> Outcome<Vec<Disk>> {
    let rows = sqlx::query!(
        "SELECT id, name, serial, bytes, sector_size, position FROM disks WHERE node_id = $1 ORDER BY position",
        node.uuid()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at = Row::new("disks", row.id);
            let sector: u32 = at.number("sector_size", row.sector_size)?;
            Ok(Disk {
                id: DiskId::new(row.id),
                node_id: node,
                name: at.parse("name", &row.name)?,
                serial: row.serial,
                bytes: ByteLen::new(at.number("bytes", row.bytes)?),
                sector_size: SectorSize::new(sector).map_err(|error| at.wrong("sector_size", error))?,
                position: at.number("position", row.position)?,
            })
        })
        .collect()
}

/// Whether a move is a change of hands, after which effects of before are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// The same hands.
    Same,
    /// Others.
    Next,
}

/// Moves a machine from the state and epoch it was read in to another, in this term, and returns it as it is now.
///
/// # Errors
/// [`DbError::LostRace`] when it moved meanwhile or the term is over; what the database says.
pub async fn transition(
    conn: &mut PgConnection,
    term: u64,
    node: &Node,
    to: NodeState,
    epoch: Epoch,
    at: OffsetDateTime,
) -> Outcome<Node> {
    let held = match &to {
        NodeState::Held(held) => Some(held),
        NodeState::At(_) => None,
    };
    let next = match epoch {
        Epoch::Same => node.epoch,
        Epoch::Next => node.epoch + 1,
    };
    let done = sqlx::query!(
        "UPDATE nodes SET state = $4, epoch = $5, moves = moves + 1, held_reason = $6, held_owner = $7,
                          held_next = $8, held_from = $9,
                          state_since = $10, kept_by = NULL, kept_until = NULL, kept_note = NULL
         WHERE id = $1 AND state = $2 AND epoch = $3 AND (SELECT term FROM boss_term) = $11",
        node.id.uuid(),
        node.state.as_str(),
        bigint("epoch", node.epoch)?,
        to.as_str(),
        bigint("epoch", next)?,
        held.map(|held| held.reason.as_str()),
        held.map(|held| held.owner.as_str()),
        held.map(|held| held.next.as_str()),
        held.map(|held| held.from.as_str()),
        at,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("node {} ({} to {})", node.name, node.state.as_str(), to.as_str()))?;
    Ok(Node { state: to, epoch: next, state_since: at, ..node.clone() })
}

/// Notes who wants a held machine left alone, until when and why. A later note takes the place of an earlier one.
///
/// # Errors
/// [`DbError::LostRace`] when it is not held any more or the term is over; what the database says.
pub async fn keep(
    conn: &mut PgConnection,
    term: u64,
    node: &Node,
    by: UserId,
    (until, note): (OffsetDateTime, &str),
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE nodes SET kept_by = $3, kept_until = $4, kept_note = $5
         WHERE id = $1 AND state = 'held' AND epoch = $2 AND (SELECT term FROM boss_term) = $6",
        node.id.uuid(),
        bigint("epoch", node.epoch)?,
        by.uuid(),
        until,
        note,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("node {}", node.name))
}

/// Gives a machine to a virtual node that has none.
///
/// # Errors
/// [`DbError::LostRace`] when it has one; what the database says.
pub async fn attach(conn: &mut PgConnection, virtual_node: VirtualNodeId, node: NodeId) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE virtual_nodes SET node_id = $2 WHERE id = $1 AND node_id IS NULL",
        virtual_node.uuid(),
        node.uuid()
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("virtual node {virtual_node}"))
}

/// Takes a machine from its virtual node.
///
/// # Errors
/// [`DbError::LostRace`] when it is none; what the database says.
pub async fn detach(conn: &mut PgConnection, node: NodeId) -> Outcome<()> {
    let done =
        sqlx::query!("UPDATE virtual_nodes SET node_id = NULL WHERE node_id = $1", node.uuid()).execute(conn).await?;
    exactly_one(done.rows_affected(), || format!("node {node}"))
}
