//! What a row says, as domain types: a value that the domain does not allow is a defect to report, not to hide.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::{DbError, Outcome};

/// A row being read, to be named when one of its columns is wrong.
#[derive(Debug)]
pub(crate) struct Row {
    table: &'static str,
    row: String,
}

impl Row {
    pub(crate) fn new(table: &'static str, row: impl Display) -> Self {
        Self { table, row: row.to_string() }
    }

    pub(crate) fn wrong(&self, column: &'static str, reason: impl Display) -> DbError {
        DbError::Inconsistent { table: self.table, column, row: self.row.clone(), reason: reason.to_string() }
    }

    /// Parses text.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self, column: &'static str, text: &str) -> Outcome<T> {
        text.parse().map_err(|error| self.wrong(column, error))
    }

    /// Reads a SHA-256 value.
    pub(crate) fn bytes32(&self, column: &'static str, bytes: &[u8]) -> Outcome<[u8; 32]> {
        bytes.try_into().map_err(|_| self.wrong(column, format!("{} bytes are not 32", bytes.len())))
    }

    /// Reads a number that is never negative and fits.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str, value: impl Into<i64>) -> Outcome<T> {
        let value = value.into();
        T::try_from(value).map_err(|_| self.wrong(column, format!("{value} is out of range")))
    }
}

/// Makes a number fit for a `bigint` column. Everything boss counts fits: a disk has less than 2^63 bytes.
pub(crate) fn bigint(what: &'static str, value: u64) -> Outcome<i64> {
    i64::try_from(value).map_err(|_| DbError::Inconsistent {
        table: "(to be written)",
        column: what,
        row: String::new(),
        reason: format!("{value} is out of range"),
    })
}

/// Makes a number fit for an `integer` column.
pub(crate) fn integer(what: &'static str, value: u32) -> Outcome<i32> {
    i32::try_from(value).map_err(|_| DbError::Inconsistent {
        table: "(to be written)",
        column: what,
        row: String::new(),
        reason: format!("{value} is out of range"),
    })
}
