//! `ebb exp giveup`

use boss_api::names::ExperimentName;
use boss_api::user::{GiveUp, NodeStateView, VirtualNodeView};
use clap::Args;

use super::confirm::Confirm;
use crate::ebb::Context;
use crate::ebb::watch::{Scope, Wait};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(in crate::ebb) struct GiveUpSwapIn {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    wait: Wait,
}

impl GiveUpSwapIn {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let client = context.session.client()?;
        let view = client.experiment(&self.name).await?;
        let runs = |node: &&VirtualNodeView| node.node_state.as_ref().is_some_and(NodeStateView::may_hold_new_work);
        let running: Vec<String> = view.nodes.iter().filter(runs).map(|node| node.vname.to_string()).collect();
        // boss asks for it when one runs: nobody is bothered otherwise.
        let confirmation = if running.is_empty() {
            None
        } else {
            let what =
                format!("{} runs already, or was started: what was written since will be lost.", running.join(", "));
            Some(self.confirm.ask(&self.name, &what)?)
        };
        let job = client.give_up(&self.name, &GiveUp { confirmation }).await?;
        self.wait.follow(context, job, &Scope::Experiment(self.name)).await
    }
}
