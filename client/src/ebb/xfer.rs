//! `ebb xfer`: copies files and directory trees such that a crash costs time and nothing else.
//!
//! The verbs are those of AXL. Journals lie in a directory of the user; a boss is asked only for what it has.

use std::path::PathBuf;

use boss_api::ErrorCode;
use boss_api::client::ClientError;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::Context;
use crate::exit::{Code, Exit};
use crate::transfer::journal::JournalError;
use crate::transfer::{Class, Shelf, TransferError};

mod add;
mod amount;
mod cancel;
mod copy;
mod create;
mod dispatch;
mod forget;
mod free;
mod fsck;
mod list;
mod open;
mod resume;
mod status;
mod stop;
mod view;
mod wait;
mod work;

/// Where journals are kept under the directory for the state of programs.
const PLACE: &str = "ebb/transfers";

#[derive(Debug, Args)]
pub(super) struct Xfer {
    /// Directory of the journals; $XDG_STATE_HOME/ebb/transfers or ~/.local/state/ebb/transfers if not said
    #[arg(long, global = true, value_name = "DIR", env = "EBB_XFER_STATE", help_heading = "Everywhere")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copy files and directories, in one go: create, add and dispatch
    Copy(copy::Copy),
    /// Create a transfer and print its id
    Create(create::Create),
    /// Say what is to be copied; nothing is copied yet
    Add(add::Add),
    /// Copy what was added
    Dispatch(dispatch::Dispatch),
    /// Go on with a transfer that was stopped, cut off, or failed
    Resume(resume::Resume),
    /// Tell whether a transfer is done, without waiting: exit code 0 when it is, 9 while somebody works on it
    Test(wait::Test),
    /// Wait until nobody works on a transfer; the exit code is its verdict
    Wait(wait::Wait),
    /// Have whoever works on a transfer stop; it can be resumed
    Stop(stop::Stop),
    /// Give a transfer up: what has its name stays, the rest is removed, sources stay
    Cancel(cancel::Cancel),
    /// Remove the journal of a transfer that is over
    Free(free::Free),
    /// Remove the journal of a transfer whatever it is like, and what it has under temporary names
    Forget(forget::Forget),
    /// Open a transfer as the next attempt would: what a crash left at the end of its journal is cut off
    Open(open::Open),
    /// Show a transfer
    Status(status::Status),
    /// List all transfers
    List,
    /// Say what is wrong with the journals, and what to do about it
    Fsck(fsck::Fsck),
    /// Work on a transfer in the background
    #[command(hide = true)]
    Work(work::Work),
}

/// What every verb needs.
struct Desk<'a> {
    context: &'a Context,
    shelf: Shelf,
}

impl Xfer {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let folder = self.state.map_or_else(default_folder, Ok)?;
        let folder = std::path::absolute(&folder).map_err(|error| crate::exit::io_exit("find the journals", &error))?;
        let shelf = Shelf::open(&folder).map_err(|error| exit_of(&error))?;
        let desk = Desk { context, shelf };
        match self.verb {
            Verb::Copy(copy) => copy.run(&desk).await,
            Verb::Create(create) => create.run(&desk),
            Verb::Add(add) => add.run(&desk),
            Verb::Dispatch(dispatch) => dispatch.run(&desk).await,
            Verb::Resume(resume) => resume.run(&desk).await,
            Verb::Test(test) => test.run(&desk),
            Verb::Wait(wait) => wait.run(&desk).await,
            Verb::Stop(stop) => stop.run(&desk).await,
            Verb::Cancel(cancel) => cancel.run(&desk).await,
            Verb::Free(free) => free.run(&desk),
            Verb::Forget(forget) => forget.run(&desk),
            Verb::Open(open) => open.run(&desk),
            Verb::Status(status) => status.run(&desk),
            Verb::List => list::run(&desk),
            Verb::Fsck(fsck) => fsck.run(&desk).await,
            Verb::Work(work) => work.run(&desk).await,
        }
    }
}

fn default_folder() -> Result<PathBuf, Exit> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join(PLACE)).ok_or_else(|| {
        Exit::new(Code::Usage, "there is no place for journals: neither XDG_STATE_HOME nor HOME is an absolute path")
            .next("name a directory with --state or EBB_XFER_STATE")
    })
}

