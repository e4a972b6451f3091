//! `ebb node`

use boss_api::names::Name;
use clap::Subcommand;

use super::Context;
use crate::exit::Exit;

mod add;
mod list;
mod load;
mod show;

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List the machines
    List,
    /// Show a machine, its disks and what they were loaded from
    Show {
        /// The machine
        #[arg(value_name = "NODE")]
        name: Name,
    },
    /// Load an image on a machine of an experiment now
    Load(load::Load),
    /// Register a local machine: its agent is a process, its disks are files
    Add(add::Add),
}

impl Node {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        match self {
            Self::List => list::run(context).await,
            Self::Show { name } => show::run(context, &name).await,
            Self::Load(load) => load.run(context).await,
            Self::Add(add) => add.run(context).await,
        }
    }
}
