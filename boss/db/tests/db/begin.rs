//! A transaction whose beginning is cut off is over.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use boss_db::{PgPool, begin};
use sqlx::postgres::PgPoolOptions;

const OPEN: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_beginning_that_is_cut_off_leaves_no_transaction_open(pool: PgPool) {
    let options = (*pool.connect_options()).clone();
    let one = PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("a pool of one connection");
    for looks in 1..=8 {
        {
            let mut beginning = pin!(begin(&one));
            for _ in 0..looks {
                // Cut off after so many looks at it, wherever it is then.
                if poll_fn(|context| Poll::Ready(beginning.as_mut().poll(context))).await.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // Given out again only once it was given back.
        drop(one.acquire().await.expect("the connection"));
        let open: i64 = sqlx::query_scalar(OPEN).fetch_one(&pool).await.expect("what connections do");
        assert_eq!(open, 0, "cut off after {looks} looks");
    }
}