/// Turns an error of a transfer into the end of the program.
fn exit_of(error: &TransferError) -> Exit {
    let exit = Exit::because(code_of(error), error);
    match error {
        TransferError::Journal(error) => match &**error {
            JournalError::Locked { .. } => {
                exit.next("wait for it with `ebb xfer wait`, or stop it with `ebb xfer stop`")
            }
            JournalError::Corrupt { .. } => exit.next("`ebb xfer fsck` says more, `ebb xfer forget` removes it"),
            JournalError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                exit.next("`ebb xfer list` lists the transfers there are")
            }
            _ => exit,
        },
        TransferError::Impossible { .. } => exit.next("`ebb xfer fsck` says more, `ebb xfer forget` removes it"),
        TransferError::NoRoom { .. } => {
            exit.next("make room and resume it, or set another --reserve in a new transfer")
        }
        TransferError::Boss { source, .. } if source.code() == Some(ErrorCode::NotSignedIn) => {
            exit.next("sign in with `ebb login`, then resume it")
        }
        TransferError::Boss { source, .. } if matches!(**source, ClientError::Unreachable { .. }) => {
            exit.next("look whether boss runs there, then resume it: what arrived is not fetched again")
        }
        _ => exit,
    }
}

fn code_of(error: &TransferError) -> Code {
    match error {
        TransferError::Journal(error) => match &**error {
            JournalError::File { source, .. } => Class::of_io(source).code(),
            JournalError::Locked { .. } | JournalError::Exists { .. } => Code::WrongState,
            JournalError::Corrupt { .. } => Code::Verification,
            JournalError::Poisoned { .. } | JournalError::TooLong { .. } => Code::Failed,
        },
        TransferError::Twice { .. } => Code::Usage,
        TransferError::Stopped => Code::Interrupted,
        // What the journal has, and so what whoever waits for it hears.
        other => other.class().code(),
    }
}

/// The transfer that a verb is about.
#[derive(Clone, Copy, Debug, Args)]
struct Which {
    /// The transfer
    #[arg(value_name = "ID")]
    id: Uuid,
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use boss_api::ApiError;

    use super::*;
    use crate::exit::CODES_OF_BOSS;
    use crate::transfer::place::Place;

    fn of_boss(source: ClientError) -> TransferError {
        TransferError::Boss { action: "fetch", place: Place::from(PathBuf::from("x")), source: Box::new(source) }
    }

    /// Both ways: of who works on it, and of who waits for it and has only the journal.
    #[track_caller]
    fn ends_with(number: u8, error: &TransferError) {
        let waiting = Class::of_name(error.class().name()).map(Class::code);
        let both = (exit_of(error).code().number(), waiting.map(Code::number));
        assert_eq!(both, (number, Some(number)), "{error}: {}", error.class().name());
    }

    #[test]
    fn who_waits_hears_what_who_works_hears() {
        for (code, number) in CODES_OF_BOSS {
            ends_with(number, &of_boss(ApiError { code, message: String::new() }.into()));
        }
        for (status, number) in [(503, 10), (404, 1)] {
            ends_with(number, &of_boss(ClientError::BadAnswer { url: String::new(), status, reason: String::new() }));
        }
        let (url, source) = (String::new(), Box::from("nobody"));
        ends_with(10, &of_boss(ClientError::Unreachable { url, source }));

        for (kind, number) in [
            (ErrorKind::NotFound, 4),
            (ErrorKind::PermissionDenied, 5),
            (ErrorKind::StorageFull, 8),
            (ErrorKind::QuotaExceeded, 8),
            (ErrorKind::Other, 1),
        ] {
            ends_with(number, &TransferError::Io { action: "write", path: PathBuf::new(), source: kind.into() });
        }
        ends_with(5, &TransferError::NoBoss { place: Place::from(PathBuf::from("x")) });
        ends_with(7, &TransferError::WrongContent { path: PathBuf::new() });
        ends_with(7, &TransferError::WrongObject { place: Place::from(PathBuf::from("x")) });
        ends_with(1, &TransferError::Forgetful { boss: String::new() });
        ends_with(1, &TransferError::Defect { record: String::new() });
    }
}
