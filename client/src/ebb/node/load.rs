//! `ebb node load`

use boss_api::names::Name;
use boss_api::user::{ImageSelector, LoadNode};
use clap::Args;

use crate::ebb::Context;
use crate::ebb::watch::{Scope, Wait};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(in crate::ebb) struct Load {
    /// The machine
    #[arg(value_name = "NODE")]
    name: Name,
    /// The image: NAME or NAME/VERSION
    image: ImageSelector,
    #[command(flatten)]
    wait: Wait,
}

impl Load {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let job = context.session.client()?.load_node(&self.name, &LoadNode { image: self.image }).await?;
        self.wait.follow(context, job, &Scope::Node(self.name)).await
    }
}
