use askama::Template;
use boss_api::user::ExperimentView;

use crate::parts::Frame;
use crate::urls::{self, Action};

/// Asks once more before disks are given away unsaved.
#[derive(Clone, Debug, Template)]
#[template(path = "confirm_swap_out.html")]
pub struct ConfirmSwapOutPage {
    /// The frame.
    pub frame: Frame,
    /// The experiment.
    pub view: ExperimentView,
    /// What was typed as its name.
    pub typed: String,
    /// Why the last attempt was refused.
    pub problem: Option<String>,
}

impl ConfirmSwapOutPage {
    fn back(&self) -> String {
        urls::experiment(&self.view.full_name())
    }

    fn swap_out(&self) -> String {
        urls::action(&self.view.full_name(), Action::SwapOut)
    }

    fn save(&self) -> String {
        urls::action(&self.view.full_name(), Action::Save)
    }

    fn last_point(&self) -> Option<u32> {
        self.view.last_point.as_ref().map(|point| point.number)
    }
}
