use std::collections::HashMap;

use boss_api::ids::JobId;
use boss_api::user::{
    DiskActivity, DiskProgress, ExperimentView, ImageSelector, JobView, SwapPointView, VirtualNodeView,
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{jobs, machines, points};
use crate::columns::Row;
use crate::error::Outcome;
use crate::experiments::Experiment;

/// Returns an experiment as shown.
///
/// # Errors
/// What the database says.
pub async fn experiment(conn: &mut PgConnection, experiment: &Experiment) -> Outcome<ExperimentView> {
    let mut views = experiments(conn, std::slice::from_ref(experiment)).await?;
    views.pop().ok_or_else(|| Row::new("experiments", experiment.id).wrong("id", "no view was made"))
}

/// Returns experiments as shown, in the same order, with as many queries for many as for one.
///
/// # Errors
/// What the database says.
pub async fn experiments(conn: &mut PgConnection, of: &[Experiment]) -> Outcome<Vec<ExperimentView>> {
    let ids: Vec<Uuid> = of.iter().map(|experiment| experiment.id.uuid()).collect();
    let mut running: HashMap<Uuid, JobView> = jobs::unfinished(conn, &ids).await?.into_iter().collect();
    let mut newest: HashMap<Uuid, SwapPointView> = points::newest(conn, &ids).await?.into_iter().collect();
    let mut captures = captures(conn, &ids).await?;
    let writes = writes(conn, &ids).await?;
    let mut nodes = virtual_nodes(conn, &ids).await?;

    let mut views = Vec::with_capacity(of.len());
    for experiment in of {
        let job = running.remove(&experiment.id.uuid());
        let last_point = newest.remove(&experiment.id.uuid());
        let mut own = nodes.remove(&experiment.id.uuid()).unwrap_or_default();
        if let Some(job) = &job {
            for (vnode, view) in &mut own {
                view.progress = captures.remove(vnode).unwrap_or_default();
                view.progress.extend(writes_under_way(&writes, job.id, *vnode));
            }
        }
        views.push(ExperimentView {
            id: experiment.id,
            pid: experiment.pid.clone(),
            eid: experiment.eid.clone(),
            state: experiment.state,
            state_since: experiment.state_since,
            save_swap_state: experiment.save_swap_state,
            creator: experiment.creator.clone(),
            nodes: own.into_iter().map(|(_, view)| view).collect(),
            job,
            last_point,
        });
    }
    Ok(views)
}

type NodesByExperiment = HashMap<Uuid, Vec<(Uuid, VirtualNodeView)>>;

async fn virtual_nodes(conn: &mut PgConnection, ids: &[Uuid]) -> Outcome<NodesByExperiment> {
    let rows = sqlx::query!(
        r#"SELECT vn.id, vn.experiment_id, vn.vname, i.name AS image, v.version,
                  n.name AS "node?", n.state AS "node_state?", n.held_reason, n.held_owner, n.held_next, n.held_from,
                  u.name AS "kept_by?", n.kept_until, n.kept_note
           FROM virtual_nodes vn
           JOIN image_versions v ON v.id = vn.image_version_id JOIN images i ON i.id = v.image_id
           LEFT JOIN nodes n ON n.id = vn.node_id LEFT JOIN users u ON u.id = n.kept_by
           WHERE vn.experiment_id = ANY($1) ORDER BY vn.vname"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    let mut by_experiment: NodesByExperiment = HashMap::new();
    for row in rows {
        let at = Row::new("virtual_nodes", row.id);
        let image =
            ImageSelector { name: at.parse("image", &row.image)?, version: Some(at.number("version", row.version)?) };
        let held = machines::Held {
            reason: row.held_reason,
            owner: row.held_owner,
            next: row.held_next,
            from: row.held_from,
            kept_by: row.kept_by,
            kept_until: row.kept_until,
            kept_note: row.kept_note,
        };
        let view = VirtualNodeView {
            vname: at.parse("vname", &row.vname)?,
            image,
            node: row.node.map(|name| at.parse("node", &name)).transpose()?,
            node_state: row.node_state.map(|state| machines::read_state(&at, &state, held)).transpose()?,
            progress: Vec::new(),
        };
        by_experiment.entry(row.experiment_id).or_default().push((row.id, view));
    }
    Ok(by_experiment)
}

/// What the running or held swap-out saves of each virtual node, also once its swap point is decided.
async fn captures(conn: &mut PgConnection, ids: &[Uuid]) -> Outcome<HashMap<Uuid, Vec<DiskProgress>>> {
    let rows = sqlx::query!(
        "SELECT c.id, c.virtual_node_id, d.name AS disk, c.scanned_bytes, c.total_bytes, c.changed_bytes,
                c.sent_bytes, c.started_at
         FROM captures c JOIN disks d ON d.id = c.disk_id JOIN swap_points s ON s.id = c.swap_point_id
              JOIN jobs j ON j.experiment_id = s.experiment_id AND j.kind = 'swap-out'
                             AND j.state IN ('running', 'held') AND s.opened_at >= j.created_at
         WHERE s.experiment_id = ANY($1) ORDER BY d.position",
        ids
    )
    .fetch_all(conn)
    .await?;
    let mut by_node: HashMap<Uuid, Vec<DiskProgress>> = HashMap::new();
    for row in rows {
        let at = Row::new("captures", row.id);
        by_node.entry(row.virtual_node_id).or_default().push(DiskProgress {
            disk: at.parse("disk", &row.disk)?,
            activity: DiskActivity::Capture,
            done_bytes: at.number("scanned_bytes", row.scanned_bytes)?,
            total_bytes: at.number("total_bytes", row.total_bytes)?,
            changed_bytes: at.number("changed_bytes", row.changed_bytes)?,
            sent_bytes: at.number("sent_bytes", row.sent_bytes)?,
            started_at: row.started_at,
        });
    }
    Ok(by_node)
}

struct Write {
    job: JobId,
    vnode: Uuid,
    progress: DiskProgress,
}

/// The newest write of each disk that a running or held job has written to, and whose machine is still the node's.
async fn writes(conn: &mut PgConnection, ids: &[Uuid]) -> Outcome<Vec<Write>> {
    let rows = sqlx::query!(
        r#"SELECT DISTINCT ON (vn.id, d.position) w.id, w.job_id, vn.id AS vnode, d.name AS disk, w.purpose,
                  w.done_bytes, w.total_bytes, w.issued_at
           FROM disk_writes w
           JOIN jobs j ON j.id = w.job_id AND j.state IN ('running', 'held')
           JOIN virtual_nodes vn ON vn.node_id = w.node_id AND vn.experiment_id = j.experiment_id
           JOIN disks d ON d.id = w.disk_id
           WHERE j.experiment_id = ANY($1) AND w.state <> 'void'
           ORDER BY vn.id, d.position, w.issued_at DESC, w.id DESC"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at = Row::new("disk_writes", row.id);
            let activity = match row.purpose.as_str() {
                "load" => DiskActivity::Load,
                "restore" => DiskActivity::Restore,
                "sanitize" => DiskActivity::Sanitize,
                other => return Err(at.wrong("purpose", other)),
            };
            let progress = DiskProgress {
                disk: at.parse("disk", &row.disk)?,
                activity,
                done_bytes: at.number("done_bytes", row.done_bytes)?,
                total_bytes: at.number("total_bytes", row.total_bytes)?,
                changed_bytes: 0,
                sent_bytes: 0,
                started_at: Some(row.issued_at),
            };
            Ok(Write { job: JobId::new(row.job_id), vnode: row.vnode, progress })
        })
        .collect()
}

fn writes_under_way(writes: &[Write], job: JobId, vnode: Uuid) -> impl Iterator<Item = DiskProgress> {
    writes.iter().filter(move |write| write.job == job && write.vnode == vnode).map(|write| write.progress.clone())
}
