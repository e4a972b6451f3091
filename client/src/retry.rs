//! Trying again while boss is away: it may be starting, and what was asked can be repeated.

use std::time::{Duration, Instant};

use boss_api::ErrorCode;
use boss_api::client::ClientError;

/// The first pause and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that grow up to a bound.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// Returns the next pause: a random part of it, so that many agents do not come back at the same moment.
    pub fn step(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(LONGEST);
        let mut random = [0; 1];
        // Without random bytes the pauses are only less spread out.
        let part = if getrandom::fill(&mut random).is_ok() { random[0] } else { u8::MAX };
        bound / 2 + bound * u32::from(part) / 512
    }

    /// Begins again with the shortest pause.
    pub const fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// Returns whether the same request can succeed later. A failure of boss itself counts, too: its database may be away.
pub fn can_pass(error: &ClientError) -> bool {
    error.is_retryable() || error.code() == Some(ErrorCode::Internal)
}

/// Repeats a request until it succeeds, is refused for good, or `limit` has passed since it began to fail.
///
/// # Errors
/// The refusal, or the last failure.
pub async fn persist<T, F: Future<Output = Result<T, ClientError>>>(
    what: &str,
    limit: Option<Duration>,
    mut request: impl FnMut() -> F,
) -> Result<T, ClientError> {
    let began = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let error = match request().await {
            Err(error) if can_pass(&error) => error,
            result => return result,
        };
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            return Err(error);
        }
        let pause = backoff.step();
        tracing::warn!(error = %crate::exit::chain(&error), ?pause, "{what}: trying again");
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use boss_api::ApiError;

    use super::*;

    fn api(code: ErrorCode) -> ClientError {
        ApiError { code, message: String::new() }.into()
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            assert!(backoff.step() <= LONGEST);
        }
        assert!(backoff.step() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.step() <= FIRST);
    }

    #[tokio::test]
    async fn only_what_can_pass_is_repeated() {
        let mut tries = 0;
        let result = persist("test", None, || {
            tries += 1;
            std::future::ready(if tries < 3 { Err(api(ErrorCode::Unavailable)) } else { Ok(tries) })
        });
        assert_eq!(result.await.unwrap(), 3);

        let mut tries = 0;
        let result: Result<(), _> = persist("test", None, || {
            tries += 1;
            std::future::ready(Err(api(ErrorCode::VerificationFailed)))
        })
        .await;
        assert_eq!(result.unwrap_err().code(), Some(ErrorCode::VerificationFailed));
        assert_eq!(tries, 1);

        let limit = Some(Duration::ZERO);
        let unavailable = || std::future::ready(Err(api(ErrorCode::Unavailable)));
        let result: Result<(), _> = persist("test", limit, unavailable).await;
        assert_eq!(result.unwrap_err().code(), Some(ErrorCode::Unavailable));
    }
}
