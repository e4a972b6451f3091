//! A boss in memory, which answers as it should or in another manner.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path as Named, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use boss_api::agent::{Lacking, Offer};
use boss_api::client::UserClient;
use boss_api::user::BeginUpload;
use boss_api::{ApiError, ErrorCode};
use futures_util::{StreamExt as _, stream};
use sigs::Digest;
use tokio::runtime::Runtime;

use crate::transfer::boss::Line;
use crate::transfer::place::{Address, Object};

/// What a boss is told to know somebody by.
pub(super) const TOKEN: &str = "a-token-that-nobody-writes-down";

/// How a boss answers who asks for a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it should.
    #[default]
    Honest,
    /// The right part of something else.
    Lying,
    /// With everything, whatever was asked for.
    Whole,
    /// With another part, which it says.
    Beside,
    /// As if the object were longer by one.
    Grown,
    /// With fewer bytes than it says, and then nothing more.
    Breaking,
    /// Never.
    Hanging,
    /// That it cannot now, and then nothing of why.
    Mumbling,
    /// That it is not there.
    Hiding,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) objects: HashMap<Digest, Vec<u8>>,
    manner: Manner,
    /// How many answers are honest before the manner begins.
    honest: usize,
    /// The first and last bytes that were asked for, but for the questions how large something is.
    pub(super) asked: Vec<(usize, usize)>,
    /// Told when something is asked for.
    news: Arc<Condvar>,
    pub(super) bearers: Vec<String>,
    /// What came of objects that are not whole.
    pub(super) pieces: HashMap<Digest, HashMap<Digest, Vec<u8>>>,
    /// The pieces that were sent, in order.
    pub(super) sent: Vec<Digest>,
    /// A file that is written to when the first piece comes.
    pub(super) spoiled: Option<PathBuf>,
    /// How often all pieces are lost when they are to be put together.
    pub(super) forgetting: usize,
}

