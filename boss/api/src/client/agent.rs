//! What an agent and the program it runs ask of boss.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use sigs::Digest;

use super::{ClientError, REQUEST_TIMEOUT, Transport};
use crate::agent::{
    CaptureProgress, Failure, Lacking, ObjectRef, Offer, Poll, Register, Registered, Task, WriteDone, WriteProgress,
};
use crate::ids::{CaptureId, WriteId};

/// How long boss may take to write down the end of a capture.
const FINISH_TIMEOUT: Duration = Duration::from_secs(300);

/// A term that is over: the boss that says it was followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it rules in term {said}, and a boss was heard that rules in term {heard}")]
pub struct LowerTerm {
    /// What the answer says.
    pub said: u64,
    /// The highest that was heard.
    pub heard: u64,
}

/// Remembers the highest term that was heard.
pub trait TermMemory: Send + Sync + std::fmt::Debug {
    /// Takes note of a term.
    ///
    /// # Errors
    /// [`LowerTerm`] when a higher one was heard before.
    fn hear(&self, term: u64) -> Result<(), LowerTerm>;
}

/// Speaks for one boot of one agent.
#[derive(Clone, Debug)]
pub struct AgentClient {
    transport: Transport,
}

impl AgentClient {
    /// Prepares to speak to boss; nothing is sent yet. The secret is the agent's own, hexadecimal. No answer is
    /// believed that `memory` refuses.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(address: &str, secret: &str, memory: Arc<dyn TermMemory>) -> Result<Self, ClientError> {
        let transport = Transport::new(address, ["agent", "v1"], Some(secret))?;
        Ok(Self { transport: Transport { memory: Some(memory), ..transport } })
    }

    /// Says that this boot is alive.
    ///
    /// # Errors
    /// [`ClientError`]; of code `stale` or `not_allowed` when the boot token is not good any more.
    pub async fn register(&self, register: &Register) -> Result<Registered, ClientError> {
        self.transport.post(&["register"], register).await
    }

    /// Asks what to do.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll(&self, poll: &Poll) -> Result<Task, ClientError> {
        let transport = &self.transport;
        let request = transport.request(Method::POST, transport.url(&["poll"])).json(poll);
        transport.answer(request, Duration::from_millis(poll.wait_ms)).await
    }

    /// Says that the disk is frozen and its scan begins.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin_capture(&self, capture: CaptureId, attempt: u32) -> Result<(), ClientError> {
        self.tell_capture(capture, attempt, "begin", &serde_json::json!({})).await
    }

    /// Asks which of these frames boss lacks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offer(&self, capture: CaptureId, attempt: u32, offer: &Offer) -> Result<Lacking, ClientError> {
        let (capture, attempt) = (capture.to_string(), attempt.to_string());
        self.transport.post(&["captures", &capture, &attempt, "offer"], offer).await
    }

    /// Sends the stored bytes of a frame.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_frame(
        &self,
        capture: CaptureId,
        attempt: u32,
        digest: Digest,
        stored: Vec<u8>,
    ) -> Result<(), ClientError> {
        let (capture, attempt, digest) = (capture.to_string(), attempt.to_string(), digest.to_string());
        let url = self.transport.url(&["captures", &capture, &attempt, "frames", &digest]);
        let request = self.transport.request(Method::PUT, url).body(stored).timeout(REQUEST_TIMEOUT);
        self.transport.send(request).await.map(drop)
    }

    /// Says how far a capture is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn capture_progress(
        &self,
        capture: CaptureId,
        attempt: u32,
        progress: &CaptureProgress,
    ) -> Result<(), ClientError> {
        self.tell_capture(capture, attempt, "progress", progress).await
    }

    /// Says that all frames were sent, and what the image is: `sigs::zdi::Contents::to_wire`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn finish_capture(&self, capture: CaptureId, attempt: u32, wire: Vec<u8>) -> Result<(), ClientError> {
        let (capture, attempt) = (capture.to_string(), attempt.to_string());
        let url = self.transport.url(&["captures", &capture, &attempt, "finish"]);
        let request = self.transport.request(Method::POST, url).body(wire).timeout(FINISH_TIMEOUT);
        self.transport.send(request).await.map(drop)
    }

    /// Says that a capture ended without success.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn capture_failed(&self, capture: CaptureId, attempt: u32, failure: &Failure) -> Result<(), ClientError> {
        self.tell_capture(capture, attempt, "failed", failure).await
    }

    /// Fetches an object into a new file; what is not exactly the object is removed and is an error.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::WrongBytes`] when other bytes came.
    pub async fn object(&self, object: &ObjectRef, path: &Path) -> Result<(), ClientError> {
        let url = self.transport.url(&["objects", &object.digest.to_string()]);
        let request = self.transport.request(Method::GET, url);
        self.transport.download(request, object.digest, object.bytes, path).await
    }

    /// Says how far a write is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn write_progress(&self, write: WriteId, progress: &WriteProgress) -> Result<(), ClientError> {
        self.tell_write(write, "progress", progress).await
    }

    /// Says that a disk was written, flushed and read back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn write_done(&self, write: WriteId, done: &WriteDone) -> Result<(), ClientError> {
        self.tell_write(write, "done", done).await
    }

    /// Says that a write ended without success.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn write_failed(&self, write: WriteId, failure: &Failure) -> Result<(), ClientError> {
        self.tell_write(write, "failed", failure).await
    }

    async fn tell_capture(
        &self,
        capture: CaptureId,
        attempt: u32,
        what: &str,
        body: &impl Serialize,
    ) -> Result<(), ClientError> {
        let (capture, attempt) = (capture.to_string(), attempt.to_string());
        self.transport.tell(&["captures", &capture, &attempt, what], body).await
    }

    async fn tell_write(&self, write: WriteId, what: &str, body: &impl Serialize) -> Result<(), ClientError> {
        self.transport.tell(&["writes", &write.to_string(), what], body).await
    }
}
