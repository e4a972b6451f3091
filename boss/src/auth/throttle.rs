//! Guessing passwords is slow: after a few failures an account takes the next attempt only after a while.
//!
//! In memory and per account: a restart forgives, and who knows the password is let in after the wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use time::{Duration, OffsetDateTime};

/// So many failures cost nothing: people mistype.
const FREE_FAILURES: u32 = 5;
const MAX_WAIT: Duration = Duration::minutes(5);
/// After so long without a failure an account starts afresh.
const FORGET_AFTER: Duration = Duration::minutes(30);
/// The most accounts remembered; names that do not exist count too.
const MAX_ACCOUNTS: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Account {
    failures: u32,
    last: OffsetDateTime,
}

impl Account {
    fn wait_until(self) -> OffsetDateTime {
        let over = self.failures.saturating_sub(FREE_FAILURES);
        if over == 0 {
            return self.last;
        }
        let seconds = 1_i64.checked_shl(over.min(16)).unwrap_or(i64::MAX);
        self.last + Duration::seconds(seconds).min(MAX_WAIT)
    }
}

/// Counts failures.
#[derive(Debug)]
pub struct Throttle {
    accounts: Mutex<HashMap<String, Account>>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { accounts: Mutex::new(HashMap::new()) }
    }

    /// Returns how long an account takes no attempt yet, if so.
    pub fn wait(&self, account: &str, now: OffsetDateTime) -> Option<Duration> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = accounts.get(account)?.wait_until() - now;
        wait.is_positive().then_some(wait)
    }

    /// Notes an attempt before its outcome is known, so that many at once cannot pass uncounted.
    pub fn attempt(&self, account: &str, now: OffsetDateTime) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= MAX_ACCOUNTS {
            accounts.retain(|_, account| now - account.last < FORGET_AFTER);
        }
        if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(account) {
            return;
        }
        let entry = accounts.entry(account.to_owned()).or_insert(Account { failures: 0, last: now });
        if now - entry.last >= FORGET_AFTER {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
    }

    /// Forgets the failures of an account whose password was right.
    pub fn succeeded(&self, account: &str) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_cost_ever_more_time_and_success_forgives() {
        let throttle = Throttle::new();
        let start = OffsetDateTime::UNIX_EPOCH;
        for _ in 0..FREE_FAILURES {
            assert_eq!(throttle.wait("ann", start), None);
            throttle.attempt("ann", start);
        }
        assert_eq!(throttle.wait("ann", start), None);
        throttle.attempt("ann", start);
        assert_eq!(throttle.wait("ann", start), Some(Duration::seconds(2)));
        assert_eq!(throttle.wait("bob", start), None, "others are not concerned");
        assert_eq!(throttle.wait("ann", start + Duration::seconds(2)), None, "the wait ends");
        for _ in 0..40 {
            throttle.attempt("ann", start);
        }
        assert_eq!(throttle.wait("ann", start), Some(MAX_WAIT), "and has a limit");
        throttle.succeeded("ann");
        assert_eq!(throttle.wait("ann", start), None);
    }

    #[test]
    fn an_old_failure_is_forgotten() {
        let throttle = Throttle::new();
        let start = OffsetDateTime::UNIX_EPOCH;
        for _ in 0..20 {
            throttle.attempt("ann", start);
        }
        throttle.attempt("ann", start + FORGET_AFTER);
        assert_eq!(throttle.wait("ann", start + FORGET_AFTER), None);
    }
}
