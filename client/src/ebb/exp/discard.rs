//! `ebb exp discard`

use boss_api::names::{ExperimentName, Name};
use boss_api::user::DiscardNode;
use clap::Args;

use super::confirm::Confirm;
use crate::ebb::Context;
use crate::ebb::watch::{Scope, Wait};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(in crate::ebb) struct Discard {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
    /// The node, as the experiment calls it
    #[arg(value_name = "VNAME")]
    vname: Name,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    wait: Wait,
}

impl Discard {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let client = context.session.client()?;
        let what = format!("What {} wrote since it was loaded will be lost.", self.vname);
        let confirmation = self.confirm.ask(&self.name, &what)?;
        let job = client.discard(&self.name, &DiscardNode { vname: self.vname, confirmation }).await?;
        self.wait.follow(context, job, &Scope::Experiment(self.name)).await
    }
}