/// A boss in memory.
pub(super) struct FakeBoss {
    known: Arc<Mutex<Known>>,
    pub(super) runtime: Runtime,
    address: SocketAddr,
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

pub(super) fn line(url: &str, runtime: &Runtime) -> Line {
    let client = UserClient::new(url, Some(TOKEN)).unwrap();
    Line::new(Address::new(url), client, runtime.handle().clone()).with_tries(3)
}

impl FakeBoss {
    pub(super) fn with(objects: &[&[u8]]) -> Self {
        let (runtime, known) = (runtime(), Arc::new(Mutex::new(Known::default())));
        known.lock().unwrap().objects = objects.iter().map(|bytes| (Digest::of(bytes), bytes.to_vec())).collect();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/api/v1/objects/{digest}", get(part))
            .route("/api/v1/uploads/{digest}", post(begin))
            .route("/api/v1/uploads/{digest}/offer", post(offer))
            .route("/api/v1/uploads/{digest}/pieces/{piece}", put(piece))
            .route("/api/v1/uploads/{digest}/finish", post(finish))
            .layer(DefaultBodyLimit::max(32 << 20))
            .with_state(Arc::clone(&known));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { known, runtime, address }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn line(&self) -> Line {
        line(&self.url(), &self.runtime)
    }

    pub(super) fn object(&self, bytes: &[u8]) -> Object {
        Object { boss: Address::new(&self.url()), digest: Digest::of(bytes) }
    }

    /// Answers so many parts as it should, and the others in this manner.
    pub(super) fn answer(&self, honest: usize, manner: Manner) {
        let mut known = self.known();
        (known.honest, known.manner) = (honest, manner);
        known.asked.clear();
        known.sent.clear();
    }

    /// Waits until so many parts were asked for.
    pub(super) fn wait_asked(&self, times: usize) {
        let known = self.known();
        let news = Arc::clone(&known.news);
        let waited = news.wait_timeout_while(known, Duration::from_secs(30), |known| known.asked.len() < times);
        assert!(!waited.unwrap().1.timed_out(), "nobody asks {times} times");
    }

    pub(super) fn asked(&self) -> Vec<(usize, usize)> {
        self.known().asked.clone()
    }
}

async fn part(Shared(known): Shared<Arc<Mutex<Known>>>, Named(digest): Named<Digest>, headers: HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let range = text(header::RANGE);
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let (manner, bytes) = {
        let mut known = known.lock().unwrap();
        known.bearers.push(text(header::AUTHORIZATION));
        let measuring = (first, last) == (0, 0);
        if !measuring {
            known.asked.push((first, last));
            known.news.notify_all();
        }
        let honest = measuring || known.asked.len() <= known.honest;
        (if honest { Manner::Honest } else { known.manner }, known.objects.get(&digest).cloned())
    };
    let Some(mut bytes) = bytes.filter(|_| manner != Manner::Hiding) else {
        let told = ApiError { code: ErrorCode::NotFound, message: "there is no such object".into() };
        return (StatusCode::NOT_FOUND, Json(told)).into_response();
    };
    let mut size = bytes.len();
    if first >= size {
        return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{size}"))])
            .into_response();
    }
    let (mut first, mut last) = (first, last.min(size - 1));
    match manner {
        Manner::Honest | Manner::Breaking | Manner::Hiding => {}
        Manner::Lying => bytes[first] ^= 1,
        Manner::Whole => return bytes.into_response(),
        Manner::Beside => (first, last) = (first - 1, last - 1),
        Manner::Grown => size += 1,
        Manner::Hanging => std::future::pending().await,
        Manner::Mumbling => {
            let nothing = Body::from_stream(stream::pending::<io::Result<Bytes>>());
            return (StatusCode::SERVICE_UNAVAILABLE, nothing).into_response();
        }
    }
    let content = Bytes::copy_from_slice(&bytes[first..=last]);
    let headers = [
        (header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}")),
        (header::CONTENT_LENGTH, content.len().to_string()),
    ];
    let body = if manner == Manner::Breaking {
        let half = content.slice(..content.len() / 2);
        Body::from_stream(stream::iter([Ok(half)]).chain(stream::iter([Err(io::Error::other("on purpose"))])))
    } else {
        Body::from(content)
    };
    (StatusCode::PARTIAL_CONTENT, headers, body).into_response()
}

type Knows = Shared<Arc<Mutex<Known>>>;

fn refuse(status: StatusCode, code: ErrorCode) -> Response {
    (status, Json(ApiError { code, message: "as the test wants it".into() })).into_response()
}

async fn begin(Shared(known): Knows, Named(object): Named<Digest>, Json(_): Json<BeginUpload>) -> StatusCode {
    if known.lock().unwrap().objects.contains_key(&object) { StatusCode::OK } else { StatusCode::CREATED }
}

async fn offer(Shared(known): Knows, Named(object): Named<Digest>, Json(offer): Json<Offer>) -> Json<Lacking> {
    let mut known = known.lock().unwrap();
    let there = known.pieces.entry(object).or_default();
    Json(Lacking { frames: offer.frames.into_iter().filter(|piece| !there.contains_key(piece)).collect() })
}

async fn piece(Shared(known): Knows, Named((object, piece)): Named<(Digest, Digest)>, bytes: Bytes) -> Response {
    let mut known = known.lock().unwrap();
    known.sent.push(piece);
    if let Some(path) = known.spoiled.take() {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"other", file.metadata().unwrap().len() - 5).unwrap();
    }
    if known.sent.len() > known.honest {
        match known.manner {
            Manner::Hiding => return refuse(StatusCode::INSUFFICIENT_STORAGE, ErrorCode::NoSpace),
            _ => return refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
        }
    }
    if Digest::of(&bytes) != piece {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::VerificationFailed);
    }
    known.pieces.entry(object).or_default().insert(piece, bytes.to_vec());
    StatusCode::NO_CONTENT.into_response()
}

async fn finish(Shared(known): Knows, Named(object): Named<Digest>, wire: Bytes) -> Response {
    let mut known = known.lock().unwrap();
    if known.forgetting > 0 {
        known.forgetting -= 1;
        known.pieces.clear();
    }
    let there = known.pieces.entry(object).or_default();
    let pieces = wire.as_chunks::<32>().0.iter().map(|word| there.get(&Digest::from_bytes(*word)).cloned());
    let Some(pieces) = pieces.collect::<Option<Vec<_>>>() else {
        return refuse(StatusCode::CONFLICT, ErrorCode::WrongState);
    };
    let whole = pieces.concat();
    if Digest::of(&whole) != object {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::VerificationFailed);
    }
    known.pieces.remove(&object);
    known.objects.insert(object, whole);
    StatusCode::CREATED.into_response()
}
