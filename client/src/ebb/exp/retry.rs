//! `ebb exp retry`

use boss_api::names::ExperimentName;
use boss_api::user::RetryHeld;
use clap::Args;

use crate::ebb::Context;
use crate::ebb::watch::{Scope, Wait};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(in crate::ebb) struct Retry {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
    /// Save whole disks, compared with no base image
    #[arg(long)]
    full_image: bool,
    #[command(flatten)]
    wait: Wait,
}

impl Retry {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let request = RetryHeld { full_image: self.full_image };
        let job = context.session.client()?.retry(&self.name, &request).await?;
        self.wait.follow(context, job, &Scope::Experiment(self.name)).await
    }
}
