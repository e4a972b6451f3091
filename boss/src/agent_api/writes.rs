//! A write under way: progress, its end, and whether the end is the right one.

use axum::extract::State;
use axum::http::StatusCode;
use boss_api::ErrorCode;
use boss_api::agent::{Failure, FailureClass, WriteDone, WriteProgress};
use boss_api::ids::WriteId;
use boss_db::PgConnection;
use boss_db::writes::{self, DiskWrite, WriteEnd};
use boss_model::write::{WriteEvent, WriteState};
use sigs::Root;

use super::AgentIdentity;
use super::task::Content;
use crate::app::App;
use crate::error::AppError;
use crate::user_api::body::{Body, Segments};

/// Returns the write if this agent makes it now. An attempt is made in one boot, so the boot names the attempt.
async fn fenced(conn: &mut PgConnection, agent: &AgentIdentity, id: WriteId) -> Result<DiskWrite, AppError> {
    let write = writes::get(conn, id).await?.filter(|write| write.node == agent.node);
    let write = write.ok_or_else(|| AppError::new(ErrorCode::NotFound, "this machine has no such write"))?;
    if write.boot == Some(agent.boot) && write.epoch == agent.epoch && write.state != WriteState::Void {
        Ok(write)
    } else {
        Err(AppError::new(ErrorCode::Stale, "this attempt is over: stop"))
    }
}

/// `POST writes/{id}/progress`
pub(super) async fn progress(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments(id): Segments<WriteId>,
    Body(progress): Body<WriteProgress>,
) -> Result<StatusCode, AppError> {
    let mut tx = app.begin().await?;
    let write = fenced(&mut tx, &agent, id).await?;
    write
        .state
        .apply(WriteEvent::Progress)
        .map_err(|_| AppError::new(ErrorCode::Stale, "this attempt is over: stop"))?;
    writes::progress(&mut tx, &write, &progress, app.now()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST writes/{id}/done`: believed only with the root that was ordered.
pub(super) async fn done(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments(id): Segments<WriteId>,
    Body(done): Body<WriteDone>,
) -> Result<StatusCode, AppError> {
    let mut tx = app.begin().await?;
    let write = fenced(&mut tx, &agent, id).await?;
    if write.state == WriteState::Done && write.root == done.root {
        return Ok(StatusCode::NO_CONTENT);
    }
    let expected = Content::of(&mut tx, &write).await?.root();
    if done.root == expected {
        end(&app, &mut tx, &write, WriteEvent::Done, WriteEnd { root: done.root, failure: None }).await?;
        failpoints::hit("write.done.before-commit").map_err(AppError::internal)?;
        tx.commit().await?;
        failpoints::hit("write.done.committed").map_err(AppError::internal)?;
        app.changed.notify_waiters();
        return Ok(StatusCode::NO_CONTENT);
    }
    let words = |root: Option<Root>| root.map_or_else(|| "zeros".to_owned(), |root| root.to_string());
    let reason = format!("the disk reads back as {}, ordered was {}", words(done.root), words(expected));
    let failure = Some((FailureClass::Corruption, reason.clone()));
    end(&app, &mut tx, &write, WriteEvent::Fail, WriteEnd { root: None, failure }).await?;
    tx.commit().await?;
    app.changed.notify_waiters();
    Err(AppError::new(ErrorCode::VerificationFailed, reason))
}

/// `POST writes/{id}/failed`
pub(super) async fn failed(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments(id): Segments<WriteId>,
    Body(failure): Body<Failure>,
) -> Result<StatusCode, AppError> {
    let mut tx = app.begin().await?;
    let write = fenced(&mut tx, &agent, id).await?;
    if write.state == WriteState::Failed {
        return Ok(StatusCode::NO_CONTENT);
    }
    let end_of = WriteEnd { root: None, failure: Some((failure.class, failure.reason)) };
    end(&app, &mut tx, &write, WriteEvent::Fail, end_of).await?;
    tx.commit().await?;
    app.changed.notify_waiters();
    Ok(StatusCode::NO_CONTENT)
}

async fn end(
    app: &App,
    tx: &mut PgConnection,
    write: &DiskWrite,
    event: WriteEvent,
    end: WriteEnd,
) -> Result<(), AppError> {
    let to = write.state.apply(event).map_err(|_| AppError::new(ErrorCode::Stale, "this attempt is over: stop"))?;
    Ok(writes::transition(tx, app.term, write, to, end, app.now()).await?)
}
