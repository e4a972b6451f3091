use boss_api::user::{DiskActivity, DiskProgress, NodeStateView, SwapPointView, VirtualNodeView};
use time::OffsetDateTime;

use crate::parts::Badge;
use crate::words::{self, Pace};

/// How far the work on one disk is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Such as `Saving sda`.
    pub label: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes to do, at least one so that the bar has a length; meaningless unless `is_known`.
    pub total: u64,
    /// Whether it is known yet how much there is to do.
    pub is_known: bool,
    /// What is done of what, at which rate, and how long it will take.
    pub text: String,
}

impl Bar {
    /// Makes a bar; `now` is none while nothing moves, and then there is no rate and no time left.
    pub fn of(progress: &DiskProgress, now: Option<OffsetDateTime>) -> Self {
        let verb = match progress.activity {
            DiskActivity::Capture => "Saving",
            DiskActivity::Load => "Loading",
            DiskActivity::Restore => "Restoring",
            DiskActivity::Sanitize => "Sanitizing",
        };
        let (done, total) = (progress.done_bytes, progress.total_bytes);
        let is_known = total > 0;
        let is_done = is_known && done >= total;
        let mut text = if is_known { words::done_of(done, total) } else { "waiting".into() };
        let elapsed = now.zip(progress.started_at).map(|(now, started)| now - started);
        if let Some(pace) = elapsed.and_then(|elapsed| Pace::of(done, total, elapsed)).filter(|_| !is_done) {
            text = format!("{text}, {}", pace.rate());
            if let Some(left) = pace.time_left() {
                text = format!("{text}, {left}");
            }
        }
        Self { label: format!("{verb} {}", progress.disk), done: done.min(total), total: total.max(1), is_known, text }
    }

    /// Returns the hundredths, for those who do not see the bar.
    pub fn percent(&self) -> String {
        words::percent(self.done, self.total)
    }
}

/// One node of the experiment, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub vname: String,
    /// The image it is made from.
    pub image: String,
    /// The machine it is on.
    pub machine: Option<String>,
    /// The state.
    pub badge: Badge,
    /// What is being done, in a few words; empty when the state says it all.
    pub step: String,
    /// The work on its disks.
    pub bars: Vec<Bar>,
    /// Bytes that differ from the base, when it is being saved.
    pub changed: Option<String>,
    /// Bytes sent, when it is being saved.
    pub sent: Option<String>,
}

impl NodeRow {
    /// Makes a row; `point` is the swap point that is being made, if one is.
    pub fn of(node: &VirtualNodeView, point: Option<&SwapPointView>, now: OffsetDateTime) -> Self {
        let is_held = matches!(node.node_state, Some(NodeStateView::Held { .. }));
        let now = (!is_held).then_some(now);
        let captures: Vec<&DiskProgress> =
            node.progress.iter().filter(|progress| progress.activity == DiskActivity::Capture).collect();
        let sum = |of: fn(&DiskProgress) -> u64| {
            let total = captures.iter().map(|progress| of(progress)).fold(0, u64::saturating_add);
            (!captures.is_empty()).then(|| words::bytes(total))
        };
        let badge = match &node.node_state {
            Some(state) => Badge::of_node(state),
            None => Badge::new(crate::parts::Tone::Still, "no machine"),
        };
        Self {
            vname: node.vname.to_string(),
            image: node.image.to_string(),
            machine: node.node.as_ref().map(ToString::to_string),
            badge,
            step: step(node, point),
            bars: node.progress.iter().map(|progress| Bar::of(progress, now)).collect(),
            changed: sum(|progress| progress.changed_bytes),
            sent: sum(|progress| progress.sent_bytes),
        }
    }
}

/// What the state alone does not say: how far the least advanced of the node's captures is.
fn step(node: &VirtualNodeView, point: Option<&SwapPointView>) -> String {
    let text = match node.node_state {
        Some(NodeStateView::Quiescing) => "stopping its system, starting the saver",
        Some(NodeStateView::Capturing) => match least_capture(node, point) {
            Some("planned") => "waiting to begin",
            Some("frozen") => "stopped, waiting for the others",
            Some("streaming") => "scanning and sending",
            Some("received") => "verifying what was stored",
            Some("failed") => "an attempt failed",
            Some(_) | None => "",
        },
        None if point.is_some() => "saved, its machine was given back",
        Some(NodeStateView::Checked) => "proved equal, starting its system",
        Some(NodeStateView::Reserved) => "starting the loader",
        _ => "",
    };
    text.into()
}

/// Returns the state of the capture of this node that is least far.
pub(super) fn least_capture<'a>(node: &VirtualNodeView, point: Option<&'a SwapPointView>) -> Option<&'a str> {
    const ORDER: [&str; 7] = ["failed", "planned", "frozen", "streaming", "received", "verified", "retired"];
    let own = point?.captures.iter().filter(|capture| capture.vname == node.vname);
    own.map(|capture| capture.state.as_str()).min_by_key(|state| ORDER.iter().position(|known| known == state))
}
