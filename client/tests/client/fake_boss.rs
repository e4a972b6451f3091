//! A boss in memory that speaks the agent's protocol. It runs on a runtime of its own, so that it can be killed with
//! all its connections and started again on the same port.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use boss_api::agent::{
    CaptureProgress, Failure, FailureClass, Lacking, Offer, Register, Registered, TERM_HEADER, Task, WriteDone,
    WriteProgress,
};
use boss_api::ids::{CaptureId, WriteId};
use boss_api::{ApiError, ErrorCode};
use sigs::Digest;
use sigs::zdi::Contents;

pub(crate) const EPOCH: u64 = 7;
pub(crate) const TERM: u64 = 1;
const DEADLINE: Duration = Duration::from_secs(60);

/// What boss knows and was told.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) term: u64,
    pub(crate) epoch: u64,
    pub(crate) task: Option<Task>,
    pub(crate) stale: bool,
    /// Attempts that are over although the boot is not.
    pub(crate) over: HashSet<(CaptureId, u32)>,
    /// Frames beyond so many are not answered until this grows.
    pub(crate) frames_allowed: usize,
    pub(crate) registered: Vec<Register>,
    pub(crate) objects: HashMap<Digest, Vec<u8>>,
    pub(crate) frames: HashMap<Digest, Vec<u8>>,
    pub(crate) frame_puts: usize,
    pub(crate) begun: Vec<(CaptureId, u32)>,
    pub(crate) finished: Vec<(CaptureId, u32, Contents)>,
    pub(crate) capture_progress: Vec<CaptureProgress>,
    pub(crate) capture_failures: Vec<(CaptureId, u32, Failure)>,
    pub(crate) write_progress: Vec<WriteProgress>,
    pub(crate) done: HashMap<WriteId, WriteDone>,
    pub(crate) write_failures: HashMap<WriteId, Failure>,
    pub(crate) polls: usize,
    pub(crate) idle_polls: usize,
    pub(crate) bad_bearers: usize,
}

#[derive(Default)]
pub(crate) struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let result = change(&mut self.known.lock().unwrap());
        self.changed.notify_all();
        result
    }
}

pub(crate) struct FakeBoss {
    runtime: Option<tokio::runtime::Runtime>,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FakeBoss {
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        shared.change(|known| {
            known.frames_allowed = usize::MAX;
            (known.term, known.epoch) = (TERM, EPOCH);
        });
        let mut boss = Self { runtime: None, address: ([127, 0, 0, 1], 0).into(), shared };
        boss.start_again();
        boss
    }

    /// Kills it with all its connections; what it knew stays.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    pub(crate) fn start_again(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let router = router(Arc::clone(&self.shared));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        self.runtime = Some(runtime);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap()
    }

    pub(crate) fn order(&self, task: Task) {
        self.shared.change(|known| known.task = Some(task));
    }

    /// Waits until `found` has an answer.
    pub(crate) fn wait<T>(&self, what: &str, mut found: impl FnMut(&Known) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        let mut known = self.known();
        loop {
            if let Some(answer) = found(&known) {
                return answer;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}");
            known = self.shared.changed.wait_timeout(known, left).unwrap().0;
        }
    }

    /// Waits until the write is decided.
    pub(crate) fn outcome(&self, write: WriteId) -> Result<WriteDone, Failure> {
        self.wait("the end of a write", |known| {
            known.done.get(&write).map(|done| Ok(*done)).or_else(|| known.write_failures.get(&write).cloned().map(Err))
        })
    }

    /// Waits until the write was refused as corrupt; returns the reason.
    pub(crate) fn refusal(&self, write: WriteId) -> String {
        let failure = self.outcome(write).expect_err("the write was to be refused");
        assert_eq!(failure.class, FailureClass::Corruption, "{}", failure.reason);
        failure.reason
    }
}

impl Drop for FakeBoss {
    fn drop(&mut self) {
        self.kill();
    }
}

type Shareds = State<Arc<Shared>>;

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/agent/v1/register", post(register))
        .route("/agent/v1/poll", post(poll))
        .route("/agent/v1/captures/{id}/{attempt}/begin", post(begin))
        .route("/agent/v1/captures/{id}/{attempt}/offer", post(offer))
        .route("/agent/v1/captures/{id}/{attempt}/frames/{digest}", put(frame))
        .route("/agent/v1/captures/{id}/{attempt}/progress", post(capture_progress))
        .route("/agent/v1/captures/{id}/{attempt}/finish", post(finish))
        .route("/agent/v1/captures/{id}/{attempt}/failed", post(capture_failed))
        .route("/agent/v1/objects/{digest}", get(object))
        .route("/agent/v1/writes/{id}/progress", post(write_progress))
        .route("/agent/v1/writes/{id}/done", post(done))
        .route("/agent/v1/writes/{id}/failed", post(write_failed))
        .layer(DefaultBodyLimit::max(64 << 20))
        .layer(map_response_with_state(Arc::clone(&shared), say_term))
        .with_state(shared)
}

async fn say_term(State(shared): Shareds, mut answer: Response) -> Response {
    let term = shared.change(|known| known.term);
    answer.headers_mut().insert(TERM_HEADER, term.into());
    answer
}

fn refuse(status: StatusCode, code: ErrorCode, message: &str) -> Response {
    (status, Json(ApiError { code, message: message.into() })).into_response()
}

