//! The term while somebody keeps it.

use boss_db::{DbError, PgPool, term};
use boss_model::term::Standing;

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn who_keeps_the_term_is_not_ended_for_standing_still_and_whoever_waits_too_long_is_told(pool: PgPool) {
    let mut keeper = pool.begin().await.unwrap();
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = '1ms'").execute(&mut *keeper).await.unwrap();
    let own = term::standing(&mut keeper).await.unwrap().term;
    term::fence_alone(&mut keeper, own).await.unwrap();
    let mut other = pool.begin().await.unwrap();
    let waiting = sqlx::query("SELECT term FROM boss_term FOR UPDATE NOWAIT").execute(&mut *other).await;
    let error = DbError::from(waiting.unwrap_err());
    assert!(matches!(error, DbError::TermKept), "{error:?}");
    drop(other);
    // It is still there, however long that took.
    term::fence_alone(&mut keeper, own).await.unwrap();
    keeper.commit().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(term::take(&mut conn, Standing::default()).await.unwrap().term, own + 1);
}
