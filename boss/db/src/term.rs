//! Who rules: each boss that starts takes the next term, and an effect under an older one is refused.

use boss_model::term::{Standing, Takeover};
use sqlx::PgConnection;

use crate::columns::{Row, bigint};
use crate::error::{DbError, Outcome, exactly_one};

/// Returns how far the database is.
///
/// # Errors
/// What the database says.
pub async fn standing(conn: &mut PgConnection) -> Outcome<Standing> {
    let row =
        sqlx::query!(r#"SELECT term, (SELECT coalesce(sum(moves), 0)::bigint FROM nodes) AS "moves!" FROM boss_term"#)
            .fetch_one(conn)
            .await?;
    let at = Row::new("boss_term", "only");
    Ok(Standing { term: at.number("term", row.term)?, moves: at.number("sum of nodes.moves", row.moves)? })
}

/// Takes the next term, above that of the store, too; whoever ruled before is over.
///
/// # Errors
/// [`DbError::LostRace`] when another boss took one at the same moment; [`DbError::TermKept`] when one keeps it; what the
/// database says.
pub async fn take(conn: &mut PgConnection, store: Standing) -> Outcome<Takeover> {
    sqlx::query("SET LOCAL lock_timeout = '60s'").execute(&mut *conn).await?;
    let database = standing(&mut *conn).await?;
    let takeover = Takeover::of(database, store);
    let done = sqlx::query!(
        "UPDATE boss_term SET term = $2, keep_unreferenced = keep_unreferenced OR $3 WHERE term = $1",
        bigint("term", database.term)?,
        bigint("term", takeover.term)?,
        takeover.database_is_older
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query("SET LOCAL lock_timeout TO DEFAULT").execute(conn).await?;
    exactly_one(done.rows_affected(), || "the term".to_owned())?;
    Ok(takeover)
}

/// Returns whether a database was put back and what no row refers to in the store has still to be kept.
///
/// # Errors
/// What the database says.
pub async fn keeps_unreferenced(conn: &mut PgConnection) -> Outcome<bool> {
    Ok(sqlx::query_scalar!("SELECT keep_unreferenced FROM boss_term").fetch_one(conn).await?)
}

/// Notes, in the transaction that keeps it, that all of it is kept.
///
/// # Errors
/// What the database says.
pub async fn unreferenced_kept(conn: &mut PgConnection) -> Outcome<()> {
    sqlx::query!("UPDATE boss_term SET keep_unreferenced = false").execute(conn).await?;
    Ok(())
}

/// Checks that this boss still rules, and keeps it so until the transaction ends: no other can take over in between.
///
/// # Errors
/// [`DbError::TermOver`] when it does not.
pub async fn fence(conn: &mut PgConnection, own: u64) -> Outcome<()> {
    let ruling = sqlx::query_scalar!("SELECT term FROM boss_term FOR SHARE").fetch_one(conn).await?;
    compare(own, ruling)
}

/// Checks that this boss still rules, and until the transaction ends nobody else changes anything: every other
/// transaction that has an effect holds the term in [`fence`].
///
/// # Errors
/// [`DbError::TermOver`] when it does not.
pub async fn fence_alone(conn: &mut PgConnection, own: u64) -> Outcome<()> {
    // What is done under this lock cannot be undone by the end of the transaction: it is not ended for standing still.
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *conn).await?;
    let ruling = sqlx::query_scalar!("SELECT term FROM boss_term FOR UPDATE").fetch_one(conn).await?;
    compare(own, ruling)
}

/// Checks that this boss rules now, before it answers with what the database says.
///
/// # Errors
/// [`DbError::TermOver`] when it does not.
pub async fn check(conn: &mut PgConnection, own: u64) -> Outcome<()> {
    let ruling = sqlx::query_scalar!("SELECT term FROM boss_term").fetch_one(conn).await?;
    compare(own, ruling)
}

fn compare(own: u64, ruling: i64) -> Outcome<()> {
    if ruling == bigint("term", own)? {
        return Ok(());
    }
    Err(DbError::TermOver { own, ruling: Row::new("boss_term", "only").number("term", ruling)? })
}
