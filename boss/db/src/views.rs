//! What is shown to people and their programs: several aggregates read together. Nothing here changes anything.

mod experiments;
mod images;
mod jobs;
mod machines;
mod points;

pub use experiments::{experiment, experiments};
pub use images::{image, images};
pub use jobs::{JobOfExperiment, job, last_job};
pub use machines::{machine, machines};
pub use points::points;

/// Returns the term of the boss that rules now.
///
/// # Errors
/// What the database says.
pub async fn ruling_term(conn: &mut sqlx::PgConnection) -> crate::Outcome<u64> {
    let term = sqlx::query_scalar!("SELECT term FROM boss_term").fetch_one(conn).await?;
    crate::columns::Row::new("boss_term", "the only row").number("term", term)
}
