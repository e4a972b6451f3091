//! The bytes of images on their way into the store, and out of it.

use std::io;
use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Response, StatusCode};
use boss_api::ErrorCode;
use boss_db::objects::{self, Referrer};
use futures_util::{Stream, StreamExt as _, stream};
use sigs::{ByteLen, Digest};
use tokio_util::io::StreamReader;

use super::body::Segments;
use crate::auth::Site;
use crate::auth::authorize::{Proof, Resource, Subject, Verb, authorize};
use crate::auth::extract::ApiUser;
use crate::error::AppError;
use crate::keeping;
use crate::serving;
use crate::standstill::STALL;
use crate::store::{Put, StoredObject};

/// The most bytes of one object that is sent in one go: an image of a disk of 16 TiB, stored raw.
const MAX_OBJECT_BYTES: ByteLen = ByteLen::new(16 << 40);

/// `PUT objects/{digest}`: streams to the store, which keeps nothing that does not have the digest. What is there is read
/// back once all came; one that is damaged makes way for it.
pub async fn put(
    State(site): State<Site>,
    user: ApiUser,
    Segments(digest): Segments<Digest>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, AppError> {
    authorize(&user.subject, Verb::Change, Resource::Objects)?;
    // Refused before the first byte, where the sender says how many there are.
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(bytes) = announced {
        site.app.room.ask(ByteLen::new(bytes))?;
    }
    let bytes = Box::pin(StreamReader::new(Box::pin(unless_stalled(body.into_data_stream()))));
    let put = site.app.store.put_if_absent(digest, MAX_OBJECT_BYTES, bytes).await?;
    // Its grace may have ended before that.
    if !keeping::is_there(&site.app, digest).await? {
        let text = format!("the object {digest} was removed at the same moment: send it again");
        return Err(AppError::new(ErrorCode::Unavailable, text));
    }
    Ok(match put {
        Put::Stored => StatusCode::CREATED,
        Put::Present => StatusCode::OK,
    })
}

/// `HEAD objects/{digest}`: whether the store has a file for an object, for whoever may put it there. Nothing is read, so
/// it may be damaged: who wants to know whether to send it asks [`super::uploads::begin`].
pub async fn head(
    State(site): State<Site>,
    user: ApiUser,
    Segments(digest): Segments<Digest>,
) -> Result<StatusCode, AppError> {
    authorize(&user.subject, Verb::Change, Resource::Objects)?;
    Ok(if keeping::is_there(&site.app, digest).await? { StatusCode::OK } else { StatusCode::NOT_FOUND })
}

/// `GET objects/{digest}`, also in part: for whoever may read something that refers to the object. For others it is as
/// one that does not exist.
pub async fn get(
    State(site): State<Site>,
    user: ApiUser,
    Segments(digest): Segments<Digest>,
    headers: HeaderMap,
) -> Result<Response<Body>, AppError> {
    let missing = || AppError::not_found(format_args!("the object {digest}"));
    may_read(&site, &user.subject, digest).await?.ok_or_else(missing)?;
    let bytes = site.app.store.head(digest).await?.ok_or_else(missing)?;
    let object = StoredObject { digest, bytes };
    let turn = site.downloads.turn(user.subject.user.id).await?;
    // The site's pace is for nodes; people's programs have limits of their own.
    let response = serving::answer(&*site.app.store, object, &headers, Arc::default()).await?;
    Ok(response.map(|body| {
        let bytes = body.into_data_stream().inspect(move |_| {
            // It lasts as long as the body.
            let _ = &turn;
        });
        Body::from_stream(bytes)
    }))
}

async fn may_read(site: &Site, subject: &Subject, digest: Digest) -> Result<Option<Proof>, AppError> {
    if let Ok(proof) = authorize(subject, Verb::See, Resource::Objects) {
        return Ok(Some(proof));
    }
    let referrers = objects::referrers(&mut *site.app.pool.acquire().await?, digest).await?;
    Ok(referrers.iter().find_map(|referrer| {
        let resource = match referrer {
            Referrer::Image(project) => Resource::ImageBytes(project),
            Referrer::Saved(project) => Resource::SavedBytes(*project),
        };
        authorize(subject, Verb::See, resource).ok()
    }))
}

fn unless_stalled(body: BodyDataStream) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(body), |body| async {
        let mut body = body?;
        match tokio::time::timeout(STALL, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
            Ok(None) => None,
            Err(_) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {} s", STALL.as_secs()));
                Some((Err(error), None))
            }
        }
    })
}
