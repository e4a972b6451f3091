//! `ebb exp`

use boss_api::client::ExperimentAction;
use boss_api::names::ExperimentName;
use clap::{Args, Subcommand};

use super::Context;
use crate::exit::Exit;

mod act;
mod confirm;
mod create;
mod discard;
mod give_up;
mod list;
mod logs;
mod modify;
mod points;
mod retry;
mod show;
mod wait;

#[derive(Debug, Subcommand)]
pub(super) enum Exp {
    /// Create an experiment, swapped out
    Create(create::Create),
    /// List experiments
    List,
    /// Show an experiment, its nodes and what is being done
    Show(Named),
    /// Change whether swap-out saves the disks
    Modify(modify::Modify),
    /// Load machines and give them to the experiment
    Swapin(act::Act),
    /// Save the disks if that is wanted, and release the machines
    Swapout(act::Act),
    /// Release the machines for good and end the experiment
    Terminate(act::Act),
    /// Take a swap-out back while its nodes are untouched
    Cancel(act::Act),
    /// Try again what is held
    Retry(retry::Retry),
    /// Give up what is on a held node that cannot be saved
    Discard(discard::Discard),
    /// Give a held swap-in up; what was saved before stays
    Giveup(give_up::GiveUpSwapIn),
    /// Wait for the job that runs
    Wait(wait::WaitFor),
    /// Show what happened
    Logs(Named),
    /// Show what was saved
    Points(Named),
}

/// An experiment, by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The experiment
    #[arg(value_name = "PID/EID")]
    name: ExperimentName,
}

impl Exp {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::List => list::run(context).await,
            Self::Show(named) => show::run(context, &named.name).await,
            Self::Modify(modify) => modify.run(context).await,
            Self::Swapin(act) => act.run(context, ExperimentAction::SwapIn).await,
            Self::Swapout(act) => act.run(context, ExperimentAction::SwapOut).await,
            Self::Terminate(act) => act.run(context, ExperimentAction::Terminate).await,
            Self::Cancel(act) => act.run(context, ExperimentAction::Cancel).await,
            Self::Retry(retry) => retry.run(context).await,
            Self::Discard(discard) => discard.run(context).await,
            Self::Giveup(give_up) => give_up.run(context).await,
            Self::Wait(wait) => wait.run(context).await,
            Self::Logs(named) => logs::run(context, &named.name).await,
            Self::Points(named) => points::run(context, &named.name).await,
        }
    }
}
