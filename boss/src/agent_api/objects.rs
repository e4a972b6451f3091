//! The bytes an agent's present task names, and no others.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use boss_api::ErrorCode;
use sigs::Digest;

use super::{AgentIdentity, task};
use crate::app::App;
use crate::error::AppError;
use crate::serving;
use crate::store::StoredObject;
use crate::user_api::body::Segments;

/// `GET objects/{digest}`, also in part.
pub(super) async fn get(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments(digest): Segments<Digest>,
    headers: HeaderMap,
) -> Result<Response<Body>, AppError> {
    // The connection is given back before the first byte goes out.
    let task = task::derive(&mut *app.pool.acquire().await?, &app, &agent).await?;
    let object = task::objects(&task).into_iter().find(|object| object.digest == digest).cloned();
    let object = object.ok_or_else(|| AppError::new(ErrorCode::NotFound, "the machine's task names no such object"))?;
    let object = StoredObject { digest, bytes: object.bytes };
    serving::answer(&*app.store, object, &headers, Arc::clone(&app.pace)).await
}
