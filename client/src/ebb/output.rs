//! Printing: data to stdout in the format asked for, talk to stderr.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::exit::{Code, Exit, io_exit};

/// For whom to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// For programs: one JSON value.
    Json,
}

/// Where output goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints a value: as JSON, or by what `human` makes of it.
    pub(super) fn data<T: Serialize + ?Sized>(self, value: &T, human: impl FnOnce(&T) -> String) -> Result<(), Exit> {
        let text = match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(value);
                json.map_err(|error| Exit::because(Code::Failed, &error))?
            }
            Format::Human => human(value),
        };
        let mut stdout = io::stdout().lock();
        let text = text.trim_end();
        let written = if text.is_empty() { Ok(()) } else { writeln!(stdout, "{text}") };
        written.and_then(|()| stdout.flush()).map_err(|error| io_exit("write to stdout", &error))
    }

    /// Says something on stderr. Nothing depends on it being heard.
    pub(super) fn say(self, text: impl std::fmt::Display) {
        drop(writeln!(io::stderr(), "{text}"));
    }
}

/// Returns rows as aligned columns, the first row as heading.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: Vec<[String; N]>) -> String {
    let heading = heading.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns a size for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    // Tenths of the unit, in whole numbers, so that nothing is rounded up into the next unit.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]) }
}

/// Returns a time for people.
pub(super) fn moment(at: OffsetDateTime) -> String {
    let layout = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(layout).unwrap_or_else(|_| at.to_string())
}

/// Returns the JSON name of a value of one of our enums.
pub(super) fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Returns the value, or a dash.
pub(super) fn or_dash(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1_610_612_736), "1.5 GiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn columns_align() {
        let text = table(["NAME", "STATE"], vec![["a".into(), "free".into()], ["longer".into(), "in use".into()]]);
        assert_eq!(text, "NAME    STATE\na       free\nlonger  in use\n");
    }
}
