//! Beginning a transaction so that nobody cuts it off half way.

use sqlx::{PgPool, Postgres, Transaction};

use crate::error::Outcome;

/// Begins a transaction, to the end of its beginning even when the caller is dropped meanwhile, as the work for a request
/// is when the client goes away. sqlx forgets a BEGIN that was sent and not yet answered: the connection would go back
/// with an open transaction, and hold whatever locks are taken on it later until some other transaction ends on it.
///
/// # Errors
/// What the database says.
pub async fn begin(pool: &PgPool) -> Outcome<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    match tokio::spawn(async move { pool.begin().await }).await {
        Ok(begun) => Ok(begun?),
        Err(broken) if broken.is_panic() => std::panic::resume_unwind(broken.into_panic()),
        // The runtime is going, and we with it.
        Err(_) => Err(sqlx::Error::PoolClosed.into()),
    }
}
