//! `ebb xfer status`

use clap::Args;

use super::view::{View, describe};
use super::{Desk, Which, exit_of};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,
}

impl Status {
    pub(super) fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let seen = desk.shelf.look(self.which.id).map_err(|error| exit_of(&error))?;
        desk.context.output.data(&View::of(&seen), describe)
    }
}
