//! `ebb xfer wait` and `ebb xfer test`, which is a wait of no time

use std::time::Duration;

use clap::Args;

use super::{Desk, Which, exit_of};
use crate::exit::{Code, Exit};
use crate::transfer::Standing;

#[derive(Debug, Args)]
pub(super) struct Test {
    #[command(flatten)]
    which: Which,
}

impl Test {
    pub(super) fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let seen = desk.shelf.look(self.which.id).map_err(|error| exit_of(&error))?;
        desk.verdict(&seen)
    }
}

#[derive(Debug, Args)]
pub(super) struct Wait {
    #[command(flatten)]
    which: Which,
    /// How many seconds to wait at most; the transfer goes on after that
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Wait {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let (shelf, id) = (desk.shelf.clone(), self.which.id);
        let time = self.timeout.map(Duration::from_secs);
        let seen = desk.on_a_thread(move |enough| shelf.wait(id, time, enough), || {}).await?;
        let seen = seen.map_err(|error| exit_of(&error))?;
        // Without a time only a signal ends the wait for somebody who works on.
        if seen.standing == Standing::Running && time.is_none() {
            return Err(Exit::new(Code::Interrupted, "interrupted while waiting")
                .next(format!("it goes on; `ebb xfer wait {id}` waits again")));
        }
        desk.verdict(&seen)
    }
}
