//! Time comes in through here. Clocks decide about expiry of credentials and limits, and what people see; never about
//! safety.

use time::OffsetDateTime;

/// Says what time it is.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns the present, UTC.
    fn now(&self) -> OffsetDateTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}
