//! `ebb xfer free`

use clap::Args;
use uuid::Uuid;

use super::{Desk, exit_of};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(super) struct Free {
    /// The transfers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<Uuid>,
}

impl Free {
    pub(super) fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        self.ids.into_iter().try_for_each(|id| desk.shelf.free(id).map_err(|error| exit_of(&error)))
    }
}
