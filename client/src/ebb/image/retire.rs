//! `ebb image retire`

use boss_api::names::Name;
use boss_api::user::ImageSelector;
use clap::Args;

use super::show::describe;
use crate::ebb::Context;
use crate::exit::{Code, Exit};

#[derive(Debug, Args)]
pub(in crate::ebb) struct Retire {
    /// The version to retire: NAME/VERSION
    #[arg(value_name = "NAME/VERSION")]
    image: ImageSelector,
    /// The project; system has the site's own
    #[arg(long, value_name = "PID", default_value = "system")]
    project: Name,
}

impl Retire {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let ImageSelector { name, version } = self.image;
        let version = version.ok_or_else(|| {
            Exit::new(Code::Usage, format!("which version of {name} is meant is not said"))
                .next(format!("write {name}/VERSION; `ebb image show {name}` lists them"))
        })?;
        let image = context.session.client()?.retire_image(&self.project, &name, version).await?;
        context.output.data(&image, describe)
    }
}
