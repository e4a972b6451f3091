//! What pages are made of. Each part is a template of its own, so it is escaped once and written as it is.

use std::borrow::Borrow;

use askama::Template;
use askama::filters::HtmlSafe;
use boss_api::Name;
use boss_api::user::{ExperimentState, JobState, NodeStateView, SwapPointState};
use time::OffsetDateTime;

use crate::{assets, urls, words};

/// How a state looks, besides its word and its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing is going on.
    Still,
    /// Something is going on.
    Moving,
    /// As it should be.
    Good,
    /// Somebody should look.
    Warn,
    /// Somebody must look.
    Bad,
}

/// A state: a word, a mark and a colour, never a colour alone.
#[derive(Clone, Debug, PartialEq, Eq, Template)]
#[template(
    ext = "html",
    source = r#"<span class="badge {{ self.class() }}"><span class="mark" aria-hidden="true">{{ self.mark() }}</span>{{ word }}</span>"#
)]
pub struct Badge {
    word: String,
    tone: Tone,
}

impl HtmlSafe for Badge {}

impl Badge {
    /// Makes a badge.
    pub fn new(tone: Tone, word: impl Into<String>) -> Self {
        Self { word: word.into(), tone }
    }

    /// The state of an experiment.
    pub fn of_experiment(state: ExperimentState) -> Self {
        let (tone, word) = match state {
            ExperimentState::Swapped => (Tone::Still, "swapped out"),
            ExperimentState::Activating => (Tone::Moving, "swapping in"),
            ExperimentState::Active => (Tone::Good, "active"),
            ExperimentState::Swapping => (Tone::Moving, "swapping out"),
            ExperimentState::Terminating => (Tone::Moving, "terminating"),
            ExperimentState::Ended => (Tone::Still, "ended"),
            ExperimentState::Held => (Tone::Bad, "held"),
        };
        Self::new(tone, word)
    }

    /// The state of a machine.
    pub fn of_node(state: &NodeStateView) -> Self {
        let tone = match state {
            NodeStateView::Free => Tone::Still,
            NodeStateView::Checked | NodeStateView::InUse | NodeStateView::Releasable => Tone::Good,
            NodeStateView::Held { .. } => Tone::Bad,
            NodeStateView::Reserved
            | NodeStateView::Restoring
            | NodeStateView::Quiescing
            | NodeStateView::Capturing
            | NodeStateView::Sanitizing
            | NodeStateView::Rebooting => Tone::Moving,
        };
        Self::new(tone, state.word())
    }

    /// The state of a swap point.
    pub fn of_point(state: SwapPointState) -> Self {
        let (tone, word) = match state {
            SwapPointState::Open => (Tone::Moving, "being saved"),
            SwapPointState::Complete => (Tone::Good, "verified"),
            SwapPointState::Incomplete => (Tone::Warn, "incomplete"),
        };
        Self::new(tone, word)
    }

    /// The state of a capture, as the API words it.
    pub fn of_capture(state: &str) -> Self {
        let tone = match state {
            "verified" => Tone::Good,
            "failed" => Tone::Bad,
            "retired" => Tone::Still,
            _ => Tone::Moving,
        };
        Self::new(tone, state)
    }

    /// What became of a job.
    pub fn of_job(state: JobState) -> Self {
        let (tone, word) = match state {
            JobState::Running => (Tone::Moving, "running"),
            JobState::Done => (Tone::Good, "done"),
            JobState::Failed => (Tone::Bad, "failed"),
            JobState::Held => (Tone::Bad, "held"),
        };
        Self::new(tone, word)
    }

    const fn class(&self) -> &'static str {
        match self.tone {
            Tone::Still => "still",
            Tone::Moving => "moving",
            Tone::Good => "good",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
        }
    }

    const fn mark(&self) -> &'static str {
        match self.tone {
            Tone::Still => "\u{25cb}",
            Tone::Moving => "\u{25d0}",
            Tone::Good => "\u{2713}",
            Tone::Warn => "!",
            Tone::Bad => "\u{2715}",
        }
    }
}

/// A moment, for people and for programs.
#[derive(Clone, Copy, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<time datetime="{{ words::machine_moment(*at) }}">{{ words::moment(*at) }}</time>"#
)]
pub struct Moment {
    at: OffsetDateTime,
}

impl HtmlSafe for Moment {}

impl Moment {
    /// Shows a moment.
    pub fn new(at: impl Borrow<OffsetDateTime>) -> Self {
        Self { at: *at.borrow() }
    }
}

/// What ties a form to its session.
#[derive(Clone, Template)]
#[template(ext = "html", source = r#"<input type="hidden" name="csrf" value="{{ token }}">"#)]
pub struct FormToken {
    token: String,
}

impl std::fmt::Debug for FormToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FormToken(..)")
    }
}

impl HtmlSafe for FormToken {}

impl FormToken {
    /// Wraps a token.
    pub fn new(token: impl Into<String>) -> Self {
        Self { token: token.into() }
    }
}

/// The pages in the bar at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Experiments.
    Experiments,
    /// Images.
    Images,
    /// Machines.
    Nodes,
}

/// The frame around every page.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Who is signed in.
    pub user: Option<Name>,
    /// What every form carries.
    pub form_token: FormToken,
    /// Which section this page is in.
    pub section: Option<Section>,
    /// The page asks for itself again after so many seconds: only while something is going on.
    pub refresh_s: Option<u32>,
}

impl Frame {
    /// The frame of a page without a user.
    pub fn for_nobody(form_token: &str) -> Self {
        Self { user: None, form_token: FormToken::new(form_token), section: None, refresh_s: None }
    }

    /// The frame of a user's page.
    pub fn for_user(user: Name, form_token: &str, section: Section) -> Self {
        Self { user: Some(user), form_token: FormToken::new(form_token), section: Some(section), refresh_s: None }
    }

    /// Returns the sections: address, word, whether this page is in it.
    pub fn sections(&self) -> [(&'static str, &'static str, bool); 3] {
        [
            (urls::EXPERIMENTS, "Experiments", self.section == Some(Section::Experiments)),
            (urls::IMAGES, "Images", self.section == Some(Section::Images)),
            (urls::NODES, "Nodes", self.section == Some(Section::Nodes)),
        ]
    }

    /// Returns where the style is.
    pub fn style(&self) -> String {
        urls::asset(&assets::STYLE)
    }

    /// Returns where the icon is.
    pub fn icon(&self) -> String {
        urls::asset(&assets::ICON)
    }
}
