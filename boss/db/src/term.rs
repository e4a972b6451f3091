//! Who rules: each boss that starts takes the next term, and an effect under an older one is refused.

use sqlx::PgConnection;

use crate::columns::{Row, bigint};
use crate::error::{DbError, Outcome};

/// Takes the next term; whoever ruled before is over.
///
/// # Errors
/// What the database says.
pub async fn take(conn: &mut PgConnection) -> Outcome<u64> {
    let term = sqlx::query_scalar!("UPDATE boss_term SET term = term + 1 RETURNING term").fetch_one(conn).await?;
    Row::new("boss_term", "only").number("term", term)
}

/// Checks that this boss still rules, and keeps it so until the transaction ends: no other can take over in between.
///
/// # Errors
/// [`DbError::TermOver`] when it does not.
pub async fn fence(conn: &mut PgConnection, own: u64) -> Outcome<()> {
    let ruling = sqlx::query_scalar!("SELECT term FROM boss_term FOR SHARE").fetch_one(conn).await?;
    check(ruling, own)
}

/// Checks that this boss still rules, and until the transaction ends nobody else changes anything: every other
/// transaction that has an effect holds the term in [`fence`].
///
/// # Errors
/// [`DbError::TermOver`] when it does not.
pub async fn fence_alone(conn: &mut PgConnection, own: u64) -> Outcome<()> {
    let ruling = sqlx::query_scalar!("SELECT term FROM boss_term FOR UPDATE").fetch_one(conn).await?;
    check(ruling, own)
}

fn check(ruling: i64, own: u64) -> Outcome<()> {
    if ruling == bigint("term", own)? {
        return Ok(());
    }
    Err(DbError::TermOver { own, ruling: Row::new("boss_term", "only").number("term", ruling)? })
}
