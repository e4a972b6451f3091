//! `ebb exp show`

use boss_api::names::ExperimentName;
use boss_api::user::{ExperimentView, VirtualNodeView};

use crate::ebb::Context;
use crate::ebb::output::{moment, or_dash, table, word};
use crate::ebb::watch;
use crate::exit::Exit;

pub(super) async fn run(context: &Context, name: &ExperimentName) -> Result<(), Exit> {
    let view = context.session.client()?.experiment(name).await?;
    context.output.data(&view, describe)
}

/// Returns an experiment for people.
pub(super) fn describe(view: &ExperimentView) -> String {
    let save = if view.save_swap_state { "saves its disks at swap-out" } else { "does not save its disks at swap-out" };
    let mut text = format!("{}: {} since {}, {save}\n", view.full_name(), view.state, moment(view.state_since));
    if let Some(job) = &view.job {
        text.push_str(&format!("job: {}\n", watch::describe(job)));
    }
    if let Some(point) = &view.last_point {
        text.push_str(&format!(
            "newest swap point: {} ({}), {}\n",
            point.number,
            word(point.state),
            moment(point.opened_at)
        ));
    }
    let row = |node: &VirtualNodeView| {
        let state = node.node_state.as_ref().map(boss_api::user::NodeStateView::word);
        [node.vname.to_string(), node.image.to_string(), or_dash(node.node.as_ref()), or_dash(state)]
    };
    text.push_str(&table(["NODE", "IMAGE", "MACHINE", "STATE"], view.nodes.iter().map(row).collect()));
    for node in &view.nodes {
        for disk in &node.progress {
            text.push_str(&format!("{}\n", watch::progress_line(&node.vname, disk)));
        }
        let held = node.node_state.as_ref().and_then(|state| watch::held_reason(node.vname.as_str(), state));
        if let Some(reason) = held {
            text.push_str(&format!("held: {reason}\n"));
        }
    }
    text
}
