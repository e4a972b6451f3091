//! Projects and their members.

use boss_api::Name;
use boss_api::ids::{ProjectId, UserId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::columns::Row;
use crate::error::Outcome;

/// The project whose images everybody may load; only admins are its members in effect.
pub const SYSTEM: &str = "system";

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The id.
    pub id: ProjectId,
    /// The name.
    pub pid: Name,
}

/// A project, and what a user is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The project.
    pub project: Project,
    /// What the user is there.
    pub role: ProjectRole,
}

/// What a user is in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectRole {
    /// Uses it.
    Member,
    /// Also decides who is a member, and may give up what could not be saved.
    Leader,
}

fn read_role(row: &Row, text: &str) -> Outcome<ProjectRole> {
    match text {
        "member" => Ok(ProjectRole::Member),
        "leader" => Ok(ProjectRole::Leader),
        other => Err(row.wrong("role", other)),
    }
}

/// Makes sure that a project of this name exists, and returns its id: `id` when it is new.
///
/// # Errors
/// What the database says.
pub async fn ensure(conn: &mut PgConnection, id: ProjectId, pid: &Name, at: OffsetDateTime) -> Outcome<ProjectId> {
    sqlx::query!(
        "INSERT INTO projects (id, pid, created_at) VALUES ($1, $2, $3) ON CONFLICT ON CONSTRAINT projects_pid_key DO NOTHING",
        id.uuid(),
        pid.as_str(),
        at
    )
    .execute(&mut *conn)
    .await?;
    let id = sqlx::query_scalar!("SELECT id FROM projects WHERE pid = $1", pid.as_str()).fetch_one(conn).await?;
    Ok(ProjectId::new(id))
}

/// Returns the project of this name.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut PgConnection, pid: &Name) -> Outcome<Option<Project>> {
    let id = sqlx::query_scalar!("SELECT id FROM projects WHERE pid = $1", pid.as_str()).fetch_optional(conn).await?;
    Ok(id.map(|id| Project { id: ProjectId::new(id), pid: pid.clone() }))
}

/// Returns all projects, by name.
///
/// # Errors
/// What the database says.
pub async fn all(conn: &mut PgConnection) -> Outcome<Vec<Project>> {
    let rows = sqlx::query!("SELECT id, pid FROM projects ORDER BY pid").fetch_all(conn).await?;
    rows.into_iter().map(|row| read(row.id, &row.pid)).collect()
}

/// Returns the projects a user is a member of, by name.
///
/// # Errors
/// What the database says.
pub async fn of_user(conn: &mut PgConnection, user: UserId) -> Outcome<Vec<Membership>> {
    let rows = sqlx::query!(
        "SELECT p.id, p.pid, m.role FROM projects p JOIN project_members m ON m.project_id = p.id
         WHERE m.user_id = $1 ORDER BY p.pid",
        user.uuid()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let role = read_role(&Row::new("project_members", row.id), &row.role)?;
            Ok(Membership { project: read(row.id, &row.pid)?, role })
        })
        .collect()
}

/// Returns what a user is in a project, or nothing.
///
/// # Errors
/// What the database says.
pub async fn role(conn: &mut PgConnection, project: ProjectId, user: UserId) -> Outcome<Option<ProjectRole>> {
    let role = sqlx::query_scalar!(
        "SELECT role FROM project_members WHERE project_id = $1 AND user_id = $2",
        project.uuid(),
        user.uuid()
    )
    .fetch_optional(conn)
    .await?;
    role.map(|role| read_role(&Row::new("project_members", project), &role)).transpose()
}

/// Makes a user a member, or changes what a member is.
///
/// # Errors
/// What the database says.
pub async fn add_member(conn: &mut PgConnection, project: ProjectId, user: UserId, role: ProjectRole) -> Outcome<()> {
    let role = match role {
        ProjectRole::Member => "member",
        ProjectRole::Leader => "leader",
    };
    sqlx::query!(
        "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, $3)
         ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role",
        project.uuid(),
        user.uuid(),
        role
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a membership. None is no error.
///
/// # Errors
/// What the database says.
pub async fn remove_member(conn: &mut PgConnection, project: ProjectId, user: UserId) -> Outcome<()> {
    sqlx::query!("DELETE FROM project_members WHERE project_id = $1 AND user_id = $2", project.uuid(), user.uuid())
        .execute(conn)
        .await?;
    Ok(())
}

fn read(id: uuid::Uuid, pid: &str) -> Outcome<Project> {
    Ok(Project { id: ProjectId::new(id), pid: Row::new("projects", id).parse("pid", pid)? })
}
