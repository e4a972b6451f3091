use boss_api::user::{HeldDisks, JobKind, JobView, KeptView, MAX_NOTE, NodeStateView, OnFailure, VirtualNodeView};
use time::OffsetDateTime;

use super::ExperimentPage;
use crate::words;

/// A held node, for people.
pub(super) struct HeldNode<'a> {
    pub(super) vname: String,
    pub(super) machine: String,
    pub(super) reason: &'a str,
    pub(super) owner: &'a str,
    pub(super) next: &'a str,
    disks: HeldDisks,
    kept: Option<&'a KeptView>,
}

impl<'a> HeldNode<'a> {
    fn of(node: &'a VirtualNodeView) -> Option<Self> {
        let Some(NodeStateView::Held { reason, owner, next, disks, kept }) = &node.node_state else { return None };
        let machine = node.node.as_ref().map(ToString::to_string).unwrap_or_default();
        let vname = node.vname.to_string();
        Some(Self { vname, machine, reason, owner, next, disks: *disks, kept: kept.as_ref() })
    }

    pub(super) fn is_unsaved(&self) -> bool {
        self.disks == HeldDisks::Unsaved
    }

    pub(super) fn on_its_disks(&self) -> &'static str {
        match self.disks {
            HeldDisks::Unsaved => {
                "What ran here since it was loaded is saved nowhere else: this machine is the only copy."
            }
            HeldDisks::Settled => "As the experiment left them; nothing on them is needed any more.",
            HeldDisks::Ours => "Nothing of the experiment that is not in the store as well.",
        }
    }

    pub(super) fn kept(&self, now: OffsetDateTime) -> Option<String> {
        let kept = self.kept?;
        let over = if kept.until < now { ", which is over" } else { "" };
        Some(format!("{} wants it left as it is until {}{over}: {}", kept.by, words::moment(kept.until), kept.note))
    }
}

impl ExperimentPage {
    pub(super) fn held_nodes(&self) -> Vec<HeldNode<'_>> {
        self.view.nodes.iter().filter_map(HeldNode::of).collect()
    }

    fn job_is(&self, kind: JobKind) -> bool {
        self.view.job.as_ref().is_some_and(|job| job.kind == kind)
    }

    /// Whether what is held was to be saved.
    pub(super) fn is_saving(&self) -> bool {
        self.view.job.as_ref().is_some_and(|job| job.kind == JobKind::SwapOut && job.saves)
    }

    pub(super) fn can_give_up(&self) -> bool {
        self.may_change && self.is_held() && self.job_is(JobKind::SwapIn)
    }

    /// The nodes of a held swap-in that run already, or may: giving it up would lose what was written on them.
    pub(super) fn running_nodes(&self) -> Vec<String> {
        let runs = |node: &&VirtualNodeView| node.node_state.as_ref().is_some_and(NodeStateView::may_hold_new_work);
        self.view.nodes.iter().filter(runs).map(|node| node.vname.to_string()).collect()
    }

    pub(super) fn is_swapping_out(&self) -> bool {
        self.may_change && self.job_is(JobKind::SwapOut)
    }

    /// Why a swap-out cannot be taken back any more; empty while it can.
    pub(super) fn gone(&self) -> Vec<String> {
        let gone = |node: &VirtualNodeView| match &node.node_state {
            None => Some(format!("{} was given back", node.vname)),
            Some(
                NodeStateView::Quiescing
                | NodeStateView::Capturing
                | NodeStateView::Releasable
                | NodeStateView::Held { disks: HeldDisks::Unsaved | HeldDisks::Settled, .. },
            ) => None,
            Some(_) => Some(format!("{} is being overwritten", node.vname)),
        };
        self.view.nodes.iter().filter_map(gone).collect()
    }

    /// What becomes of the saved when a node cannot be saved: decided when the swap-out was asked for.
    pub(super) fn policy(&self) -> Option<&'static str> {
        let policy = |job: &JobView| job.on_failure.filter(|_| job.kind == JobKind::SwapOut);
        Some(match self.view.job.as_ref().and_then(policy)? {
            OnFailure::ReleaseVerified => "If a node cannot be saved, it is held; the saved ones are released.",
            OnFailure::HoldAll => "If a node cannot be saved, all nodes are held, the saved ones too.",
        })
    }
}

/// The longest note, for the form.
pub(super) const NOTE: usize = MAX_NOTE;
