//! How fast a transfer may be: a bucket of bytes that fills at the allowed rate and may be overdrawn by one piece.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sigs::ByteLen;

use super::stop::{Stop, Stopped};

/// Bytes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// Returns the rate of so many bytes in a second, unless that is none.
    pub const fn new(bytes: ByteLen) -> Option<Self> {
        match NonZeroU64::new(bytes.get()) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// Returns the bytes in a second.
    pub const fn bytes(self) -> ByteLen {
        ByteLen::new(self.0.get())
    }

    /// Returns how long so many bytes take.
    fn time_of(self, len: ByteLen) -> Duration {
        let nanoseconds = u128::from(len.get()) * 1_000_000_000 / u128::from(self.0.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// The bucket. Time comes in from outside and only has to go forward.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    paid_at: Duration,
}

impl Bucket {
    /// Takes bytes out, and returns how long to wait before they may be moved. A bucket that nobody used does not fill
    /// beyond its brim: what was not used is not made up for.
    fn take(&mut self, now: Duration, len: ByteLen) -> Duration {
        let begin = self.paid_at.max(now);
        self.paid_at = begin.saturating_add(self.rate.time_of(len));
        begin.saturating_sub(now)
    }
}

/// What the threads of an attempt share to stay below a rate together.
#[derive(Debug)]
pub(super) struct Pace {
    bucket: Option<Mutex<Bucket>>,
    begun: Instant,
}

impl Pace {
    pub(super) fn new(limit: Option<Rate>) -> Self {
        let bucket = limit.map(|rate| Mutex::new(Bucket { rate, paid_at: Duration::ZERO }));
        Self { bucket, begun: Instant::now() }
    }

    /// Waits until so many bytes may be moved.
    ///
    /// # Errors
    /// [`Stopped`] when somebody asks to stop before.
    pub(super) fn wait(&self, len: ByteLen, stop: &Stop<'_>) -> Result<(), Stopped> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let wait = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(self.begun.elapsed(), len);
        stop.pause(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bucket(rate: u64) -> Bucket {
        Bucket { rate: Rate::new(ByteLen::new(rate)).unwrap(), paid_at: Duration::ZERO }
    }

    /// Moves pieces one after the other on a clock of our own; returns how long that took.
    fn moved(bucket: &mut Bucket, begin: Duration, pieces: &[u64]) -> Duration {
        let mut now = begin;
        for piece in pieces {
            now += bucket.take(now, ByteLen::new(*piece));
        }
        now - begin
    }

    #[test]
    fn a_rate_is_kept_but_for_one_piece() {
        let mut bucket = bucket(100);
        // The first piece goes at once; each other waits for the one before it.
        assert_eq!(moved(&mut bucket, Duration::ZERO, &[100; 11]), 10 * SECOND);
        assert_eq!(moved(&mut bucket, 10 * SECOND, &[50; 2]), SECOND * 3 / 2);
    }

    #[test]
    fn what_was_not_used_is_not_made_up_for() {
        let mut bucket = bucket(100);
        assert_eq!(moved(&mut bucket, Duration::ZERO, &[100]), Duration::ZERO);
        // An hour of nothing, then as slow as before.
        assert_eq!(moved(&mut bucket, 3600 * SECOND, &[100; 4]), 3 * SECOND);
    }

    #[test]
    fn threads_share_it() {
        let mut bucket = bucket(1000);
        // Four threads take at the same moment.
        let waits: Vec<_> = (0..4).map(|_| bucket.take(SECOND, ByteLen::new(500))).collect();
        assert_eq!(waits, [0, 1, 2, 3].map(|turn| SECOND / 2 * turn));
    }

    #[test]
    fn nothing_overflows() {
        let mut slow = bucket(1);
        slow.take(Duration::ZERO, ByteLen::MAX);
        slow.take(Duration::MAX, ByteLen::MAX);
        assert_eq!(slow.take(Duration::MAX, ByteLen::MAX), Duration::ZERO);
        assert!(Rate::new(ByteLen::ZERO).is_none());
    }
}
