//! The bytes of an object as an answer over HTTP, whole or in part, never in memory as a whole.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse as _;
use boss_api::{ApiError, ErrorCode};
use futures_util::StreamExt as _;
use sigs::{ByteLen, ByteOffset, ByteRange};
use tokio_util::io::ReaderStream;

use crate::error::AppError;
use crate::pace::Pace;
use crate::store::{ImageStore, StoredObject};

/// How much is read from the store at a time.
const PIECE_BYTES: usize = 256 << 10;

/// What a request wants of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// All of it.
    Whole,
    /// A part that is there.
    Part(ByteRange),
    /// A part that begins behind its end.
    Outside,
}

impl Wanted {
    fn by(headers: &HeaderMap, size: ByteLen) -> Self {
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
        range.map_or(Self::Whole, |text| Self::parse(text, size))
    }

    /// Understands `bytes=A-` and `bytes=A-B`; anything else is answered whole, as HTTP allows.
    fn parse(text: &str, size: ByteLen) -> Self {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::Whole;
        };
        let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
        match (number(first), last) {
            (Some(first), Some(last)) if first <= last => {
                let end = ByteOffset::new(last.saturating_add(1).min(size.get()));
                let range = ByteRange::between(ByteOffset::new(first), end);
                range.filter(|range| !range.len.is_zero()).map_or(Self::Outside, Self::Part)
            }
            _ => Self::Whole,
        }
    }
}

/// Answers with an object, or with the part of it that the headers ask for: 200, 206, or 416 for a part that it does not
/// have. The bytes go out as fast as they are taken, and no faster than `pace` lets them.
///
/// # Errors
/// [`AppError`] when the store does not have it or fails.
pub(crate) async fn answer(
    store: &dyn ImageStore,
    object: StoredObject,
    headers: &HeaderMap,
    pace: Arc<Pace>,
) -> Result<Response<Body>, AppError> {
    let wanted = Wanted::by(headers, object.bytes);
    let range = match wanted {
        Wanted::Outside => return Ok(outside(object)),
        Wanted::Part(range) => Some(range),
        Wanted::Whole => None,
    };
    let (len, bytes) = store.get(object.digest, range).await?;
    let mut response = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, len.get());
    if let Some(range) = range {
        let last = range.start.get() + (range.len.get() - 1);
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(CONTENT_RANGE, format!("bytes {}-{last}/{}", range.start, object.bytes));
    }
    let paced = ReaderStream::with_capacity(bytes, PIECE_BYTES).then(move |piece| {
        let pace = Arc::clone(&pace);
        async move {
            let piece = piece?;
            pace.pass(ByteLen::of(&piece)).await;
            Ok::<_, std::io::Error>(piece)
        }
    });
    response.body(Body::from_stream(paced)).map_err(AppError::internal)
}

fn outside(StoredObject { digest, bytes }: StoredObject) -> Response<Body> {
    let message = format!("the range asked for begins behind the end of the object {digest}, which has {bytes} bytes");
    let told = ApiError { code: ErrorCode::BadRequest, message };
    let headers = [(ACCEPT_RANGES, "bytes".to_owned()), (CONTENT_RANGE, format!("bytes */{bytes}"))];
    (StatusCode::RANGE_NOT_SATISFIABLE, headers, Json(told)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood_refused_or_ignored() {
        let wanted = |text| Wanted::parse(text, ByteLen::new(10));
        let part = |start, len| Wanted::Part(ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) });
        assert_eq!(wanted("bytes=0-"), part(0, 10));
        assert_eq!(wanted("bytes=9-9"), part(9, 1));
        assert_eq!(wanted("bytes=3-5"), part(3, 3));
        for longer in ["bytes=3-99", "bytes=3-18446744073709551615"] {
            assert_eq!(wanted(longer), part(3, 7), "{longer}");
        }
        for outside in ["bytes=10-", "bytes=10-10", "bytes=18446744073709551615-18446744073709551615"] {
            assert_eq!(wanted(outside), Wanted::Outside, "{outside}");
        }
        assert_eq!(Wanted::parse("bytes=0-", ByteLen::ZERO), Wanted::Outside);
        for other in [
            "bytes=5-3",
            "bytes=-3",
            "bytes=-",
            "bytes=+1-3",
            "bytes=a-b",
            "bytes",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=0-18446744073709551615x",
            "bytes=0-18446744073709551616",
        ] {
            assert_eq!(wanted(other), Wanted::Whole, "{other}");
        }
    }
}
