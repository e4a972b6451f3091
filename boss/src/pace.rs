//! How fast the site's images travel, all of them together: a limit for a network that others use, too.
//!
//! The generic cell rate algorithm (ITU-T I.371): one moment until which everything that passed is paid for. Whoever
//! passes moves it on by what its bytes cost and waits until it is near. No queue and no thread; the callers wait, and so
//! do their senders, whose connections fill up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sigs::ByteLen;
use tokio::time::Instant;

/// What may pass at once after a quiet time.
const BURST: Duration = Duration::from_millis(250);

/// The pace of everything that agents send and fetch.
#[derive(Debug, Default)]
pub struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Bytes in a second; nothing: as fast as it goes.
    limit: Option<u64>,
    /// Until when what passed is paid for.
    paid_until: Option<Instant>,
}

impl Pace {
    /// Sets the limit, in bytes a second; 0: as fast as it goes.
    pub fn set(&self, bytes_a_second: u64) {
        self.state().limit = (bytes_a_second > 0).then_some(bytes_a_second);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many bytes more may have passed.
    pub async fn pass(&self, bytes: ByteLen) {
        if let Some(at) = self.pay(bytes, Instant::now()) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// Returns until when to wait, if that is in the future.
    fn pay(&self, bytes: ByteLen, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let limit = state.limit?;
        let nanoseconds = u128::from(bytes.get()) * 1_000_000_000 / u128::from(limit);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let from = state.paid_until.map_or(now, |paid| paid.max(now));
        // A cost beyond all time is one nobody lives to wait for; the limit can be changed, so it is not kept.
        let until = from.checked_add(cost)?;
        state.paid_until = Some(until);
        until.checked_sub(BURST).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_are_as_fast_as_the_limit() {
        let (pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.pay(ByteLen::new(u64::MAX), start), None, "no limit, no wait");
        pace.set(1_000_000);
        let mut now = start;
        for _ in 0..100 {
            // Two senders that wait for what they are told.
            for _ in 0..2 {
                now = pace.pay(ByteLen::new(50_000), now).unwrap_or(now);
            }
        }
        let took = now - start;
        assert!((took + BURST).as_millis().abs_diff(10_000) <= 1, "10 MB at 1 MB/s took {took:?}");
    }

    #[test]
    fn a_quiet_time_is_worth_a_burst_and_no_more() {
        let (pace, start) = (Pace::default(), Instant::now());
        pace.set(1_000_000);
        assert_eq!(pace.pay(ByteLen::new(250_000), start), None);
        let later = start + Duration::from_secs(3600);
        assert_eq!(pace.pay(ByteLen::new(250_000), later), None);
        assert_eq!(pace.pay(ByteLen::new(1_000_000), later), Some(later + Duration::from_secs(1)));
    }
}