/// Returns the refusal of a request that is stale or not from the agent that registered last.
fn check(shared: &Shared, headers: &HeaderMap) -> Option<Response> {
    shared.change(|known| {
        if known.stale {
            return Some(refuse(StatusCode::GONE, ErrorCode::Stale, "this boot is over"));
        }
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let hash = bearer.and_then(|text| hex::decode(text).ok()).map(|bytes| Digest::of(&bytes));
        if hash.is_some() && hash == known.registered.last().map(|register| register.secret_hash) {
            return None;
        }
        known.bad_bearers += 1;
        Some(refuse(StatusCode::UNAUTHORIZED, ErrorCode::NotSignedIn, "who are you"))
    })
}

fn told(shared: &Shared, headers: &HeaderMap, change: impl FnOnce(&mut Known)) -> Response {
    if let Some(refusal) = check(shared, headers) {
        return refusal;
    }
    shared.change(change);
    StatusCode::NO_CONTENT.into_response()
}

/// As [`check`], and whether this attempt is over.
fn check_attempt(shared: &Shared, headers: &HeaderMap, attempt: (CaptureId, u32)) -> Option<Response> {
    check(shared, headers).or_else(|| {
        let over = shared.change(|known| known.over.contains(&attempt));
        over.then(|| refuse(StatusCode::GONE, ErrorCode::Stale, "this attempt is over"))
    })
}

async fn register(State(shared): Shareds, Json(register): Json<Register>) -> Response {
    shared.change(|known| {
        if known.stale {
            return refuse(StatusCode::GONE, ErrorCode::Stale, "this boot is over");
        }
        known.registered.push(register);
        Json(Registered { epoch: known.epoch }).into_response()
    })
}

async fn poll(State(shared): Shareds, headers: HeaderMap) -> Response {
    if let Some(refusal) = check(&shared, &headers) {
        return refusal;
    }
    // Short, so that a test never waits for long until a new order is noticed.
    for _ in 0..10 {
        if let Some(task) = shared.change(|known| known.task.clone()) {
            shared.change(|known| known.polls += 1);
            return Json(task).into_response();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shared.change(|known| known.idle_polls += 1);
    Json(Task::Idle).into_response()
}

async fn begin(State(shared): Shareds, headers: HeaderMap, Path(id): Path<(CaptureId, u32)>) -> Response {
    told(&shared, &headers, |known| known.begun.push(id))
}

async fn offer(
    State(shared): Shareds,
    headers: HeaderMap,
    Path(attempt): Path<(CaptureId, u32)>,
    Json(offer): Json<Offer>,
) -> Response {
    if let Some(refusal) = check_attempt(&shared, &headers, attempt) {
        return refusal;
    }
    let lacks =
        |known: &mut Known| offer.frames.into_iter().filter(|digest| !known.frames.contains_key(digest)).collect();
    Json(Lacking { frames: shared.change(lacks) }).into_response()
}

async fn frame(
    State(shared): Shareds,
    headers: HeaderMap,
    Path((id, attempt, digest)): Path<(CaptureId, u32, Digest)>,
    body: Bytes,
) -> Response {
    if let Some(refusal) = check_attempt(&shared, &headers, (id, attempt)) {
        return refusal;
    }
    while shared.change(|known| known.frames.len() >= known.frames_allowed) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if let Some(refusal) = check_attempt(&shared, &headers, (id, attempt)) {
            return refusal;
        }
    }
    if Digest::of(&body) != digest {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::VerificationFailed, "another digest");
    }
    told(&shared, &headers, |known| {
        known.frame_puts += 1;
        known.frames.insert(digest, body.to_vec());
    })
}

async fn capture_progress(
    State(shared): Shareds,
    headers: HeaderMap,
    Path(attempt): Path<(CaptureId, u32)>,
    Json(progress): Json<CaptureProgress>,
) -> Response {
    if let Some(refusal) = check_attempt(&shared, &headers, attempt) {
        return refusal;
    }
    told(&shared, &headers, |known| known.capture_progress.push(progress))
}

async fn finish(
    State(shared): Shareds,
    headers: HeaderMap,
    Path((id, attempt)): Path<(CaptureId, u32)>,
    body: Bytes,
) -> Response {
    let Ok((contents, _)) = Contents::from_wire(&body) else {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::VerificationFailed, "not an upload");
    };
    told(&shared, &headers, |known| {
        known.task = None;
        known.finished.push((id, attempt, contents));
    })
}

async fn capture_failed(
    State(shared): Shareds,
    headers: HeaderMap,
    Path((id, attempt)): Path<(CaptureId, u32)>,
    Json(failure): Json<Failure>,
) -> Response {
    told(&shared, &headers, |known| known.capture_failures.push((id, attempt, failure)))
}

async fn object(State(shared): Shareds, headers: HeaderMap, Path(digest): Path<Digest>) -> Response {
    if let Some(refusal) = check(&shared, &headers) {
        return refusal;
    }
    match shared.change(|known| known.objects.get(&digest).cloned()) {
        Some(bytes) => bytes.into_response(),
        None => refuse(StatusCode::NOT_FOUND, ErrorCode::NotFound, "no such object"),
    }
}

async fn write_progress(
    State(shared): Shareds,
    headers: HeaderMap,
    Path(_): Path<WriteId>,
    Json(progress): Json<WriteProgress>,
) -> Response {
    told(&shared, &headers, |known| known.write_progress.push(progress))
}

async fn done(
    State(shared): Shareds,
    headers: HeaderMap,
    Path(write): Path<WriteId>,
    Json(done): Json<WriteDone>,
) -> Response {
    told(&shared, &headers, |known| {
        known.task = None;
        known.done.insert(write, done);
    })
}

async fn write_failed(
    State(shared): Shareds,
    headers: HeaderMap,
    Path(write): Path<WriteId>,
    Json(failure): Json<Failure>,
) -> Response {
    told(&shared, &headers, |known| {
        known.task = None;
        known.write_failures.insert(write, failure);
    })
}
