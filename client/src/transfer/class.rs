//! What kind of failure ended an attempt: the word that the journal has for it, and the exit code that it stands for. Both
//! are of one mould, so that who waits for a transfer hears the same as who works on it.

use std::io;

use boss_api::client::ClientError;

use super::is_full;
use crate::exit::Code;

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something failed; trying again may help.
    Transient,
    /// There is no room, here or at boss.
    NoSpace,
    /// What arrived is not what was sent or asked for.
    Corruption,
    /// It cannot be transferred any more.
    Lost,
    /// A defect of this program.
    Defect,
    /// boss does not answer, or says that it cannot now.
    Unreachable,
    /// There is no such thing, or not for who asks.
    NotFound,
    /// Who asks may not, or is not signed in.
    NotAllowed,
    /// boss is not in the state that this needs.
    WrongState,
    /// boss takes no such request.
    BadRequest,
    /// What answered is not how boss answers.
    Refused,
}

impl Class {
    const ALL: [Self; 11] = [
        Self::Transient,
        Self::NoSpace,
        Self::Corruption,
        Self::Lost,
        Self::Defect,
        Self::Unreachable,
        Self::NotFound,
        Self::NotAllowed,
        Self::WrongState,
        Self::BadRequest,
        Self::Refused,
    ];

    /// Returns the word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::NoSpace => "no-space",
            Self::Corruption => "corruption",
            Self::Lost => "lost",
            Self::Defect => "defect",
            Self::Unreachable => "unreachable",
            Self::NotFound => "not-found",
            Self::NotAllowed => "not-allowed",
            Self::WrongState => "wrong-state",
            Self::BadRequest => "bad-request",
            Self::Refused => "refused",
        }
    }

    /// Returns what a word stands for; nothing for one that only another version has.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Returns what a program ends with because of it.
    pub const fn code(self) -> Code {
        match self {
            Self::NoSpace => Code::NoSpace,
            Self::Corruption => Code::Verification,
            Self::Unreachable => Code::Unreachable,
            Self::NotFound => Code::NotFound,
            Self::NotAllowed => Code::NotAllowed,
            Self::WrongState => Code::WrongState,
            Self::BadRequest => Code::Usage,
            Self::Transient | Self::Lost | Self::Defect | Self::Refused => Code::Failed,
        }
    }

    /// Returns the kind of what the system says.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            _ if is_full(error) => Self::NoSpace,
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            _ => Self::Transient,
        }
    }

    /// Returns the kind of what a boss says.
    pub const fn of_boss(error: &ClientError) -> Self {
        match Code::of(error) {
            Code::Unreachable => Self::Unreachable,
            Code::NoSpace => Self::NoSpace,
            Code::Verification => Self::Corruption,
            Code::NotFound => Self::NotFound,
            Code::NotAllowed => Self::NotAllowed,
            Code::WrongState => Self::WrongState,
            Code::Usage => Self::BadRequest,
            Code::Quiet | Code::Failed | Code::TimedOut | Code::Interrupted => match error {
                ClientError::BadAnswer { .. } => Self::Refused,
                // A defect of boss may pass: its database may be away.
                _ => Self::Transient,
            },
        }
    }
}
