//! `ebb xfer open`

use clap::Args;

use super::view::{View, describe};
use super::{Desk, Which, exit_of};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(super) struct Open {
    #[command(flatten)]
    which: Which,
}

impl Open {
    pub(super) fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        drop(desk.shelf.transfer(self.which.id).map_err(|error| exit_of(&error))?);
        let seen = desk.shelf.look(self.which.id).map_err(|error| exit_of(&error))?;
        desk.context.output.data(&View::of(&seen), describe)
    }
}
