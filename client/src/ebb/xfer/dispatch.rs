//! `ebb xfer dispatch`

use clap::Args;

use super::work::Background;
use super::{Desk, Which, exit_of};
use crate::exit::{Code, Exit};
use crate::transfer::Phase;

#[derive(Debug, Args)]
pub(super) struct Dispatch {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: Background,
}

impl Dispatch {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let id = self.which.id;
        let transfer = desk.shelf.transfer(id).map_err(|error| exit_of(&error))?;
        if transfer.state().phase != Phase::Created {
            return Err(Exit::new(Code::WrongState, format!("transfer {id} was dispatched before"))
                .next(format!("`ebb xfer status {id}` shows it, `ebb xfer resume {id}` goes on with it")));
        }
        if transfer.state().items.is_empty() {
            return Err(Exit::new(Code::WrongState, format!("transfer {id} is of nothing"))
                .next(format!("add with `ebb xfer add {id} SOURCE DESTINATION`")));
        }
        desk.work(transfer, self.how).await
    }
}
