//! Keys that seal base images. One is trusted only because an admin added it here.

use sigs::seal::KeyId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::columns::Row;
use crate::error::{Outcome, exactly_one};

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub id: KeyId,
    /// Its public half, PEM.
    pub public_pem: String,
    /// Whose it is, for people.
    pub comment: String,
    /// When it was added.
    pub added_at: OffsetDateTime,
    /// Since when it is not trusted any more.
    pub retired_at: Option<OffsetDateTime>,
}

/// Trusts a key. One that is known, also as retired, is refused by the constraint `signing_keys_pkey`.
///
/// # Errors
/// What the database says.
pub async fn add(
    conn: &mut PgConnection,
    id: KeyId,
    public_pem: &str,
    comment: &str,
    at: OffsetDateTime,
) -> Outcome<()> {
    sqlx::query!(
        "INSERT INTO signing_keys (key_id, public_pem, comment, state, added_at) VALUES ($1, $2, $3, 'trusted', $4)",
        id.to_string(),
        public_pem,
        comment,
        at
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Trusts a key no more.
///
/// # Errors
/// What the database says; [`crate::DbError::LostRace`] unless it was trusted.
pub async fn retire(conn: &mut PgConnection, id: KeyId, at: OffsetDateTime) -> Outcome<()> {
    let done = sqlx::query!(
        "UPDATE signing_keys SET state = 'retired', retired_at = $2 WHERE key_id = $1 AND state = 'trusted'",
        id.to_string(),
        at
    )
    .execute(conn)
    .await?;
    exactly_one(done.rows_affected(), || format!("the key {id}"))
}

/// Returns all keys, trusted and retired.
///
/// # Errors
/// What the database says.
pub async fn all(conn: &mut PgConnection) -> Outcome<Vec<Key>> {
    let rows = sqlx::query!(
        "SELECT key_id, public_pem, comment, state, added_at, retired_at FROM signing_keys ORDER BY added_at, key_id"
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at = Row::new("signing_keys", &row.key_id);
            let retired_at = match (row.state.as_str(), row.retired_at) {
                ("trusted", None) => None,
                ("retired", Some(when)) => Some(when),
                (other, _) => return Err(at.wrong("state", other)),
            };
            Ok(Key {
                id: at.parse("key_id", &row.key_id)?,
                public_pem: row.public_pem,
                comment: row.comment,
                added_at: row.added_at,
                retired_at,
            })
        })
        .collect()
}

/// Returns the keys that are trusted now.
///
/// # Errors
/// What the database says.
pub async fn trusted(conn: &mut PgConnection) -> Outcome<Vec<Key>> {
    Ok(all(conn).await?.into_iter().filter(|key| key.retired_at.is_none()).collect())
}
