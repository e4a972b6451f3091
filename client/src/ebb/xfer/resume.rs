//! `ebb xfer resume`

use clap::Args;

use super::work::Background;
use super::{Desk, Which, exit_of};
use crate::exit::{Code, Exit};
use crate::transfer::{Phase, Verdict};

#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: Background,
}

impl Resume {
    pub(super) async fn run(self, desk: &Desk<'_>) -> Result<(), Exit> {
        let id = self.which.id;
        let transfer = desk.shelf.transfer(id).map_err(|error| exit_of(&error))?;
        let state = transfer.state();
        match (state.phase, &state.verdict) {
            (_, Verdict::Cancelled) => {
                Err(Exit::new(Code::WrongState, format!("transfer {id} was cancelled")).next("create another"))
            }
            (Phase::Created, _) => Err(Exit::new(Code::WrongState, format!("transfer {id} was not dispatched yet"))
                .next(format!("begin with `ebb xfer dispatch {id}`"))),
            (Phase::Closed, _) => {
                drop(transfer);
                desk.context.output.say("it is done already");
                let seen = desk.shelf.look(id).map_err(|error| exit_of(&error))?;
                desk.verdict(&seen)
            }
            (Phase::Dispatched | Phase::Committed, _) => desk.work(transfer, self.how).await,
        }
    }
}
