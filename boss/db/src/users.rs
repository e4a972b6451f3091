//! Users: who may sign in, and what for.

use boss_api::Name;
use boss_api::ids::UserId;
use boss_api::user::UserRole;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::Row;
use crate::error::{Outcome, exactly_one};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The name.
    pub name: Name,
    /// What the user may do on the site.
    pub role: UserRole,
    /// Since when.
    pub created_at: OffsetDateTime,
}

/// A user to add.
#[derive(Clone, Copy)]
pub struct NewUser<'a> {
    /// Made by the caller.
    pub id: UserId,
    /// The name.
    pub name: &'a Name,
    /// A PHC string, never a password.
    pub password_hash: &'a str,
    /// What the user may do on the site.
    pub role: UserRole,
    /// Now.
    pub at: OffsetDateTime,
}

impl std::fmt::Debug for NewUser<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("name", self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

const fn role_text(role: UserRole) -> &'static str {
    match role {
        UserRole::Member => "member",
        UserRole::Operator => "operator",
        UserRole::Admin => "admin",
    }
}

/// Reads a user from its columns.
pub(crate) fn read(id: Uuid, name: &str, role: &str, created_at: OffsetDateTime) -> Outcome<User> {
    let row = Row::new("users", id);
    let role = match role {
        "member" => UserRole::Member,
        "operator" => UserRole::Operator,
        "admin" => UserRole::Admin,
        other => return Err(row.wrong("role", other)),
    };
    Ok(User { id: UserId::new(id), name: row.parse("name", name)?, role, created_at })
}

/// Adds a user. A taken name is refused by the constraint `users_name_key`.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, user: NewUser<'_>) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO users (id, name, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5)",
        user.id.uuid(),
        user.name.as_str(),
        user.password_hash,
        role_text(user.role),
        user.at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the user of this name.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut PgConnection, name: &Name) -> Outcome<Option<User>> {
    let row = sqlx::query!("SELECT id, name, role, created_at FROM users WHERE name = $1", name.as_str())
        .fetch_optional(conn)
        .await?;
    row.map(|row| read(row.id, &row.name, &row.role, row.created_at)).transpose()
}

/// Returns a user.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut PgConnection, id: UserId) -> Outcome<Option<User>> {
    let row = sqlx::query!("SELECT id, name, role, created_at FROM users WHERE id = $1", id.uuid())
        .fetch_optional(conn)
        .await?;
    row.map(|row| read(row.id, &row.name, &row.role, row.created_at)).transpose()
}

/// Returns the user of this name and the hash of the password.
///
/// # Errors
/// What the database says.
pub async fn find_with_hash(conn: &mut PgConnection, name: &Name) -> Outcome<Option<(User, String)>> {
    let row =
        sqlx::query!("SELECT id, name, role, created_at, password_hash FROM users WHERE name = $1", name.as_str())
            .fetch_optional(conn)
            .await?;
    row.map(|row| Ok((read(row.id, &row.name, &row.role, row.created_at)?, row.password_hash))).transpose()
}

/// Returns all users, by name.
///
/// # Errors
/// What the database says.
pub async fn all(conn: &mut PgConnection) -> Outcome<Vec<User>> {
    let rows = sqlx::query!("SELECT id, name, role, created_at FROM users ORDER BY name").fetch_all(conn).await?;
    rows.into_iter().map(|row| read(row.id, &row.name, &row.role, row.created_at)).collect()
}

/// Changes a password and ends every session of the user.
///
/// # Errors
/// What the database says; [`crate::DbError::LostRace`] when there is no such user.
pub async fn set_password(conn: &mut PgConnection, id: UserId, password_hash: &str) -> Outcome<()> {
    let done = sqlx::query!("UPDATE users SET password_hash = $2 WHERE id = $1", id.uuid(), password_hash)
        .execute(&mut *conn)
        .await?;
    exactly_one(done.rows_affected(), || format!("user {id}"))?;
    sqlx::query!("DELETE FROM sessions WHERE user_id = $1", id.uuid()).execute(conn).await?;
    Ok(())
}
