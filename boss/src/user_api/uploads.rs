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
use tokio::sync::OwnedSemaphorePermit;

use super::body::{Body, Segments};
use crate::auth::Site;
use crate::auth::authorize::{Proof, Resource, Verb, authorize};
use crate::auth::extract::ApiUser;
use crate::error::AppError;
use crate::store::blocking;

/// How many pieces are taken, and objects put together, at once; the others wait for their turn, unread.
pub const AT_ONCE: usize = 8;

/// How long the list of all pieces may take to come.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);

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

/// The turn of a request, which ends with it.
#[derive(Debug)]
pub struct Turn {
    _held: OwnedSemaphorePermit,
}

impl Turn {
    async fn wait(site: &Site) -> Result<Self, AppError> {
        let held = Arc::clone(&site.uploads).acquire_owned().await.map_err(AppError::internal)?;
        Ok(Self { _held: held })
    }
}

impl FromRequestParts<Site> for Turn {
    type Rejection = AppError;
    async fn from_request_parts(_: &mut Parts, site: &Site) -> Result<Self, AppError> {
        Self::wait(site).await
    }
}

/// `POST uploads/{digest}`: whether the object is there, and room for it if it is not.
pub async fn begin(
    State(site): State<Site>,
    _uploader: Uploader,
    Segments(object): Segments<Digest>,
    Body(upload): Body<BeginUpload>,
) -> Result<StatusCode, AppError> {
    if site.app.store.head(object).await?.is_some() {
        return Ok(StatusCode::OK);
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
    _turn: Turn,
    bytes: Bytes,
) -> Result<StatusCode, AppError> {
    if ByteLen::of(&bytes) > MAX_PIECE {
        let text = format!("{} bytes are too many for a piece, at most {MAX_PIECE} are taken", bytes.len());
        return Err(AppError::new(ErrorCode::TooLarge, text));
    }
    let staging = Arc::clone(&site.app.staging);
    blocking(move || staging.put_frame(object, piece, &bytes)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST uploads/{digest}/finish`: all pieces were sent; the object is these, in this order.
pub async fn finish(
    State(site): State<Site>,
    _uploader: Uploader,
    Segments(object): Segments<Digest>,
    request: Request,
) -> Result<StatusCode, AppError> {
    let late = |_| AppError::new(ErrorCode::Unavailable, "the list of pieces did not come in time: send it again");
    let wire = tokio::time::timeout(LIST_TIMEOUT, Bytes::from_request(request, &site)).await.map_err(late)?;
    let wire = wire.map_err(|error| AppError::new(ErrorCode::BadRequest, error.body_text()))?;
    // Only now: who is slow takes nobody's turn.
    let _turn = Turn::wait(&site).await?;
    let (staging, app) = (Arc::clone(&site.app.staging), &site.app);
    if app.store.head(object).await?.is_some() {
        // Sent in another way meanwhile, or by who got no answer.
        blocking(move || staging.discard(object)).await?;
        return Ok(StatusCode::OK);
    }
    let (words, []) = wire.as_chunks::<32>() else {
        let text = format!("{} bytes are no list of digests, which have 32 each", wire.len());
        return Err(AppError::new(ErrorCode::BadRequest, text));
    };
    let pieces: Vec<_> = words.iter().map(|word| Digest::from_bytes(*word)).collect();
    let finished = blocking(move || staging.finish_object(object, &pieces)).await?;
    let lacking = || AppError::new(ErrorCode::WrongState, "pieces are lacking: offer all of them again");
    app.staging.hand_over(&*app.store, &finished.ok_or_else(lacking)?).await?;
    let staging = Arc::clone(&app.staging);
    blocking(move || staging.discard(object)).await?;
    Ok(StatusCode::CREATED)
}
