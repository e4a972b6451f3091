//! The typed HTTP client: one method for each request of [`crate::user`] and [`crate::agent`].
//!
//! Each method makes one attempt; who calls it decides about trying again, by [`ClientError::is_retryable`].
//! Only `http` for now. A bearer token is never shown by `Debug`, and never sent through a proxy.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sigs::Digest;

use crate::agent::TERM_HEADER;
use crate::error::{ApiError, ErrorCode};

mod agent;
mod files;
mod ranges;
mod uploads;
mod user;

pub use agent::{AgentClient, LowerTerm, TermMemory};
pub use files::FileUpload;
pub use ranges::MAX_PART;
pub use user::{ExperimentAction, Stored, UserClient};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request without a long body may take, besides what boss was asked to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a transfer of a file, or an answer that was begun, may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// The most bytes of a JSON answer.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The most bytes of an error that are read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Why a request had no success.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of boss is unusable.
    #[error("{url:?} is not an address of boss: {reason}; give one like http://127.0.0.1:4700")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer, or one that broke off. Trying again can help.
    #[error("boss at {url} does not answer")]
    Unreachable {
        /// Where.
        url: String,
        /// What the network said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// boss answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Something answered, but not as boss does.
    #[error("{url} answered with status {status}, which is not how boss answers: {reason}")]
    BadAnswer {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// A boss that does not rule any more. The one that does may answer next time.
    #[error("boss at {url} is not believed")]
    OldBoss {
        /// Where.
        url: String,
        /// What it says of itself.
        #[source]
        source: LowerTerm,
    },
    /// A local file to send or to receive into failed.
    #[error("{action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes received are not those that were asked for.
    #[error("{url} sent {bytes} bytes with the digest {found}, expected {expected}: they were altered or damaged")]
    WrongBytes {
        /// Where.
        url: String,
        /// How many came.
        bytes: u64,
        /// Their digest.
        found: Digest,
        /// The digest asked for.
        expected: Digest,
    },
}

impl ClientError {
    /// Returns the code, when boss answered with an error.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api(error) => Some(error.code),
            Self::Address { .. }
            | Self::Unreachable { .. }
            | Self::OldBoss { .. }
            | Self::BadAnswer { .. }
            | Self::File { .. }
            | Self::WrongBytes { .. } => None,
        }
    }

    /// Returns whether the same request can succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::OldBoss { .. } => true,
            Self::Api(error) => error.code.is_retryable(),
            // A gateway before boss that does not reach it.
            Self::BadAnswer { status, .. } => matches!(*status, 502..=504),
            Self::Address { .. } | Self::File { .. } | Self::WrongBytes { .. } => false,
        }
    }

    /// Returns whether the caller's boot or attempt is over.
    pub fn is_stale(&self) -> bool {
        self.code() == Some(ErrorCode::Stale)
    }

    /// Returns the exit code of a command that ended in this error.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Address { .. } => 2,
            Self::Unreachable { .. } | Self::OldBoss { .. } => 10,
            Self::Api(error) => error.code.exit_code(),
            Self::BadAnswer { status, .. } => match *status {
                502..=504 => 10,
                _ => 1,
            },
            Self::File { .. } => 1,
            Self::WrongBytes { .. } => 7,
        }
    }
}

/// Where boss is, how it is reached and as whom.
#[derive(Clone, Debug)]
struct Transport {
    base: Url,
    http: reqwest::Client,
    // Marked sensitive, which Debug respects.
    bearer: Option<HeaderValue>,
    // Of an agent's: which bosses are believed.
    memory: Option<Arc<dyn TermMemory>>,
}

