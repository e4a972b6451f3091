//! Site variables that differ from their defaults. Names, types and defaults live in `boss-model`.

use boss_api::ids::UserId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::error::Outcome;

/// Returns the text of a setting that was changed; nothing: its default is in force.
///
/// # Errors
/// What the database says.
pub async fn get(conn: &mut PgConnection, name: &str) -> Outcome<Option<String>> {
    Ok(sqlx::query_scalar!("SELECT value FROM settings WHERE name = $1", name).fetch_optional(conn).await?)
}

/// Returns all settings that were changed: name and text.
///
/// # Errors
/// What the database says.
pub async fn all(conn: &mut PgConnection) -> Outcome<Vec<(String, String)>> {
    let rows = sqlx::query!("SELECT name, value FROM settings ORDER BY name").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.name, row.value)).collect())
}

/// Changes a setting. The caller has parsed the text with the setting's type.
///
/// # Errors
/// What the database says.
pub async fn set(
    conn: &mut PgConnection,
    name: &str,
    value: &str,
    by: Option<UserId>,
    at: OffsetDateTime,
) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO settings (name, value, changed_by, changed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_by = excluded.changed_by,
             changed_at = excluded.changed_at",
        name,
        value,
        by.map(UserId::uuid),
        at
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts a setting back to its default.
///
/// # Errors
/// What the database says.
pub async fn unset(conn: &mut PgConnection, name: &str) -> Outcome<()> {
    sqlx::query!("DELETE FROM settings WHERE name = $1", name).execute(conn).await?;
    Ok(())
}
