//! Jobs: what was asked for, and what became of it.

use std::pin::pin;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use boss_api::ids::JobId;
use boss_api::user::{JobView, MAX_WAIT_MS};
use boss_db::views;
use serde::Deserialize;
use tokio::time::Instant;

use super::body::{Options, Segments};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Subject, Verb, authorize};
use crate::auth::extract::ApiUser;
use crate::error::AppError;

/// A wake-up can be lost, and another boss makes none here: look again after so long in any case.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the caller wants to wait for a change.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

/// `GET jobs/{id}?wait_ms=N`
pub async fn get(
    State(site): State<Site>,
    user: ApiUser,
    Segments(id): Segments<JobId>,
    Options(wait): Options<Wait>,
) -> Result<Json<JobView>, AppError> {
    let until = Instant::now() + Duration::from_millis(wait.wait_ms.min(MAX_WAIT_MS));
    let mut first: Option<JobView> = None;
    loop {
        // Listening begins before looking, so that no change falls in between.
        let mut changed = pin!(site.app.changed.notified());
        changed.as_mut().enable();
        let job = look(&site, &user.subject, id).await?;
        let over = job.ended_at.is_some() || Instant::now() >= until;
        if over || first.as_ref().is_some_and(|first| *first != job) {
            return Ok(Json(job));
        }
        first.get_or_insert(job);
        let next_look = until.min(Instant::now() + LOOK_AGAIN);
        // Either way the job is read again.
        let _ = tokio::time::timeout_at(next_look, changed).await;
    }
}

async fn look(site: &Site, subject: &Subject, id: JobId) -> Result<JobView, AppError> {
    let missing = || AppError::not_found(format_args!("the job {id}"));
    let mut conn = site.app.pool.acquire().await?;
    let job = views::job(&mut conn, id).await?.ok_or_else(missing)?;
    authorize(subject, Verb::See, Resource::Experiment(job.project)).map_err(|_| missing())?;
    Ok(job.view)
}