impl Transport {
    fn new(address: &str, prefix: [&str; 2], token: Option<&str>) -> Result<Self, ClientError> {
        let refuse = |reason: &str| ClientError::Address { url: address.to_owned(), reason: reason.to_owned() };
        let mut base = Url::parse(address).map_err(|error| refuse(&error.to_string()))?;
        if base.scheme() != "http" {
            return Err(refuse("only http is spoken so far"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(refuse("a user or a password does not belong into an address"));
        }
        base.set_query(None);
        base.set_fragment(None);
        base.path_segments_mut().map_err(|()| refuse("it has no path"))?.pop_if_empty().extend(prefix);
        let bearer = token
            .map(|token| {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
                value.set_sensitive(true);
                Ok::<_, reqwest::header::InvalidHeaderValue>(value)
            })
            .transpose()
            .map_err(|_| refuse("the token that goes with it has characters that cannot be sent"))?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| refuse(&format!("the HTTP client cannot be set up: {error}")))?;
        Ok(Self { base, http, bearer, memory: None })
    }

    /// Returns the address of a resource. Segments are escaped, so that none can reach another resource.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.bearer {
            Some(bearer) => request.header(AUTHORIZATION, bearer.clone()),
            None => request,
        }
    }

    /// Returns where boss is, without what it was asked.
    fn shown(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn unreachable(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> ClientError {
        ClientError::Unreachable { url: self.shown(), source: source.into() }
    }

    /// Waits for the next thing of an answer, which is not to stand still.
    async fn in_time<T>(&self, next: impl Future<Output = reqwest::Result<T>>) -> Result<T, ClientError> {
        let next = tokio::time::timeout(STALL_TIMEOUT, next).await;
        let next = next.map_err(|stalled| self.unreachable(stalled))?;
        next.map_err(|error| self.unreachable(error.without_url()))
    }

    /// Sends a request and returns the answer once it says success.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(error.without_url()))?;
        self.hear(&response)?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// Listens to the term of an answer, when that matters, before anything else of it is believed.
    fn hear(&self, response: &Response) -> Result<(), ClientError> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let term = response.headers().get(TERM_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(term) = term else {
            return Err(ClientError::BadAnswer {
                url: response.url().to_string(),
                status: response.status().as_u16(),
                reason: format!("it has no header {TERM_HEADER}"),
            });
        };
        memory.hear(term).map_err(|source| ClientError::OldBoss { url: self.shown(), source })
    }

    /// Turns an answer that is not a success into an error.
    async fn refusal(&self, mut response: Response) -> ClientError {
        let status = response.status();
        let url = response.url().to_string();
        let body = match self.body(&mut response, MAX_ERROR_BYTES).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => ClientError::Api(error),
            Err(_) => {
                let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let reason = if text.is_empty() { "the answer is empty".to_owned() } else { text };
                ClientError::BadAnswer { url, status: status.as_u16(), reason }
            }
        }
    }

    /// Takes the body of an answer, of so many bytes at most.
    async fn body(&self, response: &mut Response, most: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.in_time(response.chunk()).await? {
            if body.len() + chunk.len() > most {
                return Err(ClientError::BadAnswer {
                    url: response.url().to_string(),
                    status: response.status().as_u16(),
                    reason: format!("it has more than {most} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder, wait: Duration) -> Result<T, ClientError> {
        let mut response = self.send(request.timeout(REQUEST_TIMEOUT + wait)).await?;
        let body = self.body(&mut response, MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::BadAnswer {
            url: response.url().to_string(),
            status: response.status().as_u16(),
            reason: error.to_string(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, ClientError> {
        self.answer(self.request(Method::GET, self.url(segments)), Duration::ZERO).await
    }

    async fn post<T: DeserializeOwned>(&self, segments: &[&str], body: &impl Serialize) -> Result<T, ClientError> {
        self.answer(self.request(Method::POST, self.url(segments)).json(body), Duration::ZERO).await
    }

    /// Posts, and takes any success for an answer.
    async fn tell(&self, segments: &[&str], body: &impl Serialize) -> Result<(), ClientError> {
        let request = self.request(Method::POST, self.url(segments)).json(body).timeout(REQUEST_TIMEOUT);
        self.send(request).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let transport = Transport::new("http://127.0.0.1:1/", ["api", "v1"], Some("hunter2")).unwrap();
        let shown = format!("{transport:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn segments_cannot_leave_their_place() {
        let transport = Transport::new("http://127.0.0.1:1/site/", ["api", "v1"], None).unwrap();
        let url = transport.url(&["settings", "swap/../x?y#z"]);
        assert_eq!(url.as_str(), "http://127.0.0.1:1/site/api/v1/settings/swap%2F..%2Fx%3Fy%23z");
    }

    #[test]
    fn addresses_that_are_not_boss_are_refused() {
        for bad in ["", "127.0.0.1:80", "https://boss", "http://u:p@boss", "mailto:a@b"] {
            let error = Transport::new(bad, ["api", "v1"], None).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}: {error}");
        }
        assert!(Transport::new("http://boss", ["api", "v1"], Some("a\nb")).is_err());
    }

    #[test]
    fn only_what_can_pass_is_tried_again() {
        let api = |code| ClientError::Api(ApiError { code, message: String::new() });
        assert!(api(ErrorCode::Unavailable).is_retryable());
        assert!(!api(ErrorCode::VerificationFailed).is_retryable());
        assert!(api(ErrorCode::Stale).is_stale());
        let bad = |status| ClientError::BadAnswer { url: String::new(), status, reason: String::new() };
        assert!(bad(503).is_retryable());
        assert!(!bad(404).is_retryable());
    }

    /// Whoever is before boss may say that it failed, and then nothing more.
    #[tokio::test]
    async fn an_error_that_stands_still_is_no_answer() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let transport = Transport::new(&format!("http://{}", listener.local_addr().unwrap()), ["api", "v1"], None);
        let transport = transport.unwrap();
        let request = transport.request(Method::GET, transport.url(&["objects", "x"]));
        let answering = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(socket.read_u8().await.unwrap());
            }
            socket.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 99\r\n\r\n{").await.unwrap();
            socket
        };
        let (response, _open) = tokio::join!(request.send(), answering);
        // From here on nothing happens but that time passes, as fast as everybody waits for it.
        tokio::time::pause();
        let refusal = tokio::time::timeout(STALL_TIMEOUT * 2, transport.refusal(response.unwrap())).await;
        let error = refusal.expect("it waits without end");
        assert!(matches!(error, ClientError::Unreachable { .. }) && error.is_retryable(), "{error}");
    }
}
