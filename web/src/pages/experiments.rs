use askama::Template;
use boss_api::user::{ExperimentView, SwapPointState, SwapPointView};

use crate::parts::{Badge, Frame, Moment};
use crate::{urls, words};

/// The experiments that the user may see.
#[derive(Clone, Debug, Template)]
#[template(path = "experiments.html")]
pub struct ExperimentsPage {
    /// The frame.
    pub frame: Frame,
    /// The experiments.
    pub experiments: Vec<ExperimentView>,
    /// Whether the user is in any project, and so can make one.
    pub can_create: bool,
}

impl ExperimentsPage {
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.experiments.iter().map(|view| Row { view })
    }
}

struct Row<'a> {
    view: &'a ExperimentView,
}

impl Row<'_> {
    fn url(&self) -> String {
        urls::experiment(&self.view.full_name())
    }

    fn badge(&self) -> Badge {
        Badge::of_experiment(self.view.state)
    }

    fn since(&self) -> Moment {
        Moment::new(self.view.state_since)
    }

    fn save_word(&self) -> &'static str {
        if self.view.save_swap_state { "on" } else { "off" }
    }

    fn last_save(&self) -> Option<Moment> {
        let point = self.view.last_point.as_ref().filter(|point| point.state == SwapPointState::Complete)?;
        Some(Moment::new(point.closed_at?))
    }

    fn size(&self) -> String {
        self.view.last_point.as_ref().map_or("none".into(), |point| words::bytes(point_bytes(point)))
    }
}

/// Returns the size of all delta images of a swap point.
pub(super) fn point_bytes(point: &SwapPointView) -> u64 {
    point.captures.iter().filter_map(|capture| capture.delta_bytes).fold(0, u64::saturating_add)
}
