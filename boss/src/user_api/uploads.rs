//! Objects that arrive in pieces: offered, sent, put together. What arrived stays until the object is whole, so that who
//! was cut off sends the rest only. The receiver is that of captures: [`crate::store::Staging`].

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use boss_api::ErrorCode;
use boss_api::agent::{Lacking, MAX_OFFER, Offer};
use boss_api::user::{BeginUpload, MAX_PIECE, MAX_PIECES};
use sigs::{ByteLen, Digest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{Body, Segments};
use crate::app::App;
use crate::auth::Site;
use crate::auth::authorize::{Proof, Resource, Verb, authorize};
use crate::auth::extract::ApiUser;
use crate::error::AppError;
use crate::keeping;
use crate::store::{blocking, is_whole};

/// How many pieces are taken at once; the others wait for their turn, unread.
pub const AT_ONCE: usize = 8;

/// How many objects are put together or read back at once: it takes as long as they are large, and pieces go on coming.
pub const READINGS: usize = 2;

/// How many lists of pieces are in memory at once, each of at most 32 MiB.
pub const LISTS: usize = 8;

/// How long the list of all pieces may take to come.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the announcement of an object may take to come.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A program of somebody who may put objects into the store; found out before anything of the body is read.
#[derive(Clone, Copy, Debug)]
pub struct Uploader {
    /// That it may.
    pub proof: Proof,
}

impl FromRequestParts<Site> for Uploader {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, AppError> {
        let user = ApiUser::from_request_parts(parts, site).await?;
        authorize(&user.subject, Verb::Change, Resource::Objects).map(|proof| Self { proof })
    }
}

/// A turn, which ends with the work that it is for, not with the request: who hangs up does not end the work.
#[derive(Debug)]
pub struct Turn {
    _held: OwnedSemaphorePermit,
}

impl Turn {
    async fn wait(turns: &Arc<Semaphore>) -> Result<Self, AppError> {
        let held = Arc::clone(turns).acquire_owned().await.map_err(AppError::internal)?;
        Ok(Self { _held: held })
    }
}

impl FromRequestParts<Site> for Turn {
    type Rejection = AppError;
    async fn from_request_parts(_: &mut Parts, site: &Site) -> Result<Self, AppError> {
        Self::wait(&site.uploads).await
    }
}

/// Waits for a body, but not for ever.
async fn in_time<T>(limit: Duration, body: impl Future<Output = T>) -> Result<T, AppError> {
    let late = |_| AppError::new(ErrorCode::Unavailable, "the body of the request did not come in time: send it again");
    tokio::time::timeout(limit, body).await.map_err(late)
}

/// Returns whether an object is there and whole. One that is damaged, or cannot be read, makes way for what is sent.
async fn is_there_whole(app: &App, object: Digest) -> Result<bool, AppError> {
    if app.store.head(object).await?.is_none() {
        return Ok(false);
    }
    match is_whole(&*app.store, object).await {
        Ok(true) => keeping::is_there(app, object).await,
        Ok(false) => Ok(false),
        Err(error) => {
            tracing::warn!(%object, "an object cannot be read, so it is to be sent again: {error}");
            Ok(false)
        }
    }
}

/// `POST uploads/{digest}`: whether the object is there, and room for it if it is not.
pub async fn begin(
    State(site): State<Site>,
    _uploader: Uploader,
    Segments(object): Segments<Digest>,
    request: Request,
) -> Result<StatusCode, AppError> {
    let Body(upload) = in_time(BEGIN_TIMEOUT, Body::<BeginUpload>::from_request(request, &site)).await??;
    if site.app.store.head(object).await?.is_some() {
        let _turn = Turn::wait(&site.readings).await?;
        if is_there_whole(&site.app, object).await? {
            return Ok(StatusCode::OK);
        }
    }
    let most = MAX_PIECE.get().saturating_mul(u64::try_from(MAX_PIECES).unwrap_or(u64::MAX));
    if upload.bytes.get() > most {
        let text = format!("{} bytes are too many for one object, at most {most} are taken", upload.bytes);
        return Err(AppError::new(ErrorCode::TooLarge, text));
    }
    let staging = Arc::clone(&site.app.staging);
    blocking(move || staging.ask_room(object, upload.bytes)).await?;
    Ok(StatusCode::CREATED)
}

/// `POST uploads/{digest}/offer`: which of these pieces did not arrive yet?
pub async fn offer(
    State(site): State<Site>,
    _uploader: Uploader,
    Segments(object): Segments<Digest>,
    Body(offer): Body<Offer>,
) -> Result<Json<Lacking>, AppError> {
    if offer.frames.len() > MAX_OFFER {
        let text = format!("{} pieces are offered, at most {MAX_OFFER} are accepted at once", offer.frames.len());
        return Err(AppError::new(ErrorCode::TooLarge, text));
    }
    let staging = Arc::clone(&site.app.staging);
    let frames = blocking(move || staging.lacking(object, &offer.frames)).await?;
    Ok(Json(Lacking { frames }))
}

/// `PUT uploads/{digest}/pieces/{piece}`: the bytes of a piece.
pub async fn piece(
    State(site): State<Site>,
    _uploader: Uploader,
    Segments((object, piece)): Segments<(Digest, Digest)>,
    turn: Turn,
    bytes: Bytes,
) -> Result<StatusCode, AppError> {
    if ByteLen::of(&bytes) > MAX_PIECE {
        let text = format!("{} bytes are too many for a piece, at most {MAX_PIECE} are taken", bytes.len());
        return Err(AppError::new(ErrorCode::TooLarge, text));
    }
    let staging = Arc::clone(&site.app.staging);
    let put = move || {
        let put = staging.put_frame(object, piece, &bytes);
        drop(turn);
        put
    };
    blocking(put).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST uploads/{digest}/finish`: all pieces were sent; the object is these, in this order.
pub async fn finish(
    State(site): State<Site>,
    _uploader: Uploader,
    Segments(object): Segments<Digest>,
    request: Request,
) -> Result<StatusCode, AppError> {
    let list = Turn::wait(&site.lists).await?;
    let wire = in_time(LIST_TIMEOUT, Bytes::from_request(request, &site)).await?;
    let wire = wire.map_err(|error| AppError::new(ErrorCode::BadRequest, error.body_text()))?;
    let (words, []) = wire.as_chunks::<32>() else {
        let text = format!("{} bytes are no list of digests, which have 32 each", wire.len());
        return Err(AppError::new(ErrorCode::BadRequest, text));
    };
    let pieces: Vec<_> = words.iter().map(|word| Digest::from_bytes(*word)).collect();
    drop(wire);
    // Not before: whoever sends slowly would keep the others waiting.
    let turn = Turn::wait(&site.readings).await?;
    drop(list);
    let (app, staging) = (&site.app, Arc::clone(&site.app.staging));
    let together = move || Ok((staging.finish_object(object, &pieces)?, turn));
    let (finished, _turn) = blocking(together).await?;
    let lacking = || AppError::new(ErrorCode::WrongState, "pieces are lacking: offer all of them again");
    let status = match finished {
        Some(finished) => {
            app.staging.hand_over(&*app.store, &finished).await?;
            keeping::is_there(app, object).await?.then_some(StatusCode::CREATED)
        }
        // Sent in another way meanwhile, or by who got no answer.
        None => is_there_whole(app, object).await?.then_some(StatusCode::OK),
    };
    let status = status.ok_or_else(lacking)?;
    let staging = Arc::clone(&app.staging);
    blocking(move || staging.discard(object)).await?;
    Ok(status)
}
