//! `ebb node show`

use boss_api::names::Name;
use boss_api::user::NodeView;

use crate::ebb::Context;
use crate::ebb::output::{moment, size};
use crate::ebb::watch::held_reason;
use crate::exit::Exit;

pub(super) async fn run(context: &Context, name: &Name) -> Result<(), Exit> {
    let node = context.session.client()?.node(name).await?;
    context.output.data(&node, describe)
}

/// Returns a machine for people.
pub(super) fn describe(node: &NodeView) -> String {
    let mut text = format!("{}: {}, epoch {}", node.name, node.state.word(), node.epoch);
    if let (Some(experiment), Some(vname)) = (&node.experiment, &node.vname) {
        text.push_str(&format!(", {vname} of {experiment}"));
    }
    text.push('\n');
    if let Some(reason) = held_reason(node.name.as_str(), &node.state) {
        text.push_str(&format!("held: {reason}\n"));
    }
    for disk in &node.disks {
        text.push_str(&format!("{}: {}, serial {}\n", disk.name, size(disk.bytes.get()), disk.serial));
        for segment in &disk.segments {
            text.push_str(&format!(
                "  {} from byte {}: {} (root {}), loaded {}\n",
                size(segment.bytes.get()),
                segment.start,
                segment.image,
                segment.root,
                moment(segment.loaded_at)
            ));
        }
    }
    text
}
