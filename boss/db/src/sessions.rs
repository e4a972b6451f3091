//! Sessions: a login of a browser or of a program. Only the hash of its token is kept.

use boss_api::ids::UserId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::columns::Row;
use crate::error::Outcome;
use crate::users::{self, User};

/// Who holds the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// A browser, in a cookie.
    Web,
    /// A program, as bearer.
    Api,
}

/// A session and its user.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub user: User,
    /// Who holds the token.
    pub kind: SessionKind,
    /// What every form of this session carries.
    pub csrf_token: String,
    /// When the user signed in.
    pub created_at: OffsetDateTime,
    /// When it was last used.
    pub last_seen_at: OffsetDateTime,
    /// When it ends whatever happens.
    pub expires_at: OffsetDateTime,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("user", &self.user).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A session to add.
#[derive(Clone, Copy)]
pub struct NewSession<'a> {
    /// SHA-256 of the token.
    pub token_hash: &'a [u8; 32],
    /// Whose it is.
    pub user_id: UserId,
    /// Who holds the token.
    pub kind: SessionKind,
    /// What every form of this session carries.
    pub csrf_token: &'a str,
    /// Now.
    pub at: OffsetDateTime,
    /// When it ends whatever happens.
    pub expires_at: OffsetDateTime,
}

impl std::fmt::Debug for NewSession<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSession").field("user_id", &self.user_id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Adds a session.
///
/// # Errors
/// What the database says.
pub async fn add(conn: &mut PgConnection, session: NewSession<'_>) -> Outcome<()> {
    let kind = match session.kind {
        SessionKind::Web => "web",
        SessionKind::Api => "api",
    };
    sqlx::query!(
        "INSERT INTO sessions (token_hash, user_id, kind, csrf_token, created_at, last_seen_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $5, $6)",
        session.token_hash.as_slice(),
        session.user_id.uuid(),
        kind,
        session.csrf_token,
        session.at,
        session.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the session of a token, whether or not it is over: the caller decides that.
///
/// # Errors
/// What the database says.
pub async fn find(conn: &mut PgConnection, token_hash: &[u8; 32]) -> Outcome<Option<Session>> {
    let row = sqlx::query!(
        r#"SELECT s.kind, s.csrf_token, s.created_at, s.last_seen_at, s.expires_at,
                  u.id, u.name, u.role, u.created_at AS user_created_at
           FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token_hash = $1"#,
        token_hash.as_slice(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let kind = match row.kind.as_str() {
        "web" => SessionKind::Web,
        "api" => SessionKind::Api,
        other => return Err(Row::new("sessions", "(by token)").wrong("kind", other)),
    };
    Ok(Some(Session {
        user: users::read(row.id, &row.name, &row.role, row.user_created_at)?,
        kind,
        csrf_token: row.csrf_token,
        created_at: row.created_at,
        last_seen_at: row.last_seen_at,
        expires_at: row.expires_at,
    }))
}

/// Notes that a session was used.
///
/// # Errors
/// What the database says.
pub async fn touch(conn: &mut PgConnection, token_hash: &[u8; 32], at: OffsetDateTime) -> Outcome<()> {
    sqlx::query!(
        "UPDATE sessions SET last_seen_at = $2 WHERE token_hash = $1 AND last_seen_at < $2",
        token_hash.as_slice(),
        at
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a session. One that is over already is no error.
///
/// # Errors
/// What the database says.
pub async fn remove(conn: &mut PgConnection, token_hash: &[u8; 32]) -> Outcome<()> {
    sqlx::query!("DELETE FROM sessions WHERE token_hash = $1", token_hash.as_slice()).execute(conn).await?;
    Ok(())
}

/// Forgets sessions that are over.
///
/// # Errors
/// What the database says.
pub async fn remove_expired(conn: &mut PgConnection, now: OffsetDateTime) -> Outcome<u64> {
    Ok(sqlx::query!("DELETE FROM sessions WHERE expires_at <= $1", now).execute(conn).await?.rows_affected())
}
