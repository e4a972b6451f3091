//! Asking a boss from the threads of a transfer: the one place where they meet the network, which is asynchronous.
//!
//! What breaks off is asked again, with pauses that grow, so often and no more; then the attempt is over and the transfer
//! can be resumed. A wait for the network ends when somebody asks to stop.

use std::time::Duration;

use boss_api::agent::Offer;
use boss_api::client::{ClientError, Stored, UserClient};
use sigs::{ByteLen, ByteRange, Digest};
use tokio::runtime::Handle;

use super::place::Address;
use super::stop::{Stop, Stopped};
use crate::retry::{Backoff, can_pass};

/// How often a request is made until the attempt is over; the pauses between are about ten seconds then.
const TRIES: u32 = 8;
/// How often a wait for the network looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A boss that can be asked, as somebody who is signed in there. The token is in here and nowhere else.
#[derive(Clone, Debug)]
pub struct Line {
    address: Address,
    client: UserClient,
    runtime: Handle,
    tries: u32,
}

/// Why a boss gave no answer that helps.
pub(super) enum Unanswered {
    /// What it said, or that it says nothing.
    Refused(Box<ClientError>),
    /// Somebody asked to stop.
    Stopped,
}

impl From<Stopped> for Unanswered {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl Line {
    /// Prepares to ask; nothing is sent yet. The runtime does the waiting; it has a thread of its own.
    pub const fn new(address: Address, client: UserClient, runtime: Handle) -> Self {
        Self { address, client, runtime, tries: TRIES }
    }

    /// Asks so often before an attempt is over.
    #[must_use]
    pub const fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Returns which boss is asked.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Asks how large an object is.
    pub(super) fn size(&self, object: Digest, stop: &Stop<'_>) -> Result<ByteLen, Unanswered> {
        self.ask(stop, || self.client.object_bytes(object))
    }

    /// Fetches a part of an object of so many bytes.
    pub(super) fn part(
        &self,
        object: Digest,
        size: ByteLen,
        part: ByteRange,
        stop: &Stop<'_>,
    ) -> Result<Vec<u8>, Unanswered> {
        self.ask(stop, || self.client.object_part(object, size, part))
    }

    /// Says that an object of so many bytes will come; returns whether it is there already.
    pub(super) fn begin(&self, object: Digest, bytes: ByteLen, stop: &Stop<'_>) -> Result<bool, Unanswered> {
        let stored = self.ask(stop, || self.client.begin_upload(object, bytes))?;
        Ok(stored == Stored::WasThere)
    }

    /// Asks which of these pieces of an object are lacking.
    pub(super) fn lacking(
        &self,
        object: Digest,
        pieces: &[Digest],
        stop: &Stop<'_>,
    ) -> Result<Vec<Digest>, Unanswered> {
        let offer = Offer { frames: pieces.to_vec() };
        self.ask(stop, || self.client.offer_pieces(object, &offer)).map(|lacking| lacking.frames)
    }

    /// Sends a piece of an object.
    pub(super) fn put(&self, object: Digest, piece: Digest, bytes: &[u8], stop: &Stop<'_>) -> Result<(), Unanswered> {
        self.ask(stop, || self.client.put_piece(object, piece, bytes.to_vec()))
    }

    /// Says that an object is these pieces; returns whether it is stored now, or some of them are lacking after all.
    pub(super) fn finish(&self, object: Digest, pieces: &[Digest], stop: &Stop<'_>) -> Result<bool, Unanswered> {
        self.ask(stop, || self.client.finish_upload(object, pieces)).map(|stored| stored.is_some())
    }

    /// Makes a request that can be repeated.
    fn ask<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        stop: &Stop<'_>,
        request: impl Fn() -> F,
    ) -> Result<T, Unanswered> {
        let mut backoff = Backoff::default();
        let mut left = self.tries;
        loop {
            stop.check()?;
            let error = match self.runtime.block_on(unless_stopped(request(), stop))? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            left = left.saturating_sub(1);
            if left == 0 || !can_pass(&error) {
                return Err(Unanswered::Refused(Box::new(error)));
            }
            stop.pause(backoff.step())?;
        }
    }
}

/// Waits for something, unless somebody asks to stop.
async fn unless_stopped<T>(work: impl Future<Output = T>, stop: &Stop<'_>) -> Result<T, Stopped> {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(LOOK, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_) => stop.check()?,
        }
    }
}
