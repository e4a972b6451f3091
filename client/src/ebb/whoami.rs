//! `ebb whoami`

use super::Context;
use super::output::word;
use crate::exit::Exit;

pub(super) async fn run(context: &Context) -> Result<(), Exit> {
    let whoami = context.session.client()?.whoami().await?;
    context.output.data(&whoami, |whoami| {
        let projects: Vec<_> = whoami.projects.iter().map(ToString::to_string).collect();
        format!("{} ({}), projects: {}", whoami.user, word(whoami.role), projects.join(", "))
    })
}
