use askama::Template;
use boss_api::user::{
    CaptureView, EventView, ExperimentState, ExperimentView, JobKind, JobState, JobView, SwapPointState, SwapPointView,
};
use boss_model::experiment::{ExperimentEvent, apply};
use time::OffsetDateTime;

use super::experiments::point_bytes;
use super::held;
use super::progress::NodeRow;
use super::steps::{self, Step};
use crate::parts::{Badge, Frame, Moment};
use crate::urls::{self, Action};
use crate::words;

/// An experiment: what is happening now above what was.
#[derive(Clone, Debug, Template)]
#[template(path = "experiment.html")]
pub struct ExperimentPage {
    /// The frame.
    pub frame: Frame,
    /// The experiment.
    pub view: ExperimentView,
    /// Whether the user may change it, and not only look.
    pub may_change: bool,
    /// Whether the user may let what is held go on.
    pub may_attend: bool,
    /// Whether the user may give up what could not be saved.
    pub may_discard: bool,
    /// Its swap points, newest first.
    pub points: Vec<SwapPointView>,
    /// What happened lately, newest first.
    pub events: Vec<EventView>,
    /// The newest job, over or not.
    pub last_job: Option<JobView>,
    /// What was refused just now.
    pub problem: Option<String>,
    /// What was refused about ending it, beside the field.
    pub terminate_problem: Option<String>,
    /// Now.
    pub now: OffsetDateTime,
}

impl ExperimentPage {
    /// Makes the page, which asks for itself again while a job runs.
    pub fn new(frame: Frame, view: ExperimentView, now: OffsetDateTime) -> Self {
        let runs = view.job.as_ref().is_some_and(|job| job.state == JobState::Running);
        let frame = Frame { refresh_s: runs.then_some(3), ..frame };
        Self {
            frame,
            view,
            may_change: true,
            may_attend: true,
            may_discard: false,
            points: Vec::new(),
            events: Vec::new(),
            last_job: None,
            problem: None,
            terminate_problem: None,
            now,
        }
    }

    fn badge(&self) -> Badge {
        Badge::of_experiment(self.view.state)
    }

    fn state_word(&self) -> &str {
        match self.view.state {
            ExperimentState::Swapped => "swapped out",
            ExperimentState::Activating => "swapping in",
            ExperimentState::Active => "active",
            ExperimentState::Swapping => "swapping out",
            ExperimentState::Terminating => "terminating",
            ExperimentState::Ended => "ended",
            ExperimentState::Held => "held",
        }
    }

    fn action(&self, action: Action) -> String {
        urls::action(&self.view.full_name(), action)
    }

    /// Nothing can be asked for while a job is under way; a held one is dealt with by retry or by ending it.
    fn can(&self, event: ExperimentEvent) -> bool {
        let idle = self.view.job.is_none() || self.view.state == ExperimentState::Held;
        self.may_change && idle && apply(self.view.state, event).is_ok()
    }

    fn can_swap_in(&self) -> bool {
        self.can(ExperimentEvent::SwapIn)
    }

    fn can_swap_out(&self) -> bool {
        self.can(ExperimentEvent::SwapOut)
    }

    fn can_terminate(&self) -> bool {
        self.can(ExperimentEvent::Terminate)
    }

    fn can_change_box(&self) -> bool {
        self.may_change && !matches!(self.view.state, ExperimentState::Terminating | ExperimentState::Ended)
    }

    pub(super) fn is_held(&self) -> bool {
        self.view.state == ExperimentState::Held
    }

    fn nodes(&self) -> Vec<NodeRow> {
        let point = steps::point_of_job(&self.view);
        self.view.nodes.iter().map(|node| NodeRow::of(node, point, self.now)).collect()
    }

    fn has_progress(&self) -> bool {
        self.view.nodes.iter().any(|node| !node.progress.is_empty())
    }

    fn steps(&self) -> Vec<Step> {
        steps::of(&self.view)
    }

    fn node_count(&self) -> String {
        match self.view.nodes.len() {
            1 => "1 node".into(),
            count => format!("{count} nodes"),
        }
    }

    /// The heading of what is happening now.
    fn doing(&self) -> Option<String> {
        let job = self.view.job.as_ref()?;
        let what = match job.kind {
            JobKind::SwapIn => "Swapping in",
            JobKind::SwapOut => match steps::point_of_job(&self.view) {
                Some(point) => return Some(format!("Saving swap point {}", point.number)),
                None => "Swapping out",
            },
            JobKind::Terminate => "Terminating",
            JobKind::Load => "Loading an image",
            JobKind::Cancel => "Taking the swap-out back",
            JobKind::GiveUp => "Giving the swap-in up",
        };
        Some(what.into())
    }

    fn job_started(&self) -> Option<String> {
        let job = self.view.job.as_ref()?;
        Some(format!("asked for {} ago", words::duration(self.now - job.created_at)))
    }

    /// What the last job came to, when none is under way and it was no success.
    fn last_failure(&self) -> Option<&JobView> {
        self.last_job.as_ref().filter(|job| self.view.job.is_none() && job.state == JobState::Failed)
    }

    /// What was saved last, as one sentence.
    fn last_save(&self) -> Option<String> {
        let saved = |point: &&SwapPointView| point.state == SwapPointState::Complete;
        let point = self.points.iter().find(saved).or_else(|| self.view.last_point.as_ref().filter(saved))?;
        let closed = point.closed_at?;
        let count = match point.captures.len() {
            1 => "1 disk".into(),
            count => format!("{count} disks"),
        };
        Some(format!(
            "swap point {}, {}, {} for {count}, took {}",
            point.number,
            words::moment(closed),
            words::bytes(point_bytes(point)),
            words::duration(closed - point.opened_at)
        ))
    }
}

fn job_word(kind: JobKind) -> &'static str {
    match kind {
        JobKind::SwapIn => "swap-in",
        JobKind::SwapOut => "swap-out",
        JobKind::Terminate => "end",
        JobKind::Load => "load",
        JobKind::Cancel => "undoing of a swap-out",
        JobKind::GiveUp => "giving up of a swap-in",
    }
}

/// How many captures of a swap point are what: `2 verified`, `1 verified, 1 failed`.
fn capture_summary(point: &SwapPointView) -> String {
    let count = |word: &str| point.captures.iter().filter(|capture| capture.state == word).count();
    let (verified, failed) = (count("verified") + count("retired"), count("failed"));
    let other = point.captures.len() - verified - failed;
    let parts = [(verified, "verified"), (failed, "failed"), (other, "under way")];
    let said: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if said.is_empty() { "none".into() } else { said.join(", ") }
}

fn point_size(point: &SwapPointView) -> String {
    words::bytes(point_bytes(point))
}

fn capture_size(capture: &CaptureView) -> String {
    capture.delta_bytes.map_or("not stored".into(), words::bytes)
}

fn capture_took(capture: &CaptureView) -> String {
    capture.took_ms.map_or("not over".into(), words::took)
}
