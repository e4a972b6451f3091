//! The bytes an agent's present task names, and no others.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, Response, StatusCode};
use boss_api::ErrorCode;
use futures_util::StreamExt as _;
use sigs::{ByteLen, ByteOffset, ByteRange, Digest};
use tokio_util::io::ReaderStream;

use super::{AgentIdentity, task};
use crate::app::App;
use crate::error::AppError;
use crate::user_api::body::Segments;

/// How much is read from the store at a time.
const CHUNK_BYTES: usize = 256 << 10;

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
    let range = headers.get(RANGE).and_then(|value| parse_range(value.to_str().ok()?, object.bytes));
    let (len, bytes) = app.store.get(digest, range).await?;
    let mut response = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, len.get());
    if let Some(range) = range {
        let last = range.start.get() + range.len.get() - 1;
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(CONTENT_RANGE, format!("bytes {}-{last}/{}", range.start, object.bytes));
    }
    let paced = ReaderStream::with_capacity(bytes, CHUNK_BYTES).then(move |chunk| {
        let pace = Arc::clone(&app.pace);
        async move {
            let chunk = chunk?;
            pace.pass(ByteLen::of(&chunk)).await;
            Ok::<_, std::io::Error>(chunk)
        }
    });
    response.body(Body::from_stream(paced)).map_err(AppError::internal)
}

/// Understands `bytes=A-` and `bytes=A-B`; anything else is answered whole, as HTTP allows.
fn parse_range(text: &str, size: ByteLen) -> Option<ByteRange> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let last = if last.is_empty() { size.get().checked_sub(1)? } else { last.parse().ok()? };
    let end = last.min(size.get().checked_sub(1)?).checked_add(1)?;
    ByteRange::between(ByteOffset::new(first), ByteOffset::new(end)).filter(|range| !range.len.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood_or_ignored() {
        let range = |text| parse_range(text, ByteLen::new(10)).map(|range| (range.start.get(), range.len.get()));
        assert_eq!(range("bytes=0-"), Some((0, 10)));
        assert_eq!(range("bytes=3-5"), Some((3, 3)));
        assert_eq!(range("bytes=3-99"), Some((3, 7)));
        for other in [
            "bytes=10-",
            "bytes=5-3",
            "bytes=-3",
            "bytes=a-b",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=0-18446744073709551615x",
        ] {
            assert_eq!(range(other), None, "{other}");
        }
    }
}
