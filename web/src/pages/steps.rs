use boss_api::user::{ExperimentView, JobKind, NodeStateView, SwapPointView, VirtualNodeView};

use super::progress::least_capture;

/// Whether a step is behind, now or ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Every node is past it.
    Done,
    /// The least advanced node is in it.
    Now,
    /// No node is there yet, or not all.
    Ahead,
}

/// One step of the job, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is.
    pub word: &'static str,
    /// Whether it is behind, now or ahead.
    pub state: StepState,
    /// How many nodes are past it.
    pub passed: usize,
}

impl Step {
    /// Returns the class of its element.
    pub const fn class(&self) -> &'static str {
        match self.state {
            StepState::Done => "done",
            StepState::Now => "now",
            StepState::Ahead => "ahead",
        }
    }

    /// Returns the word for those who do not see the colour.
    pub const fn spoken(&self) -> &'static str {
        match self.state {
            StepState::Done => "done",
            StepState::Now => "now",
            StepState::Ahead => "to come",
        }
    }
}

const SAVING: [&str; 5] = ["Shut down", "Scan and send", "Verify", "Sanitize", "Release"];
const RELEASING: [&str; 3] = ["Shut down", "Sanitize", "Release"];
const LOADING: [&str; 4] = ["Reserve", "Restore and check", "Start", "In use"];

/// Returns the steps of the running or held job, none without one.
pub(super) fn of(view: &ExperimentView) -> Vec<Step> {
    let Some(job) = &view.job else { return Vec::new() };
    // Whether it saves was decided when it was asked for, whatever the box says by now.
    let own = point_of_job(view);
    let (words, at): (&[&'static str], Vec<usize>) = match job.kind {
        JobKind::SwapOut if own.is_some() => (&SAVING, view.nodes.iter().map(|node| saving(node, own)).collect()),
        JobKind::SwapOut | JobKind::Terminate | JobKind::GiveUp => {
            (&RELEASING, view.nodes.iter().map(releasing).collect())
        }
        JobKind::SwapIn => (&LOADING, view.nodes.iter().map(loading).collect()),
        JobKind::Load | JobKind::Cancel => return Vec::new(),
    };
    let least = at.iter().copied().min().unwrap_or(0);
    let step = |(index, word): (usize, &&'static str)| Step {
        word,
        state: match index {
            _ if index < least => StepState::Done,
            _ if index == least => StepState::Now,
            _ => StepState::Ahead,
        },
        passed: at.iter().filter(|place| **place > index).count(),
    };
    words.iter().enumerate().map(step).collect()
}

/// Returns the swap point that the running or held swap-out makes, also once it is decided.
pub(super) fn point_of_job(view: &ExperimentView) -> Option<&SwapPointView> {
    let job = view.job.as_ref().filter(|job| job.kind == JobKind::SwapOut)?;
    view.last_point.as_ref().filter(|point| point.opened_at >= job.created_at)
}

fn saving(node: &VirtualNodeView, point: Option<&SwapPointView>) -> usize {
    let by_capture = || match least_capture(node, point) {
        Some("verified" | "retired") => 3,
        Some("received") => 2,
        Some("frozen" | "streaming" | "failed") => 1,
        Some(_) | None => 0,
    };
    match &node.node_state {
        // Released: saved, or it would be held.
        None | Some(NodeStateView::Free) => 5,
        Some(NodeStateView::Capturing) => by_capture().max(1),
        Some(NodeStateView::Releasable | NodeStateView::Sanitizing) => 3,
        Some(NodeStateView::Held { .. }) => by_capture(),
        Some(
            NodeStateView::Reserved
            | NodeStateView::Restoring
            | NodeStateView::Checked
            | NodeStateView::InUse
            | NodeStateView::Quiescing
            | NodeStateView::Rebooting,
        ) => 0,
    }
}

fn releasing(node: &VirtualNodeView) -> usize {
    match &node.node_state {
        None | Some(NodeStateView::Free) => 3,
        Some(NodeStateView::Releasable | NodeStateView::Sanitizing) => 1,
        Some(
            NodeStateView::Held { .. }
            | NodeStateView::Capturing
            | NodeStateView::Reserved
            | NodeStateView::Restoring
            | NodeStateView::Checked
            | NodeStateView::InUse
            | NodeStateView::Quiescing
            | NodeStateView::Rebooting,
        ) => 0,
    }
}

fn loading(node: &VirtualNodeView) -> usize {
    match &node.node_state {
        None | Some(NodeStateView::Free | NodeStateView::Reserved) => 0,
        Some(NodeStateView::Restoring | NodeStateView::Held { .. }) => 1,
        Some(NodeStateView::Checked | NodeStateView::Rebooting) => 2,
        Some(
            NodeStateView::InUse
            | NodeStateView::Quiescing
            | NodeStateView::Capturing
            | NodeStateView::Releasable
            | NodeStateView::Sanitizing,
        ) => 4,
    }
}
