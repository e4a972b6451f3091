//! The one shape of an error, for programs and for people.

use serde::{Deserialize, Serialize};

/// What kind of error it is. Programs decide by this; the text may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed or contradicts itself.
    BadRequest,
    /// Nobody is signed in, or the token is not known any more.
    NotSignedIn,
    /// Signed in, but not allowed.
    NotAllowed,
    /// No such thing, or not visible to the caller.
    NotFound,
    /// A thing of that name exists, or different bytes under that digest.
    Conflict,
    /// Not in the state this needs.
    WrongState,
    /// Bytes or a seal did not verify. Trying again cannot help.
    VerificationFailed,
    /// A body or a list is longer than accepted.
    TooLarge,
    /// No room in the store.
    NoSpace,
    /// The caller's boot, epoch, attempt or term is over.
    Stale,
    /// boss cannot do it now; trying again can help.
    Unavailable,
    /// A defect of boss; it is in its log.
    Internal,
}

impl ErrorCode {
    /// Returns whether the same request can succeed later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable)
    }

    /// Returns the exit code of a command that ended in this error.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest | Self::TooLarge => 2,
            Self::NotSignedIn | Self::NotAllowed => 5,
            Self::NotFound => 4,
            Self::Conflict | Self::WrongState | Self::Stale => 6,
            Self::VerificationFailed => 7,
            Self::NoSpace => 8,
            Self::Unavailable => 10,
            Self::Internal => 1,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The kind.
    pub code: ErrorCode,
    /// What happened, to what, why, and what to do next.
    pub message: String,
}
