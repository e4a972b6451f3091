//! Experiments and their virtual nodes.

use boss_api::ids::{ExperimentId, ImageVersionId, NodeId, ProjectId, UserId, VirtualNodeId};
use boss_api::user::ExperimentState;
use boss_api::{ExperimentName, Name};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{Row, bigint};
use crate::error::{Outcome, exactly_one};

/// An experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiment {
    /// The id, never reused.
    pub id: ExperimentId,
    /// The project.
    pub project_id: ProjectId,
    /// The project's name.
    pub pid: Name,
    /// The name; may be reused once it has ended.
    pub eid: Name,
    /// The state.
    pub state: ExperimentState,
    /// Since when.
    pub state_since: OffsetDateTime,
    /// The *Save swap state* box.
    pub save_swap_state: bool,
    /// Who made it.
    pub creator: Name,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

impl Experiment {
    /// Returns `pid/eid`.
    pub fn full_name(&self) -> ExperimentName {
        ExperimentName { pid: self.pid.clone(), eid: self.eid.clone() }
    }
}

/// An experiment to add, swapped out.
#[derive(Clone, Copy, Debug)]
pub struct NewExperiment<'a> {
    /// Made by the caller.
    pub id: ExperimentId,
    /// The project.
    pub project_id: ProjectId,
    /// The name.
    pub eid: &'a Name,
    /// The *Save swap state* box.
    pub save_swap_state: bool,
    /// Who makes it.
    pub creator_id: UserId,
    /// Now.
    pub at: OffsetDateTime,
}

/// A virtual node, and the machine it has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualNode {
    /// The id.
    pub id: VirtualNodeId,
    /// Whose it is.
    pub experiment_id: ExperimentId,
    /// The name.
    pub vname: Name,
    /// What it is made from.
    pub image_version_id: ImageVersionId,
    /// The machine.
    pub node_id: Option<NodeId>,
}

/// Reads a state as the column holds it.
pub(crate) fn read_state(row: &Row, text: &str) -> Outcome<ExperimentState> {
    Ok(match text {
        "swapped" => ExperimentState::Swapped,
        "activating" => ExperimentState::Activating,
        "active" => ExperimentState::Active,
        "swapping" => ExperimentState::Swapping,
        "terminating" => ExperimentState::Terminating,
        "ended" => ExperimentState::Ended,
        "held" => ExperimentState::Held,
        other => return Err(row.wrong("state", other)),
    })
}

struct Columns {
    id: Uuid,
    project_id: Uuid,
    pid: String,
    eid: String,
    state: String,
    state_since: OffsetDateTime,
    save_swap_state: bool,
    creator: String,
    created_at: OffsetDateTime,
}

impl TryFrom<Columns> for Experiment {
    type Error = crate::DbError;
    fn try_from(columns: Columns) -> Outcome<Self> {
        let row = Row::new("experiments", columns.id);
        Ok(Self {
            id: ExperimentId::new(columns.id),
            project_id: ProjectId::new(columns.project_id),
            pid: row.parse("pid", &columns.pid)?,
            eid: row.parse("eid", &columns.eid)?,
            state: read_state(&row, &columns.state)?,
            state_since: columns.state_since,
            save_swap_state: columns.save_swap_state,
            creator: row.parse("creator", &columns.creator)?,
            created_at: columns.created_at,
        })
    }
}

/// Adds an experiment. A taken name is refused by the constraint `experiments_eid_key`.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, new: NewExperiment<'_>) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO experiments (id, project_id, eid, state, save_swap_state, creator_id, created_at, state_since)
         VALUES ($1, $2, $3, 'swapped', $4, $5, $6, $6)",
        new.id.uuid(),
        new.project_id.uuid(),
        new.eid.as_str(),
        new.save_swap_state,
        new.creator_id.uuid(),
        new.at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds a virtual node. A name given twice is refused by the constraint `virtual_nodes_vname_key`.
