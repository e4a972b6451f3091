//! `ebb node list`

use crate::ebb::Context;
use crate::ebb::output::{or_dash, size, table};
use crate::exit::Exit;

pub(super) async fn run(context: &Context) -> Result<(), Exit> {
    let nodes = context.session.client()?.nodes().await?;
    context.output.data(&nodes, |nodes| {
        if nodes.is_empty() {
            return String::new();
        }
        let row = |node: &boss_api::user::NodeView| {
            let disks: Vec<_> =
                node.disks.iter().map(|disk| format!("{} {}", disk.name, size(disk.bytes.get()))).collect();
            [
                node.name.to_string(),
                node.state.word().to_owned(),
                or_dash(node.experiment.as_ref()),
                or_dash(node.vname.as_ref()),
                disks.join(", "),
            ]
        };
        table(["NODE", "STATE", "EXPERIMENT", "AS", "DISKS"], nodes.iter().map(row).collect())
    })?;
    if nodes.is_empty() {
        context.output.say("no machines; `ebb node add` registers one");
    }
    Ok(())
}
