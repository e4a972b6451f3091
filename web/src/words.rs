//! Sizes, times, durations and how long it will take, for people.

use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// Writes a size: `0 B`, `812 MiB`, `1.9 GiB`.
pub fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut unit, mut whole, mut rest) = (0, count / 1024, count % 1024);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = UNITS[unit];
    // One digit after the point below ten, cut and not rounded: 99.9 % is never shown as all.
    if whole < 10 { format!("{whole}.{} {name}", rest * 10 / 1024) } else { format!("{whole} {name}") }
}

/// Writes how much is done of what, such as `41 of 120 GiB`.
pub fn done_of(done: u64, total: u64) -> String {
    let (done, total) = (bytes(done), bytes(total));
    match (done.split_once(' '), total.split_once(' ')) {
        (Some((number, left)), Some((_, right))) if left == right => format!("{number} of {total}"),
        _ => format!("{done} of {total}"),
    }
}

/// Writes hundredths, cut.
pub fn percent(done: u64, total: u64) -> String {
    let hundredths = u128::from(done) * 100 / u128::from(total.max(1));
    format!("{} %", hundredths.min(100))
}

/// Writes a duration with its two largest units: `41 s`, `1 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(length: Duration) -> String {
    let seconds = length.whole_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, name: &str, small: i64, unit: &str| match small {
        0 => format!("{large} {name}"),
        _ => format!("{large} {name} {small} {unit}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => two(minutes, "min", seconds % 60, "s"),
        (0, _, _) => two(hours, "h", minutes % 60, "min"),
        (_, _, _) => two(days, "d", hours % 24, "h"),
    }
}

/// Writes milliseconds that something took.
pub fn took(milliseconds: u64) -> String {
    match i64::try_from(milliseconds) {
        Ok(short) if short < 10_000 => format!("{}.{} s", short / 1000, short % 1000 / 100),
        Ok(long) => duration(Duration::milliseconds(long)),
        Err(_) => "ages".into(),
    }
}

/// Writes a moment, with its zone: `Tue 17 Nov 2026, 19:02:41 UTC`.
pub fn moment(at: OffsetDateTime) -> String {
    let format = format_description!(
        "[weekday repr:short] [day padding:none] [month repr:short] [year], [hour]:[minute]:[second] UTC"
    );
    at.to_offset(UtcOffset::UTC).format(&format).unwrap_or_else(|_| "at an unknown time".into())
}

/// Writes a moment for programs.
pub fn machine_moment(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

/// How fast it goes and how long it will take, as far as that can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes in a second, on average since the beginning.
    pub per_second: u64,
    left: Option<(Duration, Duration)>,
}

/// A guess before this is noise.
const LEAST_ELAPSED: Duration = Duration::seconds(5);
const LEAST_PERCENT: u64 = 2;

impl Pace {
    /// Works it out; nothing in the first second.
    pub fn of(done: u64, total: u64, elapsed: Duration) -> Option<Self> {
        let milliseconds = u64::try_from(elapsed.whole_milliseconds()).ok().filter(|elapsed| *elapsed >= 1000)?;
        let per_second =
            u64::try_from(u128::from(done) * 1000 / u128::from(milliseconds)).ok().filter(|rate| *rate > 0)?;
        let known = elapsed >= LEAST_ELAPSED && u128::from(done) * 100 >= u128::from(total) * u128::from(LEAST_PERCENT);
        let rest = total.saturating_sub(done);
        let left = (known && rest > 0).then(|| {
            let seconds = |share: u64| {
                let estimate = u128::from(rest) * u128::from(share) / (u128::from(per_second) * 100);
                Duration::seconds(i64::try_from(estimate).unwrap_or(i64::MAX))
            };
            (seconds(80), seconds(140))
        });
        Some(Self { per_second, left })
    }

    /// Writes the rate.
    pub fn rate(self) -> String {
        format!("{}/s", bytes(self.per_second))
    }

    /// Writes the time left as a range, such as `30 to 55 s left`; nothing while it would be a guess.
    pub fn time_left(self) -> Option<String> {
        let (least, most) = self.left?;
        if most < Duration::seconds(5) {
            return Some("a few seconds left".into());
        }
        Some(format!("{} to {} left", coarse(least), coarse(most + Duration::seconds(1))))
    }
}

/// Fewer digits: nobody should believe 47 s.
fn coarse(length: Duration) -> String {
    let seconds = length.whole_seconds();
    let step = match seconds {
        ..10 => 1,
        10..60 => 5,
        60..600 => 30,
        600..7200 => 300,
        _ => 3600,
    };
    duration(Duration::seconds(seconds.div_euclid(step).max(1) * step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn sizes_are_short_and_never_too_large() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024 - 1, "9.9 KiB"),
            (812 << 20, "812 MiB"),
            ((19 << 30) / 10, "1.8 GiB"),
            (u64::MAX, "16383 PiB"),
        ];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(done_of(41 << 30, 120 << 30), "41 of 120 GiB");
        assert_eq!(done_of(1 << 20, 120 << 30), "1.0 MiB of 120 GiB");
        assert_eq!(percent(999, 1000), "99 %");
        assert_eq!(percent(5, 0), "100 %");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let table =
            [(0, "0 s"), (59, "59 s"), (72, "1 min 12 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h"), (3600, "1 h")];
        for (seconds, text) in table {
            assert_eq!(duration(Duration::seconds(seconds)), text);
        }
        assert_eq!(took(1234), "1.2 s");
        assert_eq!(took(72_000), "1 min 12 s");
    }

    #[test]
    fn moments_carry_their_zone() {
        let at = datetime!(2026-11-17 20:02:41 +1);
        assert_eq!(moment(at), "Tue 17 Nov 2026, 19:02:41 UTC");
        assert_eq!(machine_moment(at), "2026-11-17T19:02:41Z");
    }

    #[test]
    fn the_time_left_is_a_range_and_only_when_it_can_be_known() {
        let gib = 1 << 30;
        assert_eq!(Pace::of(gib, 100 * gib, Duration::milliseconds(900)), None);
        let early = Pace::of(4 * gib, 100 * gib, Duration::seconds(4)).unwrap();
        assert_eq!((early.rate(), early.time_left()), ("1.0 GiB/s".into(), None), "not after 4 s");
        let little = Pace::of(gib, 100 * gib, Duration::seconds(10)).unwrap();
        assert_eq!(little.time_left(), None, "not at 1 %");
        let fair = Pace::of(50 * gib, 100 * gib, Duration::seconds(50)).unwrap();
        assert_eq!(fair.time_left().unwrap(), "40 s to 1 min left");
        assert_eq!(Pace::of(gib, gib, Duration::seconds(50)).unwrap().time_left(), None, "not when done");
    }
}
