//! `ebb exp logs`

use boss_api::names::ExperimentName;

use crate::ebb::Context;
use crate::ebb::output::moment;
use crate::exit::Exit;

pub(super) async fn run(context: &Context, name: &ExperimentName) -> Result<(), Exit> {
    let events = context.session.client()?.events(name).await?;
    context.output.data(&events, |events| {
        let mut events: Vec<_> = events.iter().collect();
        events.sort_by_key(|event| event.id);
        let line = |event: &&boss_api::user::EventView| match &event.node {
            Some(node) => format!("{}  {node}: {}", moment(event.at), event.message),
            None => format!("{}  {}", moment(event.at), event.message),
        };
        events.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}
