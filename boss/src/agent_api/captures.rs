//! A capture arriving: begun, offered, sent frame by frame, finished, or failed.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use boss_api::ErrorCode;
use boss_api::agent::{CaptureProgress, Failure, FailureClass, Lacking, MAX_OFFER, Offer};
use boss_api::ids::CaptureId;
use boss_db::captures::{self, Capture, Received};
use boss_db::{PgConnection, images, nodes};
use boss_model::capture::{CaptureEvent, CaptureStep};
use boss_model::node::{NodeState, NodeStep};
use sigs::manifest::Manifest;
use sigs::zdi::Contents;
use sigs::{ByteLen, Digest};

use super::AgentIdentity;
use crate::app::App;
use crate::error::AppError;
use crate::keeping;
use crate::store::{Finished, Put, StoreError, blocking};
use crate::user_api::body::{Body, Segments};

fn stale() -> AppError {
    AppError::new(ErrorCode::Stale, "this attempt is over: stop")
}

/// Returns the capture if this agent makes this attempt of it now.
async fn fenced(
    conn: &mut PgConnection,
    agent: &AgentIdentity,
    id: CaptureId,
    attempt: u32,
) -> Result<Capture, AppError> {
    let capture = captures::get(&mut *conn, id).await?.filter(|capture| capture.node == agent.node);
    let capture = capture.ok_or_else(|| AppError::new(ErrorCode::NotFound, "this machine has no such capture"))?;
    let node = nodes::get(conn, agent.node).await?;
    let ours = capture.attempt == attempt
        && capture.boot == Some(agent.boot)
        && capture.epoch == agent.epoch
        && node.is_some_and(|node| node.state == NodeState::At(NodeStep::Capturing));
    if ours { Ok(capture) } else { Err(stale()) }
}

/// Moves a capture, and says `stale` when somebody else moved it first.
async fn advance(
    app: &App,
    conn: &mut PgConnection,
    capture: &Capture,
    event: CaptureEvent,
) -> Result<Capture, AppError> {
    let to = capture.state.clone().apply(event).map_err(|_| stale())?;
    captures::transition(conn, app.term, capture, &to, app.now()).await?;
    Ok(Capture { state: to, ..capture.clone() })
}

/// Returns the capture as streaming: the first sign of frames makes it so.
async fn streaming(app: &App, agent: &AgentIdentity, id: CaptureId, attempt: u32) -> Result<Capture, AppError> {
    let mut conn = app.pool.acquire().await?;
    let capture = fenced(&mut conn, agent, id, attempt).await?;
    drop(conn);
    match capture.state.step() {
        CaptureStep::Streaming => Ok(capture),
        CaptureStep::Frozen => {
            let mut tx = app.begin().await?;
            // Requests of one agent overlap: another may have made it so since.
            let capture = fenced(&mut tx, agent, id, attempt).await?;
            let capture = match capture.state.step() {
                CaptureStep::Streaming => capture,
                _ => match advance(app, &mut tx, &capture, CaptureEvent::Stream).await {
                    Ok(capture) => capture,
                    Err(error) if error.told().code == ErrorCode::WrongState => {
                        fenced(&mut tx, agent, id, attempt).await?
                    }
                    Err(error) => return Err(error),
                },
            };
            tx.commit().await?;
            if capture.state.step() == CaptureStep::Streaming { Ok(capture) } else { Err(stale()) }
        }
        CaptureStep::Planned => Err(AppError::new(ErrorCode::WrongState, "this capture was not begun")),
        CaptureStep::Received | CaptureStep::Verified | CaptureStep::Retired | CaptureStep::Failed => Err(stale()),
    }
}

