//! `ebb exp swapin`, `swapout`, `terminate` and `cancel`: each makes a job.

use boss_api::client::ExperimentAction;
use boss_api::names::ExperimentName;
use clap::Args;

use crate::ebb::Context;
use crate::ebb::watch::{Scope, Wait};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(in crate::ebb) struct Act {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
    #[command(flatten)]
    wait: Wait,
}

impl Act {
    pub(super) async fn run(self, context: &Context, action: ExperimentAction) -> Result<(), Exit> {
        let job = context.session.client()?.act(&self.name, action).await?;
        self.wait.follow(context, job, &Scope::Experiment(self.name)).await
    }
}
