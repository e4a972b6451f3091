//! `ebb xfer cancel`

use clap::Args;

use super::stop::Patience;
use super::view::{View, describe};
use super::{Desk, Which, exit_of};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(super) struct Cancel {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    patience: Patience,
}

impl Cancel {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let id = self.which.id;
        desk.stop(id, self.patience).await?;
        let mut transfer = desk.shelf.transfer(id).map_err(|error| exit_of(&error))?;
        transfer.cancel().map_err(|error| exit_of(&error))?;
        drop(transfer);
        let seen = desk.shelf.look(id).map_err(|error| exit_of(&error))?;
        desk.context.output.data(&View::of(&seen), describe)
    }
}
