//! What agents ask of boss, on a listener of its own that only this machine reaches.
//!
//! [`boss_api::agent`] says what each request is. Every handler sees an [`AgentIdentity`] and nothing else of who asks,
//! so that certificates later replace one extractor.

mod auth;
mod captures;
mod objects;
mod register;
mod task;
mod writes;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue};
use axum::routing::{get, post, put};
use boss_api::ErrorCode;
use boss_api::agent::{MAX_POLL_MS, Poll, TERM_HEADER, Task};
use boss_db::boots;
use sigs::zdi::MAX_FRAME_STORED_BYTES;
use tokio::time::{Duration, Instant};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;

use crate::app::App;
use crate::error::AppError;
use crate::user_api::body::Body;

pub use auth::AgentIdentity;

/// The most bytes of a request in JSON: an offer is the longest.
const JSON_BYTES: usize = 1 << 20;
/// The most bytes of the end of a capture: table, map and manifest of a disk of some 16 TiB.
const FINISH_BYTES: usize = 512 << 20;

/// Builds what the agents' listener serves.
pub fn router(app: App) -> Router {
    let frame = usize::try_from(MAX_FRAME_STORED_BYTES).unwrap_or(usize::MAX);
    let json = Router::new()
        .route("/agent/v1/register", post(register::register))
        .route("/agent/v1/poll", post(poll))
        .route("/agent/v1/captures/{id}/{attempt}/begin", post(captures::begin))
        .route("/agent/v1/captures/{id}/{attempt}/offer", post(captures::offer))
        .route("/agent/v1/captures/{id}/{attempt}/progress", post(captures::progress))
        .route("/agent/v1/captures/{id}/{attempt}/failed", post(captures::failed))
        .route("/agent/v1/objects/{digest}", get(objects::get))
        .route("/agent/v1/writes/{id}/progress", post(writes::progress))
        .route("/agent/v1/writes/{id}/done", post(writes::done))
        .route("/agent/v1/writes/{id}/failed", post(writes::failed))
        .layer(DefaultBodyLimit::max(JSON_BYTES));
    let frames = Router::new()
        .route("/agent/v1/captures/{id}/{attempt}/frames/{digest}", put(captures::frame))
        .layer(DefaultBodyLimit::max(frame));
    let finish = Router::new()
        .route("/agent/v1/captures/{id}/{attempt}/finish", post(captures::finish))
        .layer(DefaultBodyLimit::max(FINISH_BYTES));
    json.merge(frames)
        .merge(finish)
        .fallback(|| async { AppError::new(ErrorCode::NotFound, "there is no such request for agents") })
        .layer(CatchPanicLayer::new())
        .layer(SetResponseHeaderLayer::overriding(HeaderName::from_static(TERM_HEADER), HeaderValue::from(app.term)))
        .layer(TraceLayer::new_for_http())
        .with_state(app)
}

/// `POST poll`: answers when there is something to do, or after the time the agent is willing to wait.
async fn poll(
    State(app): State<App>,
    agent: AgentIdentity,
    Body(poll): Body<Poll>,
) -> Result<axum::Json<Task>, AppError> {
    let deadline = Instant::now() + Duration::from_millis(poll.wait_ms.min(MAX_POLL_MS));
    boots::seen(&mut *app.pool.acquire().await?, agent.boot, app.now()).await?;
    loop {
        let changed = app.changed.notified();
        tokio::pin!(changed);
        // From here on a change is not missed, also one made while we look.
        changed.as_mut().enable();
        // The boot may have ended while it waited.
        agent.still_valid(&app).await?;
        let task = task::derive(&mut *app.pool.acquire().await?, &app, &agent).await?;
        if task != Task::Idle || Instant::now() >= deadline {
            return Ok(axum::Json(task));
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}