///
/// # Errors
/// What the database says.
pub async fn add_virtual_node(
    conn: &mut PgConnection,
    id: VirtualNodeId,
    experiment: ExperimentId,
    vname: &Name,
    image: ImageVersionId,
) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO virtual_nodes (id, experiment_id, vname, image_version_id) VALUES ($1, $2, $3, $4)",
        id.uuid(),
        experiment.uuid(),
        vname.as_str(),
        image.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns an experiment, also one that has ended.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut PgConnection, id: ExperimentId) -> Outcome<Option<Experiment>> {
    sqlx::query_as!(
        Columns,
        "SELECT e.id, e.project_id, p.pid, e.eid, e.state, e.state_since, e.save_swap_state, u.name AS creator,
                e.created_at
         FROM experiments e JOIN projects p ON p.id = e.project_id JOIN users u ON u.id = e.creator_id
         WHERE e.id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the experiment that has this name now.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut PgConnection, name: &ExperimentName) -> Outcome<Option<Experiment>> {
    sqlx::query_as!(
        Columns,
        "SELECT e.id, e.project_id, p.pid, e.eid, e.state, e.state_since, e.save_swap_state, u.name AS creator,
                e.created_at
         FROM experiments e JOIN projects p ON p.id = e.project_id JOIN users u ON u.id = e.creator_id
         WHERE p.pid = $1 AND e.eid = $2 AND e.state <> 'ended'",
        name.pid.as_str(),
        name.eid.as_str()
    )
    .fetch_optional(conn)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Returns the experiments that have not ended and whose project the user is a member of; of all, without a user.
///
/// # Errors
/// What the database says.
pub async fn visible(conn: &mut PgConnection, member: Option<UserId>) -> Outcome<Vec<Experiment>> {
    sqlx::query_as!(
        Columns,
        "SELECT e.id, e.project_id, p.pid, e.eid, e.state, e.state_since, e.save_swap_state, u.name AS creator,
                e.created_at
         FROM experiments e JOIN projects p ON p.id = e.project_id JOIN users u ON u.id = e.creator_id
         WHERE e.state <> 'ended' AND ($1::uuid IS NULL OR EXISTS
               (SELECT 1 FROM project_members m WHERE m.project_id = e.project_id AND m.user_id = $1))
         ORDER BY p.pid, e.eid",
        member.map(UserId::uuid)
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Returns the experiments in one of these states, oldest change first: what a reconciler looks at.
///
/// # Errors
/// What the database says.
pub async fn in_states(conn: &mut PgConnection, states: &[ExperimentState]) -> Outcome<Vec<Experiment>> {
    let states: Vec<String> = states.iter().map(ToString::to_string).collect();
    sqlx::query_as!(
        Columns,
        "SELECT e.id, e.project_id, p.pid, e.eid, e.state, e.state_since, e.save_swap_state, u.name AS creator,
                e.created_at
         FROM experiments e JOIN projects p ON p.id = e.project_id JOIN users u ON u.id = e.creator_id
         WHERE e.state = ANY($1) ORDER BY e.state_since, e.id",
        &states
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Moves an experiment from one state to another, in this term.
///
/// # Errors
/// [`crate::DbError::LostRace`] when it was not in `from`, or the term is over; what the database says.
pub async fn transition(
    conn: &mut PgConnection,
    term: u64,
    id: ExperimentId,
    (from, to): (ExperimentState, ExperimentState),
    at: OffsetDateTime,
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE experiments SET state = $3, state_since = $4
         WHERE id = $1 AND state = $2 AND (SELECT term FROM boss_term) = $5",
        id.uuid(),
        from.to_string(),
        to.to_string(),
        at,
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("experiment {id} ({from} to {to})"))
}

/// Changes the *Save swap state* box. One that has ended is left alone.
///
/// # Errors
/// [`crate::DbError::LostRace`] when it has ended; what the database says.
pub async fn set_save_swap_state(conn: &mut PgConnection, id: ExperimentId, save: bool) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE experiments SET save_swap_state = $2 WHERE id = $1 AND state NOT IN ('terminating', 'ended')",
        id.uuid(),
        save
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("experiment {id}"))
}

/// Returns the virtual nodes of an experiment, by name.
///
/// # Errors
/// What the database says.
pub async fn virtual_nodes(conn: &mut PgConnection, id: ExperimentId) -> Outcome<Vec<VirtualNode>> {
    let rows = sqlx::query!(
        "SELECT id, vname, image_version_id, node_id FROM virtual_nodes WHERE experiment_id = $1 ORDER BY vname",
        id.uuid()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(VirtualNode {
                id: VirtualNodeId::new(row.id),
                experiment_id: id,
                vname: Row::new("virtual_nodes", row.id).parse("vname", &row.vname)?,
                image_version_id: ImageVersionId::new(row.image_version_id),
                node_id: row.node_id.map(NodeId::new),
            })
        })
        .collect()
}

/// Returns the virtual node that a machine is now.
///
/// # Errors
/// What the database says.
pub async fn virtual_node_on(conn: &mut PgConnection, node: NodeId) -> Outcome<Option<VirtualNode>> {
    let row = sqlx::query!(
        "SELECT id, experiment_id, vname, image_version_id FROM virtual_nodes WHERE node_id = $1",
        node.uuid()
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(VirtualNode {
            id: VirtualNodeId::new(row.id),
            experiment_id: ExperimentId::new(row.experiment_id),
            vname: Row::new("virtual_nodes", row.id).parse("vname", &row.vname)?,
            image_version_id: ImageVersionId::new(row.image_version_id),
            node_id: Some(node),
        })
    })
    .transpose()
}

/// Gives a virtual node a machine, or takes it away, in this term. A machine that another virtual node has is refused
/// by the constraint `virtual_nodes_node_key`.
///
/// # Errors
/// [`crate::DbError::LostRace`] when it did not have `from`, or the term is over; what the database says.
pub async fn move_machine(
    conn: &mut PgConnection,
    term: u64,
    id: VirtualNodeId,
    (from, to): (Option<NodeId>, Option<NodeId>),
) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE virtual_nodes SET node_id = $3
         WHERE id = $1 AND node_id IS NOT DISTINCT FROM $2 AND (SELECT term FROM boss_term) = $4",
        id.uuid(),
        from.map(NodeId::uuid),
        to.map(NodeId::uuid),
        bigint("term", term)?,
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("virtual node {id}"))
}
