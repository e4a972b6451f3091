//! One line of the table: what we took, what can be had, and the most the ratio may be.

use anyhow::Context;
use serde::Serialize;

/// A measurement against its limit.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    unit: &'static str,
    value: f64,
    limit: f64,
    ratio: f64,
    goal: f64,
    pub(super) met: bool,
    limit_is: String,
}

impl Row {
    pub(super) fn new(
        name: &'static str,
        (value, unit): (f64, &'static str),
        limit: f64,
        goal: f64,
        limit_is: impl Into<String>,
    ) -> Self {
        let ratio = value / limit;
        Self { name, unit, value, limit, ratio, goal, met: ratio <= goal, limit_is: limit_is.into() }
    }
}

/// Prints the rows as a table.
#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
pub(super) fn print(rows: &[Row]) {
    println!("{:<16} {:>14} {:>14} {:>7} {:>6}  met", "what", "ours", "limit", "ratio", "goal");
    for row in rows {
        let met = if row.met { "yes" } else { "NO" };
        println!(
            "{:<16} {:>10.2} {:<3} {:>10.2} {:<3} {:>7.2} {:>6.2}  {met}   limit: {}",
            row.name, row.value, row.unit, row.limit, row.unit, row.ratio, row.goal, row.limit_is
        );
    }
}

/// A number of bytes to reckon with.
pub(super) fn bytes(count: u64) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count >> 10).context("more than 4 TiB")?) * 1024.0)
}

/// A number of bytes in MiB.
pub(super) fn mib(count: u64) -> anyhow::Result<f64> {
    Ok(bytes(count)? / 1024.0 / 1024.0)
}
