//! Frames on their way to boss: a short queue, offers in batches, and only what boss lacks is sent.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use boss_api::agent::Offer;
use boss_api::client::{AgentClient, ClientError};
use boss_api::ids::CaptureId;
use futures_util::{StreamExt as _, TryStreamExt as _};
use imagezip::capture::FrameSink;
use sigs::Digest;
use sigs::zdi::FrameRecord;
use tokio::sync::mpsc;

use crate::retry::persist;

/// How many frames wait at most, and how many are offered and held at once. A frame has at most 1 MiB and a little.
const QUEUE: usize = 8;
const BATCH: usize = 24;
/// How many frames are sent at the same time.
const PARALLEL: usize = 4;
/// How long boss may be away before the capture is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// A frame on its way.
#[derive(Debug)]
pub(super) struct Frame {
    digest: Digest,
    stored: Vec<u8>,
}

/// The engine's end of the queue. It blocks while the queue is full.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<Frame>);

/// Makes a queue.
pub(super) fn queue() -> (Queue, mpsc::Receiver<Frame>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Queue(sender), receiver)
}

impl FrameSink for Queue {
    fn put(&mut self, record: FrameRecord, stored: &[u8]) -> io::Result<()> {
        failpoints::hit("swapimage.frame.compressed")?;
        let frame = Frame { digest: record.digest, stored: stored.to_vec() };
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the frames are not sent any more");
        self.0.blocking_send(frame).map_err(gone)
    }
}

/// One attempt of a capture, as boss knows it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) client: AgentClient,
    pub(super) capture: CaptureId,
    pub(super) attempt: u32,
}

impl Attempt {
    /// Sends all frames that come through the queue. `sent` counts their bytes once boss has them.
    pub(super) async fn send_all(
        &self,
        mut frames: mpsc::Receiver<Frame>,
        sent: &AtomicU64,
    ) -> Result<(), ClientError> {
        let mut batch = Vec::with_capacity(BATCH);
        // What this attempt has sent or found; a frame that comes twice is neither offered nor sent again.
        let mut there: HashSet<Digest> = HashSet::new();
        while frames.recv_many(&mut batch, BATCH).await > 0 {
            let mut offered = HashSet::new();
            let new: Vec<Digest> = batch
                .iter()
                .map(|frame| frame.digest)
                .filter(|digest| !there.contains(digest) && offered.insert(*digest))
                .collect();
            let mut lacking = self.lacking(new).await?;
            there.extend(&offered);
            // Removed as it is taken: a frame twice in one batch is sent once.
            let sends = batch.drain(..).map(|frame| {
                let needed = lacking.remove(&frame.digest);
                async move {
                    let bytes = sigs::ByteLen::of(&frame.stored).get();
                    if needed {
                        self.send(frame).await?;
                    }
                    sent.fetch_add(bytes, Ordering::Relaxed);
                    Ok::<_, ClientError>(())
                }
            });
            let sends: Vec<_> = sends.collect();
            futures_util::stream::iter(sends).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        }
        Ok(())
    }

    async fn lacking(&self, frames: Vec<Digest>) -> Result<HashSet<Digest>, ClientError> {
        if frames.is_empty() {
            return Ok(HashSet::new());
        }
        let offer = Offer { frames };
        let ask = || self.client.offer(self.capture, self.attempt, &offer);
        let lacking = persist("offer frames", Some(PATIENCE), ask).await?;
        Ok(lacking.frames.into_iter().collect())
    }

    async fn send(&self, frame: Frame) -> Result<(), ClientError> {
        let Frame { digest, stored } = frame;
        let put = || self.client.put_frame(self.capture, self.attempt, digest, stored.clone());
        persist("send a frame", Some(PATIENCE), put).await
    }
}
