//! `ebb node`

use boss_api::names::Name;
use clap::Subcommand;

use super::Context;
use crate::exit::Exit;

mod add;
mod keep;
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
    /// Let a held machine go on where it was held
    Retry {
        /// The machine
        #[arg(value_name = "NODE")]
        name: Name,
    },
    /// Leave a note on a held machine: who wants it left as it is, until when
    Keep(keep::Keep),
    /// Register a local machine: its agent is a process, its disks are files
    Add(add::Add),
}

impl Node {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        match self {
            Self::List => list::run(context).await,
            Self::Show { name } => show::run(context, &name).await,
            Self::Load(load) => load.run(context).await,
            Self::Retry { name } => {
                let node = context.session.client()?.retry_node(&name).await?;
                context.output.data(&node, show::describe)
            }
            Self::Keep(keep) => keep.run(context).await,
            Self::Add(add) => add.run(context).await,
        }
    }
}
