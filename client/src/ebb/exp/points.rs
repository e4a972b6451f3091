//! `ebb exp points`

use boss_api::names::ExperimentName;
use boss_api::user::SwapPointView;

use crate::ebb::Context;
use crate::ebb::output::{moment, or_dash, size, table, word};
use crate::exit::Exit;

pub(super) async fn run(context: &Context, name: &ExperimentName) -> Result<(), Exit> {
    let points = context.session.client()?.points(name).await?;
    context.output.data(&points, |points| points.iter().map(describe).collect::<Vec<_>>().join("\n"))?;
    if points.is_empty() {
        context.output.say(format!("nothing was saved of {name} yet"));
    }
    Ok(())
}

fn describe(point: &SwapPointView) -> String {
    let mut text = format!("swap point {}: {}, {}\n", point.number, word(point.state), moment(point.opened_at));
    let row = |capture: &boss_api::user::CaptureView| {
        [
            capture.vname.to_string(),
            capture.disk.to_string(),
            capture.node.to_string(),
            capture.state.clone(),
            size(capture.scanned_bytes),
            size(capture.changed_bytes),
            or_dash(capture.delta_bytes.map(size)),
            or_dash(capture.took_ms.map(|ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))),
        ]
    };
    let heading = ["NODE", "DISK", "MACHINE", "STATE", "SCANNED", "CHANGED", "DELTA", "TOOK"];
    text.push_str(&table(heading, point.captures.iter().map(row).collect()));
    for capture in &point.captures {
        if let Some(zdi) = &capture.zdi {
            text.push_str(&format!("{} {}: file {zdi}\n", capture.vname, capture.disk));
        }
        if let Some(failure) = &capture.failure {
            text.push_str(&format!("{} {}: {failure}\n", capture.vname, capture.disk));
        }
    }
    text
}
