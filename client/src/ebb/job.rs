//! `ebb job`

use std::time::Duration;

use boss_api::ids::JobId;
use clap::Subcommand;

use super::Context;
use super::watch::{self, Scope, describe};
use crate::exit::Exit;

#[derive(Debug, Subcommand)]
pub(super) enum Job {
    /// Show a job
    Show {
        /// The job
        job: JobId,
    },
    /// Wait for the end of a job
    Wait {
        /// The job
        job: JobId,
        /// How many seconds to wait at most; the job goes on after that
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
}

impl Job {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let client = context.session.client()?;
        match self {
            Self::Show { job } => {
                let view = client.job(job, Duration::ZERO).await?;
                context.output.data(&view, describe)
            }
            Self::Wait { job, timeout } => {
                let view = client.job(job, Duration::ZERO).await?;
                // A job does not name its experiment; the one that has it now does.
                let experiments = client.experiments().await.unwrap_or_default();
                let owner = experiments.into_iter().find(|view| view.job.as_ref().is_some_and(|view| view.id == job));
                let scope = owner.map_or(Scope::Unknown, |view| Scope::Experiment(view.full_name()));
                watch::wait(context, view, &scope, timeout).await
            }
        }
    }
}
