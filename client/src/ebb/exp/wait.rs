//! `ebb exp wait`

use boss_api::names::ExperimentName;
use boss_api::user::ExperimentState;
use clap::Args;

use super::show::describe;
use crate::ebb::Context;
use crate::ebb::watch::{self, Scope};
use crate::exit::{Code, Exit};

#[derive(Debug, Args)]
pub(in crate::ebb) struct WaitFor {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
    /// How many seconds to wait at most; the job goes on after that
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl WaitFor {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let view = context.session.client()?.experiment(&self.name).await?;
        if let Some(job) = view.job {
            return watch::wait(context, job, &Scope::Experiment(self.name), self.timeout).await;
        }
        context.output.data(&view, describe)?;
        if view.state == ExperimentState::Held {
            return Err(Exit::new(Code::Failed, format!("{} is held and no job works on it", self.name))
                .next("look at its nodes, then `ebb exp retry`"));
        }
        Ok(())
    }
}
