//! Working on a transfer: in the foreground until a signal stops it, or in the background.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::view::{View, describe};
use super::{Desk, Which, exit_of};
use crate::ebb::output::size;
use crate::exit::{Code, Exit, io_exit};
use crate::transfer::boss::Line;
use crate::transfer::place::{Address, Place};
use crate::transfer::watch::Tally;
use crate::transfer::{State, Transfer};

/// How often progress is said.
const SAY: Duration = Duration::from_secs(10);
/// How often it is looked whether a process in the background began.
const LOOK: Duration = Duration::from_millis(20);

/// Whether to wait for the end.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Background {
    /// Return once it began, and let it go on without this terminal
    #[arg(long)]
    pub(super) background: bool,
}

/// The process in the background.
#[derive(Debug, Args)]
pub(super) struct Work {
    #[command(flatten)]
    which: Which,
}

impl Work {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        // Out of the terminal's reach: when it closes, this goes on.
        rustix::process::setsid().map_err(|error| io_exit("leave the terminal", &error.into()))?;
        let transfer = desk.shelf.transfer(self.which.id).map_err(|error| exit_of(&error))?;
        desk.copy(transfer).await
    }
}

impl Desk<'_> {
    /// Works on a transfer to its end, and prints how it stands then.
    pub(super) async fn work(&self, transfer: Transfer, how: Background) -> Result<(), Exit> {
        let (id, before) = (transfer.state().id, transfer.state().attempt);
        if how.background {
            // What is wrong with the set-up is told here, where somebody sees it.
            self.line(transfer.state())?;
            // The process in the background takes it from here.
            drop(transfer);
            return self.begin(id, before).await;
        }
        self.copy(transfer).await?;
        let seen = self.shelf.look(id).map_err(|error| exit_of(&error))?;
        self.context.output.data(&View::of(&seen), describe)
    }

    /// Works on a transfer on a thread of its own, saying how far it is. SIGINT and SIGTERM stop it where it can be resumed.
    async fn copy(&self, mut transfer: Transfer) -> Result<(), Exit> {
        let id = transfer.state().id;
        let line = self.line(transfer.state())?;
        let done = self.on_a_thread(
            move |stop| transfer.run(line.as_ref(), stop),
            || {
                // What cannot be read now is told at the end.
                let Ok(seen) = self.shelf.look(id) else { return };
                let Tally { items, items_done, bytes, bytes_done } = Tally::of(&seen.state);
                let (done, all) = (size(bytes_done), size(bytes));
                self.context.output.say(format!("{done} of {all}, {items_done} of {items} items"));
            },
        );
        done.await?.map_err(|error| {
            let exit = exit_of(&error);
            match exit.code() {
                Code::Interrupted => Exit::new(Code::Interrupted, format!("transfer {id} was stopped"))
                    .next(format!("`ebb xfer resume {id}` goes on with it")),
                _ => exit.or_next(format!(
                    "`ebb xfer status {id}` shows how far it came, `ebb xfer resume {id}` tries again"
                )),
            }
        })
    }

    /// Prepares to ask the boss that a transfer is with, if there is one: as whoever is signed in there now. Who that is, and
    /// the token, is nothing that a journal has.
    fn line(&self, state: &State) -> Result<Option<Line>, Exit> {
        // For what arrived nobody is asked any more.
        let places =
            state.items.iter().filter(|item| !item.arrived()).flat_map(|item| [&item.source, &item.destination]);
        let mut bosses = places.filter_map(Place::boss);
        let Some(boss) = bosses.next() else { return Ok(None) };
        // Nothing is added to a transfer that is with another boss; a journal may have been made otherwise.
        if let Some(other) = bosses.find(|other| *other != boss) {
            let text = format!("transfer {} is with several bosses, {boss} and {other}", state.id);
            return Err(Exit::new(Code::Usage, text).next("make one transfer for each"));
        }
        let (server, client) = self.context.session.reach()?;
        let address = Address::new(&server);
        if address != *boss {
            let text = format!("transfer {} is with boss at {boss}, and you are signed in at {address}", state.id);
            return Err(
                Exit::new(Code::NotAllowed, text).next(format!("sign in with `ebb login --server {boss} --user NAME`"))
            );
        }
        Ok(Some(Line::new(address, client, Handle::current())))
    }

    /// Does something that takes its time on a thread of its own. The first signal asks it to end, the second does not
    /// wait for that.
    pub(super) async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
        mut say: impl FnMut(),
    ) -> Result<T, Exit> {
        let listen = |kind| signal(kind).map_err(|error| io_exit("listen for signals", &error));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("transfer".to_owned());
        // Nobody waits any more only when the program is ending.
        let thread = thread.spawn(move || drop(sender.send(work(&shared))));
        thread.map_err(|error| io_exit("start a thread", &error))?;
        loop {
            tokio::select! {
                done = &mut receiver => {
                    return done.map_err(|_| Exit::new(Code::Failed, "the work ended without an answer, which is a defect"));
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = tokio::time::sleep(SAY) => {
                    say();
                    continue;
                }
            }
            if stop.swap(true, Ordering::Relaxed) {
                return Err(Exit::new(Code::Interrupted, "interrupted again; nothing is lost"));
            }
            self.context.output.say("stopping where it can go on; once more ends at once");
        }
    }

    /// Starts a process that works on a transfer, and returns once its attempt is on record.
    async fn begin(&self, id: Uuid, before: u32) -> Result<(), Exit> {
        let path = self.shelf.log(id);
        let log = File::create(&path).map_err(|error| io_exit(format!("create {}", path.display()), &error))?;
        let program = std::env::current_exe().map_err(|error| io_exit("find this program", &error))?;
        let mut command = Command::new(program);
        command.args(["xfer", "--state"]).arg(self.shelf.folder()).arg("work").arg(id.to_string());
        command.args(self.context.session.options());
        // It keeps no directory busy.
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().map_err(|error| io_exit("start a process in the background", &error))?;
        loop {
            let ended =
                child.try_wait().map_err(|error| io_exit("look after the process in the background", &error))?;
            let seen = self.shelf.look(id).map_err(|error| exit_of(&error))?;
            if seen.state.attempt > before {
                self.context.output.data(&View::of(&seen), |_| id.to_string())?;
                let log = path.display();
                self.context
                    .output
                    .say(format!("it goes on; `ebb xfer wait {id}` waits for its end; it says what happens in {log}"));
                return Ok(());
            }
            if let Some(status) = ended {
                let said = std::fs::read_to_string(&path).unwrap_or_default();
                let code = status
                    .code()
                    .and_then(|code| u8::try_from(code).ok())
                    .and_then(Code::of_number)
                    .unwrap_or(Code::Failed);
                return Err(Exit::new(
                    code,
                    format!("the process in the background ended before it began: {}", said.trim()),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
