//! Objects in pieces, of which boss says which it lacks.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use sigs::{ByteLen, Digest};

use super::{ClientError, REQUEST_TIMEOUT, Stored, UserClient};
use crate::agent::{Lacking, Offer};
use crate::error::ErrorCode;
use crate::user::BeginUpload;

/// How long boss may take to read back what it has, or what it made of what was sent.
pub(super) const READING_TIMEOUT: Duration = Duration::from_secs(3600);

impl UserClient {
    /// Says that an object of so many bytes will come in pieces, unless boss has it.
    ///
    /// # Errors
    /// [`ClientError`]; of code `no_space` when boss has no room for it.
    pub async fn begin_upload(&self, object: Digest, bytes: ByteLen) -> Result<Stored, ClientError> {
        let transport = self.transport();
        let request = transport.request(Method::POST, transport.url(&["uploads", &object.to_string()]));
        let request = request.json(&BeginUpload { bytes }).timeout(READING_TIMEOUT);
        transport.send(request).await.map(|answer| stored(&answer))
    }

    /// Asks which of these pieces boss lacks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offer_pieces(&self, object: Digest, offer: &Offer) -> Result<Lacking, ClientError> {
        self.transport().post(&["uploads", &object.to_string(), "offer"], offer).await
    }

    /// Sends the bytes of a piece.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_piece(&self, object: Digest, piece: Digest, bytes: Vec<u8>) -> Result<(), ClientError> {
        let transport = self.transport();
        let url = transport.url(&["uploads", &object.to_string(), "pieces", &piece.to_string()]);
        let request = transport.request(Method::PUT, url).body(bytes).timeout(REQUEST_TIMEOUT);
        transport.send(request).await.map(drop)
    }

    /// Says that the object is these pieces in this order. Nothing comes back when boss lacks some of them after all.
    ///
    /// # Errors
    /// [`ClientError`]; of code `verification_failed` when they are not the object.
    pub async fn finish_upload(&self, object: Digest, pieces: &[Digest]) -> Result<Option<Stored>, ClientError> {
        let transport = self.transport();
        let wire: Vec<u8> = pieces.iter().flat_map(|piece| *piece.as_bytes()).collect();
        let url = transport.url(&["uploads", &object.to_string(), "finish"]);
        let request = transport.request(Method::POST, url).body(wire).timeout(READING_TIMEOUT);
        match transport.send(request).await {
            Ok(answer) => Ok(Some(stored(&answer))),
            Err(error) if error.code() == Some(ErrorCode::WrongState) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns what became of an object, by how boss answered.
pub(super) fn stored(answer: &Response) -> Stored {
    if answer.status() == StatusCode::CREATED { Stored::New } else { Stored::WasThere }
}
