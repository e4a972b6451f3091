//! How a program of this crate ends: an exit code that other programs rely on, and one sentence for people.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use boss_api::client::ClientError;
use boss_api::{ErrorCode, names::BadName};

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The reader of our output went away; nobody is there to be told.
    Quiet,
    /// It did not work.
    Failed,
    /// Wrong usage or set-up.
    Usage,
    /// No such thing.
    NotFound,
    /// Not allowed, or not signed in.
    NotAllowed,
    /// Not in the state this needs.
    WrongState,
    /// Bytes or a seal did not verify.
    Verification,
    /// No space or quota.
    NoSpace,
    /// Timed out.
    TimedOut,
    /// boss cannot be reached.
    Unreachable,
    /// Interrupted by the user.
    Interrupted,
}

impl Code {
    /// Returns the number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Quiet => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 4,
            Self::NotAllowed => 5,
            Self::WrongState => 6,
            Self::Verification => 7,
            Self::NoSpace => 8,
            Self::TimedOut => 9,
            Self::Unreachable => 10,
            Self::Interrupted => 130,
        }
    }

    /// Returns the code of a program of ours that ended with a number, unless that is success.
    pub const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => return None,
            2 => Self::Usage,
            4 => Self::NotFound,
            5 => Self::NotAllowed,
            6 => Self::WrongState,
            7 => Self::Verification,
            8 => Self::NoSpace,
            9 => Self::TimedOut,
            10 => Self::Unreachable,
            130 => Self::Interrupted,
            _ => Self::Failed,
        })
    }

    /// Returns the code for an error of a request.
    pub const fn of(error: &ClientError) -> Self {
        match Self::of_number(error.exit_code()) {
            Some(code) => code,
            None => Self::Failed,
        }
    }
}

/// The end of a program without success.
#[derive(Clone, Debug)]
pub struct Exit {
    code: Code,
    message: String,
    next: Option<String>,
}

impl Exit {
    /// Ends with a code and what happened, to what and why.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), next: None }
    }

    /// Ends because of an error and everything that caused it.
    pub fn because(code: Code, error: &dyn std::error::Error) -> Self {
        Self::new(code, chain(error))
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Adds what to do next, unless something else is said already.
    #[must_use]
    pub fn or_next(self, next: impl Into<String>) -> Self {
        if self.next.is_some() { self } else { self.next(next) }
    }

    /// Returns the code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Tells the user, and returns what the program exits with.
    pub fn report(&self, program: &str) -> ExitCode {
        if self.code != Code::Quiet {
            // When even this cannot be said, the exit code still says it.
            drop(writeln!(io::stderr(), "{program}: {self}"));
        }
        ExitCode::from(self.code.number())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next {
            Some(next) => write!(f, "; {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Exit {}

/// Returns an error and everything that caused it as one sentence.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<ClientError> for Exit {
    fn from(error: ClientError) -> Self {
        let exit = Self::because(Code::of(&error), &error);
        match (&error, error.code()) {
            (ClientError::Unreachable { .. }, _) => {
                exit.next("look whether boss runs there and try again, or name another address with --server")
            }
            (_, Some(ErrorCode::NotSignedIn)) => exit.next("sign in with `ebb login`"),
            _ => exit,
        }
    }
}

impl From<BadName> for Exit {
    fn from(error: BadName) -> Self {
        Self::because(Code::Usage, &error)
    }
}

impl From<boss_api::ApiError> for Exit {
    fn from(error: boss_api::ApiError) -> Self {
        ClientError::from(error).into()
    }
}

/// Turns an error of a file or of the terminal into the end of a program. A closed pipe ends it quietly.
pub fn io_exit(action: impl fmt::Display, error: &io::Error) -> Exit {
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => Code::Quiet,
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::PermissionDenied => Code::NotAllowed,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
        _ => Code::Failed,
    };
    Exit::new(code, format!("{action}: {error}"))
}

/// Returns the code for an error of writing a file, whatever it is wrapped in.
pub fn code_of_file(error: &(dyn std::error::Error + 'static)) -> Code {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if causes.filter_map(|error| error.downcast_ref()).any(full) { Code::NoSpace } else { Code::Failed }
}

/// How programs end for each code of boss.
#[cfg(test)]
pub(crate) const CODES_OF_BOSS: [(ErrorCode, u8); 12] = [
    (ErrorCode::BadRequest, 2),
    (ErrorCode::NotSignedIn, 5),
    (ErrorCode::NotAllowed, 5),
    (ErrorCode::NotFound, 4),
    (ErrorCode::Conflict, 6),
    (ErrorCode::WrongState, 6),
    (ErrorCode::VerificationFailed, 7),
    (ErrorCode::TooLarge, 2),
    (ErrorCode::NoSpace, 8),
    (ErrorCode::Stale, 6),
    (ErrorCode::Unavailable, 10),
    (ErrorCode::Internal, 1),
];

#[cfg(test)]
mod tests {
    use boss_api::ApiError;

    use super::*;

    #[test]
    fn errors_of_boss_keep_their_codes() {
        for (code, number) in CODES_OF_BOSS {
            let exit = Exit::from(ApiError { code, message: "m".into() });
            assert_eq!(exit.code().number(), number, "{code:?}");
        }
    }

    #[test]
    fn no_room_is_told_whatever_it_is_wrapped_in() {
        let of = |kind: io::ErrorKind| {
            let error = ClientError::File { action: "write", path: "x".into(), source: kind.into() };
            code_of_file(&error)
        };
        assert_eq!(of(io::ErrorKind::StorageFull), Code::NoSpace);
        assert_eq!(of(io::ErrorKind::NotFound), Code::Failed);
    }

    #[test]
    fn a_chain_says_everything_once() {
        let inner = io::Error::other("the disk is gone");
        let error = ClientError::File { action: "read", path: "x".into(), source: inner };
        assert_eq!(chain(&error), "read x: the disk is gone");
    }
}
