//! Parts of objects: as much as fits into memory, and never anything else than was asked for.

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use sigs::{ByteLen, ByteOffset, ByteRange, Digest};

use super::{ClientError, Transport};

/// The most bytes that are asked for at once.
pub const MAX_PART: ByteLen = ByteLen::new(16 << 20);

impl Transport {
    /// Asks how large an object is, without having it sent.
    pub(super) async fn object_bytes(&self, digest: Digest) -> Result<ByteLen, ClientError> {
        let first = ByteRange { start: ByteOffset::ZERO, len: ByteLen::new(1) };
        let response = self.part(digest, first).await?;
        Answered::of(&response).map(|answered| answered.size)
    }

    /// Fetches a part of an object that has so many bytes: all of the part, and nothing else.
    pub(super) async fn object_part(
        &self,
        digest: Digest,
        size: ByteLen,
        part: ByteRange,
    ) -> Result<Vec<u8>, ClientError> {
        let mut response = self.part(digest, part).await?;
        let answered = Answered::of(&response)?;
        if answered != (Answered { part: Some(part), size }) {
            return Err(bad(&response, format!("it is not bytes {} to {} of {size}", part.start, end_of(part))));
        }
        let wanted = part.len.to_usize().filter(|_| part.len <= MAX_PART);
        let wanted = wanted.ok_or_else(|| bad(&response, format!("{} bytes are too many to hold", part.len)))?;
        let mut bytes = Vec::with_capacity(wanted);
        loop {
            let Some(piece) = self.in_time(response.chunk()).await? else { break };
            if bytes.len() + piece.len() > wanted {
                return Err(bad(&response, format!("it has more than the {wanted} bytes that were asked for")));
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() < wanted {
            let reason = format!("the answer broke off after {} of {wanted} bytes", bytes.len());
            return Err(self.unreachable(reason));
        }
        Ok(bytes)
    }

    /// Asks for a part of an object, and returns the answer once it says which part it is.
    async fn part(&self, digest: Digest, part: ByteRange) -> Result<Response, ClientError> {
        let request = self.request(Method::GET, self.url(&["objects", &digest.to_string()]));
        let request = request.header(RANGE, format!("bytes={}-{}", part.start, end_of(part)));
        let response = self.in_time(request.send()).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            status if status.is_success() => Err(bad(&response, "parts were asked for, and it is no part".to_owned())),
            _ => Err(self.refusal(response).await),
        }
    }
}

/// Returns the last byte of a part, as HTTP names it.
fn end_of(part: ByteRange) -> ByteOffset {
    let last = ByteLen::new(part.len.get().saturating_sub(1));
    part.start.checked_add(last).unwrap_or(part.start)
}

fn bad(response: &Response, reason: String) -> ClientError {
    ClientError::BadAnswer { url: response.url().to_string(), status: response.status().as_u16(), reason }
}

/// What an answer says that it is: a part, or none, of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answered {
    part: Option<ByteRange>,
    size: ByteLen,
}

impl Answered {
    fn of(response: &Response) -> Result<Self, ClientError> {
        let text = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let found = text.and_then(Self::parse);
        found.ok_or_else(|| bad(response, "it does not say which part of the object it is".to_owned()))
    }

    /// Understands `bytes A-B/SIZE` and `bytes */SIZE`.
    fn parse(text: &str) -> Option<Self> {
        let (part, size) = text.strip_prefix("bytes ")?.split_once('/')?;
        let size = ByteLen::new(size.parse().ok()?);
        if part == "*" {
            return Some(Self { part: None, size });
        }
        let (first, last) = part.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let part = ByteRange::between(ByteOffset::new(first), ByteOffset::new(last.checked_add(1)?))?;
        (last < size.get()).then_some(Self { part: Some(part), size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_is_part_of_is_understood_or_refused() {
        let part = |start, len| Some(ByteRange { start: ByteOffset::new(start), len: ByteLen::new(len) });
        let of = |text| Answered::parse(text).map(|found| (found.part, found.size.get()));
        assert_eq!(of("bytes 0-0/1"), Some((part(0, 1), 1)));
        assert_eq!(of("bytes 3-9/10"), Some((part(3, 7), 10)));
        assert_eq!(of("bytes */0"), Some((None, 0)));
        for other in [
            "",
            "bytes",
            "bytes 3-9",
            "bytes 3-9/*",
            "bytes 3-10/10",
            "bytes 9-3/10",
            "bytes -3/10",
            "octets 3-9/10",
            "bytes 0-18446744073709551615/18446744073709551615",
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
