//! What a query can answer besides its rows.

/// Why a query gave nothing to go on with.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A guarded UPDATE touched no row: somebody else moved first, or this boss's term is over.
    #[error("{what} was not in the expected state any more")]
    LostRace {
        /// What was to be moved.
        what: String,
    },
    /// Another boss rules: every effect of this one is refused.
    #[error("another boss took over: it rules in term {ruling}, this one in term {own}")]
    TermOver {
        /// The term of this boss.
        own: u64,
        /// The term that rules.
        ruling: u64,
    },
    /// Another boss is in the middle of a change and keeps the term.
    #[error(
        "another boss keeps the term for longer than a minute, in the middle of removing a file from the store: if it \
         stands still there, end it, then start this one again"
    )]
    TermKept,
    /// A named constraint refused the row.
    #[error("the constraint {constraint} refused the row")]
    Constraint {
        /// The constraint's name in the migrations.
        constraint: String,
    },
    /// A row says what the domain does not allow.
    #[error("table {table}, column {column}, row {row}: {reason}")]
    Inconsistent {
        /// Where.
        table: &'static str,
        /// Where.
        column: &'static str,
        /// Which row.
        row: String,
        /// What is wrong.
        reason: String,
    },
    /// The database cannot be reached or failed; after COMMIT the outcome is unknown and must be read again.
    #[error("ask the database")]
    Sql(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        // Nobody but who takes the term waits for a lock with a deadline.
        if error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "55P03") {
            return Self::TermKept;
        }
        let constraint = error.as_database_error().and_then(|db| db.constraint()).map(str::to_owned);
        match constraint {
            Some(constraint) => Self::Constraint { constraint },
            None => Self::Sql(error),
        }
    }
}

/// The result of a query.
pub type Outcome<T> = Result<T, DbError>;

/// Checks that a guarded UPDATE touched exactly one row.
///
/// # Errors
/// [`DbError::LostRace`] when it touched none.
pub fn exactly_one(rows: u64, what: impl FnOnce() -> String) -> Outcome<()> {
    if rows == 1 { Ok(()) } else { Err(DbError::LostRace { what: what() }) }
}
