//! `ebb exp list`

use crate::ebb::Context;
use crate::ebb::output::{moment, table, word};
use crate::exit::Exit;

pub(super) async fn run(context: &Context) -> Result<(), Exit> {
    let views = context.session.client()?.experiments().await?;
    context.output.data(&views, |views| {
        if views.is_empty() {
            return String::new();
        }
        let row = |view: &boss_api::user::ExperimentView| {
            [
                view.full_name().to_string(),
                view.state.to_string(),
                moment(view.state_since),
                view.nodes.len().to_string(),
                if view.save_swap_state { "yes" } else { "no" }.to_owned(),
                view.job
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |job| format!("{} {}", word(job.kind), word(job.state))),
            ]
        };
        table(["EXPERIMENT", "STATE", "SINCE", "NODES", "SAVED", "JOB"], views.iter().map(row).collect())
    })?;
    if views.is_empty() {
        context.output.say("no experiments; `ebb exp create` makes one");
    }
    Ok(())
}
