//! `ebb xfer copy`

use clap::Args;

use super::add::Places;
use super::create::How;
use super::work::Background;
use super::{Desk, exit_of};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(super) struct Copy {
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    background: Background,
    /// Keep the journal after everything arrived
    #[arg(long)]
    keep: bool,
}

impl Copy {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let mut transfer = desk.shelf.create(self.how.options()?).map_err(|error| exit_of(&error))?;
        let id = transfer.state().id;
        if let Err(exit) = self.places.add_to(&mut transfer, &desk.context.session) {
            drop(transfer);
            // Nothing of it is worth keeping. The first error is the one to tell.
            drop(desk.shelf.forget(id));
            return Err(exit);
        }
        desk.context.output.say(format!("transfer {id}; if it is cut off, `ebb xfer resume {id}` goes on with it"));
        desk.work(transfer, self.background).await?;
        if !self.keep && !self.background.background {
            desk.shelf.free(id).map_err(|error| exit_of(&error))?;
        }
        Ok(())
    }
}
