//! `ebb exp modify`

use boss_api::names::ExperimentName;
use boss_api::user::ModifyExperiment;
use clap::{ArgGroup, Args};

use super::show::describe;
use crate::ebb::Context;
use crate::exit::Exit;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true))]
pub(in crate::ebb) struct Modify {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
    /// Save the disks at swap-out
    #[arg(long, group = "change")]
    save: bool,
    /// Do not save the disks at swap-out
    #[arg(long, group = "change")]
    no_save: bool,
}

impl Modify {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        // The group lets exactly one of the two through.
        let change = ModifyExperiment { save_swap_state: Some(self.save && !self.no_save) };
        let view = context.session.client()?.modify_experiment(&self.name, &change).await?;
        context.output.data(&view, describe)
    }
}
