//! Why a journal is not understood.

/// Why what a journal would write is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalDoubt {
    /// The file that holds the journal is not one.
    #[error("the file that holds the journal {0}")]
    Place(&'static str),
    /// The superblock of the journal cannot be.
    #[error("the superblock of the journal has an impossible {0}")]
    Superblock(&'static str),
    /// Flags that are not known.
    #[error("the {set} feature flags {flags:#x} of the journal are not handled")]
    Feature {
        /// Which of the three sets.
        set: &'static str,
        /// The flags.
        flags: u32,
    },
    /// Linux gave up on the journal.
    #[error("the journal has recorded the error {0}")]
    Recorded(i32),
    /// A transaction that was damaged, so that Linux refuses to mount the file system.
    #[error("transaction {transaction} of the journal has a wrong checksum in its {part}")]
    Checksum {
        /// The number of the transaction.
        transaction: u32,
        /// Which part of it.
        part: &'static str,
    },
    /// The log does not end.
    #[error("the log goes around its ring without an end")]
    Endless,
    /// A block of the log that cannot be.
    #[error("transaction {transaction} of the journal has an impossible {part}")]
    Shape {
        /// The number of the transaction.
        transaction: u32,
        /// Which part of it.
        part: &'static str,
    },
    /// More than is kept in memory.
    #[error("the log has more than {most} {what}")]
    TooMany {
        /// How many are kept.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// The fast commits behind the log cannot be replayed by Linux, or do what is not understood.
    #[error("the fast commits of the journal have {0}")]
    FastCommit(&'static str),
}