/// `POST captures/{id}/{attempt}/begin`: the disk is frozen.
pub(super) async fn begin(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments((id, attempt)): Segments<(CaptureId, u32)>,
) -> Result<StatusCode, AppError> {
    let capture = fenced(&mut *app.pool.acquire().await?, &agent, id, attempt).await?;
    if matches!(capture.state.step(), CaptureStep::Planned | CaptureStep::Frozen) {
        let staging = Arc::clone(&app.staging);
        blocking(move || staging.make_room(capture.id)).await?;
    }
    let mut tx = app.begin().await?;
    let capture = fenced(&mut tx, &agent, id, attempt).await?;
    match capture.state.step() {
        CaptureStep::Planned => {
            advance(&app, &mut tx, &capture, CaptureEvent::Begin).await?;
        }
        CaptureStep::Frozen | CaptureStep::Streaming => {}
        CaptureStep::Received | CaptureStep::Verified | CaptureStep::Retired | CaptureStep::Failed => {
            return Err(stale());
        }
    }
    failpoints::hit("capture.begin.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("capture.begin.committed").map_err(AppError::internal)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST captures/{id}/{attempt}/offer`: which of these frames did not arrive yet, in this attempt or before?
pub(super) async fn offer(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments((id, attempt)): Segments<(CaptureId, u32)>,
    Body(offer): Body<Offer>,
) -> Result<Json<Lacking>, AppError> {
    if offer.frames.len() > MAX_OFFER {
        let text = format!("{} frames are offered, at most {MAX_OFFER} are accepted at once", offer.frames.len());
        return Err(AppError::new(ErrorCode::TooLarge, text));
    }
    let capture = streaming(&app, &agent, id, attempt).await?;
    let staging = Arc::clone(&app.staging);
    let frames = blocking(move || staging.lacking(capture.id, &offer.frames)).await?;
    failpoints::hit("capture.offer.before-reply").map_err(AppError::internal)?;
    Ok(Json(Lacking { frames }))
}

/// `PUT captures/{id}/{attempt}/frames/{digest}`: the stored bytes of a frame.
pub(super) async fn frame(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments((id, attempt, digest)): Segments<(CaptureId, u32, Digest)>,
    bytes: Bytes,
) -> Result<StatusCode, AppError> {
    let capture = streaming(&app, &agent, id, attempt).await?;
    let staging = Arc::clone(&app.staging);
    let len = ByteLen::of(&bytes);
    let put = blocking(move || staging.put_frame(capture.id, digest, &bytes)).await?;
    // It is stored; that it is said later makes the agent slower and loses nothing.
    if put == Put::Stored {
        app.pace.pass(len).await;
    }
    failpoints::hit("capture.frame.before-reply").map_err(AppError::internal)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST captures/{id}/{attempt}/progress`
pub(super) async fn progress(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments((id, attempt)): Segments<(CaptureId, u32)>,
    Body(progress): Body<CaptureProgress>,
) -> Result<StatusCode, AppError> {
    let capture = streaming(&app, &agent, id, attempt).await?;
    let mut tx = app.begin().await?;
    captures::progress(&mut tx, &capture, &progress, app.now()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST captures/{id}/{attempt}/failed`
pub(super) async fn failed(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments((id, attempt)): Segments<(CaptureId, u32)>,
    Body(failure): Body<Failure>,
) -> Result<StatusCode, AppError> {
    let mut tx = app.begin().await?;
    let capture = fenced(&mut tx, &agent, id, attempt).await?;
    match capture.state.step() {
        CaptureStep::Planned | CaptureStep::Frozen | CaptureStep::Streaming => {
            let event = CaptureEvent::Fail { class: failure.class, reason: failure.reason };
            advance(&app, &mut tx, &capture, event).await?;
        }
        CaptureStep::Failed => return Ok(StatusCode::NO_CONTENT),
        CaptureStep::Received | CaptureStep::Verified | CaptureStep::Retired => return Err(stale()),
    }
    tx.commit().await?;
    app.changed.notify_waiters();
    Ok(StatusCode::NO_CONTENT)
}

/// `POST captures/{id}/{attempt}/finish`: all frames were sent; this is the rest.
pub(super) async fn finish(
    State(app): State<App>,
    agent: AgentIdentity,
    Segments((id, attempt)): Segments<(CaptureId, u32)>,
    wire: Bytes,
) -> Result<StatusCode, AppError> {
    let mut conn = app.pool.acquire().await?;
    let capture = fenced(&mut conn, &agent, id, attempt).await?;
    match capture.state.step() {
        CaptureStep::Frozen | CaptureStep::Streaming => {}
        CaptureStep::Received | CaptureStep::Verified => return Ok(StatusCode::NO_CONTENT),
        CaptureStep::Planned => return Err(AppError::new(ErrorCode::WrongState, "this capture was not begun")),
        CaptureStep::Retired | CaptureStep::Failed => return Err(stale()),
    }
    let refused = |text: String| AppError::new(ErrorCode::VerificationFailed, text);
    let (contents, manifest) =
        Contents::from_wire(&wire).map_err(|error| refused(format!("the end of the upload is refused: {error}")))?;
    drop(wire);
    check(&mut conn, &capture, &manifest).await?;
    drop(conn);
    if let Some(first) = manifest.bad_sectors().first() {
        // What is missing from it exists nowhere else: a person decides before the disk is given away.
        let (ranges, at) = (manifest.bad_sectors().len(), first.start);
        let reason = format!(
            "{} has sectors that cannot be read, in {ranges} places, the first at offset {at}: the saved state would \
             be incomplete",
            capture.disk_name
        );
        let mut tx = app.begin().await?;
        advance(&app, &mut tx, &capture, CaptureEvent::Fail { class: FailureClass::Machine, reason }).await?;
        tx.commit().await?;
        app.changed.notify_waiters();
        return Err(stale());
    }
    let Some(finished) = stored(&app, id, contents).await? else {
        // Frames that were acknowledged are gone: boss's machine crashed, or a flush failed. Only another attempt brings
        // them again.
        let reason = "boss lost frames it had received: its machine crashed, or its disk failed".to_owned();
        let mut tx = app.begin().await?;
        let event = CaptureEvent::Fail { class: FailureClass::Transient, reason };
        advance(&app, &mut tx, &capture, event).await?;
        tx.commit().await?;
        app.changed.notify_waiters();
        return Err(stale());
    };
    let received = Received {
        zdi: finished.digest,
        zdi_bytes: finished.bytes,
        target_root: manifest.target_root,
        min_disk_bytes: manifest.min_disk_bytes,
        refers_to_base: !manifest.base_roots.is_empty(),
    };
    let mut tx = app.begin().await?;
    let capture = fenced(&mut tx, &agent, id, attempt).await?;
    capture.state.clone().apply(CaptureEvent::Receive).map_err(|_| stale())?;
    keeping::refer(&app, &mut tx, finished.digest).await?;
    captures::received(&mut tx, app.term, &capture, received).await?;
    failpoints::hit("capture.received.before-commit").map_err(AppError::internal)?;
    tx.commit().await?;
    failpoints::hit("capture.received.committed").map_err(AppError::internal)?;
    app.changed.notify_waiters();
    Ok(StatusCode::NO_CONTENT)
}

/// Makes what arrived an object of the store, or returns nothing when frames are missing.
async fn stored(app: &App, id: CaptureId, contents: Contents) -> Result<Option<Finished>, AppError> {
    let staging = Arc::clone(&app.staging);
    let Some(finished) = blocking(move || staging.finish(id, &contents)).await? else { return Ok(None) };
    match app.staging.hand_over(&*app.store, &finished).await {
        Ok(()) => Ok(Some(finished)),
        // It was made before, and set aside since: only the note of it is here.
        Err(StoreError::Missing(_)) => {
            let staging = Arc::clone(&app.staging);
            blocking(move || staging.discard(id)).await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks that an image is one of this disk, against the base that was ordered.
async fn check(conn: &mut PgConnection, capture: &Capture, manifest: &Manifest) -> Result<(), AppError> {
    let refused = |text: String| AppError::new(ErrorCode::VerificationFailed, text);
    let disks = nodes::disks(&mut *conn, capture.node).await?;
    let bytes = disks.iter().find(|disk| disk.id == capture.disk).map(|disk| disk.bytes);
    if bytes != Some(manifest.geometry.disk_bytes) {
        let found = manifest.geometry.disk_bytes;
        return Err(refused(format!(
            "the image is of a disk of {found} bytes, {} has another size",
            capture.disk_name
        )));
    }
    let base = match capture.base {
        Some(base) => images::version(conn, base).await?.map(|base| base.root),
        None => None,
    };
    match manifest.base_roots.as_slice() {
        [] => Ok(()),
        [only] if Some(*only) == base => Ok(()),
        [other, ..] => Err(refused(format!("the image refers to the base {other}, which was not ordered"))),
    }
}
